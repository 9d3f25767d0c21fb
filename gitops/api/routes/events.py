"""`docker events`: what happens on this host and in its swarm, as it happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from gitops import errors
from gitops.api import answers, eventfilters, requests
from gitops.api.context import engine_of, stream
from gitops.engine.engine import Engine
from gitops.engine.events import Event
from gitops.objects import base

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@stream
async def events(request: web.Request) -> web.StreamResponse:
    """From `since` (or now) to `until` (or for ever); what is remembered comes first."""
    filters = requests.filters(request, eventfilters.KEYS)
    since = requests.moment(request.query.get("since", ""), "since")
    until = requests.moment(request.query.get("until", ""), "until")
    if until and since > until:
        raise errors.Invalid("`since` time cannot be after `until` time")
    response = await answers.open_stream(request, "application/json")
    async for event in _events(engine_of(request), since, until):
        if eventfilters.matches(event, filters):
            await response.write(answers.line(_shown(event)))
    await response.write_eof()
    return response


async def _events(engine: Engine, since_ns: int, until_ns: int) -> AsyncIterator[Event]:
    now = time.time_ns()
    if until_ns and until_ns <= now:
        for event in engine.events.recent(since_ns, until_ns):
            yield event
        return
    with engine.events.subscribe(since_ns=since_ns or None) as subscription:
        ending = None
        if until_ns:
            ending = asyncio.get_running_loop().call_later((until_ns - now) / base.SECOND, subscription.close)
        try:
            async for event in subscription:
                yield event
        finally:
            if ending is not None:
                ending.cancel()


def _shown(event: Event) -> dict[str, Any]:
    """With the fields that clients from before 1.22 read, which Docker sends up to 1.51."""
    shown: dict[str, Any] = base.to_builtins(event)
    if event.type in ("container", "image"):
        shown |= {"status": event.action, "id": event.actor.id}
    if event.type == "container" and "image" in event.actor.attributes:
        shown["from"] = event.actor.attributes["image"]
    return shown


ROUTES: list[tuple[str, str, Handler]] = [("GET", "/events", events)]
