"""The files of a container: `docker cp` both ways, `docker export`, `docker diff`, `docker commit`."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable

from aiohttp import web

from gitops import errors
from gitops.api import answers, piping, requests, spooling
from gitops.api.context import engine_of, stream
from gitops.engine.committing import Wish
from gitops.engine.containers import trees
from gitops.objects import base, wire
from gitops.objects.container import ContainerConfig, PathStat

_HEADER = "X-Docker-Container-Path-Stat"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def changes(request: web.Request) -> web.Response:
    """`docker diff`."""
    return answers.json(await _trees(request).changes(_container(request)))


async def stat(request: web.Request) -> web.Response:
    """What a path is, in a header."""
    found = await _trees(request).stat(_container(request), _path(request))
    return web.Response(headers={_HEADER: _encoded(found)})


@stream
async def read(request: web.Request) -> web.StreamResponse:
    """`docker cp` out of a container."""
    reader, writer = piping.pipe()
    async with piping.reading(reader) as source, _trees(request).read(*_asked(request), writer) as (found, done):
        return await piping.send(request, source, done, {_HEADER: _encoded(found)})


@stream
async def export(request: web.Request) -> web.StreamResponse:
    """`docker export`."""
    reader, writer = piping.pipe()
    async with piping.reading(reader) as source, _trees(request).export(_container(request), writer) as done:
        return await piping.send(request, source, done)


async def write(request: web.Request) -> web.Response:
    """`docker cp` into a container."""
    path = _path(request)
    engine = engine_of(request)
    engine.containers.get(_container(request))
    async with spooling.spooled(request, engine.spool) as archive:
        await _trees(request).write(
            _container(request),
            path,
            archive,
            keeps_kinds=requests.switch(request, "noOverwriteDirNonDir"),
            as_user=requests.switch(request, "copyUIDGID"),
        )
    return answers.empty(200)


async def commit(request: web.Request) -> web.Response:
    """`docker commit`: an image of the container as it is now."""
    data = await requests.raw_body(request)
    repository, tag = request.query.get("repo", ""), request.query.get("tag", "")
    wish = Wish(
        name=f"{repository}:{tag}" if repository and tag else repository,
        author=request.query.get("author", ""),
        comment=request.query.get("comment", ""),
        changes=request.query.getall("changes", []),
        config=wire.decode_request(data, ContainerConfig) if data.strip() not in (b"", b"null") else None,
        is_paused=requests.switch(request, "pause", default=True),
    )
    made = await engine_of(request).committing.commit(request.query.get("container", ""), wish)
    return answers.json({"Id": made}, 201)


def _trees(request: web.Request) -> trees.Trees:
    return engine_of(request).containers.trees


def _container(request: web.Request) -> str:
    return request.match_info["container"]


def _asked(request: web.Request) -> tuple[str, str]:
    return _container(request), _path(request)


def _path(request: web.Request) -> str:
    path = request.query.get("path", "")
    if not path:
        raise errors.Invalid("bad parameter: path cannot be empty")
    return path


def _encoded(found: PathStat) -> str:
    return base64.b64encode(base.to_json(found)).decode()


ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/commit", commit),
    ("GET", "/containers/{container}/changes", changes),
    ("GET", "/containers/{container}/export", export),
    ("HEAD", "/containers/{container}/archive", stat),
    ("GET", "/containers/{container}/archive", read),
    ("PUT", "/containers/{container}/archive", write),
]
