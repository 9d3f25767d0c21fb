"""Published ports: who would collide with whom, and in which order services are changed so that none does. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
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
    holders = _Holders({name: held(service) for name, service in staying.items() if name not in wanted})
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


@dataclass(frozen=True, slots=True)
class Order:
    """Waves of services that may be changed at once, one wave after the other.

    `released` names services that first give up ports, before all waves: they swap them with one another.
    """

    waves: tuple[tuple[str, ...], ...]
    released: Mapping[str, frozenset[Port]] = field(default_factory=dict)


def order(wanted: Mapping[str, ServiceSpec], live: Mapping[str, Service]) -> Order:
    """The order in which no service is sent a port that another one of `wanted` still holds."""
    holders = _Holders({name: held(live[name]) for name in wanted if name in live})
    left = {name: published(spec) for name, spec in sorted(wanted.items())}
    waves: list[tuple[str, ...]] = []
    released: dict[str, frozenset[Port]] = {}
    while left:
        blockers = {name: holders.of_any(ports) - {name} for name, ports in left.items()}
        wave = tuple(name for name, others in blockers.items() if not others)
        if not wave:
            # A circle: every one waits for another. One of those that are waited for gives its ports up before.
            name = min(other for others in blockers.values() for other in others)
            taken = holders.give_up(name, (port for other, ports in left.items() if other != name for port in ports))
            released[name] = released.get(name, frozenset()) | taken
            continue
        waves.append(wave)
        for name in wave:
            holders.remove(name)
            del left[name]
    return Order(tuple(waves), released)


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

    def give_up(self, name: str, wanted: Iterable[Port]) -> frozenset[Port]:
        """Take what collides with `wanted` from one of them; what that was."""
        numbers = {(port.protocol, port.number) for port in wanted if name in self.of(port)}
        taken = frozenset(port for port in self._ports[name] if (port.protocol, port.number) in numbers)
        kept = self._ports[name] - taken
        self.remove(name)
        self.add(name, kept)
        return taken

    def remove(self, name: str) -> None:
        for port in self._ports.pop(name, ()):
            self._names[port.protocol, port.number].discard(name)
