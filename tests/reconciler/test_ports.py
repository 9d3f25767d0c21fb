"""Published ports: who has them, who takes them, who may not have them."""

from __future__ import annotations

from gitops.objects.service import Endpoint, EndpointSpec, PortConfig, Service, ServiceSpec
from gitops.reconciler import ports


def spec(*numbers: int, mode: str = "ingress") -> ServiceSpec:
    found = [PortConfig(target_port=80, published_port=number, publish_mode=mode) for number in numbers]
    return ServiceSpec(endpoint_spec=EndpointSpec(ports=found))


def live(*numbers: int) -> Service:
    return Service(spec=spec(*numbers))


def test_who_takes_a_port_and_who_has_it_are_named_with_the_ports() -> None:
    found = ports.hand_overs({"a": spec(80), "b": spec(81), "c": spec(90)}, {"b": live(80), "c": live(90)})
    assert [(item.taker, item.holder, set(map(str, item.ports))) for item in found] == [("a", "b", {"80/tcp"})]


def test_services_that_swap_ports_take_from_each_other() -> None:
    found = ports.hand_overs({"a": spec(81), "b": spec(80)}, {"a": live(80), "b": live(81)})
    assert [(item.taker, item.holder) for item in found] == [("a", "b"), ("b", "a")]


def test_ports_on_hosts_are_the_schedulers_business() -> None:
    assert not ports.clashes({"a": spec(80, mode="host"), "b": spec(80, mode="host")}, {})
    assert ports.clashes({"a": spec(80, mode="host"), "b": spec(80)}, {})


def test_a_port_that_the_swarm_chose_is_held_too() -> None:
    chosen = Service(spec=spec(0), endpoint=Endpoint(ports=[PortConfig(target_port=80, published_port=30000)]))
    assert ports.clashes({"a": spec(30000)}, {"b": chosen})


def test_ports_are_taken_off_a_spec_by_number() -> None:
    assert ports.published(ports.without(spec(80, 81), {ports.Port("tcp", 80, "ingress")})) == ports.published(spec(81))
