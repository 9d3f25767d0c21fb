"""Streams by other clients than the CLI: Docker's SDK for Python, a web socket, bare HTTP without an upgrade."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import aiohttp
import docker
import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture
def client(loaded: Any) -> Iterator[Any]:
    """The SDK, talking to the host."""
    made = docker.DockerClient(base_url=loaded.socket, timeout=60)
    yield made
    made.close()


def test_the_sdk_runs_executes_attaches_and_measures(client: Any) -> None:
    assert client.containers.run("app:1", "echo hello", remove=True) == b"hello\n"
    with pytest.raises(docker.errors.ContainerError, match="exit status 3"):
        client.containers.run("app:1", ["sh", "-c", "exit 3"], remove=True)
    box = client.containers.run("app:1", ["sh", "-c", "while read line; do echo got $line; done"],
                                detach=True, stdin_open=True)  # fmt: skip
    assert box.exec_run("id -u") == (0, b"0\n")
    code, (out, err) = box.exec_run(["sh", "-c", "echo a; echo b >&2; exit 4"], demux=True)
    assert (code, out, err) == (4, b"a\n", b"b\n")
    _, raw = box.exec_run("cat", stdin=True, socket=True, tty=False)
    raw._sock.sendall(b"through a socket\n")
    raw._sock.shutdown(socket.SHUT_WR)
    assert frames(raw._sock) == [(1, b"through a socket\n")]
    raw._sock.close()
    raw._response.close()
    attached = box.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    attached._sock.sendall(b"one\n")
    assert frames(attached._sock, count=1) == [(1, b"got one\n")]
    attached._sock.close()
    attached._response.close()
    assert box.stats(stream=False)["memory_stats"]["usage"] > 0
    box.kill()
    assert box.wait()["StatusCode"] == 137
    assert box.attach(logs=True, stdout=True) == b"got one\n"


def frames(connection: socket.socket, count: int = 0) -> list[tuple[int, bytes]]:
    """Frames until the end, or `count` of them."""
    found: list[tuple[int, bytes]] = []
    connection.settimeout(60)
    with connection.makefile("rb") as file:
        while not count or len(found) < count:
            head = file.read(8)
            if not head:
                break
            found.append((head[0], file.read(int.from_bytes(head[4:], "big"))))
    return found


def test_a_web_socket_carries_both_directions(client: Any, loaded: Any) -> None:
    box = client.containers.run("app:1", ["sh", "-c", "read line; echo got $line"], detach=True, stdin_open=True)

    async def talk() -> bytes:
        connector = aiohttp.UnixConnector(path=loaded.socket.removeprefix("unix://"))
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(60):
            url = f"http://d/containers/{box.id}/attach/ws?stream=1&stdin=1&stdout=1"
            async with session.ws_connect(url) as web:
                await web.send_bytes(b"it\n")
                return b"".join([message.data async for message in web])

    assert asyncio.run(talk()) == b"got it\n"


def test_without_an_upgrade_the_answer_is_the_stream(client: Any, loaded: Any) -> None:
    box = client.containers.create("app:1", ["echo", "hello"])
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(loaded.socket.removeprefix("unix://"))
        path = f"/containers/{box.id}/attach?stream=1&stdout=1"
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"multiplexed-stream" in head
        box.start()
        assert frames(connection) == [(1, b"hello\n")]


def test_an_exec_is_run_once_and_a_wait_ends_by_its_condition(client: Any, loaded: Any) -> None:
    box = client.containers.run("app:1", ["sleep", "1000"], detach=True)
    made = client.api.exec_create(box.id, "true")["Id"]
    client.api.exec_start(made)
    assert client.api.exec_inspect(made)["ExitCode"] == 0
    with pytest.raises(docker.errors.APIError, match="already run"):
        client.api.exec_start(made)
    with pytest.raises(docker.errors.NotFound, match="No such exec instance"):
        client.api.exec_start("0" * 64)
    path = loaded.socket.removeprefix("unix://")
    loaded.run("curl", "-sS", "--unix-socket", path, "-XPOST", f"http://d/containers/{box.id}/stop?t=0")
    done = loaded.run(
        *("curl", "-sS", "--unix-socket", path, "-XPOST"), f"http://d/containers/{box.id}/wait?condition=not-running"
    )
    assert json.loads(done.stdout)["StatusCode"] == 137
    assert (
        "invalid condition"
        in loaded.run(
            *("curl", "-sS", "--unix-socket", path, "-XPOST"), f"http://d/containers/{box.id}/wait?condition=later"
        ).stdout
    )
