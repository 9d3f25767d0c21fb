"""Connections that the engine hands over, by every way to reach it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gitops import errors
from gitops.api import listeners, tls
from gitops.client import endpoint
from gitops.client.transport import Transport
from gitops.config import TlsConfig

PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.47\r\nContent-Length: 2\r\n\r\nOK"
TAKEN = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\n\r\nfirst "
REFUSED = b'HTTP/1.1 409 Conflict\r\nContent-Length: 39\r\n\r\n{"message": "container web is paused" }\n'


async def _engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers pings; hands over what is posted to /taken, and speaks when its input has ended."""
    while head := await _head(reader):
        if b"/_ping" in head:
            writer.write(PING)
        elif b"/taken" in head:
            assert await reader.readexactly(len(b'{"Tty":true}')) == b'{"Tty":true}'
            writer.write(TAKEN)
            said = await reader.read()
            writer.write(b"then %d bytes" % len(said))
            break
        elif b"/broken" in head:
            break
        else:
            writer.write(REFUSED)
    writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


@pytest.fixture(params=["unix", "tcp", "tls", "ssh"])
async def transport(
    request: pytest.FixtureRequest, tmp_path: Path, authority: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Transport]:
    if request.param in ("unix", "ssh"):
        path = tmp_path / "e.sock"
        serving: Any = await asyncio.start_unix_server(_engine, path)
        url = f"unix://{path}"
    elif request.param == "tcp":
        serving = await asyncio.start_server(_engine, "127.0.0.1", 0)
        url = f"tcp://127.0.0.1:{serving.sockets[0].getsockname()[1]}"
    else:
        ca = authority("ours")
        serving = _BehindTls(ca)
        monkeypatch.setenv("GITOPS_CERT_PATH", str(ca.client()))
        url = str(serving.listener)
    if request.param == "ssh":
        _play_ssh(tmp_path, monkeypatch)
        url = f"ssh://box{path}"
    made = Transport(endpoint.resolve(url))
    await made.open()
    yield made
    await made.close()
    if isinstance(serving, _BehindTls):
        await serving.close()
    else:
        serving.close()
        await serving.wait_closed()


class _BehindTls:
    """A front and the port that it has."""

    def __init__(self, ca: Any) -> None:
        (listener,) = listeners.bind(["tcp://127.0.0.1:0"], "root", TlsConfig(ca.ca, *ca.server()))
        assert isinstance(listener, listeners.TcpListener)
        assert listener.tls is not None
        self.listener = listener
        self.front = tls.Front(
            listener.socket, listener.tls, lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), _engine)
        )
        self.front.start()

    async def close(self) -> None:
        await self.front.close()
        self.listener.close()


def _play_ssh(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = directory / "bin"
    programs.mkdir()
    for name, text in (
        ("ssh", 'for last; do :; done\nexec sh -c "$last"'),
        ("gitops", f'exec {sys.executable} -m gitops "$@"'),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


async def test_output_goes_on_after_the_end_of_the_input(transport: Transport) -> None:
    async with transport.hijack("POST", "/taken", body={"Tty": True}) as stream:
        assert stream.content_type == "application/vnd.docker.raw-stream"
        assert await stream.read() == b"first "
        for _ in range(20):
            await stream.write(b"x" * 50_000)
        await stream.end_input()
        assert b"".join([chunk async for chunk in stream.chunks()]) == b"then 1000000 bytes"


async def test_an_engine_that_refuses_says_why(transport: Transport) -> None:
    with pytest.raises(errors.Conflict, match="container web is paused"):
        async with transport.hijack("POST", "/other"):
            pass


async def test_an_engine_that_goes_away_is_unavailable(transport: Transport) -> None:
    with pytest.raises(errors.Unavailable, match=r"broke|can't be reached"):
        async with transport.hijack("POST", "/broken"):
            pass


async def test_the_connection_ends_with_the_block(transport: Transport) -> None:
    async with transport.hijack("POST", "/taken", body={"Tty": True}) as stream:
        pass
    with pytest.raises((OSError, RuntimeError, ValueError)):
        for _ in range(1000):
            await stream.write(b"x" * 50_000)
