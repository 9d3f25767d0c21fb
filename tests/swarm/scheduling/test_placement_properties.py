"""What holds for every placement, whatever the nodes and tasks are."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gitops.objects.node import Node
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import constraints, filters
from gitops.swarm.scheduling.nodes import ClusterState, NodeState
from gitops.swarm.scheduling.placement import place

ZONES = ("", "a", "b")
STATES = ("ready", "ready", "ready", "down")
AVAILABILITY = ("active", "active", "active", "pause", "drain")

NODES = st.lists(
    st.fixed_dictionaries(
        {
            "cpus": st.integers(0, 6),
            "labels": st.sampled_from(ZONES).map(lambda zone: {"zone": zone} if zone else {}),
            "state": st.sampled_from(STATES),
            "availability": st.sampled_from(AVAILABILITY),
        }
    ),
    max_size=6,
)
KINDS = st.lists(
    st.fixed_dictionaries(
        {
            "cpus": st.integers(0, 3),
            "constraints": st.sampled_from([(), ("node.labels.zone==a",), ("node.labels.zone!=b",)]),
            "spread": st.sampled_from([(), ("node.labels.zone",)]),
            "max_replicas": st.integers(0, 3),
            "host_ports": st.sampled_from([(), (("tcp", 80),), (("udp", 80), ("tcp", 81))]),
        }
    ),
    min_size=1,
    max_size=3,
)
PRESENT = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 6), st.sampled_from([*TaskState][2:10]), st.booleans()), max_size=8
)
WAITING = st.lists(st.integers(0, 2), max_size=25)


def build(
    node: Any, task: Any, nodes: Any, kinds: Any, present: Any, waiting: Any
) -> tuple[list[Node], list[Task], list[Task]]:
    """The objects that the drawn values stand for; whatever is there already may break every rule."""
    made = [node(f"n{number}", **fields) for number, fields in enumerate(nodes)]
    there = [
        task(
            f"p{number}",
            service=f"s{kind % len(kinds)}",
            node=f"n{where}",
            state=state,
            desired=TaskState.RUNNING if wanted else TaskState.SHUTDOWN,
            **kinds[kind % len(kinds)],
        )
        for number, (kind, where, state, wanted) in enumerate(present)
    ]
    new = [
        task(f"w{number:02}", service=f"s{kind % len(kinds)}", **kinds[kind % len(kinds)])
        for number, kind in enumerate(waiting)
    ]
    return made, there, new


@given(NODES, KINDS, PRESENT, WAITING)
def test_no_placement_breaks_a_rule(node: Any, task: Any, nodes: Any, kinds: Any, present: Any, waiting: Any) -> None:
    made, there, new = build(node, task, nodes, kinds, present, waiting)
    state = ClusterState.build(made, there)
    outcome = place(state, new)
    assert outcome.assignments.keys() | outcome.reasons.keys() == {item.id for item in new}
    assert outcome.assignments.keys().isdisjoint(outcome.reasons)
    by_node: dict[str, list[Task]] = defaultdict(list)
    for item in new:
        if item.id in outcome.assignments:
            by_node[outcome.assignments[item.id]].append(item)
    for node_id, placed in by_node.items():
        before = state.get(node_id)
        assert before is not None
        check_node(before, placed)


def check_node(before: NodeState, placed: list[Task]) -> None:
    assert (before.node.status.state, before.node.spec.availability) == ("ready", "active")
    needed = sum(filters.reservations(item).nano_cpus for item in placed)
    assert needed == 0 or needed <= before.nano_cpus
    ports = [(p.protocol, p.published_port) for item in placed for p in (item.endpoint.ports if item.endpoint else [])]
    assert len(ports) == len(set(ports)) and before.ports.isdisjoint(ports)
    counts = Counter(item.service_id for item in placed)
    for item in placed:
        assert item.spec.placement is not None
        assert constraints.satisfies(item.spec.placement.constraints, before.node)
        limit = item.spec.placement.max_replicas
        assert not limit or before.services.get(item.service_id, 0) + counts[item.service_id] <= limit


@given(NODES, KINDS, PRESENT, WAITING)
def test_what_was_left_over_fits_nowhere_and_the_order_of_nodes_does_not_matter(
    node: Any, task: Any, nodes: Any, kinds: Any, present: Any, waiting: Any
) -> None:
    made, there, new = build(node, task, nodes, kinds, present, waiting)
    outcome = place(ClusterState.build(made, there), new)
    assert place(ClusterState.build(made[::-1], there[::-1]), new) == outcome
    after = ClusterState.build(made, there)
    for item in new:
        if (state := after.get(outcome.assignments.get(item.id, ""))) is not None:
            state.charge(item)
    for item in new:
        if item.id in outcome.reasons:
            pipeline = filters.pipeline(item)
            assert all(filters.first_failing(pipeline, state) is not None for state in after)


@given(st.integers(1, 8), st.lists(st.integers(0, 7), max_size=12), st.integers(0, 30))
def test_a_service_without_limits_is_as_even_as_its_past_allows(
    node: Any, task: Any, count: int, past: list[int], added: int
) -> None:
    nodes = [node(f"n{number}") for number in range(count)]
    there = [task(f"p{number}", node=f"n{where % count}") for number, where in enumerate(past)]
    outcome = place(ClusterState.build(nodes, there), [task(f"w{number}") for number in range(added)])
    assert not outcome.reasons
    before = Counter(item.node_id for item in there)
    after = before + Counter(outcome.assignments.values())
    lowest = min(after[item.id] for item in nodes)
    # A node is above the lowest by more than one only where it was before, and then it got nothing.
    assert all(after[item.id] - lowest <= 1 or after[item.id] == before[item.id] for item in nodes)


@given(st.lists(st.sampled_from(ZONES), min_size=1, max_size=8), st.integers(0, 30))
def test_label_values_are_even_and_so_are_the_nodes_of_each(node: Any, task: Any, zones: list[str], added: int) -> None:
    nodes = [node(f"n{number}", labels={"zone": zone} if zone else {}) for number, zone in enumerate(zones)]
    waiting = [task(f"w{number}", spread=("node.labels.zone",)) for number in range(added)]
    outcome = place(ClusterState.build(nodes, []), waiting)
    by_node = Counter(outcome.assignments.values())
    by_zone: Counter[str] = Counter()
    for item, zone in zip(nodes, zones, strict=True):
        by_zone[zone] += by_node[item.id]
    assert max(by_zone.values()) - min(by_zone.values()) <= 1
    for zone in by_zone:
        own = [by_node[item.id] for item, value in zip(nodes, zones, strict=True) if value == zone]
        assert max(own) - min(own) <= 1
