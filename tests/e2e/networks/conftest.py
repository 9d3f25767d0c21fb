"""A host of its own for each test: a network namespace with a client host beside it.

The test's main thread moves into the namespace, so that the service runs there as a daemon would that was started in a
namespace. Servers and clients are sockets that are made inside of sandboxes and served by the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from gitops.config import EngineConfig
from gitops.engine.database import Database
from gitops.engine.events import EventBus
from gitops.engine.networks import NetworkService, Sandbox, namespaces

CLIENT = "198.51.100.10"
HOST = "198.51.100.1"
HOST_TOO = "203.0.113.1"
_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class World:
    """A host, a client host, and an engine's networks on the host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.client = root / "client"
        self.config = EngineConfig(data_root=root / "data", run_root=root / "run")
        self.events = EventBus()
        self._open: list[contextlib.AsyncExitStack] = []
        self._services: list[tuple[NetworkService, Database]] = []

    def wire(self) -> None:
        """Loopback, a client host behind a link, and a second address."""
        run("ip", "link", "set", "lo", "up")
        namespaces.create(self.client, lambda: run("ip", "link", "set", "lo", "up"))
        run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "up0")
        with namespaces.open_file(self.client) as descriptor:
            run("ip", "link", "set", "up0", "netns", f"/proc/{os.getpid()}/fd/{descriptor}")
        run("ip", "addr", "add", f"{HOST}/24", "dev", "uplink")
        run("ip", "addr", "add", f"{HOST_TOO}/32", "dev", "lo")
        run("ip", "link", "set", "uplink", "up")
        for command in (
            ("ip", "addr", "add", f"{CLIENT}/24", "dev", "up0"),
            ("ip", "link", "set", "up0", "up"),
            ("ip", "route", "add", "default", "via", HOST),
        ):
            namespaces.run(self.client, lambda command=command: run(*command))

    async def start(self, live: set[str] | None = None) -> NetworkService:
        """A daemon's networks."""
        database = Database(self.config.data_root / "engine.db")
        service = NetworkService(self.config, database, self.events)
        self._services.append((service, database))
        await service.start(dict.fromkeys(live or (), os.getpid()))
        return service

    async def stop(self, service: NetworkService) -> None:
        """The daemon goes, its kernel state stays."""
        for entry in self._services:
            if entry[0] is service:
                await service.close()
                entry[1].close()
                self._services.remove(entry)
                return

    async def close(self) -> None:
        for service, _ in tuple(self._services):
            await self.stop(service)

    def clean(self) -> None:
        for path in (self.client, *(self.config.run_root / "netns").glob("*")):
            namespaces.remove(path)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def raw_socket(where: Path | None, kind: socket.SocketKind) -> socket.socket:
    make: Callable[[], socket.socket] = lambda: socket.socket(socket.AF_INET, kind)  # noqa: E731
    return namespaces.run(where, make) if where else make()


def serve(where: Path | None, port: int, label: str, *, protocol: str = "tcp", address: str = "0.0.0.0") -> Serving:
    """A server that answers each connection or datagram with its label and the address that it sees."""
    return Serving(where, port, label, protocol, address)


class Serving:
    """A server's thread; a context manager."""

    def __init__(self, where: Path | None, port: int, label: str, protocol: str, address: str) -> None:
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        self.sock = raw_socket(where, kind)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((address, port))
        self.label = label
        self.held: list[socket.socket] = []
        if protocol == "tcp":
            self.sock.listen(512)
        target = self._stream if protocol == "tcp" else self._datagrams
        self.thread = threading.Thread(target=target, daemon=True)
        self.stopping = False
        self.reply: Callable[[bytes], bytes] | None = None

    def _stream(self) -> None:
        while True:
            try:
                connection, peer = self.sock.accept()
            except OSError:
                return
            if self.stopping:
                connection.close()
                return
            connection.sendall(f"{self.label} {peer[0]}\n".encode())
            self.held.append(connection)

    def _datagrams(self) -> None:
        while True:
            try:
                data, peer = self.sock.recvfrom(2048)
            except OSError:
                return
            if self.stopping:
                return
            self.sock.sendto(self.reply(data) if self.reply else f"{self.label} {peer[0]}\n".encode(), peer)

    def __enter__(self) -> Serving:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping = True
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        self.sock.close()
        for connection in self.held:
            connection.close()


def connect(where: Path | None, address: str, port: int, *, timeout_s: float = 3) -> socket.socket:
    """A TCP connection from inside of a namespace."""
    sock = raw_socket(where, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def ask(where: Path | None, address: str, port: int, *, protocol: str = "tcp", timeout_s: float = 3) -> tuple[str, str]:
    """Who answers, and which client address it saw. Blocks: the server must not need this thread."""
    if protocol == "tcp":
        with connect(where, address, port, timeout_s=timeout_s) as sock:
            reply = sock.makefile().readline()
    else:
        with raw_socket(where, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect((address, port))
            sock.send(b"?")
            reply = sock.recv(2048).decode()
    label, _, seen = reply.strip().partition(" ")
    return label, seen


def fails(where: Path | None, address: str, port: int, *, protocol: str = "tcp", timeout_s: float = 0.7) -> bool:
    """Whether nothing answers."""
    try:
        return ask(where, address, port, protocol=protocol, timeout_s=timeout_s) == ("", "")
    except OSError:
        return True


async def resolve(sandbox: Sandbox, name: str) -> list[str]:
    """Ask the resolver of a sandbox with a real program."""
    process = await asyncio.create_subprocess_exec(
        "nsenter",
        f"--net={sandbox.path}",
        "busybox",
        "nslookup",
        "-type=a",
        name,
        "127.0.0.11",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    lines = output.decode().splitlines()
    return sorted(line.split()[-1] for line in lines[2:] if line.startswith("Address"))


# Test modules can't import from here, so the fixture carries what they need.
World.run = staticmethod(run)  # type: ignore[attr-defined]
World.raw_socket = staticmethod(raw_socket)  # type: ignore[attr-defined]
World.serve = staticmethod(serve)  # type: ignore[attr-defined]
World.connect = staticmethod(connect)  # type: ignore[attr-defined]
World.ask = staticmethod(ask)  # type: ignore[attr-defined]
World.fails = staticmethod(fails)  # type: ignore[attr-defined]
World.resolve = staticmethod(resolve)  # type: ignore[attr-defined]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[World]:
    """The main thread is in a namespace of its own while the test runs."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    assert _libc.unshare(_NEWNET) == 0, "e2e tests need root"
    world = World(tmp_path)
    try:
        world.wire()
        yield world
    finally:
        world.clean()
        assert _libc.setns(before, _NEWNET) == 0
        os.close(before)


@pytest.fixture
async def world(host: World) -> AsyncIterator[World]:
    yield host
    await host.close()


@pytest.fixture(params=["0", "1"], ids=["plain-bridges", "filtered-bridges"])
def any_bridge(request: pytest.FixtureRequest, host: World) -> str:
    """Both ways of net.bridge.bridge-nf-call-iptables: hosts with dockerd have it on."""
    namespaces.write_sysctl("bridge/bridge-nf-call-iptables", request.param)
    return str(request.param)
