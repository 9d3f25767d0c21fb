"""What handlers work on, kept in the application, and the marks that they carry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

if TYPE_CHECKING:
    from gitops.api.swarmevents import SwarmEvents
    from gitops.engine.engine import Engine
    from gitops.swarm.node import SwarmNode

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
H = TypeVar("H", bound=Handler)

ENGINE: web.AppKey[Engine] = web.AppKey("engine")
SWARM: web.AppKey[SwarmNode] = web.AppKey("swarm")
SWARM_EVENTS: web.AppKey[SwarmEvents] = web.AppKey("swarm_events")

_STREAM_MARK = "__is_stream__"


def stream(handler: H) -> H:
    """Mark a handler that ends when its client goes away; all others run to their end."""
    setattr(handler, _STREAM_MARK, True)
    return handler


def is_stream(handler: object) -> bool:
    """Whether the handler carries the mark."""
    return bool(getattr(handler, _STREAM_MARK, False))


def engine_of(request: web.Request) -> Engine:
    """The host's engine."""
    return request.app[ENGINE]


def swarm_of(request: web.Request) -> SwarmNode:
    """The host's place in a swarm."""
    return request.app[SWARM]
