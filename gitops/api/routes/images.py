"""Images: list, pull, load, import, save, push, inspect, names, removal, and what a registry holds."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection

from aiohttp import web

from gitops import errors
from gitops.api import answers, piping, progress, requests, spooling
from gitops.api.context import engine_of, stream
from gitops.engine.engine import Engine
from gitops.engine.images import assembling
from gitops.objects.container import ContainerConfig
from gitops.objects.image import AuthConfig, Progress
from gitops.oci import changes
from gitops.oci import manifest as manifests

_FILTERS = ("reference", "dangling", "label", "label!", "before", "since", "until")
_PRUNE_FILTERS = ("dangling", "label", "label!", "until")
Report = Callable[[Progress], None]


async def list_images(request: web.Request) -> web.Response:
    """`docker images`."""
    filters = _filters(request, _FILTERS)
    if legacy := request.query.get("filter"):
        filters.setdefault("reference", []).append(legacy)
    images = engine_of(request).images.list(all=requests.switch(request, "all"), filters=filters)
    return answers.json(images)


@stream
async def pull(request: web.Request) -> web.StreamResponse:
    """`docker pull`: errors before the first line of progress are plain answers, later ones come in the stream."""
    if source := request.query.get("fromSrc"):
        return await _import(request, source)
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


async def _import(request: web.Request, source: str) -> web.StreamResponse:
    """`docker import`: a file tree becomes an image of one layer."""
    if source != "-":
        raise errors.Unsupported(
            "importing from an address is not supported by this engine: fetch it, and pipe it into `docker import -`"
        )
    query, engine = request.query, engine_of(request)
    making = assembling.Making(
        run=changes.apply(ContainerConfig(), query.getall("changes", [])),
        created_ns=time.time_ns(),
        comment=query.get("message") or "Imported from -",
        platform=manifests.parse_platform(query["platform"]) if query.get("platform") else None,
    )
    name, tag = query.get("repo", ""), query.get("tag", "")
    async with spooling.spooled(request, engine.spool) as path:

        async def run(report: Report) -> None:
            image_id = await engine.images.assemble(path, making, name=f"{name}:{tag}" if tag else name)
            report(Progress(status=image_id))

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
async def save(request: web.Request) -> web.StreamResponse:
    """`docker save`."""
    names = [request.match_info["name"]] if "name" in request.match_info else _listed(request)
    if not names:
        raise errors.Invalid("names are missing: the images to save are wanted")
    reader, writer = piping.pipe()
    async with piping.reading(reader) as source, engine_of(request).images.save(names, writer) as done:
        return await piping.send(request, source, done)


def _listed(request: web.Request) -> list[str]:
    """Each `names` may hold several, between commas."""
    return [name for text in request.query.getall("names", []) for name in text.split(",") if name]


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


async def prune(request: web.Request) -> web.Response:
    """`docker image prune`."""
    deleted, freed = await engine_of(request).images.prune(_filters(request, _PRUNE_FILTERS))
    return answers.json({"ImagesDeleted": deleted or None, "SpaceReclaimed": freed})


async def login(request: web.Request) -> web.Response:
    """`docker login`: nothing is kept here; the client keeps what works."""
    auth = await requests.body(request, AuthConfig)
    await engine_of(request).images.login(auth)
    return answers.json({"Status": "Login Succeeded", "IdentityToken": ""})


async def distribution(request: web.Request) -> web.Response:
    """What a registry holds under a name: the CLI pins services to the digest."""
    found = await engine_of(request).images.distribution(_name(request), requests.registry_auth(request))
    return answers.json(found)


def _filters(request: web.Request, allowed: Collection[str]) -> dict[str, list[str]]:
    """Filters, `until` in nanoseconds since the epoch."""
    found = requests.filters(request, allowed)
    if "until" in found:
        found["until"] = [str(requests.until(text)) for text in found["until"]]
    return found


def _name(request: web.Request) -> str:
    return request.match_info["name"]


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/images/json", list_images),
    ("POST", "/images/create", pull),
    ("POST", "/images/load", load),
    ("POST", "/images/prune", prune),
    ("GET", "/images/get", save),
    ("GET", "/images/{name:.+}/get", save),
    ("POST", "/auth", login),
    ("GET", "/images/{name:.+}/json", inspect),
    ("GET", "/images/{name:.+}/history", history),
    ("POST", "/images/{name:.+}/tag", tag),
    ("POST", "/images/{name:.+}/push", push),
    ("DELETE", "/images/{name:.+}", remove),
    ("GET", "/distribution/{name:.+}/json", distribution),
]
