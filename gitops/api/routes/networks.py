"""Networks of this host and of the swarm, in one list. A swarm network is the manager's; overlays are made there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gitops.api import answers, networks, requests
from gitops.api.context import engine_of, swarm_of
from gitops.objects.container import EndpointSettings
from gitops.objects.network import NetworkConnect, NetworkCreate, NetworkDisconnect, NetworkResource

_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def list_networks(request: web.Request) -> web.Response:
    """`docker network ls`."""
    filters = requests.filters(request, _FILTERS)
    requests.boolean_filter(filters, "dangling")
    requests.one_of(filters, "type", ("builtin", "custom"))
    requests.one_of(filters, "scope", ("local", "swarm", "global"))
    found = engine_of(request).networks.list(filters)
    known = {item.id for item in found}
    swarm = networks.of_swarm(swarm_of(request), filters)
    return answers.json([*found, *(item for item in swarm if item.id not in known)])


async def create(request: web.Request) -> web.Response:
    """`docker network create`; an overlay is made by the swarm's manager."""
    body = await requests.body(request, NetworkCreate)
    networks.check_name_is_free(engine_of(request), swarm_of(request), body.name)
    if body.driver == "overlay" or body.scope == "swarm":
        made_id = (await swarm_of(request).control.create_network(body)).id
    else:
        made_id = (await engine_of(request).networks.create(body)).id
    return answers.json({"Id": made_id, "Warning": ""}, 201)


async def inspect(request: web.Request) -> web.Response:
    """`docker network inspect`; the CLI asks with `scope=swarm` for what services use."""
    scope = request.query.get("scope", "")
    return answers.json(_find(request, scope))


async def remove(request: web.Request) -> web.Response:
    """`docker network rm`."""
    await networks.remove(engine_of(request), swarm_of(request), _find(request, ""))
    return answers.empty()


async def connect(request: web.Request) -> web.Response:
    """`docker network connect`."""
    body = await requests.body(request, NetworkConnect)
    found = _find(request, "")
    networks.check_attachable(swarm_of(request), (found.name,))
    settings = body.endpoint_config or EndpointSettings()
    await engine_of(request).containers.connecting.connect(body.container, found.id, settings)
    return answers.empty(200)


async def disconnect(request: web.Request) -> web.Response:
    """`docker network disconnect`."""
    body = await requests.body(request, NetworkDisconnect)
    connecting = engine_of(request).containers.connecting
    await connecting.disconnect(body.container, _find(request, "").id, force=body.force)
    return answers.empty(200)


def _find(request: web.Request, scope: str) -> NetworkResource:
    return networks.find(engine_of(request), swarm_of(request), request.match_info["network"], scope)


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/networks", list_networks),
    ("POST", "/networks/create", create),
    ("GET", "/networks/{network}", inspect),
    ("POST", "/networks/{network}/connect", connect),
    ("POST", "/networks/{network}/disconnect", disconnect),
    ("DELETE", "/networks/{network}", remove),
]
