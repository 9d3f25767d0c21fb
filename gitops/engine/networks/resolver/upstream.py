"""Questions that are not ours, passed on to the host's resolvers or a container's own, byte for byte.

Sockets are the daemon's, in its own namespace: an upstream at 127.0.0.53 works. Bounds: three servers a question, four
seconds each, 1,024 questions at once over all containers.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
from collections.abc import Sequence
from pathlib import Path

from gitops.engine.networks.resolver import message

TIMEOUT_S = 4.0
MOST_SERVERS = 3
MOST_QUESTIONS = 1024
_PORT = 53
_RESOLV_CONF = Path("/etc/resolv.conf")


def nameservers(text: str) -> tuple[str, ...]:
    """The servers of a resolv.conf, the first three that are addresses."""
    found = []
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) >= 2 and words[0] == "nameserver" and _is_address(words[1]):
            found.append(words[1])
    return tuple(found[:MOST_SERVERS])


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


class Forwarder:
    """Asks upstream servers; shared by all sandboxes of an engine."""

    def __init__(self, *, resolv_conf: Path = _RESOLV_CONF, port: int = _PORT, timeout_s: float = TIMEOUT_S) -> None:
        self._resolv_conf = resolv_conf
        self._port = port
        self._timeout_s = timeout_s
        self._questions = 0
        self._stamp: tuple[int, int] | None = None
        self._servers: tuple[str, ...] = ()

    def host_servers(self) -> tuple[str, ...]:
        """The host's resolvers, read again when the file changed."""
        try:
            status = self._resolv_conf.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._servers = nameservers(self._resolv_conf.read_text(errors="replace"))
                self._stamp = stamp
        except OSError:
            self._servers, self._stamp = (), None
        return self._servers

    async def ask(self, data: bytes, servers: Sequence[str], *, is_tcp: bool) -> bytes | None:
        """The first server's answer to the query `data`, with its id; None where none answered, or too many ask."""
        if self._questions >= MOST_QUESTIONS:
            return None
        self._questions += 1
        try:
            for server in (servers or self.host_servers())[:MOST_SERVERS]:
                reply = await self._ask_one(server, data, is_tcp=is_tcp)
                if reply is not None:
                    return message.with_id(reply, int.from_bytes(data[:2]))
            return None
        finally:
            self._questions -= 1

    async def _ask_one(self, server: str, data: bytes, *, is_tcp: bool) -> bytes | None:
        # Our own id and a port of the kernel's choice: what a container picks may be easy to guess.
        identity = secrets.randbelow(0x10000)
        question = message.with_id(data, identity)
        exchange = self._by_tcp if is_tcp else self._by_udp
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await exchange(server, question, identity)
        except (TimeoutError, OSError, EOFError):
            return None
        return reply

    async def _by_udp(self, server: str, question: bytes, identity: int) -> bytes:
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[bytes] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Exchange(reply, question, identity), remote_addr=(server, self._port)
        )
        try:
            transport.sendto(question)
            return await reply
        finally:
            transport.close()

    async def _by_tcp(self, server: str, question: bytes, identity: int) -> bytes | None:
        reader, writer = await asyncio.open_connection(server, self._port)
        try:
            writer.write(len(question).to_bytes(2) + question)
            await writer.drain()
            reply = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            return reply if message.answers(reply, question, identity) else None
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class _Exchange(asyncio.DatagramProtocol):
    """Waits for the datagram that answers; anything else that arrives is ignored."""

    def __init__(self, reply: asyncio.Future[bytes], question: bytes, identity: int) -> None:
        self._reply = reply
        self._question = question
        self._identity = identity

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._reply.done() and message.answers(data, self._question, self._identity):
            self._reply.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._reply.done():
            self._reply.set_exception(exc)
