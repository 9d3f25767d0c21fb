"""Subnets, addresses and ports to give out: pure arithmetic over what is taken."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Set

from gitops.objects.network import IPAM, IPAMConfig, NetworkObject

Subnet = ipaddress.IPv4Network

DYNAMIC_PORTS = range(30000, 32768)
FIRST_VNI = 4096
LAST_VNI = (1 << 24) - 1
VNI_OPTION = "com.docker.network.driver.overlay.vxlanid_list"


def subnets_of(ipam: IPAM | None) -> list[Subnet]:
    """The subnets that are written down."""
    return [ipaddress.IPv4Network(entry.subnet) for entry in (ipam.config if ipam else None) or () if entry.subnet]


def is_ipv4(text: str) -> bool:
    """Whether `text` is an IPv4 address."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def free_subnet(pools: Iterable[str], prefix: int, taken: Iterable[Subnet]) -> Subnet | None:
    """The first subnet of `prefix` length in the pools that overlaps none of `taken`; None when all are."""
    used = sorted(taken)
    for text in pools:
        pool = ipaddress.IPv4Network(text, strict=False)
        if pool.prefixlen > prefix:
            continue
        found = _free_in(pool, prefix, [subnet for subnet in used if subnet.overlaps(pool)])
        if found is not None:
            return found
    return None


def _free_in(pool: Subnet, prefix: int, used: Iterable[Subnet]) -> Subnet | None:
    size = 1 << (32 - prefix)
    start = int(pool.network_address)
    for subnet in used:
        if start + size <= int(subnet.network_address):
            break
        end = int(subnet.broadcast_address) + 1
        # The next place of the right alignment behind the taken one.
        start = max(start, -(-end // size) * size)
    if start + size - 1 > int(pool.broadcast_address):
        return None
    return ipaddress.IPv4Network((start, prefix))


def with_gateway(entry: IPAMConfig) -> IPAMConfig:
    """The entry with a gateway: the first address, where none is given."""
    if entry.gateway:
        return entry
    subnet = ipaddress.IPv4Network(entry.subnet)
    return IPAMConfig(
        subnet=entry.subnet,
        ip_range=entry.ip_range,
        gateway=str(subnet.network_address + 1),
        auxiliary_addresses=entry.auxiliary_addresses,
    )


class AddressPool:
    """The addresses of one network; those given lately come last, so that stale answers lead nowhere."""

    def __init__(self, network: NetworkObject, taken: Set[str], last: str = "") -> None:
        """`taken` are addresses in use, `last` the one that was given last; both without prefix length."""
        self._entries = list((network.ipam_options.config if network.ipam_options else None) or ())
        self._taken = set(taken)
        for entry in self._entries:
            self._taken.add(entry.gateway)
            self._taken.update(entry.auxiliary_addresses.values())
        self.last = last

    @property
    def subnets(self) -> str:
        """The network's subnets, for people."""
        return ", ".join(entry.subnet for entry in self._entries) or "no subnet"

    def take(self) -> str | None:
        """A free address with its prefix length; None when there is none."""
        for address, prefix in self._candidates():
            if address not in self._taken:
                self._taken.add(address)
                self.last = address
                return f"{address}/{prefix}"
        return None

    def undo(self, former: str) -> None:
        """Take back the last `take`, before which `last` was `former`."""
        self._taken.discard(self.last)
        self.last = former

    def _candidates(self) -> Iterator[tuple[str, int]]:
        """All addresses: those behind the last one first, then from the start."""
        after = int(ipaddress.IPv4Address(self.last)) if self.last else -1
        for is_behind in (True, False):
            for entry in self._entries:
                subnet = ipaddress.IPv4Network(entry.subnet)
                span = ipaddress.IPv4Network(entry.ip_range) if entry.ip_range else subnet
                first = max(int(span.network_address), int(subnet.network_address) + 1)
                final = min(int(span.broadcast_address), int(subnet.broadcast_address) - 1)
                low, high = (max(first, after + 1), final) if is_behind else (first, min(final, after))
                for number in range(low, high + 1):
                    yield str(ipaddress.IPv4Address(number)), subnet.prefixlen


def free_number(candidates: Iterable[int], taken: Set[int]) -> int | None:
    """The first of `candidates` that isn't taken."""
    return next((number for number in candidates if number not in taken), None)
