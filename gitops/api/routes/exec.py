"""Exec: make it, run it with or without its streams, look at it, size its terminal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gitops import errors
from gitops.api import answers, detaching, hijack, requests
from gitops.api.context import engine_of, stream
from gitops.api.routes.attach import size
from gitops.engine.containers import ContainerService
from gitops.objects import wire
from gitops.objects.execution import ExecCreate, ExecStart

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def create(request: web.Request) -> web.Response:
    """The first step of `docker exec`."""
    wanted = await requests.body(request, ExecCreate)
    detaching.parse(wanted.detach_keys)
    made = engine_of(request).containers.execs.create(request.match_info["container"], wanted)
    return answers.json({"Id": made}, 201)


@stream
async def start(request: web.Request) -> web.StreamResponse:
    """Run it. Detached, an error is the answer; else it goes into the stream, which has begun by then."""
    data = await requests.raw_body(request)
    wanted = wire.decode_request(data, ExecStart) if data else ExecStart()
    containers = engine_of(request).containers
    id = request.match_info["exec"]
    if wanted.detach:
        await containers.execs.start(id, wanted.console_size, is_detached=True)
        return answers.empty(200)
    return await _converse(request, containers, id, wanted)


async def _converse(
    request: web.Request, containers: ContainerService, id: str, wanted: ExecStart
) -> web.StreamResponse:
    """As the start says, not the exec itself: a client that doesn't ask for a terminal here reads frames."""
    client = containers.execs.client(id)
    asked = containers.execs.get(id).request
    try:
        async with hijack.Connection(request, hijack.content_type(is_terminal=wanted.tty)) as connection:
            try:
                await containers.execs.start(id, wanted.console_size)
            except errors.GitopsError as error:
                # Where Docker says it: the CLI shows it, and asks for the exit code.
                text = f"{error}\r\n".encode()
                await connection.write(hijack.encode([("stdout", text)], is_terminal=wanted.tty))
                return connection.answer
            await hijack.converse(
                connection,
                client,
                is_terminal=wanted.tty,
                has_input=asked.attach_stdin,
                keys=detaching.parse(asked.detach_keys),
            )
        return connection.answer
    finally:
        client.leave()


async def resize(request: web.Request) -> web.Response:
    """`h` and `w` in characters."""
    height, width = size(request)
    engine_of(request).containers.execs.resize(request.match_info["exec"], height, width)
    return answers.empty(200)


async def inspect(request: web.Request) -> web.Response:
    """Whether it runs, and its exit code."""
    return answers.json(engine_of(request).containers.execs.get(request.match_info["exec"]).shown())


ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/containers/{container}/exec", create),
    ("POST", "/exec/{exec}/start", start),
    ("POST", "/exec/{exec}/resize", resize),
    ("GET", "/exec/{exec}/json", inspect),
]
