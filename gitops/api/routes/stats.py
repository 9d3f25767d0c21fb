"""`docker stats`: what a container uses, once or every second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from gitops import errors
from gitops.api import answers, requests
from gitops.api.context import engine_of, stream
from gitops.engine.containers.stats import Sample, show

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_PAUSE_S = 1.0


@stream
async def stats(request: web.Request) -> web.StreamResponse:
    """A line a second until the container is removed; with `stream=0` one, which `one-shot` takes at once.

    One that doesn't run uses nothing, and keeps the client waiting for its next start.
    """
    containers = engine_of(request).containers
    id = containers.get(request.match_info["container"]).id
    is_stream = requests.switch(request, "stream", default=True)
    is_one_shot = requests.switch(request, "one-shot")
    if is_stream and is_one_shot:
        raise errors.Invalid("cannot have stream=true and one-shot=true")
    before = Sample()
    if not is_stream and not is_one_shot and containers.get(id).state.running:
        before = await containers.meter.sample(id)
        await asyncio.sleep(_PAUSE_S)
    response = await answers.open_stream(request, "application/json")
    while True:
        try:
            name = containers.get(id).name
            now = await containers.meter.sample(id)
        except errors.NotFound:
            break
        await response.write(answers.line(show(id, name, now, before)))
        if not is_stream:
            break
        before = now
        await asyncio.sleep(_PAUSE_S)
    await response.write_eof()
    return response


ROUTES: list[tuple[str, str, Handler]] = [("GET", "/containers/{container}/stats", stats)]
