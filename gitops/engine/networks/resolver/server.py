"""The sockets of one sandbox's resolver, served on the daemon's event loop.

The sockets were made inside of the sandbox, so who asks is known by where the question came in. A sandbox may have 100
questions under way and 32 connections; more are dropped, as a busy server would.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from gitops.engine.networks.resolver import message
from gitops.engine.networks.resolver.directory import Directory
from gitops.engine.networks.resolver.message import Query
from gitops.engine.networks.resolver.upstream import Forwarder

MOST_QUESTIONS = 100
MOST_CONNECTIONS = 32
IDLE_TIMEOUT_S = 10.0
_MOST_TCP = 65535


@dataclass(slots=True)
class View:
    """What one sandbox sees of the directory."""

    directory: Directory
    network_ids: tuple[str, ...]
    nameservers: tuple[str, ...] = ()
    """Upstream servers of its own, in place of the host's."""
    may_forward: bool = True
    """False for a container without a way out: a question passed on would be one."""
    nicknames: Mapping[str, str] = field(default_factory=dict)
    """Names that only this sandbox knows, with those that they stand for."""

    def answer(self, query: Query, limit: int) -> bytes | None:
        """The answer from the directory in at most about `limit` bytes; None for a question to pass on."""
        if query.klass != message.IN:
            return None
        if query.kind == message.PTR:
            return self._reverse(query)
        found = self.directory.lookup(self.network_ids, self.nicknames.get(query.name, query.name))
        if found is None:
            return None
        if query.kind not in (message.A, message.ANY) or not found:
            return message.empty(query)
        return message.addresses(query, random.sample(found, len(found)), limit)

    def _reverse(self, query: Query) -> bytes | None:
        address = message.reverse_address(query.name)
        if address is None:
            return None
        name, is_inside = self.directory.reverse(self.network_ids, address)
        if name is not None:
            return message.pointer(query, name)
        return message.empty(query, message.NXDOMAIN) if is_inside else None


class Server:
    """Answers on a UDP and a listening TCP socket until it is closed; it owns both from `start` on."""

    def __init__(self, udp: socket.socket, tcp: socket.socket, view: View, forwarder: Forwarder) -> None:
        self.view = view
        self._udp, self._tcp = udp, tcp
        self._forwarder = forwarder
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to answer."""
        self._udp.setblocking(False)
        self._tcp.setblocking(False)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=self._udp)
        self._server = await asyncio.start_server(self._accepted, sock=self._tcp)

    async def close(self) -> None:
        """Stop, and wait until nothing is under way."""
        if self._server is not None:
            self._server.close()
        if self._transport is not None:
            self._transport.close()
        tasks = [*self._tasks, *self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._udp.close()
        self._tcp.close()

    def datagram(self, data: bytes, address: tuple[str, int]) -> None:
        """A question that came by UDP."""
        query = message.parse(data)
        if query is None or self._transport is None:
            return
        reply = self._answer(query, query.payload)
        if reply is not None:
            self._transport.sendto(reply, address)
        elif len(self._tasks) < MOST_QUESTIONS:
            task = asyncio.create_task(self._forward(query, data, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _answer(self, query: Query, limit: int) -> bytes | None:
        reply = self.view.answer(query, limit)
        if reply is None and not self.view.may_forward:
            return message.empty(query, message.NXDOMAIN)
        return reply

    async def _forward(self, query: Query, data: bytes, address: tuple[str, int]) -> None:
        reply = await self._forwarder.ask(data, self.view.nameservers, is_tcp=False)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(reply or message.empty(query, message.SERVFAIL), address)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= MOST_CONNECTIONS:
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, EOFError, TimeoutError):
            writer.close()
        except asyncio.CancelledError:
            # Only `close` cancels; a cancelled handler would be logged as an error by asyncio's streams.
            writer.close()
        finally:
            self._connections.discard(task)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while True:
                async with asyncio.timeout(IDLE_TIMEOUT_S):
                    data = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
                query = message.parse(data)
                if query is None:
                    return
                reply = self._answer(query, _MOST_TCP)
                if reply is None:
                    reply = await self._forwarder.ask(data, self.view.nameservers, is_tcp=True)
                reply = reply or message.empty(query, message.SERVFAIL)
                writer.write(len(reply).to_bytes(2) + reply)
                async with asyncio.timeout(IDLE_TIMEOUT_S):
                    await writer.drain()


class _Datagrams(asyncio.DatagramProtocol):
    """Hands datagrams to the server. Errors are of single answers: their askers are gone."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.datagram(data, addr)


def sockets(address: str, ports: tuple[int, int] = (0, 0)) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket bound to `address` in the calling thread's namespace, each on a port of its own."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        udp.bind((address, ports[0]))
        tcp.bind((address, ports[1]))
        tcp.listen(MOST_CONNECTIONS)
    except BaseException:
        udp.close()
        tcp.close()
        raise
    return udp, tcp
