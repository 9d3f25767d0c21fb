"""Published ports: who would collide with whom, and in which order services are changed so that none does. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from gitops.objects.service import EndpointSpec, Service, ServiceSpec


class Port(NamedTuple):
    """A port of the whole swarm (`ingress`) or of each node that runs a task (`host`)."""

    protocol: str
    number: int
    mode: str

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"

    def collides(self, other: Port) -> bool:
        """Two services may both have a port on hosts: the scheduler keeps their tasks apart."""
        is_same = (self.protocol, self.number) == (other.protocol, other.number)
        return is_same and not (self.mode == other.mode == "host")


def published(spec: ServiceSpec) -> frozenset[Port]:
    """The ports that a spec asks for by number."""
    ports = spec.endpoint_spec.ports if spec.endpoint_spec else []
    return frozenset(
        Port(port.protocol or "tcp", port.published_port, port.publish_mode or "ingress")
        for port in ports
        if port.published_port
    )


def held(service: Service) -> frozenset[Port]:
    """The ports that a live service has, those that the swarm chose for it included."""
    chosen = ServiceSpec(endpoint_spec=EndpointSpec(ports=service.endpoint.ports))
    return published(service.spec) | published(chosen)


def clashes(wanted: Mapping[str, ServiceSpec], staying: Mapping[str, Service]) -> list[str]:
    """A sentence for each port that a service of `wanted` can't have, since another has it and keeps it."""
    others = {name: held(service) for name, service in staying.items() if name not in wanted}
    found = []
    seen: dict[str, frozenset[Port]] = {}
    for name, spec in sorted(wanted.items()):
        for other, ports in sorted({**others, **seen}.items()):
            for port in sorted(_common(published(spec), ports)):
                found.append(f"service {name} can't publish port {port}: service {other} has it")
        seen[name] = published(spec)
    return found


@dataclass(frozen=True, slots=True)
class Order:
    """Waves of services that may be changed at once, one wave after the other.

    `released` names services that first give up ports, before all waves: they swap them with one another.
    """

    waves: tuple[tuple[str, ...], ...]
    released: Mapping[str, frozenset[Port]] = field(default_factory=dict)


def order(wanted: Mapping[str, ServiceSpec], live: Mapping[str, Service]) -> Order:
    """The order in which no service is sent a port that another one of `wanted` still holds."""
    holds = {name: held(live[name]) for name in wanted if name in live}
    left = {name: published(spec) for name, spec in sorted(wanted.items())}
    waves: list[tuple[str, ...]] = []
    released: dict[str, frozenset[Port]] = {}
    while left:
        wave = tuple(name for name in left if not _blockers(name, left[name], holds))
        if not wave:
            # A circle: every one waits for another. One of those that are waited for gives its ports up before.
            name = min(other for waiting in left for other in _blockers(waiting, left[waiting], holds))
            taken = frozenset(port for other in left if other != name for port in _common(holds[name], left[other]))
            released[name] = released.get(name, frozenset()) | taken
            holds[name] -= taken
            continue
        waves.append(wave)
        for name in wave:
            holds.pop(name, None)
            del left[name]
    return Order(tuple(waves), released)


def without(spec: ServiceSpec, ports: Set[Port]) -> ServiceSpec:
    """`spec` with these ports taken off."""
    if spec.endpoint_spec is None:
        return spec
    numbers = {(port.protocol, port.number) for port in ports}
    kept = [port for port in spec.endpoint_spec.ports if (port.protocol, port.published_port) not in numbers]
    return replace(spec, endpoint_spec=replace(spec.endpoint_spec, ports=kept))


def _blockers(name: str, ports: frozenset[Port], holds: Mapping[str, frozenset[Port]]) -> list[str]:
    return [other for other, held_ports in holds.items() if other != name and _common(held_ports, ports)]


def _common(ports: frozenset[Port], others: frozenset[Port]) -> list[Port]:
    return [port for port in ports if any(port.collides(other) for other in others)]
