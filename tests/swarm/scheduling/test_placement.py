"""Which node takes which task: filters, order, spreading, reservations."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from gitops.objects.mount import Mount, VolumeDriver, VolumeOptions
from gitops.objects.service import ContainerSpec, LogDriver
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling.failures import WINDOW_NS, FailureLog
from gitops.swarm.scheduling.nodes import ClusterState
from gitops.swarm.scheduling.placement import Outcome, place

NONE_READY = "no suitable node (1 node not available for new tasks)"


def run(nodes: list[Any], waiting: list[Task], present: list[Task] = [], **failures: Any) -> Outcome:  # noqa: B006
    return place(ClusterState.build(nodes, [*present, *waiting], **failures), waiting)


def spread_of(outcome: Outcome) -> dict[str, int]:
    return dict(Counter(outcome.assignments.values()))


def test_s01_waiting_tasks_go_to_ready_nodes(node: Any, task: Any) -> None:
    outcome = run([node("n1"), node("n2")], [task("t1"), task("t2")])
    assert outcome.assignments == {"t1": "n1", "t2": "n2"}
    assert outcome.reasons == {}


@pytest.mark.parametrize("state", ["unknown", "down", "disconnected"])
def test_s02_without_a_ready_node_tasks_wait_and_say_why(node: Any, task: Any, state: str) -> None:
    assert run([node("n1", state=state)], [task("t1")]).reasons == {"t1": NONE_READY}
    assert run([], [task("t1")]).reasons == {"t1": "no suitable node"}


@pytest.mark.parametrize("availability", ["pause", "drain"])
def test_nodes_that_are_paused_or_drained_take_nothing(node: Any, task: Any, availability: str) -> None:
    assert run([node("n1", availability=availability)], [task("t1")]).reasons == {"t1": NONE_READY}


def test_s03_each_service_is_spread_evenly_even_if_totals_are_not(node: Any, task: Any) -> None:
    present = [task(f"old{i}", service="db", node="n1") for i in range(10)]
    outcome = run([node("n1"), node("n2")], [task(f"t{i}") for i in range(4)], present)
    assert spread_of(outcome) == {"n1": 2, "n2": 2}


def test_s04_with_as_many_of_the_service_the_node_with_fewer_tasks_is_better(node: Any, task: Any) -> None:
    present = [task("a", service="db", node="n1"), task("b", service="db", node="n1"), task("c", node="n2")]
    assert run([node("n1"), node("n2"), node("n3")], [task("t")], present).assignments == {"t": "n3"}
    assert run([node("n1"), node("n2")], [task("t", service="x")], present).assignments == {"t": "n2"}


def test_ties_go_to_the_smaller_id_whatever_the_order_of_nodes(node: Any, task: Any) -> None:
    assert run([node("n3"), node("n1"), node("n2")], [task("t")]).assignments == {"t": "n1"}


def test_s05_a_preference_makes_values_even_and_not_nodes(node: Any, task: Any) -> None:
    nodes = [node("n1", labels={"zone": "a"})] + [node(f"n{i}", labels={"zone": "b"}) for i in (2, 3, 4)]
    outcome = run(nodes, [task(f"t{i:02}", spread=("node.labels.zone",)) for i in range(12)])
    assert spread_of(outcome) == {"n1": 6, "n2": 2, "n3": 2, "n4": 2}


def test_a_missing_label_is_a_value_of_its_own(node: Any, task: Any) -> None:
    nodes = [node("n1", labels={"zone": "a"}), node("n2"), node("n3")]
    outcome = run(nodes, [task(f"t{i}", spread=("node.labels.zone",)) for i in range(4)])
    assert spread_of(outcome) == {"n1": 2, "n2": 1, "n3": 1}


def test_engine_labels_are_spread_over_too(node: Any, task: Any) -> None:
    nodes = [node("n1", engine_labels={"rack": "a"}), *(node(f"n{i}", engine_labels={"rack": "b"}) for i in (2, 3))]
    outcome = run(nodes, [task(f"t{i}", spread=("engine.labels.rack",)) for i in range(4)])
    assert spread_of(outcome) == {"n1": 2, "n2": 1, "n3": 1}


def test_s06_nested_preferences_stay_even_when_scaled_up(node: Any, task: Any) -> None:
    nodes = [
        node(f"{zone}{rack}{i}", labels={"zone": zone, "rack": rack}) for zone in "ab" for rack in "xy" for i in "12"
    ]
    spread = ("node.labels.zone", "node.labels.rack")
    present: list[Task] = []
    for count in (1, 2, 5, 16):
        waiting = [task(f"t{count}-{i:02}", spread=spread) for i in range(count)]
        outcome = run(nodes, waiting, present)
        present += [task(key, node=where, spread=spread) for key, where in outcome.assignments.items()]
        for length in (1, 2, 3):
            counts = Counter(item.node_id[:length] for item in present)
            assert max(counts.values()) - (min(counts.values()) if len(counts) == 2**length else 0) <= 1


def test_s07_a_branch_without_room_leaves_its_share_to_the_others(node: Any, task: Any) -> None:
    nodes = [node("n1", labels={"zone": "a"}, cpus=1), node("n2", labels={"zone": "b"}, cpus=10)]
    outcome = run(nodes, [task(f"t{i}", cpus=1, spread=("node.labels.zone",)) for i in range(6)])
    assert spread_of(outcome) == {"n1": 1, "n2": 5}


def test_tasks_on_nodes_that_take_no_more_still_count_for_their_branch(node: Any, task: Any) -> None:
    nodes = [
        node("n1", labels={"zone": "a"}, availability="pause"),
        node("n2", labels={"zone": "a"}),
        node("n3", labels={"zone": "b"}),
    ]
    present = [task(f"old{i}", node="n1") for i in range(3)]
    outcome = run(nodes, [task(f"t{i}", spread=("node.labels.zone",)) for i in range(3)], present)
    assert spread_of(outcome) == {"n3": 3}


def failing(task: Any, count: int, **fields: Any) -> list[Task]:
    return [task(f"f{i}", node="n1", state=TaskState.FAILED, **fields) for i in range(count)]


def test_s08_a_node_where_the_service_fails_is_avoided_for_a_while(node: Any, task: Any) -> None:
    nodes = [node("n1"), node("n2")]
    log = FailureLog()
    for item in failing(task, 5):
        log.record(item, 1_000)
    crowded = [task(f"old{i}", node="n2") for i in range(3)]
    assert run(nodes, [task("t")], crowded, failures=log.counts(2_000)).assignments == {"t": "n2"}
    assert run(nodes, [task("t", service="x")], [], failures=log.counts(2_000)).assignments == {"t": "n1"}
    assert run(nodes, [task("t", version=2)], [], failures=log.counts(2_000)).assignments == {"t": "n1"}
    assert run(nodes, [task("t")], crowded, failures=log.counts(1_000 + WINDOW_NS)).assignments == {"t": "n1"}


def test_fewer_than_five_failures_dont_count_and_one_task_counts_once(node: Any, task: Any) -> None:
    log = FailureLog()
    for item in failing(task, 4) * 3:
        log.record(item, 1_000)
    log.record(task("ok", node="n1"), 1_000)
    assert log.counts(2_000) == {("n1", "web", 1): 4}
    crowded = [task("old", node="n2")]
    assert run([node("n1"), node("n2")], [task("t")], crowded, failures=log.counts(2_000)).assignments == {"t": "n1"}


def test_s09_reservations_keep_tasks_from_nodes_that_lack_them(node: Any, task: Any) -> None:
    nodes = [node("n1", cpus=1), node("n2", cpus=4, memory=1 << 30)]
    assert run(nodes, [task("t", cpus=2)]).assignments == {"t": "n2"}
    assert run(nodes, [task("t", memory=2 << 30)]).assignments == {"t": "n1"}
    reason = "no suitable node (insufficient resources on 2 nodes)"
    assert run(nodes, [task("t", cpus=2, memory=2 << 30)]).reasons == {"t": reason}


def test_s10_what_ended_tasks_reserved_is_free_and_what_runs_holds_it(node: Any, task: Any) -> None:
    nodes = [node("n1", cpus=1)]
    ended = [task(f"e{i}", node="n1", state=state, cpus=1) for i, state in enumerate(TaskState) if state.is_terminal]
    assert run(nodes, [task("t", cpus=1)], ended).assignments == {"t": "n1"}
    stopping = [task("s", node="n1", desired=TaskState.SHUTDOWN, cpus=1)]
    assert "insufficient resources" in run(nodes, [task("t", cpus=1)], stopping).reasons["t"]


def test_s11_tasks_that_are_there_are_charged_by_what_they_do(node: Any, task: Any) -> None:
    tasks = [
        task("a", node="n1", state=TaskState.ASSIGNED, cpus=1),
        task("b", node="n1", state=TaskState.PREPARING, cpus=1, desired=TaskState.READY),
        task("c", node="n1", state=TaskState.FAILED, cpus=1),
        task("d", node="n1", state=TaskState.PENDING, cpus=1),
        task("e", node="gone", cpus=1),
    ]
    state = ClusterState.build([node("n1", cpus=4)], tasks).get("n1")
    assert state is not None
    assert (state.nano_cpus, state.total, state.services) == (2_000_000_000, 2, {"web": 2})


def test_s12_one_pass_never_commits_more_than_a_node_has(node: Any, task: Any) -> None:
    nodes = [node("n1", cpus=2), node("n2", cpus=3), node("n3", cpus=10)]
    outcome = run(nodes, [task(f"t{i:02}", cpus=1) for i in range(10)])
    assert spread_of(outcome) == {"n1": 2, "n2": 3, "n3": 5}
    outcome = run(nodes[:2], [task(f"t{i:02}", cpus=1) for i in range(10)])
    assert spread_of(outcome) == {"n1": 2, "n2": 3}
    assert set(outcome.reasons.values()) == {"no suitable node (insufficient resources on 2 nodes)"}


def test_two_services_in_one_pass_see_each_other(node: Any, task: Any) -> None:
    outcome = run([node("n1", cpus=1)], [task("a", cpus=1), task("b", service="db", cpus=1)])
    assert outcome.assignments == {"a": "n1"} and set(outcome.reasons) == {"b"}


@pytest.mark.parametrize(
    ("platforms", "placed"),
    [
        ((), True),
        ((("linux", "amd64"),), True),
        ((("linux", "x86_64"),), True),
        ((("linux", "arm64"), ("linux", "amd64")), True),
        ((("", ""),), True),
        ((("linux", ""),), True),
        ((("windows", "amd64"),), False),
        ((("linux", "arm64"),), False),
    ],
)
def test_s13_an_images_platforms_limit_the_nodes(node: Any, task: Any, platforms: Any, placed: bool) -> None:
    outcome = run([node("n1")], [task("t", platforms=platforms)])
    assert bool(outcome.assignments) is placed
    if not placed:
        assert outcome.reasons == {"t": "no suitable node (unsupported platform on 1 node)"}


PLUGINS = (("Volume", "local"), ("Volume", "nfs:latest"), ("Network", "overlay"), ("Log", "json-file"))


def with_volume(driver: str) -> ContainerSpec:
    options = VolumeOptions(driver_config=VolumeDriver(name=driver))
    return ContainerSpec(image="x", mounts=[Mount(type="volume", source="v", target="/v", volume_options=options)])


@pytest.mark.parametrize(
    ("fields", "placed"),
    [
        ({}, True),
        ({"container_spec": with_volume("nfs")}, True),
        ({"container_spec": with_volume("")}, True),
        ({"container_spec": with_volume("ceph")}, False),
        ({"networks": ("overlay",)}, True),
        ({"networks": ("weave",)}, False),
        ({"log_driver": LogDriver(name="json-file")}, True),
        ({"log_driver": LogDriver(name="none")}, True),
        ({"log_driver": LogDriver(name="gelf")}, False),
    ],
)
def test_s14_drivers_must_be_there(node: Any, task: Any, fields: dict[str, Any], placed: bool) -> None:
    outcome = run([node("n1", plugins=PLUGINS)], [task("t", **fields)])
    assert bool(outcome.assignments) is placed
    if not placed:
        assert outcome.reasons == {"t": "no suitable node (missing plugin on 1 node)"}
    assert run([node("n1")], [task("t", **fields)]).assignments == {"t": "n1"}


def test_s15_a_host_port_is_one_tasks_until_it_stopped(node: Any, task: Any) -> None:
    nodes = [node("n1"), node("n2")]
    present = [task("old", service="db", node="n1", host_ports=(("tcp", 80),), desired=TaskState.SHUTDOWN)]
    waiting = [task(f"t{i}", host_ports=(("tcp", 80),)) for i in range(2)]
    outcome = run(nodes, waiting, present)
    assert outcome.assignments == {"t0": "n2"}
    assert outcome.reasons == {"t1": "no suitable node (host-mode port already in use on 2 nodes)"}
    assert run(nodes, [task("t", host_ports=(("udp", 80),))], present).assignments == {"t": "n1"}
    stopped = [task("old", service="db", node="n1", host_ports=(("tcp", 80),), state=TaskState.SHUTDOWN)]
    assert run(nodes, [task("t", host_ports=(("tcp", 80),))], stopped).assignments == {"t": "n1"}


def test_s16_no_node_has_more_replicas_than_the_limit(node: Any, task: Any) -> None:
    present = [task("old", node="n1", max_replicas=2), task("gone", node="n2", desired=TaskState.SHUTDOWN)]
    outcome = run([node("n1"), node("n2")], [task(f"t{i}", max_replicas=2) for i in range(5)], present)
    assert spread_of(outcome) == {"n1": 1, "n2": 2}
    assert set(outcome.reasons.values()) == {"no suitable node (max replicas per node limit exceed)"}


def test_s17_a_task_with_a_node_is_only_tried_there_and_before_the_others(node: Any, task: Any) -> None:
    nodes = [node("n1", cpus=1), node("n2", cpus=1)]
    bound = task("bound", service="agent", node="n1", state=TaskState.PENDING, cpus=1)
    outcome = run(nodes, [task("t", cpus=1), bound])
    assert outcome.assignments == {"bound": "n1", "t": "n2"}
    unfit = task("bound", service="agent", node="n1", state=TaskState.PENDING, cpus=2)
    assert run(nodes, [unfit]).reasons == {"bound": "no suitable node (insufficient resources on 1 node)"}
    lost = task("bound", service="agent", node="gone", state=TaskState.PENDING)
    assert run(nodes, [lost]).reasons == {"bound": "no suitable node"}


def test_s22_reasons_are_counted_with_the_most_frequent_first(node: Any, task: Any) -> None:
    nodes = [node("n1", availability="drain"), *(node(f"n{i}", labels={"zone": "a"}) for i in (2, 3, 4)), node("n5")]
    nodes += [node(f"n{i}", labels={"zone": "b"}, cpus=1) for i in (6, 7)]
    outcome = run(nodes, [task("t", constraints=("node.labels.zone==b",), cpus=2)])
    # n1 fails the first filter and n6, n7 the second: the constraint is never asked there.
    assert outcome.reasons == {
        "t": "no suitable node (scheduling constraints not satisfied on 4 nodes; insufficient resources on 2 nodes; "
        "1 node not available for new tasks)"
    }


def test_the_reason_of_what_is_left_over_counts_nodes_that_took_some(node: Any, task: Any) -> None:
    nodes = [node("n1", cpus=1), node("n2", cpus=1, labels={"zone": "b"})]
    outcome = run(nodes, [task(f"t{i}", cpus=1, constraints=("node.labels.zone==b",)) for i in range(2)])
    assert outcome.reasons == {
        "t1": "no suitable node (insufficient resources on 1 node; scheduling constraints not satisfied on 1 node)"
    }


def test_a_constraint_that_cannot_be_parsed_is_met_nowhere(node: Any, task: Any) -> None:
    assert "constraints not satisfied" in run([node("n1")], [task("t", constraints=("zone",))]).reasons["t"]


def test_the_given_state_is_left_as_it_was(node: Any, task: Any) -> None:
    state = ClusterState.build([node("n1", cpus=1)], [])
    waiting = [task("t", cpus=1, host_ports=(("tcp", 80),))]
    assert place(state, waiting) == place(state, waiting)
