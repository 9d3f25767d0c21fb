"""Logs of a service: the output of its tasks' containers on this host, gathered into one stream.

Without `follow` the containers' records are merged by time; with it, each container is followed as it goes, those that
start later too. A container's own order is kept in any case.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from gitops import errors
from gitops.api import logs
from gitops.engine.containers.boundary import LogRecord
from gitops.engine.engine import Engine
from gitops.objects.container import ContainerSummary

_PREFIX = "com.docker.swarm."
_SERVICE = f"{_PREFIX}service.id"
_TASK = f"{_PREFIX}task.id"
_DETAILS = (f"{_PREFIX}node.id", _SERVICE, _TASK)
_WAITING = 256
"""Pieces that may wait for a slow client, before the reading of the logs waits too."""


def follow_service(engine: Engine, service_id: str, query: logs.LogQuery, is_terminal: bool) -> AsyncIterator[bytes]:
    """The encoded output of all tasks of a service."""
    return _gather(engine, _SERVICE, service_id, query, is_terminal)


def follow_task(engine: Engine, task_id: str, query: logs.LogQuery, is_terminal: bool) -> AsyncIterator[bytes]:
    """The encoded output of one task."""
    return _gather(engine, _TASK, task_id, query, is_terminal)


def _gather(engine: Engine, label: str, value: str, query: logs.LogQuery, is_terminal: bool) -> AsyncIterator[bytes]:
    if query.follow:
        return _followed(engine, label, value, query, is_terminal)
    return _merged(engine, label, value, query, is_terminal)


def _containers(engine: Engine, label: str, value: str) -> list[ContainerSummary]:
    return list(engine.containers.list(all=True, filters={"label": [f"{label}={value}"]}))


def _details(container: ContainerSummary) -> dict[str, str]:
    return {key: container.labels[key] for key in _DETAILS if key in container.labels}


async def _merged(
    engine: Engine, label: str, value: str, query: logs.LogQuery, is_terminal: bool
) -> AsyncIterator[bytes]:
    gathered: list[tuple[int, int, int, bytes]] = []
    for number, container in enumerate(_containers(engine, label, value)):
        writer = logs.Writer(query, is_terminal, _details(container))
        try:
            place = 0
            async for record in _records(engine, container.id, query):
                gathered.append((record.time_ns, number, place, writer.encode(record)))
                place += 1
        except errors.NotFound:
            # Removed while we read: history goes when its container goes.
            continue
    for *_, piece in sorted(gathered):
        yield piece


async def _followed(
    engine: Engine, label: str, value: str, query: logs.LogQuery, is_terminal: bool
) -> AsyncIterator[bytes]:
    queue: asyncio.Queue[bytes] = asyncio.Queue(_WAITING)
    readers: dict[str, asyncio.Task[None]] = {}

    async def read(container: ContainerSummary) -> None:
        writer = logs.Writer(query, is_terminal, _details(container))
        try:
            async for record in _records(engine, container.id, query):
                await queue.put(writer.encode(record))
        except errors.NotFound:
            return

    async def watch() -> None:
        with engine.events.subscribe() as events:
            for container in _containers(engine, label, value):
                readers[container.id] = asyncio.create_task(read(container))
            async for event in events:
                if event.type != "container" or event.action != "start":
                    continue
                for container in _containers(engine, label, value):
                    if container.id == event.actor.id and container.id not in readers:
                        readers[container.id] = asyncio.create_task(read(container))

    watcher = asyncio.create_task(watch())
    piece = asyncio.create_task(queue.get())
    try:
        while True:
            await asyncio.wait({piece, watcher}, return_when=asyncio.FIRST_COMPLETED)
            if not piece.done():
                # Nobody would notice new tasks any more: the events ended, or came faster than they were read.
                watcher.result()
                return
            yield piece.result()
            piece = asyncio.create_task(queue.get())
    finally:
        running: list[asyncio.Task[Any]] = [watcher, piece, *readers.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _records(engine: Engine, container_id: str, query: logs.LogQuery) -> AsyncIterator[LogRecord]:
    return engine.containers.logs(
        container_id,
        stdout=query.stdout,
        stderr=query.stderr,
        since_ns=query.since_ns,
        until_ns=query.until_ns,
        tail=query.tail,
        follow=query.follow,
    )
