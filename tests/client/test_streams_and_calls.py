"""The client against servers that answer what a test wants, over a real socket."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gitops import client, errors
from gitops.client.containers import frames
from gitops.client.images import split_reference
from gitops.objects.image import AuthConfig, Progress
from gitops.objects.secret import ConfigSpec
from gitops.objects.service import ServiceSpec

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[..., Awaitable[str]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    runners: list[web.AppRunner] = []

    async def start(handler: Handler, *, api: str = "1.47") -> str:
        async def ping(_: web.Request) -> web.Response:
            return web.Response(text="OK", headers={"Api-Version": api} if api else {})

        app = web.Application(client_max_size=2**24)
        app.router.add_get("/_ping", ping)
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        path = tmp_path / f"{len(runners)}.sock"
        await web.UnixSite(runner, str(path)).start()
        return f"unix://{path}"

    yield start
    for runner in runners:
        await runner.cleanup()


def _json(body: Any, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response(body, status=status)

    return handler


async def test_a_missing_socket_says_how_to_start_an_engine(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable, match=r"no\.sock.*gitops engine start"):
        async with client.connect(f"unix://{tmp_path}/no.sock"):
            pass


async def test_a_socket_that_nobody_serves_says_so_too(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "dead.sock"))
    with pytest.raises(errors.Unavailable, match="gitops engine start"):
        async with client.connect(f"unix://{tmp_path}/dead.sock"):
            pass


@pytest.mark.parametrize(("theirs", "used"), [("1.50", "/v1.47/"), ("1.41", "/v1.41/"), ("1.47", "/v1.47/")])
async def test_the_lower_version_is_spoken(serve: Serve, theirs: str, used: str) -> None:
    paths: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.json_response([])

    async with client.connect(await serve(handler, api=theirs)) as engine:
        await engine.services()
    assert paths[0].startswith(used)


@pytest.mark.parametrize("theirs", ["1.24", "", "x"])
async def test_an_engine_that_is_too_old_is_refused(serve: Serve, theirs: str) -> None:
    host = await serve(_json({}), api=theirs)
    with pytest.raises(errors.Unsupported):
        async with client.connect(host):
            pass


async def test_a_stale_version_is_out_of_sequence(serve: Serve) -> None:
    host = await serve(_json({"message": "rpc error: code = Unknown desc = update out of sequence"}, 500))
    async with client.connect(host) as engine:
        with pytest.raises(errors.OutOfSequence):
            await engine.update_service("s", 3, ServiceSpec(name="x"))


async def test_queries_bodies_and_names_arrive_as_they_are(serve: Serve) -> None:
    seen: list[tuple[str, dict[str, str], bytes]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.raw_path.partition("?")[0], dict(request.query), await request.read()))
        return web.json_response({"ID": "x", "Warnings": None})

    async with client.connect(await serve(handler)) as engine:
        await engine.create_config(ConfigSpec(name="c", data=b"\xff" * 1_000_000))
        await engine.update_service("s", 7, ServiceSpec(name="x"), rollback=True)
        await engine.tag_image("docker.io/library/a:1", "localhost:5000/b:two")
        await engine.remove_volume("a b", force=True)
    assert json.loads(seen[0][2])["Data"] == base64.b64encode(b"\xff" * 1_000_000).decode()
    assert seen[1][1] == {"version": "7", "registryAuthFrom": "spec", "rollback": "previous"}
    assert seen[2][:2] == (
        "/v1.47/images/docker.io/library/a:1/tag",
        {"repo": "localhost:5000/b", "tag": "two"},
    )
    assert seen[3][:2] == ("/v1.47/volumes/a%20b", {"force": "1"})


async def test_filters_are_sent_as_lists(serve: Serve) -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.query.get("filters", ""))
        return web.json_response(None)

    async with client.connect(await serve(handler)) as engine:
        with pytest.raises(errors.RuntimeFailure):
            await engine.tasks({"service": ["a"], "desired-state": ["running"]})
    assert json.loads(seen[0]) == {"service": ["a"], "desired-state": ["running"]}


async def test_credentials_go_in_the_header_and_into_no_error(serve: Serve) -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers["X-Registry-Auth"])
        return web.json_response({"message": "pull access denied"}, status=404)

    async with client.connect(await serve(handler)) as engine:
        with pytest.raises(errors.NotFound) as caught:
            await engine.pull_image("r/x:1", auth=AuthConfig(username="u", password="hush"))
    assert json.loads(base64.urlsafe_b64decode(seen[0])) == {"username": "u", "password": "hush"}
    assert "hush" not in str(caught.value)


async def test_progress_arrives_while_it_happens_and_an_error_in_the_stream_is_raised(serve: Serve) -> None:
    lines: list[Progress] = []
    first = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        assert dict(request.query) == {"fromImage": "r:5000/x", "tag": "latest"}
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"status":"Pulling fs layer","id":"abc"}\r\n')
        await first.wait()
        await response.write(b'{"errorDetail":{"message":"no space"},"error":"no sp')
        await response.write(b'ace"}\r\n')
        return response

    def note(line: Progress) -> None:
        lines.append(line)
        first.set()

    async with client.connect(await serve(handler)) as engine:
        with pytest.raises(errors.RuntimeFailure, match="no space"):
            await engine.pull_image("r:5000/x", progress=note)
    assert [(line.status, line.id) for line in lines] == [("Pulling fs layer", "abc")]


async def test_an_archive_is_streamed_and_its_names_come_back(serve: Serve, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"x" * 3_000_000)

    async def handler(request: web.Request) -> web.Response:
        assert len(await request.read()) == 3_000_000
        text = '{"stream":"Loaded image: a:1\\n"}\n{"stream":"Loaded image ID: sha256:00\\n"}\n'
        return web.Response(text=text)

    async with client.connect(await serve(handler)) as engine:
        assert await engine.load_image(archive) == ["a:1", "sha256:00"]


async def test_a_connection_that_breaks_is_unavailable(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        assert request.transport is not None
        request.transport.abort()
        return response

    async with client.connect(await serve(handler)) as engine:
        with pytest.raises(errors.Unavailable, match="broke"):
            await engine.version()


async def _chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_wait_that_breaks_off_is_an_error_of_ours(serve: Serve) -> None:
    async def empty(_: web.Request) -> web.Response:
        return web.Response()

    async with client.connect(await serve(empty)) as engine:
        with pytest.raises(errors.RuntimeFailure, match="can't be read"):
            await engine.wait_container("web")


async def test_frames_are_put_together_from_any_pieces() -> None:
    data = b"\x01\0\0\0\0\0\0\x03ok\n\x02\0\0\0\0\0\0\x00\x02\0\0\0\0\0\0\x04bad\n"
    for size in (1, 3, 9, len(data)):
        parts = [data[i : i + size] for i in range(0, len(data), size)]
        found = [(frame.stream, frame.data) async for frame in frames(_chunks(*parts))]
        assert found == [("stdout", b"ok\n"), ("stderr", b""), ("stderr", b"bad\n")]


async def test_an_error_frame_is_raised() -> None:
    with pytest.raises(errors.RuntimeFailure, match="log is gone"):
        [frame async for frame in frames(_chunks(b"\x03\0\0\0\0\0\0\x0blog is gone"))]


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("nginx", ("nginx", "latest")),
        ("nginx:1", ("nginx", "1")),
        ("r:5000/x", ("r:5000/x", "latest")),
        ("r:5000/x:1", ("r:5000/x", "1")),
        ("x@sha256:ab", ("x", "sha256:ab")),
        ("x:1@sha256:ab", ("x:1", "sha256:ab")),
    ],
)
def test_a_reference_is_sent_in_two_parts(reference: str, parts: tuple[str, str]) -> None:
    assert split_reference(reference) == parts


async def test_kept_listings_give_the_same_objects_as_long_as_their_json_is_the_same(serve: Serve) -> None:
    answers = [
        [{"ID": "a", "Spec": {"Name": "one"}}, {"ID": "b", "Spec": {"Name": "two"}}],
        [{"ID": "b", "Spec": {"Name": "two"}}, {"ID": "a", "Spec": {"Name": "changed"}}, {"ID": "c"}],
        [],
    ]

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(answers[0])

    async with client.connect(await serve(handler)) as engine:
        assert (await engine.services())[0] is not (await engine.services())[0]
        engine.keep_listings()
        first, second = await engine.services(), await engine.services()
        assert first == second and all(one is other for one, other in zip(first, second, strict=True))
        answers.pop(0)
        changed = await engine.services()
        assert [item.id for item in changed] == ["b", "a", "c"] and changed[0] is first[1]
        assert changed[1].spec.name == "changed"
        answers.pop(0)
        assert await engine.services() == []
