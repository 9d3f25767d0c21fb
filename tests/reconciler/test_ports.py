"""The order of changes that never sends a service a port that another still holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gitops.objects.service import Endpoint, EndpointSpec, PortConfig, Service, ServiceSpec
from gitops.reconciler import ports

NAMES = st.sampled_from("abcde")
NUMBERS = st.frozensets(st.integers(80, 84), max_size=3)


def spec(*numbers: int, mode: str = "ingress") -> ServiceSpec:
    found = [PortConfig(target_port=80, published_port=number, publish_mode=mode) for number in numbers]
    return ServiceSpec(endpoint_spec=EndpointSpec(ports=found))


def live(*numbers: int) -> Service:
    return Service(spec=spec(*numbers))


def test_who_gives_a_port_up_goes_before_who_takes_it() -> None:
    found = ports.order({"a": spec(80), "b": spec(81), "c": spec(90)}, {"b": live(80), "c": live(90)})
    assert found.waves == (("b", "c"), ("a",)) and not found.released


def test_services_that_swap_ports_give_them_up_first() -> None:
    found = ports.order({"a": spec(81), "b": spec(80)}, {"a": live(80), "b": live(81)})
    assert {name: set(map(str, given)) for name, given in found.released.items()} == {"a": {"80/tcp"}}
    assert found.waves == (("b",), ("a",))


def test_ports_on_hosts_are_the_schedulers_business() -> None:
    assert not ports.clashes({"a": spec(80, mode="host"), "b": spec(80, mode="host")}, {})
    assert ports.clashes({"a": spec(80, mode="host"), "b": spec(80)}, {})


def test_a_port_that_the_swarm_chose_is_held_too() -> None:
    chosen = Service(spec=spec(0), endpoint=Endpoint(ports=[PortConfig(target_port=80, published_port=30000)]))
    assert ports.clashes({"a": spec(30000)}, {"b": chosen})


def test_ports_are_taken_off_a_spec_by_number() -> None:
    assert ports.published(ports.without(spec(80, 81), {ports.Port("tcp", 80, "ingress")})) == ports.published(spec(81))


def _without_clashes(wanted: dict[str, frozenset[int]]) -> dict[str, frozenset[int]]:
    taken: set[int] = set()
    found = {}
    for name, numbers in wanted.items():
        found[name] = numbers - taken
        taken |= numbers
    return found


@given(st.dictionaries(NAMES, NUMBERS).map(_without_clashes), st.dictionaries(NAMES, NUMBERS).map(_without_clashes))
def test_every_order_is_complete_and_no_port_is_ever_held_twice(
    wanted: dict[str, frozenset[int]], before: dict[str, frozenset[int]]
) -> None:
    before = {name: numbers for name, numbers in before.items() if name in wanted}
    found = ports.order(
        {name: spec(*numbers) for name, numbers in wanted.items()},
        {name: live(*numbers) for name, numbers in before.items()},
    )
    assert sorted(name for wave in found.waves for name in wave) == sorted(wanted)
    held = {name: set(numbers) for name, numbers in before.items()}
    for name, given_up in found.released.items():
        held[name] -= {port.number for port in given_up}
    for wave in found.waves:
        for name in wave:
            others = {number for other, numbers in held.items() if other not in (name,) for number in numbers}
            assert not wanted[name] & others
        held |= {name: set(wanted[name]) for name in wave}
