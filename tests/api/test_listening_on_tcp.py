"""TCP listeners: who may connect, and what is refused before anything is bound."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from gitops import client, errors
from gitops.api import listeners, server, tls
from gitops.config import EngineConfig, TlsConfig
from gitops.engine.events import EventBus

Make = Callable[..., Any]


@pytest.fixture
def ca(authority: Make) -> Any:
    return authority("ours")


@pytest.fixture
def files(ca: Any) -> TlsConfig:
    return TlsConfig(ca.ca, *ca.server())


@pytest.fixture
async def url(files: TlsConfig) -> AsyncIterator[str]:
    """A server that listens for clients with a certificate."""
    engine: Any = SimpleNamespace(containers=SimpleNamespace(list=lambda **_: []), events=EventBus())
    node: Any = SimpleNamespace(state="inactive")
    bound = listeners.bind(["tcp://127.0.0.1:0"], "root", files)
    serving = await server.serve(engine, node, bound)
    yield str(bound[0])
    await serving.close()


def _as(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setenv("GITOPS_CERT_PATH", str(directory))


async def _ask(url: str) -> None:
    async with client.connect(url) as connected:
        await connected.ping()


async def test_a_client_of_the_authority_is_served(url: str, ca: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _as(monkeypatch, ca.client())
    await _ask(url)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("none", "certificate required"), ("foreign", "unknown ca"), ("expired", "certificate expired")],
)
async def test_another_client_is_told_why_it_is_turned_away(
    url: str, ca: Any, authority: Make, monkeypatch: pytest.MonkeyPatch, kind: str, reason: str
) -> None:
    directory = ca.client("expired", days=-1) if kind == "expired" else authority("theirs").client()
    (directory / "ca.pem").write_bytes(ca.ca.read_bytes())
    if kind == "none":
        (directory / "cert.pem").unlink()
    _as(monkeypatch, directory)
    with pytest.raises(errors.Denied, match=rf"refuses this client's certificate \({reason}\)"):
        await _ask(url)


async def test_a_server_that_is_not_the_one_meant_is_not_spoken_to(
    url: str, authority: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _as(monkeypatch, authority("theirs").client())
    with pytest.raises(errors.Denied, match="can't be trusted"):
        await _ask(url)


async def test_a_client_without_tls_gets_no_answer(url: str) -> None:
    with pytest.raises(errors.Unavailable, match="GITOPS_CERT_PATH"):
        await _ask(url)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_versions_of_tls_are_spoken(url: str, ca: Any, version: ssl.TLSVersion) -> None:
    context = _client_context(ca)
    context.minimum_version = context.maximum_version = version
    assert await _get(url, context) == b"HTTP/1.1 200 OK"


async def test_an_older_version_of_tls_is_not_spoken(url: str, ca: Any) -> None:
    context = _client_context(ca)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        await _get(url, context)


def _client_context(ca: Any) -> ssl.SSLContext:
    directory = ca.client()
    context = ssl.create_default_context(cafile=directory / "ca.pem")
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


async def _get(url: str, context: ssl.SSLContext) -> bytes:
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.splitlines()[0]


class _Late(asyncio.Protocol):
    """Answers once its input has ended: what `docker exec` without input needs."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.said = b""

    def data_received(self, data: bytes) -> None:
        self.said += data

    def eof_received(self) -> bool:
        self.transport.write(b"you said " + self.said + b"." * 300_000)
        self.transport.close()
        return True


@pytest.fixture
async def front(files: TlsConfig) -> AsyncIterator[int]:
    (listener,) = listeners.bind(["tcp://127.0.0.1:0"], "root", files)
    assert isinstance(listener, listeners.TcpListener)
    assert listener.tls is not None
    made = tls.Front(listener.socket, listener.tls, _Late)
    made.start()
    yield listener.port
    await made.close()
    listener.close()


@contextlib.contextmanager
def _half_closing(port: int, context: ssl.SSLContext) -> Iterator[tuple[ssl.SSLObject, Callable[[], None]]]:
    """A client that, as Go's do, can send a close_notify and read on."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:

        def exchange() -> None:
            if outgoing.pending:
                sock.sendall(outgoing.read())
            data = sock.recv(65536)
            if data:
                incoming.write(data)
            else:
                incoming.write_eof()

        yield session, exchange


async def test_output_comes_after_the_client_has_closed_its_direction(front: int, ca: Any) -> None:
    answer = await asyncio.to_thread(_speak_and_close, front, _client_context(ca))
    assert answer == b"you said hello" + b"." * 300_000


def _speak_and_close(port: int, context: ssl.SSLContext) -> bytes:
    answer = b""
    with _half_closing(port, context) as (session, exchange):

        def until_done(call: Callable[[], Any]) -> Any:
            while True:
                try:
                    return call()
                except ssl.SSLWantReadError:
                    exchange()

        until_done(session.do_handshake)
        session.write(b"hello")
        # The first step of a shutdown sends the close_notify; OpenSSL reads on afterwards.
        with contextlib.suppress(ssl.SSLWantReadError):
            session.unwrap()
        while True:
            try:
                answer += until_done(lambda: session.read(65536))
            except ssl.SSLZeroReturnError:
                return answer


async def test_a_client_that_stalls_in_the_handshake_holds_nobody_up(
    front: int, ca: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_HANDSHAKE_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", front)
    assert await asyncio.to_thread(_speak_and_close, front, _client_context(ca))
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("host", ["tcp://0.0.0.0:0", "tcp://[::]:0"])
def test_plain_tcp_for_everybody_is_refused_unless_it_is_asked_for(host: str) -> None:
    with pytest.raises(errors.Refused, match="--allow-plain-tcp"):
        listeners.bind([host], "root")
    (listener,) = listeners.bind([host], "root", allow_plain_tcp=True)
    listener.close()


async def test_plain_tcp_on_loopback_is_served() -> None:
    engine: Any = SimpleNamespace(events=EventBus())
    node: Any = SimpleNamespace(state="inactive")
    bound = listeners.bind(["tcp://localhost:0"], "root")
    serving = await server.serve(engine, node, bound)
    await _ask(str(bound[0]))
    await serving.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:2375"}, 200),
        ({"Host": "[::1]:2375"}, 200),
        ({"Host": "127.0.0.1"}, 200),
        ({"Host": "docker.evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:2375"}, 403),
        ({"Host": "127.0.0.1", "Origin": "http://evil.example"}, 403),
    ],
)
async def test_web_pages_are_kept_from_a_port_without_tls(headers: dict[str, str], status: int) -> None:
    engine: Any = SimpleNamespace(events=EventBus())
    node: Any = SimpleNamespace(state="inactive")
    bound = listeners.bind(["tcp://127.0.0.1:0"], "root")
    serving = await server.serve(engine, node, bound)
    async with (
        aiohttp.ClientSession() as session,
        session.get(str(bound[0]).replace("tcp", "http") + "/_ping", headers=headers) as answer,
    ):
        assert answer.status == status
    await serving.close()


@pytest.mark.parametrize("host", ["tcp://", "tcp://:2375", "tcp://1.2.3.4:x", "tcp://1.2.3.4/x", "tcp://u@1.2.3.4"])
def test_what_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(errors.Invalid, match="can't listen on"):
        listeners.bind([host], "root")


def test_a_port_in_use_is_a_conflict_and_frees_what_was_bound_before(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(errors.Conflict, match=f"127.0.0.1:{port}"):
            listeners.bind([f"unix://{tmp_path}/x.sock", f"tcp://127.0.0.1:{port}"], "root")
    assert not (tmp_path / "x.sock").exists()


def test_files_that_are_no_certificates_are_refused(tmp_path: Path, files: TlsConfig) -> None:
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(errors.Invalid, match="junk"):
        listeners.bind([], "root", TlsConfig(tmp_path / "junk", files.certificate, files.key))


def test_the_host_s_own_socket_is_always_there() -> None:
    assert EngineConfig(hosts=("tcp://127.0.0.1:2376",)).listen[0] == "unix:///run/gitops/engine.sock"
    assert EngineConfig(hosts=("tcp://127.0.0.1:2376", "unix:///x.sock")).listen[-1] == "unix:///x.sock"
