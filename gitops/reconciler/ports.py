"""Published ports: who would collide with whom, and who takes which port from whom. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from msgspec.structs import replace

from gitops.objects.service import EndpointSpec, PortConfig, Service, ServiceSpec


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


class HandOver(NamedTuple):
    """Ports that `taker` is to have and `holder` has now, as the latter has them."""

    taker: str
    holder: str
    ports: frozenset[Port]


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
    numbers = {port.published_port for spec in wanted.values() for port in _ports(spec.endpoint_spec)}
    holders = _Holders(
        {name: held(service) for name, service in staying.items() if name not in wanted and _has_any(service, numbers)}
    )
    found = []
    for name, spec in sorted(wanted.items()):
        ports = published(spec)
        for port in sorted(ports):
            found += [
                f"service {name} can't publish port {port}: service {other} has it"
                for other in sorted(holders.of(port))
            ]
        holders.add(name, ports)
    return found


def _ports(endpoint: EndpointSpec | None) -> Sequence[PortConfig]:
    return endpoint.ports if endpoint else ()


def _has_any(service: Service, numbers: Set[int]) -> bool:
    """Whether a live service may have a port of these numbers: a quick look before the careful one."""
    own = (*_ports(service.spec.endpoint_spec), *service.endpoint.ports)
    return any(port.published_port in numbers for port in own)


def hand_overs(wanted: Mapping[str, ServiceSpec], live: Mapping[str, Service]) -> list[HandOver]:
    """Every pair of services of `wanted` of which one is to have ports that the other has now, by name in order."""
    holders = _Holders({name: held(live[name]) for name in wanted if name in live})
    found = []
    for name, spec in sorted(wanted.items()):
        asked = published(spec)
        for holder in sorted(holders.of_any(asked) - {name}):
            found.append(HandOver(name, holder, holders.colliding(holder, asked)))
    return found


def without(spec: ServiceSpec, ports: Set[Port]) -> ServiceSpec:
    """`spec` with these ports taken off."""
    if spec.endpoint_spec is None:
        return spec
    numbers = {(port.protocol, port.number) for port in ports}
    kept = [port for port in spec.endpoint_spec.ports if (port.protocol, port.published_port) not in numbers]
    return replace(spec, endpoint_spec=replace(spec.endpoint_spec, ports=kept))


class _Holders:
    """Who has which ports, found by the port: there may be thousands of both."""

    def __init__(self, ports: Mapping[str, Iterable[Port]]) -> None:
        self._ports: dict[str, set[Port]] = {}
        self._names: dict[tuple[str, int], set[str]] = {}
        for name, held_ports in ports.items():
            self.add(name, held_ports)

    def add(self, name: str, ports: Iterable[Port]) -> None:
        for port in ports:
            self._ports.setdefault(name, set()).add(port)
            self._names.setdefault((port.protocol, port.number), set()).add(name)

    def of(self, port: Port) -> set[str]:
        """Those whose ports collide with `port`."""
        near = self._names.get((port.protocol, port.number), set())
        return {name for name in near if any(port.collides(other) for other in self._ports[name])}

    def of_any(self, ports: Iterable[Port]) -> set[str]:
        return {name for port in ports for name in self.of(port)}

    def colliding(self, name: str, wanted: Iterable[Port]) -> frozenset[Port]:
        """The ports of one of them that collide with `wanted`."""
        asked = list(wanted)
        return frozenset(port for port in self._ports[name] if any(port.collides(other) for other in asked))
