"""A connection that stops being HTTP: the engine answers a request by handing over the bytes of both directions.

For exec and attach. Works alike over unix sockets, TCP, TLS and ssh, the end of one direction alone included: that is
how a program in a container learns that its input has ended while its output goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.parser
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from gitops import duplex, errors
from gitops.client import answers

_HEAD_LIMIT = 64 * 2**10
_ERROR_LIMIT = 2**20
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"


class RawStream:
    """Both directions of a connection; closed by its owner. One task may read while another writes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: duplex.Session | None
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._session = session
        self._pending = b""
        self.content_type = ""
        """What the engine says of its direction; "" where it says nothing, as older ones do."""

    async def read(self) -> bytes:
        """What comes next; b"" when the engine has no more to say.

        Raises:
            OSError: the connection broke.
        """
        if self._pending:
            data, self._pending = self._pending, b""
            return data
        return await (self._session.read() if self._session else self._reader.read(duplex.BLOCK))

    async def chunks(self) -> AsyncIterator[bytes]:
        """All that comes, to the end.

        Raises:
            errors.Unavailable: the connection broke.
        """
        try:
            while data := await self.read():
                yield data
        except OSError as error:
            raise errors.Unavailable(f"the connection to the engine broke: {error}") from error

    async def write(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            OSError: the connection broke.
        """
        if self._session:
            await self._session.write(data)
        else:
            self._writer.write(data)
            await self._writer.drain()

    async def end_input(self) -> None:
        """Say that nothing more will be written; reading goes on.

        Raises:
            OSError: the connection broke.
        """
        if self._session:
            await self._session.end()
        elif self._writer.can_write_eof():
            self._writer.write_eof()

    async def close(self) -> None:
        """End both directions at once."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def request(self, head: bytes, body: bytes) -> None:
        """Send a request, and read the head of its answer; what follows is the stream's.

        Raises:
            errors.GitopsError: the engine refuses it. OSError, ValueError: the connection broke, or isn't HTTP.
        """
        await self.write(head + body)
        received = b""
        while b"\r\n\r\n" not in received:
            data = await self.read()
            received += data
            if not data or len(received) > _HEAD_LIMIT:
                raise ConnectionResetError("the engine ended the connection without an answer")
        text, _, self._pending = received.partition(b"\r\n\r\n")
        line, _, fields = text.decode("latin-1").partition("\r\n")
        headers = email.parser.HeaderParser().parsestr(fields)
        status = int(line.split(" ", 2)[1])
        self.content_type = headers.get("Content-Type", "")
        if status not in (101, 200):
            raise answers.error_of(status, await self._body(int(headers.get("Content-Length", "0"))))

    async def _body(self, size: int) -> bytes:
        body = b""
        while len(body) < min(size, _ERROR_LIMIT) and (data := await self.read()):
            body += data
        return body


async def to_socket(path: Path) -> RawStream:
    """Connect to a unix socket.

    Raises:
        OSError: nobody listens, or it refuses this user.
    """
    reader, writer = await asyncio.open_unix_connection(path, limit=duplex.BLOCK)
    return RawStream(reader, writer, None)


async def to_port(host: str, port: int, context: ssl.SSLContext | None) -> RawStream:
    """Connect by TCP, in TLS where there is a context.

    Raises:
        OSError: nobody listens, or TLS fails.
    """
    reader, writer = await asyncio.open_connection(host, port, limit=duplex.BLOCK)
    if context is None:
        return RawStream(reader, writer, None)
    session = duplex.Session(context, reader, writer, server_name=host)
    try:
        await session.shake_hands()
    except BaseException:
        writer.close()
        raise
    return RawStream(reader, writer, session)
