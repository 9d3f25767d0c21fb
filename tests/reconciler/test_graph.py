"""What waits for what in an apply, and what goes before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hypothesis import given
from hypothesis import strategies as st

from gitops.manifests import Desired, DesiredSet, extensions
from gitops.manifests.desired import Dependency, Position
from gitops.objects.network import NetworkCreate, NetworkResource
from gitops.objects.secret import ConfigSpec
from gitops.objects.service import EndpointSpec, NetworkAttachmentConfig, PortConfig, Service, ServiceSpec, TaskSpec
from gitops.reconciler import graph
from gitops.reconciler.graph import Condition, Edge
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Plan, Reason, Step

NAMES = "abcde"
NUMBERS = st.frozensets(st.integers(80, 84), max_size=3)


def spec(
    name: str, *numbers: int, labels: Mapping[str, str] | None = None, networks: Iterable[str] = ()
) -> ServiceSpec:
    found = [PortConfig(target_port=80, published_port=number) for number in numbers]
    template = TaskSpec(networks=[NetworkAttachmentConfig(target=item) for item in networks])
    return ServiceSpec(
        name=name, labels=dict(labels or {}), endpoint_spec=EndpointSpec(ports=found), task_template=template
    )


def desired(
    found: ServiceSpec | NetworkCreate | ConfigSpec,
    needs: Iterable[tuple[str, str]] = (),
    depends_on: Iterable[Dependency] = (),
) -> Desired:
    kind = {ServiceSpec: "Service", NetworkCreate: "Network", ConfigSpec: "Config"}[type(found)]
    place = Position("a.yaml", 1, 1)
    return Desired(kind, "", found.name, found.name, place, found, {}, "", tuple(needs), tuple(depends_on))


def step(kind: str, name: str, action: Action) -> Step:
    return Step(kind, "", name, name, action, Reason.CHANGED)


def make(items: Iterable[Desired], actions: Mapping[str, Action], live: Live | None = None) -> graph.Graph:
    found = tuple(items)
    steps = [step(item.kind, item.engine_name, actions.get(item.engine_name, Action.CREATE)) for item in found]
    steps += [step("Service", name, action) for name, action in actions.items() if action is Action.DELETE]
    return graph.changes(Plan(tuple(steps)), DesiredSet(found, {}, {}), live or Live())


def test_what_is_needed_comes_before_and_what_is_there_already_holds_nothing_up() -> None:
    items = [
        desired(NetworkCreate(name="net")),
        desired(ConfigSpec(name="conf")),
        desired(spec("web"), needs=[("Network", "net"), ("Config", "conf"), ("Volume", "external")]),
    ]
    found = make(items, {"net": Action.NONE})
    assert found.edges == {("Service", "web"): (Edge(("Config", "conf"), Condition.DONE),)}
    assert {item.engine_name for item in found.steps} == {"conf", "web"}


def test_dependencies_keep_their_conditions_and_an_unchanged_service_waits_for_nothing() -> None:
    uses = [Dependency("db", "healthy"), Dependency("migrate", "completed_successfully", required=False)]
    items = [desired(spec("db")), desired(spec("migrate")), desired(spec("web"), depends_on=uses)]
    found = make(items, {"db": Action.NONE})
    assert found.edges[("Service", "web")] == (
        Edge(("Service", "db"), Condition.HEALTHY),
        Edge(("Service", "migrate"), Condition.COMPLETED, is_required=False),
    )
    assert ("Service", "web") not in make(items, {"web": Action.NONE}).edges


def test_who_takes_a_port_waits_until_its_holder_is_sent() -> None:
    live = Live(services={"b": Service(spec=spec("b", 80))})
    found = make([desired(spec("a", 80)), desired(spec("b", 81))], {"b": Action.UPDATE}, live)
    assert found.edges == {("Service", "a"): (Edge(("Service", "b"), Condition.SENT),)} and not found.released


def test_a_holder_that_depends_on_the_taker_gives_the_port_up_before() -> None:
    live = Live(services={"b": Service(spec=spec("b", 80))})
    items = [desired(spec("a", 80)), desired(spec("b", 81), depends_on=[Dependency("a", "healthy")])]
    found = make(items, {"b": Action.UPDATE}, live)
    assert found.edges == {("Service", "b"): (Edge(("Service", "a"), Condition.HEALTHY),)}
    assert {port.number for port in found.released["Service", "a"]["b"]} == {80}


def test_a_service_that_goes_and_whose_port_is_taken_goes_first() -> None:
    live = Live(services={"old": Service(spec=spec("old", 80)), "other": Service(spec=spec("other", 81))})
    found = make([desired(spec("a", 80))], {"old": Action.DELETE, "other": Action.DELETE}, live)
    assert found.edges == {("Service", "a"): (Edge(("Service", "old"), Condition.DONE),)}
    assert {item.engine_name for item in found.steps} == {"a", "old"}


def test_a_network_is_replaced_after_the_services_that_use_it_and_go() -> None:
    live = Live(
        services={"old": Service(spec=spec("old", networks=["n1"]))},
        networks={"net": NetworkResource(name="net", id="n1", created="")},
    )
    found = make([desired(NetworkCreate(name="net"))], {"net": Action.REPLACE, "old": Action.DELETE}, live)
    assert found.edges == {("Network", "net"): (Edge(("Service", "old"), Condition.DONE),)}


def test_removals_go_dependants_first_and_a_network_after_its_users() -> None:
    labels = extensions.labels_of([Dependency("db", "healthy")], None)
    live = Live(
        services={
            "db": Service(spec=spec("db", networks=["n1"])),
            "web": Service(spec=spec("web", labels=labels, networks=["n1"])),
        },
        networks={"net": NetworkResource(name="net", id="n1", created="")},
    )
    steps = tuple(
        step(kind, name, Action.DELETE) for kind, name in [("Service", "db"), ("Service", "web"), ("Network", "net")]
    )
    found = graph.removals(Plan(steps), DesiredSet((), {}, {}), live)
    assert found.edges[("Service", "db")] == (Edge(("Service", "web"), Condition.DONE),)
    assert {edge.key[1] for edge in found.edges["Network", "net"]} == {"db", "web"}
    assert ("Service", "web") not in found.edges


def test_dependencies_of_live_services_that_go_round_in_a_circle_leave_an_order() -> None:
    services = {
        name: Service(spec=spec(name, labels=extensions.labels_of([Dependency(other, "started")], None)))
        for name, other in [("a", "b"), ("b", "a")]
    }
    steps = tuple(step("Service", name, Action.DELETE) for name in services)
    found = graph.removals(Plan(steps), DesiredSet((), {}, {}), Live(services=services))
    assert len(found.edges) == 1


def _without_clashes(wanted: dict[str, frozenset[int]]) -> dict[str, frozenset[int]]:
    taken: set[int] = set()
    found = {}
    for name, numbers in wanted.items():
        found[name] = numbers - taken
        taken |= numbers
    return found


PORTS = st.dictionaries(st.sampled_from(NAMES), NUMBERS).map(_without_clashes)
PAIRS = st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).filter(lambda pair: pair[0] < pair[1]))


@given(PORTS, PORTS, PAIRS)
def test_every_order_comes_to_its_end_keeps_dependencies_and_never_has_a_port_held_twice(
    wanted: dict[str, frozenset[int]], before: dict[str, frozenset[int]], pairs: set[tuple[str, str]]
) -> None:
    before = {name: numbers for name, numbers in before.items() if name in wanted}
    depends = {name: [low for low, high in sorted(pairs) if high == name and low in wanted] for name in wanted}
    items = [
        desired(spec(name, *numbers), depends_on=[Dependency(other, "healthy") for other in depends[name]])
        for name, numbers in wanted.items()
    ]
    live = Live(services={name: Service(spec=spec(name, *numbers)) for name, numbers in before.items()})
    found = make(items, dict.fromkeys(before, Action.UPDATE), live)
    held = {name: set(numbers) for name, numbers in before.items()}
    sent: set[str] = set()
    while sent != set(wanted):
        ready = [
            name
            for name in sorted(set(wanted) - sent)
            if all(edge.key[1] in sent for edge in found.edges.get(("Service", name), ()))
        ]
        assert ready, "they wait for each other"
        for name in ready:
            assert set(depends[name]) <= sent
            for holder, given_up in found.released.get(("Service", name), {}).items():
                held[holder] -= {port.number for port in given_up}
            assert not wanted[name] & {number for other, had in held.items() if other != name for number in had}
            held[name] = set(wanted[name])
            sent.add(name)
