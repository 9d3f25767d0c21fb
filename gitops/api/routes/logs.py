"""Logs of containers, services and tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from gitops.api import logs, servicelogs
from gitops.api.context import engine_of, stream, swarm_of
from gitops.engine.containers import ContainerService
from gitops.objects.service import TaskSpec
from gitops.objects.task import Task

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@stream
async def container(request: web.Request) -> web.StreamResponse:
    """`docker logs`."""
    query = logs.parse(request)
    containers = engine_of(request).containers
    found = containers.get(request.match_info["container"])
    writer = logs.Writer(query, found.config.tty)
    return await logs.send(request, found.config.tty, _encoded(containers, found.id, writer))


@stream
async def service(request: web.Request) -> web.StreamResponse:
    """`docker service logs`."""
    query = logs.parse(request)
    control = swarm_of(request).control
    found = control.service(request.match_info["service"])
    is_terminal = _has_terminal(found.spec.task_template)
    pieces = servicelogs.follow_service(engine_of(request), found.id, query, is_terminal)
    return await logs.send(request, is_terminal, pieces)


@stream
async def task(request: web.Request) -> web.StreamResponse:
    """`docker service logs TASK`."""
    query = logs.parse(request)
    found: Task = swarm_of(request).control.task(request.match_info["task"])
    is_terminal = _has_terminal(found.spec)
    pieces = servicelogs.follow_task(engine_of(request), found.id, query, is_terminal)
    return await logs.send(request, is_terminal, pieces)


def _has_terminal(spec: TaskSpec) -> bool:
    return spec.container_spec is not None and spec.container_spec.tty


async def _encoded(containers: ContainerService, container_id: str, writer: logs.Writer) -> AsyncIterator[bytes]:
    query = writer.query
    records = containers.logs(
        container_id,
        stdout=query.stdout,
        stderr=query.stderr,
        since_ns=query.since_ns,
        until_ns=query.until_ns,
        tail=query.tail,
        follow=query.follow,
    )
    async for record in records:
        yield writer.encode(record)


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/containers/{container}/logs", container),
    ("GET", "/services/{service}/logs", service),
    ("GET", "/tasks/{task}/logs", task),
]
