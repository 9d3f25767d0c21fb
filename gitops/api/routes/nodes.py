"""The swarm's nodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gitops.api import answers, requests
from gitops.api.context import swarm_of
from gitops.objects.node import NodeSpec

_FILTERS = ("id", "label", "membership", "name", "node.label", "role")
_SELF = "self"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def list_nodes(request: web.Request) -> web.Response:
    """`docker node ls`."""
    return answers.json(swarm_of(request).control.nodes(requests.filters(request, _FILTERS)))


async def inspect(request: web.Request) -> web.Response:
    """`docker node inspect`."""
    return answers.json(swarm_of(request).control.node(_node(request)))


async def update(request: web.Request) -> web.Response:
    """`docker node update`."""
    spec = await requests.body(request, NodeSpec)
    await swarm_of(request).control.update_node(_node(request), requests.version(request), spec)
    return answers.empty(200)


async def remove(request: web.Request) -> web.Response:
    """`docker node rm`."""
    await swarm_of(request).control.remove_node(_node(request), force=requests.switch(request, "force"))
    return answers.empty(200)


def _node(request: web.Request) -> str:
    name = request.match_info["node"]
    return swarm_of(request).node_id if name == _SELF else name


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/nodes", list_nodes),
    ("GET", "/nodes/{node}", inspect),
    ("POST", "/nodes/{node}/update", update),
    ("DELETE", "/nodes/{node}", remove),
]
