"""The server's frame, over a real socket: engine and swarm are stand-ins that answer at once."""

from __future__ import annotations

import asyncio
import io
import json
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from gitops import errors
from gitops.api import listeners, middleware, server
from gitops.engine.events import EventBus
from gitops.objects import base

Get = Callable[..., Awaitable[tuple[int, dict[str, str], bytes]]]


class _Containers:
    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.finished = asyncio.Event()
        self.error: Exception | None = None

    def list(self, **_: Any) -> list[Any]:
        if self.error is not None:
            raise self.error
        return []

    def get(self, container: str) -> Any:
        if container == "none":
            raise errors.NotFound(f"No such container: {container}")
        return SimpleNamespace(id="f" * 64)

    async def stop(self, container: str, **_: Any) -> bool:
        self.entered.set()
        await self.release.wait()
        self.finished.set()
        return True

    async def wait(self, container: str, condition: str) -> int:
        self.entered.set()
        try:
            await self.release.wait()
        finally:
            self.finished.set()
        return 3


@pytest.fixture
def containers() -> _Containers:
    return _Containers()


@pytest.fixture
def bus() -> EventBus:
    return EventBus()


@pytest.fixture
async def path(tmp_path: Path, containers: _Containers, bus: EventBus) -> AsyncIterator[Path]:
    engine: Any = SimpleNamespace(containers=containers, events=bus)
    node: Any = SimpleNamespace(state="inactive")
    bound = listeners.bind([f"unix://{tmp_path}/api.sock"], "no-such-group")
    serving = await server.serve(engine, node, bound)
    yield tmp_path / "api.sock"
    containers.release.set()
    await serving.close()
    assert not (tmp_path / "api.sock").exists()


@pytest.fixture
async def session(path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path)), base_url="http://d") as made:
        yield made


def test_the_socket_is_for_owner_and_group_only(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_directory_that_is_made_for_a_socket_lets_its_group_through(tmp_path: Path) -> None:
    (listener,) = listeners.bind([f"unix://{tmp_path}/a/b/api.sock"], "no-such-group")
    listener.close()
    for directory in (tmp_path / "a", tmp_path / "a" / "b"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o755


async def test_every_answer_carries_the_headers_that_clients_negotiate_by(session: aiohttp.ClientSession) -> None:
    for target in ("/_ping", "/containers/json", "/containers/none/json", "/nowhere", "/v9.9/info"):
        async with session.get(target) as response:
            assert response.headers["Api-Version"] == "1.47", target
            assert response.headers["Ostype"] == "linux"
            assert response.headers["Docker-Experimental"] == "false"
            assert response.headers["Server"].startswith("Docker/")


async def test_ping_says_where_we_stand_in_a_swarm(session: aiohttp.ClientSession) -> None:
    async with session.head("/_ping") as response:
        assert (response.status, response.headers["Swarm"]) == (200, "inactive")
        assert response.headers["Builder-Version"] == "1"
    async with session.get("/_ping") as response:
        assert await response.text() == "OK"


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        ("/nowhere", 404, "page not found"),
        ("/v1.47/nowhere", 404, "page not found"),
        ("/version/", 404, "page not found"),
        ("/v1.48/_ping", 400, "client version 1.48 is too new. Maximum supported API version is 1.47"),
        (f"/v1.{'4' * 5000}/_ping", 404, "page not found"),
        ("/v1.%D9%A3/_ping", 404, "page not found"),
        ("/v1.23/_ping", 400, "client version 1.23 is too old. Minimum supported API version is 1.24"),
        ("/containers/none/json", 404, "No such container: none"),
        ("/containers/json?limit=x", 400, "invalid value 'x' for limit"),
        ("/containers/json?filters={", 400, "invalid filters"),
        ("/plugins", 501, "plugins is not supported by this engine yet"),
    ],
)
async def test_errors_are_json_with_a_message(
    session: aiohttp.ClientSession, target: str, status: int, message: str
) -> None:
    async with session.get(target) as response:
        assert response.status == status
        assert response.content_type == "application/json"
        assert (await response.json())["message"].startswith(message)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.OutOfSequence("version 3 of service x is not the stored one"), 500),
        (errors.Conflict("taken"), 409),
        (errors.Denied("no"), 403),
        (errors.NotInSwarm("This node is not a swarm manager."), 503),
        (errors.RuntimeFailure("the kernel refused"), 500),
        (ZeroDivisionError("oh"), 500),
    ],
)
async def test_each_error_has_its_status(
    session: aiohttp.ClientSession, containers: _Containers, error: Exception, status: int
) -> None:
    containers.error = error
    async with session.get("/containers/json") as response:
        message = (await response.json())["message"]
        assert response.status == status
    wanted = "update out of sequence" if isinstance(error, errors.OutOfSequence) else str(error)
    assert wanted in message


async def test_a_body_must_be_json(session: aiohttp.ClientSession) -> None:
    async with session.post("/containers/create", data=b"x=1", headers={"Content-Type": "text/plain"}) as response:
        assert response.status == 400
    async with session.post("/containers/create", json={"Image": 5}) as response:
        assert response.status == 400
        assert "Image" in (await response.json())["message"]
    async with session.post("/containers/create") as response:
        assert response.status == 400


@pytest.mark.parametrize("depth", [100, 300, 450, 900, 20_000])
async def test_a_body_that_nests_however_deep_is_the_client_s_fault(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture, depth: int
) -> None:
    body = b'{"Name":"x","Driver":{"Options":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}}"
    headers = {"Content-Type": "application/json"}
    async with session.post("/secrets/create", data=io.BytesIO(body), headers=headers) as response:
        assert response.status in (400, 501)
        assert (await response.json())["message"]
    assert "Traceback" not in caplog.text


async def test_a_body_without_end_is_refused(session: aiohttp.ClientSession) -> None:
    headers = {"Content-Type": "application/json"}
    async with session.post(
        "/containers/create", data=io.BytesIO(b" " * (server.BODY_LIMIT + 1)), headers=headers
    ) as response:
        assert response.status == 413
        assert "too large" in (await response.json())["message"]


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_failure_of_ours(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = asyncio.Event()
    monkeypatch.setattr(middleware, "_log", lambda *_: logged.set())
    with caplog.at_level("WARNING"):
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        await asyncio.wait_for(logged.wait(), 5)
        await asyncio.sleep(0)
    assert not caplog.records


async def test_a_body_that_does_not_come_is_not_waited_for(
    session: aiohttp.ClientSession, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "_BODY_S", 0.2)
    reader, writer = await _half_a_request(path)
    assert b"408" in await reader.readline()
    async with session.get("/_ping") as response:
        assert response.status == 200
    writer.close()


async def test_a_client_in_the_middle_of_its_body_does_not_hold_up_the_end(
    tmp_path: Path, containers: _Containers, bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_CLOSE_S", 3600)
    engine: Any = SimpleNamespace(containers=containers, events=bus)
    node: Any = SimpleNamespace(state="inactive")
    bound = listeners.bind([f"unix://{tmp_path}/slow.sock"], "no-such-group")
    serving = await server.serve(engine, node, bound)
    _, writer = await _half_a_request(tmp_path / "slow.sock")
    await asyncio.wait_for(serving.close(), 60)
    writer.close()


async def _half_a_request(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: 100\r\n\r\n{")
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize(
    "head",
    [
        b"GET /_ping?token=hush" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: d\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nX-Registry-Auth: hush" + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\n" + b"X-A: hush\r\n" * 200 + b"\r\n",
        b"hush \x16\x03\x01\r\n\r\n",
        b"GET /_ping?hush=\xff HTTP/1.1\r\nHost: d\r\n\r\n",
        b"POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Length: hush\r\n\r\n",
        b"POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nhush",
    ],
)
async def test_what_is_no_request_is_refused_and_not_repeated_in_the_log(
    path: Path, caplog: pytest.LogCaptureFixture, head: bytes
) -> None:
    with caplog.at_level("INFO"):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(head)
        assert b" 400 Bad Request" in await reader.readline()
        writer.close()
    assert "hush" not in caplog.text
    assert "Traceback" not in caplog.text


async def test_the_headers_of_wait_come_before_its_end(session: aiohttp.ClientSession, containers: _Containers) -> None:
    async with session.post("/containers/web/wait?condition=next-exit") as response:
        assert response.status == 200
        assert containers.entered.is_set()
        containers.release.set()
        assert json.loads(await response.read()) == {"StatusCode": 3}


async def test_wait_refuses_a_condition_that_is_none(session: aiohttp.ClientSession) -> None:
    async with session.post("/containers/web/wait?condition=later") as response:
        assert response.status == 400


async def test_a_stream_ends_with_its_client(session: aiohttp.ClientSession, containers: _Containers) -> None:
    response = await session.post("/containers/web/wait")
    await containers.entered.wait()
    response.close()
    await asyncio.wait_for(containers.finished.wait(), 5)


async def test_an_action_goes_on_without_its_client(session: aiohttp.ClientSession, containers: _Containers) -> None:
    request = asyncio.ensure_future(session.post("/containers/web/stop"))
    await containers.entered.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert not containers.finished.is_set()
    containers.release.set()
    await asyncio.wait_for(containers.finished.wait(), 5)


async def test_events_come_as_they_happen_with_the_older_fields_too(
    session: aiohttp.ClientSession, bus: EventBus
) -> None:
    async with session.get('/events?filters={"type":["container"]}') as response:
        bus.publish("image", "pull", "nginx:1", {})
        bus.publish("container", "start", "abc", {"image": "nginx:1", "name": "web"})
        line = json.loads(await response.content.readline())
    assert line["Type"] == "container"
    assert line["Actor"] == {"ID": "abc", "Attributes": {"image": "nginx:1", "name": "web"}}
    assert (line["status"], line["id"], line["from"]) == ("start", "abc", "nginx:1")
    assert line["timeNano"] // base.SECOND == line["time"]


async def test_past_events_are_replayed_and_the_stream_ends(session: aiohttp.ClientSession, bus: EventBus) -> None:
    event = bus.publish("volume", "create", "v", {})
    async with session.get(f"/events?since={event.time}&until={event.time + 1}") as response:
        assert [json.loads(line)["Action"] for line in (await response.read()).splitlines()] == ["create"]


async def test_a_live_socket_is_never_taken(path: Path) -> None:
    with pytest.raises(errors.Conflict, match="listens on"):
        listeners.bind([f"unix://{path}"], "root")


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    import socket

    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(stale))
    (listener,) = listeners.bind([f"unix://{stale}"], "root")
    listener.close()
    assert not stale.exists()


def test_a_file_in_the_socket_s_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("precious")
    with pytest.raises(errors.Conflict, match="no socket"):
        listeners.bind([f"unix://{tmp_path}/x"], "root")
    assert (tmp_path / "x").read_text() == "precious"


@pytest.mark.parametrize("host", ["npipe://x", "fd://", "/run/x.sock"])
def test_other_ways_to_listen_are_refused(host: str) -> None:
    with pytest.raises(errors.Unsupported, match="unix://"):
        listeners.bind([host], "root")
