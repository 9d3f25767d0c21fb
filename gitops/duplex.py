"""TLS whose two directions end one by one, over asyncio's streams.

asyncio's own TLS answers a close_notify by closing both directions, and can't send one alone. Programs that run in
containers need it: the end of their input is not the end of their output. The work is Python's `ssl`; here its buffers
are carried to and from the socket. Used by both ends, the API's server and the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
BLOCK = 128 * 2**10


class Session:
    """One connection in TLS. One task may read while another writes."""

    def __init__(
        self,
        context: ssl.SSLContext,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        server_name: str | None = None,
    ) -> None:
        """As a client of `server_name`, or as a server where that is None."""
        self._reader = reader
        self._writer = writer
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )

    async def shake_hands(self) -> None:
        """Until the other side is verified, as far as the context wants it.

        Raises:
            OSError: it isn't (ssl.SSLError), or the connection broke; a server's client has been told why.
        """
        try:
            await self._until_done(self._object.do_handshake)
        except ssl.SSLError:
            await self._see_off()
            raise

    async def read(self) -> bytes:
        """What comes next, b"" after the other side's close_notify.

        Raises:
            OSError: the connection broke, an end without a close_notify included.
        """
        try:
            return await self._until_done(lambda: self._object.read(BLOCK))
        except ssl.SSLZeroReturnError:
            # What a close_notify is to Python once ours is sent; before, it is an empty read.
            return b""

    async def write(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            OSError: the connection broke.
        """
        view = memoryview(data)
        while view:
            view = view[self._object.write(view) :]
        await self._flush()

    async def end(self) -> None:
        """Send a close_notify: we have no more to say, and still listen.

        Raises:
            OSError: the connection broke.
        """
        # The first step of a shutdown sends ours; it then asks for the other side's, which nobody waits for.
        with contextlib.suppress(ssl.SSLError):
            self._object.unwrap()
        await self._flush()

    async def _until_done(self, call: Callable[[], T]) -> T:
        while True:
            try:
                result = call()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._reader.read(BLOCK)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
                continue
            await self._flush()
            return result

    async def _flush(self) -> None:
        if self._outgoing.pending:
            self._writer.write(self._outgoing.read())
            await self._writer.drain()

    async def _see_off(self) -> None:
        """Send the alert, and wait for the other side to close: to close with its bytes unread would destroy it."""
        await self._flush()
        self._writer.write_eof()
        while await self._reader.read(BLOCK):
            pass
