"""Named volumes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gitops.api import answers, requests
from gitops.api.context import engine_of
from gitops.objects.container import VolumeCreate

_FILTERS = ("dangling", "driver", "label", "name")
_PRUNE_FILTERS = ("label", "label!", "all")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def list_volumes(request: web.Request) -> web.Response:
    """`docker volume ls`."""
    found = engine_of(request).volumes.list(requests.filters(request, _FILTERS))
    return answers.json({"Volumes": found, "Warnings": []})


async def create(request: web.Request) -> web.Response:
    """`docker volume create`; the one of that name where it is there."""
    data = await requests.raw_body(request)
    body = await requests.body(request, VolumeCreate) if data else VolumeCreate()
    return answers.json(await engine_of(request).volumes.create(body), 201)


async def inspect(request: web.Request) -> web.Response:
    """`docker volume inspect`."""
    return answers.json(engine_of(request).volumes.get(request.match_info["name"]))


async def remove(request: web.Request) -> web.Response:
    """`docker volume rm`."""
    force = requests.switch(request, "force")
    await engine_of(request).volumes.remove(request.match_info["name"], force=force)
    return answers.empty()


async def prune(request: web.Request) -> web.Response:
    """`docker volume prune`: anonymous volumes that nobody uses, or all of these with `all`."""
    names, freed = await engine_of(request).volumes.prune(requests.filters(request, _PRUNE_FILTERS))
    return answers.json({"VolumesDeleted": list(names), "SpaceReclaimed": freed})


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/volumes", list_volumes),
    ("POST", "/volumes/create", create),
    ("POST", "/volumes/prune", prune),
    ("GET", "/volumes/{name}", inspect),
    ("DELETE", "/volumes/{name}", remove),
]
