"""Links, addresses and routes, by pyroute2: the host's side and the inside of sandboxes.

A `Links` belongs to the thread that opened it, and to that thread's namespace. Calls are idempotent where it says so.
Errors are `errors.RuntimeFailure` with the link's name and the kernel's word.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from gitops import errors
from gitops.engine.networks import namespaces, naming

_ROUTES = Path("/proc/thread-self/net/route")
FIRST_GROUP = 1 << 16
"""Link groups of sandboxes begin here: people and their tools use small numbers."""
LAST_GROUP = (1 << 31) - 1
_SHORTEST_PREFIX = 2
"""Routes of less are default routes in halves, as VPNs set them: everything overlaps those."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge as it should be; `address` is empty where the host has none on it."""

    name: str
    mac: str
    address: str
    prefix_length: int
    mtu: int


@dataclass(frozen=True, slots=True)
class Leg:
    """A veth pair between a bridge and a sandbox."""

    host_link: str
    link: str
    bridge: str
    address: str
    prefix_length: int
    mac: str
    mtu: int
    group: int = 0
    is_isolated: bool = False
    """Ports that are isolated reach the bridge itself, not each other."""
    is_hairpin: bool = False
    """Whether frames may leave by the port that they came in by."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the host."""

    network: ipaddress.IPv4Network
    link: str
    is_connected: bool
    """Whether it needs no next hop: the host has an address there."""


class Links:
    """The links of one namespace."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        """Of the calling thread's namespace, or of the one that the netlink socket `sock` was made in."""
        # No groups: a socket that nobody reads would fill up with other people's news.
        self._route: Any = IPRoute(groups=0, use_socket=sock)

    def close(self) -> None:
        """Close the socket."""
        self._route.close()

    def ensure_bridge(self, bridge: Bridge) -> None:
        """Make the bridge, or bring one that is there into the wanted form; idempotent."""
        index = index_of(bridge.name)
        if index is None:
            with _chained("make the bridge", bridge.name, "bridge"):
                self._route.link("add", ifname=bridge.name, kind="bridge", address=bridge.mac)
            index = index_of(bridge.name)
        namespaces.write_sysctl(f"ipv6/conf/{bridge.name}/disable_ipv6", "1")
        with _chained("set up the bridge", bridge.name):
            self._route.link("set", index=index, address=bridge.mac, mtu=bridge.mtu, state="up")
        if bridge.address:
            with _chained("give the bridge its address", bridge.name):
                self._route.addr("replace", index=index, address=bridge.address, prefixlen=bridge.prefix_length)
            # Connections from 127.0.0.1 to a published port leave by this link before their source is rewritten.
            namespaces.write_sysctl(f"ipv4/conf/{bridge.name}/route_localnet", "1")

    def delete(self, name: str) -> None:
        """Delete a link, with its peer; none there is no error. Takes some 20 ms, the kernel's grace period."""
        index = index_of(name)
        if index is None:
            return
        try:
            with _chained("delete the link", name):
                self._route.link("del", index=index)
        except errors.RuntimeFailure:
            if index_of(name) is not None:
                raise

    def delete_group(self, group: int) -> None:
        """Delete all links of a group of ours, in one grace period; none there is no error."""
        if group < FIRST_GROUP:
            raise errors.RuntimeFailure(f"{group} is no group of sandbox links")
        try:
            self._route.link("del", group=group)
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise errors.RuntimeFailure(f"can't delete the links of group {group}: {_word(error)}") from error

    def add_leg(self, leg: Leg, namespace: int) -> None:
        """Make the pair, its inner end born in the namespace (a descriptor), its outer one a port of the bridge."""
        master = index_of(leg.bridge)
        if master is None:
            raise errors.RuntimeFailure(f"the bridge {leg.bridge} is gone: restart the engine to make it again")
        peer = {"ifname": leg.link, "address": leg.mac, "mtu": leg.mtu, "net_ns_fd": namespace}
        with _chained("make the link", leg.host_link, "veth"):
            self._route.link(
                "add",
                ifname=leg.host_link,
                kind="veth",
                mtu=leg.mtu,
                group=leg.group,
                master=master,
                state="up",
                peer=peer,
            )
        if leg.is_isolated or leg.is_hairpin:
            self.set_port(leg.host_link, is_isolated=leg.is_isolated, is_hairpin=leg.is_hairpin)

    def ensure_master(self, name: str, bridge: str) -> bool:
        """Make a link a port of `bridge`; whether that was needed. Links that are missing are passed over."""
        index, master = index_of(name), index_of(bridge)
        if index is None or master is None:
            return False
        with _chained("make a port of the bridge", name):
            if self._route.get_links(index)[0].get_attr("IFLA_MASTER") == master:
                return False
            self._route.link("set", index=index, master=master)
        return True

    def set_port(self, name: str, *, is_isolated: bool, is_hairpin: bool) -> None:
        """Set how a bridge treats a port."""
        with _chained("set up the bridge port", name):
            self._route.brport("set", index=index_of(name), isolated=int(is_isolated), mode=int(is_hairpin))

    def configure(self, legs: Iterable[Leg], gateway: str) -> None:
        """Give a sandbox's ends their addresses and the default route; for the `Links` of a sandbox."""
        for leg in legs:
            with _chained("set up the link", leg.link):
                index = self._route.link_lookup(ifname=leg.link)[0]
                self._route.addr("add", index=index, address=leg.address, prefixlen=leg.prefix_length)
                self._route.link("set", index=index, state="up")
        if gateway:
            with _chained("set the default route by", gateway):
                self._route.route("replace", dst="0.0.0.0/0", gateway=gateway)


def index_of(name: str) -> int | None:
    """The number of a link in the calling thread's namespace."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def names(prefix: str) -> set[str]:
    """Links of the calling thread's namespace that begin so."""
    return {name for _, name in socket.if_nameindex() if name.startswith(prefix)}


def ours(instance: str) -> set[str]:
    """Links of this instance in the calling thread's namespace."""
    return names(naming.prefix(instance))


def routes() -> list[Route]:
    """Routes of the calling thread's namespace."""
    return parse_routes(_ROUTES.read_text())


def parse_routes(text: str) -> list[Route]:
    """Read /proc/net/route; default routes are left out."""
    found = []
    for line in text.splitlines()[1:]:
        columns = line.split()
        if len(columns) < 8:
            continue
        address, gateway, mask = (_hexadecimal(columns[position]) for position in (1, 2, 7))
        network = ipaddress.IPv4Network((address, mask.bit_count()), strict=False)
        if network.prefixlen >= _SHORTEST_PREFIX:
            found.append(Route(network, columns[0], gateway == 0))
    return found


def _hexadecimal(text: str) -> int:
    """A number that the kernel printed in the host's byte order."""
    number: int = struct.unpack(">I", struct.pack("=I", int(text, 16)))[0]
    return number


@contextlib.contextmanager
def _chained(verb: str, name: str, module: str = "") -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        hint = ""
        if error.code == errno.EOPNOTSUPP and module:
            hint = f"; the kernel lacks {module}: load it (modprobe {module}) or use a kernel that has it"
        elif error.code == errno.EPERM:
            hint = "; this needs root (CAP_NET_ADMIN)"
        raise errors.RuntimeFailure(f"can't {verb} {name}: {_word(error)}{hint}") from error
    except (OSError, IndexError) as error:
        raise errors.RuntimeFailure(f"can't {verb} {name}: {error}") from error


def _word(error: NetlinkError) -> str:
    return str(error.args[1]) if len(error.args) > 1 else str(error)
