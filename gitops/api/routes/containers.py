"""Containers of this host: their life, from create to remove."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web
from msgspec.structs import replace

from gitops import errors
from gitops.api import answers, networks, processes, refusals, requests
from gitops.api.context import engine_of, stream, swarm_of
from gitops.objects import wire
from gitops.objects.container import ContainerCreate, ContainerInspect, ContainerSummary, HostConfig

_FILTERS = (
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
)
_CONDITIONS = ("not-running", "next-exit", "removed")
T = TypeVar("T", ContainerInspect, ContainerSummary)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def list_containers(request: web.Request) -> web.Response:
    """`docker ps`."""
    limit = requests.number(request, "limit")
    found = engine_of(request).containers.list(
        all=requests.switch(request, "all"),
        limit=limit if limit and limit > 0 else None,
        filters=requests.filters(request, _FILTERS),
    )
    return answers.json([await _sized(request, item) for item in found])


async def inspect(request: web.Request) -> web.Response:
    """`docker inspect`."""
    return answers.json(await _sized(request, engine_of(request).containers.get(_container(request))))


async def _sized(request: web.Request, item: T) -> T:
    """With its sizes, where they are asked for."""
    if not requests.switch(request, "size"):
        return item
    own, whole = await engine_of(request).containers.trees.sizes(item.id)
    return replace(item, size_rw=own, size_root_fs=whole)


async def update(request: web.Request) -> web.Response:
    """`docker update`: the fields of a HostConfig that name limits, and the restart policy."""
    data = await requests.raw_body(request)
    refusals.check_update(data)
    wanted = wire.decode_request(data, HostConfig)
    warnings = await engine_of(request).containers.updating.update(_container(request), wanted)
    return answers.json({"Warnings": warnings})


async def create(request: web.Request) -> web.Response:
    """`docker create`, and the first step of `docker run`."""
    name = request.query.get("name") or None
    data = await requests.raw_body(request)
    if not data:
        raise errors.Invalid("invalid JSON: got EOF while reading request body")
    refusals.check_container(data)
    body = _with_network_named(wire.decode_request(data, ContainerCreate))
    networks.check_attachments(swarm_of(request), body)
    containers = engine_of(request).containers
    made = await containers.create(body, name, platform=request.query.get("platform", ""))
    return answers.json({"Id": made.id, "Warnings": containers.left_out(body)}, 201)


def _with_network_named(body: ContainerCreate) -> ContainerCreate:
    """The CLI calls the network of a container that names none "default", in the mode and among the endpoints."""
    networking = body.networking_config
    if networking is None or "default" not in (networking.endpoints_config or {}):
        return body
    endpoints = {
        ("bridge" if name == "default" else name): settings
        for name, settings in (networking.endpoints_config or {}).items()
    }
    return replace(body, networking_config=replace(networking, endpoints_config=endpoints))


async def start(request: web.Request) -> web.Response:
    """204, or 304 where it runs already."""
    is_new = await engine_of(request).containers.start_container(_container(request))
    return answers.empty(204 if is_new else 304)


async def stop(request: web.Request) -> web.Response:
    """204, or 304 where it doesn't run."""
    was_running = await engine_of(request).containers.stop(_container(request), **_stopping(request))
    return answers.empty(204 if was_running else 304)


async def restart(request: web.Request) -> web.Response:
    """Stop and start."""
    await engine_of(request).containers.restart(_container(request), **_stopping(request))
    return answers.empty()


async def kill(request: web.Request) -> web.Response:
    """Send a signal."""
    await engine_of(request).containers.kill(_container(request), request.query.get("signal") or "KILL")
    return answers.empty()


async def pause(request: web.Request) -> web.Response:
    """Freeze."""
    await engine_of(request).containers.pause(_container(request))
    return answers.empty()


async def unpause(request: web.Request) -> web.Response:
    """Thaw."""
    await engine_of(request).containers.unpause(_container(request))
    return answers.empty()


async def rename(request: web.Request) -> web.Response:
    """Give it another name."""
    name = request.query.get("name", "")
    await engine_of(request).containers.rename(_container(request), name)
    return answers.empty()


async def remove(request: web.Request) -> web.Response:
    """`docker rm`."""
    if requests.switch(request, "link"):
        raise errors.Unsupported("links between containers are not supported by this engine")
    await engine_of(request).containers.remove(
        _container(request), force=requests.switch(request, "force"), volumes=requests.switch(request, "v")
    )
    return answers.empty()


@stream
async def wait(request: web.Request) -> web.StreamResponse:
    """The headers go out at once: `docker run` opens this before it starts the container, and waits for them."""
    condition = request.query.get("condition") or "not-running"
    if condition not in _CONDITIONS:
        raise errors.Invalid(f"invalid condition: {condition!r}")
    containers = engine_of(request).containers
    container = containers.get(_container(request)).id
    waiting = asyncio.ensure_future(containers.wait(container, condition))
    try:
        # The waiter must stand before the client hears of it, else an exit could slip through in between.
        await asyncio.sleep(0)
        response = await answers.open_stream(request, "application/json")
        body: dict[str, Any] = {}
        try:
            body["StatusCode"] = await waiting
        except errors.GitopsError as error:
            body = {"StatusCode": -1, "Error": {"Message": str(error)}}
        await response.write(answers.line(body))
        await response.write_eof()
        return response
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def top(request: web.Request) -> web.Response:
    """The processes of a container, as `ps -ef` shows them, or as the host's ps does by other arguments."""
    pids = await engine_of(request).containers.meter.processes(_container(request))
    arguments = request.query.get("ps_args", "").split()
    if arguments in ([], ["-ef"]):
        titles, rows = processes.TITLES, await asyncio.to_thread(processes.rows, pids)
    else:
        titles, rows = await asyncio.to_thread(processes.by_ps, pids, arguments)
    return answers.json({"Titles": titles, "Processes": rows})


def _container(request: web.Request) -> str:
    return request.match_info["container"]


def _stopping(request: web.Request) -> dict[str, Any]:
    timeout = requests.number(request, "t")
    return {
        "timeout_s": None if timeout is None else float(timeout),
        "signal": request.query.get("signal") or None,
    }


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/containers/json", list_containers),
    ("POST", "/containers/create", create),
    ("GET", "/containers/{container}/json", inspect),
    ("GET", "/containers/{container}/top", top),
    ("POST", "/containers/{container}/start", start),
    ("POST", "/containers/{container}/stop", stop),
    ("POST", "/containers/{container}/restart", restart),
    ("POST", "/containers/{container}/kill", kill),
    ("POST", "/containers/{container}/pause", pause),
    ("POST", "/containers/{container}/unpause", unpause),
    ("POST", "/containers/{container}/rename", rename),
    ("POST", "/containers/{container}/update", update),
    ("POST", "/containers/{container}/wait", wait),
    ("DELETE", "/containers/{container}", remove),
]
