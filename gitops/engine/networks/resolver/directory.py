"""Which names lead where, network by network: pure bookkeeping.

Two sources fill a network: its containers on this host (name, aliases, short id), and for a swarm network the whole
set of names that the swarm hands down. A name that both have leads to the addresses of both, without repetition.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Zone:
    name: str
    subnet: ipaddress.IPv4Network | None
    containers: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    services: dict[str, tuple[str, ...]] = field(default_factory=dict)
    forward: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reverse: dict[str, str] = field(default_factory=dict)

    def rebuild(self) -> None:
        forward: dict[str, dict[str, None]] = {name: dict.fromkeys(found) for name, found in self.services.items()}
        reverse: dict[str, str] = {}
        for address, names in self.containers.values():
            for name in names:
                forward.setdefault(normal(name), {})[address] = None
            if names:
                reverse.setdefault(address, f"{names[0]}.{self.name}")
        for name, found in self.services.items():
            for address in found:
                reverse.setdefault(address, f"{name}.{self.name}")
        self.forward = {name: tuple(found) for name, found in forward.items()}
        self.reverse = reverse


def normal(name: str) -> str:
    """A name as it is compared: lower case, without the last dot."""
    return name.lower().removesuffix(".")


class Directory:
    """Names of all networks of this host."""

    def __init__(self) -> None:
        self._zones: dict[str, _Zone] = {}

    def open(self, network_id: str, name: str, subnet: str = "") -> None:
        """Begin a network; one that is there keeps its names."""
        if network_id not in self._zones:
            self._zones[network_id] = _Zone(name, ipaddress.IPv4Network(subnet) if subnet else None)

    def drop(self, network_id: str) -> None:
        """Forget a network."""
        self._zones.pop(network_id, None)

    def set_container(self, network_id: str, container_id: str, address: str, names: Sequence[str]) -> None:
        """The names of a container on a network, replacing former ones. Of an unknown network: nothing."""
        zone = self._zones.get(network_id)
        if zone is not None:
            zone.containers[container_id] = (address, tuple(names))
            zone.rebuild()

    def drop_container(self, network_id: str, container_id: str) -> None:
        """A container left a network."""
        zone = self._zones.get(network_id)
        if zone is not None and zone.containers.pop(container_id, None) is not None:
            zone.rebuild()

    def set_names(self, network_id: str, names: Mapping[str, Iterable[str]]) -> None:
        """The swarm's names on a network, the whole set. Of an unknown network: nothing."""
        zone = self._zones.get(network_id)
        if zone is not None:
            zone.services = {normal(name): tuple(found) for name, found in names.items()}
            zone.rebuild()

    def lookup(self, network_ids: Iterable[str], name: str) -> tuple[str, ...] | None:
        """Addresses of `name` on the first of the networks that knows it; empty for a name without any; None: unknown.

        `NAME.NETWORK` asks one network.
        """
        for zone in self._known(network_ids):
            found = zone.forward.get(name)
            if found is None and name.endswith(f".{zone.name.lower()}"):
                found = zone.forward.get(name[: -len(zone.name) - 1])
            if found is not None:
                return found
        return None

    def reverse(self, network_ids: Iterable[str], address: ipaddress.IPv4Address) -> tuple[str | None, bool]:
        """The name of an address, and whether it lies on one of the networks at all."""
        is_inside = False
        for zone in self._known(network_ids):
            name = zone.reverse.get(str(address))
            if name is not None:
                return name, True
            is_inside = is_inside or (zone.subnet is not None and address in zone.subnet)
        return None, is_inside

    def _known(self, network_ids: Iterable[str]) -> Iterable[_Zone]:
        return (zone for zone in map(self._zones.get, network_ids) if zone is not None)
