"""A connection that becomes a pipe: taken from the HTTP server for attach and exec, and used until one side ends.

The client may close its half, which says that its input has ended, and still reads: the server's own protocol would
close all of it. The server keeps its handler, and hears of the connection's loss, which ends it.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from aiohttp import web

from gitops.api import answers, detaching, middleware
from gitops.engine.containers.outlets import Outlet, Piece

_BUFFER = 256 * 1024
_PIECE = 65536
_FAREWELL_S = 5.0
_HEAD_LOOKS = 500
_HEAD_PAUSE_S = 0.001


class Ends(Protocol):
    """What is at the other end: a process's streams."""

    @property
    def outlet(self) -> Outlet:
        """Its output."""
        ...

    async def write(self, data: bytes) -> bool:
        """Its input; False when it takes none."""
        ...

    async def close_input(self) -> None:
        """No more input comes."""
        ...

    def detached(self) -> None:
        """The client left a terminal, while its process goes on."""
        ...


class Taken(web.StreamResponse):
    """The answer to a request whose connection was taken: all of it has been sent already."""

    def __init__(self, status: int) -> None:
        super().__init__(status=status)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to send."""

    async def write_eof(self, data: bytes | bytearray | memoryview = b"") -> None:
        """Nothing is left to send."""


class _Protocol(asyncio.StreamReaderProtocol):
    def __init__(self, reader: asyncio.StreamReader, former: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._former = former

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # The server keeps a list of its connections, and ends the handler.
        self._former.connection_lost(exc)


class Connection:
    """Both directions of a taken connection, as a context: it is closed at the context's end."""

    def __init__(self, request: web.Request, content_type: str) -> None:
        """Take it, and send the head: from then on there are no answers any more.

        Raises:
            ConnectionResetError: the client has gone.
        """
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(limit=_PIECE, loop=loop)
        protocol = _Protocol(self.reader, transport.get_protocol())
        protocol.connection_made(transport)
        transport.set_protocol(protocol)
        transport.set_write_buffer_limits(_BUFFER)
        self._writer = asyncio.StreamWriter(transport, protocol, self.reader, loop)
        is_upgrade = request.headers.get("Upgrade", "").lower() == "tcp"
        self.answer = request[answers.STREAM] = Taken(101 if is_upgrade else 200)
        self._is_head_read = False
        self._writer.write(_head(content_type, is_upgrade=is_upgrade))

    async def write(self, data: bytes) -> None:
        """Send, and wait while the client lags behind."""
        if not self._is_head_read:
            await self._until_head_is_read()
        self._writer.write(data)
        await self._writer.drain()

    async def _until_head_is_read(self) -> None:
        """Docker's SDK for Python loses what it gets together with the head. A unix socket tells what was read."""
        sock = self._writer.get_extra_info("socket")
        for _ in range(_HEAD_LOOKS):
            if sock is None or not struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]:
                break
            await asyncio.sleep(_HEAD_PAUSE_S)
        self._is_head_read = True

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self._say_farewell()
        self._writer.close()

    async def _say_farewell(self) -> None:
        """Send what is left and its end, then wait a moment for the client's.

        A socket that is closed while something lies there unread takes from the client what it hasn't read itself.
        """
        with suppress(OSError, TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(_FAREWELL_S):
                while await self.reader.read(_PIECE):
                    continue


def _head(content_type: str, *, is_upgrade: bool) -> bytes:
    lines = ["HTTP/1.1 101 UPGRADED" if is_upgrade else "HTTP/1.1 200 OK", f"Content-Type: {content_type}"]
    lines += ["Connection: Upgrade", "Upgrade: tcp"] if is_upgrade else ["Connection: close"]
    lines += [f"{name}: {value}" for name, value in middleware.headers().items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def content_type(*, is_terminal: bool) -> str:
    """What a stream of output is."""
    return answers.RAW if is_terminal else answers.MULTIPLEXED


def encode(pieces: Sequence[Piece], *, is_terminal: bool) -> bytes:
    """Output as it goes over the wire: bare from a terminal, else in frames."""
    if is_terminal:
        return b"".join(data for _, data in pieces)
    return b"".join(answers.frame(stream, data) for stream, data in pieces)


async def converse(connection: Connection, ends: Ends, *, is_terminal: bool, has_input: bool, keys: bytes) -> None:
    """Carry both directions until the output ends, or the client leaves a terminal.

    It does so by typing `keys`, or by closing its side: there is no other end of a terminal's input.
    """
    output = asyncio.create_task(_send(connection, ends.outlet, is_terminal=is_terminal))
    is_typing = is_terminal and has_input
    input = asyncio.create_task(_receive(connection, ends, has_input=has_input, keys=keys if is_typing else None))
    try:
        await asyncio.wait([output, input], return_when=asyncio.FIRST_COMPLETED)
        if input.done() and input.result() and not output.done():
            ends.detached()
        else:
            await output
    except (asyncio.CancelledError, ConnectionError):
        # The connection broke, which is how a client that has something unread closes its side.
        if is_typing:
            ends.detached()
        raise
    finally:
        for task in (output, input):
            task.cancel()
        await asyncio.gather(output, input, return_exceptions=True)


async def _send(connection: Connection, outlet: Outlet, *, is_terminal: bool) -> None:
    while pieces := await outlet.take():
        await connection.write(encode(pieces, is_terminal=is_terminal))


async def _receive(connection: Connection, ends: Ends, *, has_input: bool, keys: bytes | None) -> bool:
    """True when the client left a terminal; False at the end of its input."""
    scanner = detaching.Scanner(keys) if keys else None
    takes = has_input
    with suppress(ConnectionError):
        while data := await connection.reader.read(_PIECE):
            is_leaving = False
            if scanner is not None:
                data, is_leaving = scanner.feed(data)
            # Once the process takes nothing any more, what comes is dropped: the output may still be worth reading.
            takes = takes and (not data or await ends.write(data))
            if is_leaving:
                return True
    if takes:
        await ends.close_input()
    return keys is not None
