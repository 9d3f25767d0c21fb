"""Mutual TLS in front of the server: ends TLS on a TCP port, and passes what was in it to the server as plain bytes.

Why not in the server's own transports: asyncio answers a client's close_notify by closing both directions. The docker
CLI sends one as soon as it has no input, and would lose all output of `exec` and `attach`. By `duplex`, the end of
that direction is passed on as the end of that direction alone, and what comes back still arrives.

Promises: no byte reaches the server before the client's certificate is verified; a client that won't do is told why by
an alert; one that stalls in the handshake is dropped; a direction that is cut without a close_notify counts as broken,
not as ended.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from gitops import duplex, errors
from gitops.config import TlsConfig

log = logging.getLogger(__name__)

_HANDSHAKE_S = 10.0
_FAREWELL_S = 2.0
_RETRY_S = 1.0
"""Before the next try to accept, where the machine has no descriptors left."""


def context(files: TlsConfig) -> ssl.SSLContext:
    """TLS 1.2 or later, for clients with a certificate of the authority alone.

    Raises:
        errors.Invalid: a file can't be used.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION
    made.verify_mode = ssl.CERT_REQUIRED
    try:
        made.load_verify_locations(files.ca)
        made.load_cert_chain(files.certificate, files.key, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        names = f"{files.ca}, {files.certificate}, {files.key}"
        raise errors.Invalid(f"the TLS files can't be used ({names}): {error}") from error
    return made


def _no_password() -> str:
    """Keeps OpenSSL from asking a terminal for one."""
    raise ValueError("the key must not be encrypted")


class Front:
    """Accepts on a bound socket, and gives each verified client's connection to a protocol of `factory`."""

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext, factory: Callable[[], asyncio.Protocol]) -> None:
        self._socket = sock
        self._tls = tls
        self._factory = factory
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to accept."""
        self._accepting = asyncio.create_task(self._accept(), name="TLS connections")

    async def stop(self) -> None:
        """Accept no more; connections live on."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)

    async def close(self) -> None:
        """End the connections; the server has closed its side of those that it knows."""
        await self.stop()
        if self._connections:
            await asyncio.wait(self._connections, timeout=_FAREWELL_S)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(self._socket)
            except OSError as error:
                log.warning("can't accept a connection, trying again: %s", error)
                await asyncio.sleep(_RETRY_S)
                continue
            task = asyncio.create_task(self._serve(sock, str(address[0])), name=f"TLS connection of {address[0]}")
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _serve(self, sock: socket.socket, address: str) -> None:
        reader, writer = await asyncio.open_connection(sock=sock, limit=duplex.BLOCK)
        session = duplex.Session(self._tls, reader, writer)
        try:
            async with asyncio.timeout(_HANDSHAKE_S):
                await session.shake_hands()
            await self._carry(session)
        except (OSError, TimeoutError) as error:
            # Errors of TLS are errors of the system to Python. A port scan makes many: nothing for the log by default.
            log.info("a client at %s is turned away: %s", address, error or "it stalls in the handshake")
        finally:
            writer.close()

    async def _carry(self, session: duplex.Session) -> None:
        ours, theirs = socket.socketpair()
        await asyncio.get_running_loop().connect_accepted_socket(self._factory, theirs)
        reader, writer = await asyncio.open_connection(sock=ours, limit=duplex.BLOCK)
        inward = asyncio.create_task(_receive_all(session, writer), name="TLS input")
        try:
            await _send_all(session, reader)
        finally:
            inward.cancel()
            await asyncio.gather(inward, return_exceptions=True)
            writer.close()


async def _receive_all(session: duplex.Session, writer: asyncio.StreamWriter) -> None:
    """Pass on what the client sends, and at its end close that direction; where it is broken, both."""
    try:
        while data := await session.read():
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def _send_all(session: duplex.Session, reader: asyncio.StreamReader) -> None:
    """Send what the server says, and at its end a close_notify."""
    while data := await reader.read(duplex.BLOCK):
        await session.write(data)
    await session.end()
