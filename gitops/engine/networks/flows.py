"""Flows that the kernel would go on sending where nobody is.

Address translation is decided once a flow. A UDP client that never pauses keeps its flow for ever: to a container that
is gone, or past a port that was published after its first datagram. A TCP connection to a container that is gone hangs
until it times out; without its flow it is refused at once. A container that is only drained keeps its connections.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Iterator
from typing import Any

from pyroute2 import Conntrack, NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

from gitops import errors

UDP = socket.IPPROTO_UDP
TCP = socket.IPPROTO_TCP


def forget(addresses: Collection[str], ports: Collection[int], protocols: Collection[int] = (UDP,)) -> int:
    """Forget translated flows of `protocols` to `addresses`, and UDP flows to `ports` that no rule led anywhere.

    Returns how many. Works in the calling thread's namespace. Raises errors.RuntimeFailure where the kernel refuses.
    """
    if not addresses and not ports:
        return 0
    with _opened() as conntrack:
        stale = [
            entry
            for address in addresses
            for protocol in protocols
            for entry in conntrack.dump_entries(tuple_reply=NFCTAttrTuple(proto=protocol, saddr=address))
            if entry.tuple_orig.daddr != address
        ]
        stale += [
            entry
            for port in ports
            for entry in conntrack.dump_entries(tuple_orig=NFCTAttrTuple(proto=UDP, dport=port))
            if is_untouched(entry.tuple_orig, entry.tuple_reply)
        ]
        for entry in stale:
            _delete(conntrack, entry)
        return len(stale)


def is_untouched(asked: Any, answered: Any) -> bool:
    """Whether neither end of a flow is translated."""
    return bool(answered.saddr == asked.daddr and answered.daddr == asked.saddr)


@contextlib.contextmanager
def _opened() -> Iterator[Any]:
    try:
        with Conntrack() as conntrack:
            yield conntrack
    except (NetlinkError, OSError) as error:
        raise errors.RuntimeFailure(f"can't read the kernel's flows: {error}") from error


def _delete(conntrack: Any, entry: Any) -> None:
    # One that ended in the meantime is what we want.
    with contextlib.suppress(NetlinkError):
        conntrack.delete(entry)
