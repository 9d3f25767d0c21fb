"""What the service asks of the kernel, one call at a time, in a thread of its own.

Owns the thread, its netlink socket and its nft context; they belong to the network namespace that the daemon runs in,
whichever that is. Deleting links waits for the kernel's grace periods, so that is another thread's work.
"""

from __future__ import annotations

import asyncio
import fcntl
import functools
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from gitops import errors
from gitops.engine.networks import firewalls, flows, links, namespaces, naming, nft, ruleset
from gitops.engine.networks.boundary import RESOLVER
from gitops.engine.networks.resolver.server import sockets

T = TypeVar("T")
P = ParamSpec("P")

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_NEW_LINKS_IPV6 = "ipv6/conf/default/disable_ipv6"


@dataclass(frozen=True, slots=True)
class Ears:
    """The sockets of a sandbox's resolver."""

    udp: socket.socket
    tcp: socket.socket

    @property
    def ports(self) -> tuple[int, int]:
        """Where they are bound: questions to port 53 are led here."""
        return int(self.udp.getsockname()[1]), int(self.tcp.getsockname()[1])

    def close(self) -> None:
        """Close both."""
        self.udp.close()
        self.tcp.close()


def resolver_rules(ports: tuple[int, int]) -> str:
    """The rules in a sandbox that lead its questions to the resolver's ports.

    Port 53 itself stays free, for containers that serve DNS on all addresses. The headers are rewritten without
    connection tracking, which a container's traffic then doesn't pay for.
    """
    lines = [f"table ip {naming.RESOLVER_TABLE} {{", "chain out { type filter hook output priority raw; policy accept;"]
    for protocol, port in zip(("udp", "tcp"), ports, strict=True):
        lines.append(f"ip daddr {RESOLVER} {protocol} dport 53 {protocol} dport set {port}")
        lines.append(f"ip saddr {RESOLVER} {protocol} sport {port} {protocol} sport set 53")
    return "\n".join([*lines, "}", "}"]) + "\n"


class Kernel:
    """The kernel side of one engine's networks. Every method raises errors.RuntimeFailure where the kernel refuses."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._table = naming.table(instance)
        self._worker = ThreadPoolExecutor(1, "networks")
        self._reaper = ThreadPoolExecutor(1, "networks-reaper")
        self._links: links.Links | None = None
        self._reaper_links: links.Links | None = None
        self._tables: nft.Tables | None = None
        self._counter: nft.Counter | None = None
        self._generation = 0

    async def open(self) -> None:
        """Open the sockets, let the host forward packets."""
        await self._call(self._open)
        await self._reap(self._open_reaper)

    async def close(self) -> None:
        """End the threads; nothing in the kernel changes."""
        await self._call(self._close)
        await self._reap(self._close_reaper)
        self._worker.shutdown()
        self._reaper.shutdown()

    async def routes(self) -> list[links.Route]:
        """Routes of the host."""
        return await self._call(links.routes)

    async def ensure_bridges(self, bridges: Sequence[links.Bridge]) -> None:
        """Make bridges that are missing, bring the others into form."""
        await self._call(self._ensure_bridges, bridges)

    async def make_sandbox(self, path: Path, legs: Sequence[links.Leg], gateway: str) -> Ears:
        """A namespace with its legs and resolver sockets; nothing is left behind where that fails."""
        return await self._call(self._make_sandbox, path, legs, gateway)

    async def join_sandbox(self, path: Path, leg: links.Leg, gateway: str) -> None:
        """Add a leg to a sandbox, and set the default route where `gateway` isn't "". What failed may leave the leg."""
        await self._call(self._join_sandbox, path, leg, gateway)

    async def leave_sandbox(self, path: Path, host_link: str, gateway: str) -> None:
        """Delete a leg of a sandbox, and set the default route where `gateway` isn't ""."""
        await self.remove_links([host_link])
        if gateway:
            await self._call(_configure_inside, path, [], gateway)

    async def adopt_sandbox(self, path: Path, ports: tuple[int, int]) -> Ears:
        """Open the resolver sockets of a sandbox again, on their former ports if these are free."""
        return await self._call(self._adopt_sandbox, path, ports)

    async def keep_namespace(self, path: Path, pid: int) -> None:
        """Keep the namespace of a process as the file `path`."""
        await self._call(namespaces.keep, path, pid)

    async def mend_ports(self, masters: Mapping[str, str]) -> list[str]:
        """Make links ports of their bridges again where they aren't; which these were. Missing ones are passed over."""
        return await self._call(self._mend_ports, masters)

    async def remove_links(self, names: Sequence[str]) -> None:
        """Delete links; those that are gone are no error."""
        await self._reap(self._remove_links, names)

    async def remove_sandbox(self, path: Path, group: int, names: Sequence[str]) -> None:
        """Delete a sandbox's links, all at once by their group, and its namespace; what is gone is no error."""
        await self._reap(self._remove_sandbox, path, group, names)

    async def remove_namespace(self, path: Path) -> None:
        """Unmount and delete a namespace's file."""
        await self._reap(namespaces.remove, path)

    async def set_ports(self, ports: Mapping[str, tuple[bool, bool]]) -> None:
        """Set isolation and hairpin of bridge ports by name; those that are gone are passed over."""
        await self._call(self._set_ports, ports)

    async def run_rules(self, commands: str) -> None:
        """Run nft commands as one transaction."""
        if commands:
            await self._call(self._run_rules, commands)

    async def read_rules(self) -> tuple[ruleset.Rules, dict[str, int]] | None:
        """What our table holds, and how many rules each chain has; None where the table is gone."""
        return await self._call(self._read_rules)

    async def is_touched(self) -> bool:
        """Whether somebody else changed any nft table since our last change."""
        return await self._call(self._opened(self._counter).read) != self._generation

    async def open_ways(self) -> list[str]:
        """See `firewalls.open_ways`."""
        return await self._call(self._open_ways)

    async def drop_all_rules(self) -> None:
        """Remove our table and our rules in others'."""
        await self._call(self._drop_all_rules)

    async def own_links(self) -> set[str]:
        """Links of this instance."""
        return await self._call(links.ours, self._instance)

    async def filters_bridges(self) -> bool:
        """Whether frames within a bridge pass the IP rules (net.bridge.bridge-nf-call-iptables)."""
        return await self._call(namespaces.read_sysctl, "bridge/bridge-nf-call-iptables") == "1"

    async def forget_flows(self, addresses: set[str], ports: set[int], protocols: tuple[int, ...]) -> None:
        """See `flows.forget`."""
        await self._reap(flows.forget, addresses, ports, protocols)

    async def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, functools.partial(function, *args, **kwargs))

    async def _reap(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reaper, functools.partial(function, *args, **kwargs))

    def _open(self) -> None:
        self._links = links.Links()
        self._counter = nft.Counter()
        self._generation = self._counter.read()
        self._tables = nft.Tables()
        namespaces.write_sysctl("ipv4/ip_forward", "1")

    def _open_reaper(self) -> None:
        self._reaper_links = links.Links()

    def _close(self) -> None:
        if self._links is not None:
            self._links.close()
        if self._tables is not None:
            self._tables.close()
        if self._counter is not None:
            self._counter.close()

    def _close_reaper(self) -> None:
        if self._reaper_links is not None:
            self._reaper_links.close()

    def _ensure_bridges(self, bridges: Sequence[links.Bridge]) -> None:
        for bridge in bridges:
            self._opened(self._links).ensure_bridge(bridge)

    def _make_sandbox(self, path: Path, legs: Sequence[links.Leg], gateway: str) -> Ears:
        ears, netlink = namespaces.create(path, _furnish)
        inner = links.Links(netlink)
        made: list[str] = []
        try:
            with namespaces.open_file(path) as descriptor:
                for leg in legs:
                    self._opened(self._links).add_leg(leg, descriptor)
                    made.append(leg.host_link)
            inner.configure(legs, gateway)
            namespaces.run(path, lambda: namespaces.write_sysctl(_NEW_LINKS_IPV6, "0"))
        except BaseException:
            ears.close()
            for name in made:
                self._opened(self._links).delete(name)
            namespaces.remove(path)
            raise
        finally:
            inner.close()
            netlink.close()
        return ears

    def _join_sandbox(self, path: Path, leg: links.Leg, gateway: str) -> None:
        namespaces.run(path, lambda: namespaces.write_sysctl(_NEW_LINKS_IPV6, "1"))
        try:
            with namespaces.open_file(path) as descriptor:
                self._opened(self._links).add_leg(leg, descriptor)
        finally:
            namespaces.run(path, lambda: namespaces.write_sysctl(_NEW_LINKS_IPV6, "0"))
        _configure_inside(path, [leg], gateway)

    def _adopt_sandbox(self, path: Path, ports: tuple[int, int]) -> Ears:
        def inside() -> Ears:
            try:
                ears = Ears(*sockets(RESOLVER, ports))
            except OSError:
                ears = Ears(*sockets(RESOLVER))
            _lead(ears, is_new=False)
            return ears

        return namespaces.run(path, inside)

    def _remove_links(self, names: Sequence[str]) -> None:
        for name in names:
            self._opened(self._reaper_links).delete(name)

    def _remove_sandbox(self, path: Path, group: int, names: Sequence[str]) -> None:
        if any(links.index_of(name) is not None for name in names):
            self._opened(self._reaper_links).delete_group(group)
        # The group says nothing about a link that something else moved out of it.
        self._remove_links(names)
        namespaces.remove(path)

    def _mend_ports(self, masters: Mapping[str, str]) -> list[str]:
        return [name for name, bridge in masters.items() if self._opened(self._links).ensure_master(name, bridge)]

    def _set_ports(self, ports: Mapping[str, tuple[bool, bool]]) -> None:
        for name, (is_isolated, is_hairpin) in ports.items():
            if links.index_of(name) is not None:
                self._opened(self._links).set_port(name, is_isolated=is_isolated, is_hairpin=is_hairpin)

    def _run_rules(self, commands: str) -> None:
        self._opened(self._tables).run(commands)
        self._generation = self._opened(self._counter).read()

    def _read_rules(self) -> tuple[ruleset.Rules, dict[str, int]] | None:
        try:
            return ruleset.read(self._opened(self._tables).list(f"table ip {self._table}"))
        except errors.NotFound:
            return None

    def _open_ways(self) -> list[str]:
        warnings = firewalls.open_ways(self._opened(self._tables), self._instance)
        self._generation = self._opened(self._counter).read()
        return warnings

    def _drop_all_rules(self) -> None:
        tables = self._opened(self._tables)
        firewalls.close_ways(tables, self._instance)
        tables.run(f"table ip {self._table}\ndelete table ip {self._table}\n")

    @staticmethod
    def _opened(thing: T | None) -> T:
        if thing is None:
            raise errors.Unavailable("the networks of this engine are not started")
        return thing


def _configure_inside(path: Path, legs: Sequence[links.Leg], gateway: str) -> None:
    def inside() -> None:
        own = links.Links()
        try:
            own.configure(legs, gateway)
        finally:
            own.close()

    namespaces.run(path, inside)


def _furnish() -> tuple[Ears, socket.socket]:
    """In a new namespace: loopback, the resolver's sockets and rules, and a netlink socket for what follows."""
    _raise_loopback()
    # Links that we make get no IPv6 addresses; those that the container makes are its own affair.
    namespaces.write_sysctl(_NEW_LINKS_IPV6, "1")
    ears = Ears(*sockets(RESOLVER))
    try:
        _lead(ears, is_new=True)
        # pyroute2 wants a datagram socket; netlink knows no difference.
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    except BaseException:
        ears.close()
        raise
    return ears, netlink


def _lead(ears: Ears, *, is_new: bool) -> None:
    """Write the resolver's rules. Where a table is there, its rules stay if they name the right ports."""
    tables = nft.Tables()
    try:
        commands = resolver_rules(ears.ports)
        if not is_new:
            if _leads_to(tables, ears.ports):
                return
            commands = f"table ip {naming.RESOLVER_TABLE}\ndelete table ip {naming.RESOLVER_TABLE}\n{commands}"
        tables.run(commands)
    finally:
        tables.close()


def _leads_to(tables: nft.Tables, ports: tuple[int, int]) -> bool:
    try:
        listing = tables.list(f"table ip {naming.RESOLVER_TABLE}")
    except errors.NotFound:
        return False
    found = [
        statement["mangle"]["value"]
        for item in listing.get("nftables", ())
        if "rule" in item
        for statement in item["rule"]["expr"]
        if "mangle" in statement
    ]
    return found == [ports[0], 53, ports[1], 53]


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))
