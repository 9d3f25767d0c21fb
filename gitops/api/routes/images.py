"""Images: list, pull, load, push, inspect, names, removal, and what a registry holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gitops import errors
from gitops.api import answers, progress, requests, spooling
from gitops.api.context import engine_of, stream
from gitops.engine.engine import Engine
from gitops.objects.image import AuthConfig, Progress

_FILTERS = ("reference", "dangling", "label", "before", "since", "until")
Report = Callable[[Progress], None]


async def list_images(request: web.Request) -> web.Response:
    """`docker images`."""
    filters = requests.filters(request, _FILTERS)
    if legacy := request.query.get("filter"):
        filters.setdefault("reference", []).append(legacy)
    images = engine_of(request).images.list(all=requests.switch(request, "all"), filters=filters)
    return answers.json(images)


@stream
async def pull(request: web.Request) -> web.StreamResponse:
    """`docker pull`: errors before the first line of progress are plain answers, later ones come in the stream."""
    if request.query.get("fromSrc"):
        raise errors.Unsupported(
            "import of a file system (POST /images/create?fromSrc=) is not supported by this engine"
        )
    name = request.query.get("fromImage", "")
    if not name:
        raise errors.Invalid("fromImage is missing: name the image that is to be pulled")
    tag = request.query.get("tag", "")
    engine = engine_of(request)
    auth = requests.registry_auth(request)
    platform = request.query.get("platform") or None
    names = await _names(engine, name, tag, auth)

    async def run(report: Report) -> None:
        for reference in names:
            await engine.images.pull(reference, auth=auth, platform=platform, progress=report)

    return await progress.answer(request, run)


async def _names(engine: Engine, name: str, tag: str, auth: AuthConfig | None) -> list[str]:
    """What is to be pulled: one reference, or every tag of the repository where none is named."""
    if tag:
        return [f"{name}@{tag}" if ":" in tag else f"{name}:{tag}"]
    name = name.removesuffix(":")
    if "@" in name or ":" in name.rpartition("/")[2]:
        return [name]
    return [f"{name}:{found}" for found in await engine.images.tags(name, auth=auth)]


@stream
async def load(request: web.Request) -> web.StreamResponse:
    """`docker load`: the archive goes to a file first, since it is read more than once."""
    engine = engine_of(request)
    quiet = requests.switch(request, "quiet")
    async with spooling.spooled(request, engine.spool) as path:

        async def run(report: Report) -> None:
            def tell(line: Progress) -> None:
                if line.stream or not quiet:
                    report(line)

            await engine.images.load(path, tell)

        return await progress.answer(request, run)


@stream
async def push(request: web.Request) -> web.StreamResponse:
    """`docker push`; without a tag, all tags of the repository."""
    name, tag = _name(request), request.query.get("tag", "")
    auth = requests.registry_auth(request)
    images = engine_of(request).images

    async def run(report: Report) -> None:
        await images.push(f"{name}:{tag}" if tag else name, auth=auth, progress=report)

    return await progress.answer(request, run)


async def inspect(request: web.Request) -> web.Response:
    """`docker image inspect`."""
    return answers.json(engine_of(request).images.inspect(_name(request)))


async def history(request: web.Request) -> web.Response:
    """`docker history`."""
    return answers.json(engine_of(request).images.history(_name(request)))


async def tag(request: web.Request) -> web.Response:
    """`docker tag`."""
    repository = request.query.get("repo", "")
    if not repository:
        raise errors.Invalid("repo is missing: the new name of the image is wanted")
    wanted = request.query.get("tag", "")
    engine_of(request).images.tag(_name(request), f"{repository}:{wanted}" if wanted else repository)
    return answers.empty(201)


async def remove(request: web.Request) -> web.Response:
    """`docker rmi`."""
    done = await engine_of(request).images.remove(_name(request), force=requests.switch(request, "force"))
    return answers.json(done)


async def distribution(request: web.Request) -> web.Response:
    """What a registry holds under a name: the CLI pins services to the digest."""
    found = await engine_of(request).images.distribution(_name(request), requests.registry_auth(request))
    return answers.json(found)


def _name(request: web.Request) -> str:
    return request.match_info["name"]


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/images/json", list_images),
    ("POST", "/images/create", pull),
    ("POST", "/images/load", load),
    ("GET", "/images/{name:.+}/json", inspect),
    ("GET", "/images/{name:.+}/history", history),
    ("POST", "/images/{name:.+}/tag", tag),
    ("POST", "/images/{name:.+}/push", push),
    ("DELETE", "/images/{name:.+}", remove),
    ("GET", "/distribution/{name:.+}/json", distribution),
]
