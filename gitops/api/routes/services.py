"""Services and their tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from msgspec.structs import replace

from gitops import errors
from gitops.api import answers, refusals, requests
from gitops.api.context import swarm_of
from gitops.objects import base, defaults, taskshape, wire
from gitops.objects.service import Credentials, ServiceSpec

_SERVICE_FILTERS = ("id", "label", "mode", "name")
_TASK_FILTERS = ("_up-to-date", "desired-state", "id", "label", "name", "node", "runtime", "service")
_MODES = ("replicated", "global", "replicated-job", "global-job")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def list_services(request: web.Request) -> web.Response:
    """`docker service ls`."""
    filters = requests.filters(request, _SERVICE_FILTERS)
    requests.one_of(filters, "mode", _MODES)
    found = swarm_of(request).control.services(filters, status=requests.switch(request, "status"))
    return answers.json(found)


async def inspect(request: web.Request) -> web.Response:
    """`docker service inspect`; `insertDefaults` fills in what the spec leaves out."""
    found = swarm_of(request).control.service(request.match_info["service"])
    if requests.switch(request, "insertDefaults"):
        found = replace(found, spec=defaults.fill(found.spec))
    return answers.json(found)


async def create(request: web.Request) -> web.Response:
    """`docker service create`."""
    made = await swarm_of(request).control.create_service(await _spec(request), credentials=_credentials(request))
    return answers.json({"ID": made.id, "Warnings": []}, 201)


async def update(request: web.Request) -> web.Response:
    """`docker service update`, `scale` and `rollback`."""
    rollback = request.query.get("rollback", "")
    if rollback not in ("", "previous"):
        raise errors.Invalid(f"invalid value {rollback!r} for rollback: 'previous' is wanted")
    # A rollback takes the stored spec: what the client sends with it doesn't count.
    spec = ServiceSpec() if rollback else await _spec(request)
    await swarm_of(request).control.update_service(
        request.match_info["service"],
        requests.version(request),
        spec,
        rollback=bool(rollback),
        credentials=_credentials(request),
        credentials_from=request.query.get("registryAuthFrom", ""),
    )
    return answers.json({"Warnings": []})


async def remove(request: web.Request) -> web.Response:
    """`docker service rm`."""
    await swarm_of(request).control.remove_service(request.match_info["service"])
    return answers.empty(200)


async def list_tasks(request: web.Request) -> web.Response:
    """`docker service ps`, and what the CLI polls while it waits."""
    filters = requests.filters(request, _TASK_FILTERS)
    return answers.json(taskshape.encode(swarm_of(request).control.tasks(filters)))


async def inspect_task(request: web.Request) -> web.Response:
    """`docker inspect TASK`."""
    (shown,) = taskshape.encode([swarm_of(request).control.task(request.match_info["task"])])
    return answers.json(shown)


def _credentials(request: web.Request) -> Credentials | None:
    """What the client sends for the service's registry: None where it says nothing, empty for "none at all"."""
    if not request.headers.get("X-Registry-Auth"):
        return None
    auth = requests.registry_auth(request)
    return Credentials(base.to_json(auth) if auth else b"")


async def _spec(request: web.Request) -> ServiceSpec:
    """The spec in the body, its mode and the mode's counts filled in, as Docker does: clients read those fields."""
    data = await requests.raw_body(request)
    if not data:
        raise errors.Invalid("invalid JSON: got EOF while reading request body")
    refusals.check_service(data)
    spec = wire.decode_request(data, ServiceSpec)
    return replace(spec, mode=defaults.fill_mode(spec.mode))


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/services", list_services),
    ("POST", "/services/create", create),
    ("GET", "/services/{service}", inspect),
    ("POST", "/services/{service}/update", update),
    ("DELETE", "/services/{service}", remove),
    ("GET", "/tasks", list_tasks),
    ("GET", "/tasks/{task}", inspect_task),
]
