"""Flows of datagrams that the kernel keeps sending where a port led before.

Address translation is decided once a flow, and a UDP client that never pauses keeps its flow for ever: past a container
that is gone, or past a port that was published after its first datagram. Such flows are forgotten, so that the next
datagram is led anew. Streams need none of it: they end by themselves, or go on until a drained container stops.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Iterator
from typing import Any

from pyroute2 import Conntrack, NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

from gitops import errors


def forget(addresses: Collection[str], ports: Collection[int]) -> int:
    """Forget UDP flows to `addresses` (containers that left), and those to `ports` that no rule led anywhere.

    Returns how many. Works in the calling thread's namespace. Raises errors.RuntimeFailure where the kernel refuses.
    """
    if not addresses and not ports:
        return 0
    with _opened() as conntrack:
        entries = conntrack.dump_entries(tuple_orig=NFCTAttrTuple(proto=socket.IPPROTO_UDP))
        stale = [entry for entry in entries if is_stale(entry.tuple_orig, entry.tuple_reply, addresses, ports)]
        for entry in stale:
            _delete(conntrack, entry)
        return len(stale)


def is_stale(asked: Any, answered: Any, addresses: Collection[str], ports: Collection[int]) -> bool:
    """Whether a flow leads to one of the addresses, or to one of the ports without any translation."""
    if asked.proto != socket.IPPROTO_UDP:
        return False
    if answered.saddr in addresses:
        return bool(asked.daddr != answered.saddr)
    return asked.dport in ports and answered.saddr == asked.daddr and answered.daddr == asked.saddr


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
