"""Addresses: pure arithmetic over IPv4 networks, with no kernel, clock or file in sight.

Promises: an address is given once until it is released; an address that was released comes last, so that a peer's
stale neighbour entry or DNS answer doesn't meet a new owner; network, broadcast, gateway and auxiliary addresses are
never given. Leaves to the service: where the state is kept, and which routes the host has.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gitops import errors
from gitops.objects.network import IPAM, IPAMConfig

Address = ipaddress.IPv4Address
Network = ipaddress.IPv4Network

CUT_PREFIX = 20
"""Size of a network cut from a local pool: 4,093 containers each, 239 networks from the default pools."""
_LONGEST_PREFIX = 30


@dataclass(frozen=True, slots=True)
class Layout:
    """One subnet with what is fixed in it."""

    subnet: Network
    gateway: Address
    allocation: Network
    """Where addresses that nobody asked for come from."""
    auxiliary: Mapping[str, Address] = field(default_factory=dict)


def parse_address(text: str, what: str) -> Address:
    """An IPv4 address with or without a length. Raises errors.Invalid, errors.Unsupported for IPv6."""
    bare, has_length, length = text.partition("/")
    try:
        if has_length and not (length.isascii() and length.isdigit() and len(length) <= 2 and int(length) <= 32):
            raise ValueError(length)
        return Address(bare)
    except ValueError as error:
        if ":" in bare:
            raise errors.Unsupported(f"{what} {text!r}: IPv6 is not supported yet") from error
        raise errors.Invalid(f"invalid {what} {text!r}: an IPv4 address is wanted, as in 10.1.2.3") from error


def parse_network(text: str, what: str) -> Network:
    """An IPv4 network. Raises errors.Invalid, errors.Unsupported for IPv6."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise errors.Invalid(f"invalid {what} {text!r}: CIDR notation is wanted, as in 10.1.2.0/24") from error
    if isinstance(network, ipaddress.IPv6Network):
        raise errors.Unsupported(f"{what} {text!r}: IPv6 is not supported yet")
    if ipaddress.ip_interface(text).ip != network.network_address:
        raise errors.Invalid(f"invalid {what} {text}: it should be {network}")
    return network


def only_config(ipam: IPAM | None) -> IPAMConfig:
    """The one pool of a network, empty where none was asked for. Raises errors.Unsupported for what we don't have."""
    if ipam is None:
        return IPAMConfig()
    if ipam.driver not in ("", "default"):
        raise errors.Unsupported(f"IPAM driver {ipam.driver!r} is not supported: use default")
    if ipam.options:
        raise errors.Unsupported(f"IPAM options are not supported: {', '.join(sorted(ipam.options))}")
    configs = [config for config in ipam.config or () if config != IPAMConfig()]
    if len(configs) > 1:
        raise errors.Unsupported("a network has one subnet: several IPAM configurations are not supported")
    return configs[0] if configs else IPAMConfig()


def layout(config: IPAMConfig, subnet: Network) -> Layout:
    """Fix gateway, range and auxiliary addresses of `subnet` as `config` asks.

    Raises:
        errors.Invalid: something lies outside of the subnet, or the subnet holds no container.
    """
    if subnet.prefixlen > _LONGEST_PREFIX:
        raise errors.Invalid(f"subnet {subnet} is too small: /{_LONGEST_PREFIX} is the smallest")
    allocation = parse_network(config.ip_range, "ip-range") if config.ip_range else subnet
    if not allocation.subnet_of(subnet):
        raise errors.Invalid(f"ip-range {allocation} is not inside the subnet {subnet}")
    auxiliary = {
        name: _inside(parse_address(text, "auxiliary address"), subnet, "auxiliary address")
        for name, text in config.auxiliary_addresses.items()
    }
    if config.gateway:
        gateway = _inside(parse_address(config.gateway, "gateway"), subnet, "gateway")
    else:
        taken = set(auxiliary.values())
        free = next((address for address in subnet.hosts() if address not in taken), None)
        if free is None:
            raise errors.Invalid(f"no address of the subnet {subnet} is left for its gateway")
        gateway = free
    return Layout(subnet, gateway, allocation, auxiliary)


def _inside(address: Address, subnet: Network, what: str) -> Address:
    if address not in subnet or address in (subnet.network_address, subnet.broadcast_address):
        raise errors.Invalid(f"{what} {address} is no host address of the subnet {subnet}")
    return address


def overlapping(subnet: Network, others: Iterable[Network]) -> Network | None:
    """The first of `others` that shares an address with `subnet`."""
    return next((other for other in others if subnet.overlaps(other)), None)


def cut(pools: Sequence[Network], taken: Iterable[Network]) -> Network:
    """The first free network of the pools.

    Raises:
        errors.Unavailable: all of them overlap one that is taken.
    """
    occupied = list(taken)
    for pool in pools:
        near = [other for other in occupied if other.overlaps(pool)]
        for candidate in _pieces(pool):
            if overlapping(candidate, near) is None:
                return candidate
    raise errors.Unavailable(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network: "
        "remove networks that are not used, or give a subnet"
    )


def _pieces(pool: Network) -> Iterator[Network]:
    return pool.subnets(new_prefix=max(CUT_PREFIX, pool.prefixlen))


class Pool:
    """The addresses of one network. Not safe for several threads; addresses are kept by the caller."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        subnet = layout.subnet
        self._fixed = {int(subnet.network_address), int(subnet.broadcast_address), int(layout.gateway)}
        self._fixed.update(int(address) for address in layout.auxiliary.values())
        self._taken: set[int] = set()
        self._first = int(layout.allocation.network_address)
        self._size = layout.allocation.num_addresses
        self._cursor = 0

    @property
    def taken(self) -> frozenset[Address]:
        """What is given out at present."""
        return frozenset(Address(number) for number in self._taken)

    def take(self, wanted: Address | None = None) -> Address:
        """The address asked for, or the next free one.

        Raises:
            errors.Invalid: `wanted` lies outside of the subnet, or is its network or broadcast address.
            errors.Conflict: `wanted` is in use, by a container, the gateway, or as an auxiliary address.
            errors.Unavailable: none is left.
        """
        number = self._next() if wanted is None else self._wanted(wanted)
        self._taken.add(number)
        return Address(number)

    def release(self, address: Address) -> None:
        """Give it back; one that wasn't given is no error."""
        self._taken.discard(int(address))

    def _wanted(self, address: Address) -> int:
        _inside(address, self.layout.subnet, "address")
        number = int(address)
        if number in self._fixed or number in self._taken:
            raise errors.Conflict(f"address {address} is already in use on the subnet {self.layout.subnet}")
        return number

    def _next(self) -> int:
        for step in range(self._size):
            offset = (self._cursor + step) % self._size
            number = self._first + offset
            if number not in self._fixed and number not in self._taken:
                self._cursor = (offset + 1) % self._size
                return number
        raise errors.Unavailable(f"no available IPv4 addresses on the subnet {self.layout.subnet}")
