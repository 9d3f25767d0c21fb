"""`docker container prune`, and `docker network prune`: what nobody uses, as far as filters let it go."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from gitops import errors
from gitops.api import answers, requests
from gitops.api.context import engine_of
from gitops.objects import base

_FILTERS = ("label", "label!", "until")
_ENDED = ["created", "exited", "dead"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def containers(request: web.Request) -> web.Response:
    """Containers that don't run."""
    filters, until_ns = _asked(request)
    service = engine_of(request).containers
    removed, freed = [], 0
    for item in service.list(all=True, filters={**filters, "status": _ENDED}):
        if until_ns is not None and item.created * base.SECOND > until_ns:
            continue
        try:
            size, _ = await service.trees.sizes(item.id)
            await service.remove(item.id)
        except (errors.Conflict, errors.NotFound):
            continue  # started or removed meanwhile
        removed.append(item.id)
        freed += size
    return answers.json({"ContainersDeleted": removed, "SpaceReclaimed": freed})


async def networks(request: web.Request) -> web.Response:
    """Networks of one's own that nothing uses, running or not."""
    filters, until_ns = _asked(request)
    engine = engine_of(request)
    wanted = {key: values for key, values in filters.items() if key == "label"}
    used = {name for item in engine.containers.list(all=True) for name in item.network_settings["Networks"]}
    removed = []
    for item in engine.networks.list({**wanted, "type": ["custom"], "dangling": ["true"], "scope": ["local"]}):
        is_young = until_ns is not None and base.parse_time(item.created) > until_ns
        if is_young or used & {item.name, item.id} or _has_any(item.labels, filters.get("label!", ())):
            continue
        try:
            await engine.networks.remove(item.id)
        except errors.GitopsError:
            continue  # taken into use meanwhile: then it isn't to be pruned
        removed.append(item.name)
    return answers.json({"NetworksDeleted": removed})


def _asked(request: web.Request) -> tuple[requests.Filters, int | None]:
    """The filters but `until`, and what that says: only what is older goes."""
    filters = requests.filters(request, _FILTERS)
    moments = filters.pop("until", [])
    if len(moments) > 1:
        raise errors.Invalid("more than one until filter specified")
    now_ns = time.time_ns()
    return filters, requests.past(moments[0], "until", now_ns) if moments else None


def _has_any(labels: dict[str, str], wanted: list[str] | tuple[()]) -> bool:
    pairs = [text.partition("=") for text in wanted]
    return any(key in labels and (not has_value or labels[key] == value) for key, has_value, value in pairs)


ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/containers/prune", containers),
    ("POST", "/networks/prune", networks),
]
