"""Events of the swarm: what changes in its store, told to the engine's listeners with the scope `swarm`.

`of_change` is pure: one change of the store gives at most one event. `SwarmEvents` follows the store as long as this
host is a manager.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from gitops import errors
from gitops.engine.events import EventBus
from gitops.objects.network import NetworkObject
from gitops.objects.node import Node
from gitops.objects.secret import Config, Secret
from gitops.objects.service import Service
from gitops.swarm.store.protocol import Change

if TYPE_CHECKING:
    from gitops.swarm.node import SwarmNode

log = logging.getLogger(__name__)
_VERBS = {"create": "create", "update": "update", "delete": "remove"}


class Told(NamedTuple):
    """An event before it has a time."""

    type: str
    action: str
    id: str
    attributes: Mapping[str, str]


def of_change(change: Change) -> Told | None:
    """The event that a change is told as; tasks and the cluster have none, as with Docker."""
    item, old = change.object, change.old
    action = _VERBS[change.action]
    if isinstance(item, Service):
        return Told("service", action, item.id, _service(item, old if isinstance(old, Service) else None))
    if isinstance(item, Node):
        return Told("node", action, item.id, _node(item, old if isinstance(old, Node) else None))
    if isinstance(item, NetworkObject):
        return Told("network", action, item.id, {"name": item.spec.name})
    if isinstance(item, Secret):
        return Told("secret", action, item.id, {"name": item.spec.name})
    if isinstance(item, Config):
        return Told("config", action, item.id, {"name": item.spec.name})
    return None


def _service(item: Service, old: Service | None) -> dict[str, str]:
    attributes = {"name": item.spec.name}
    if old is not None:
        _differ(attributes, "replicas", _replicas(old), _replicas(item))
        _differ(attributes, "image", _image(old), _image(item))
        _differ(attributes, "updatestate", _update_state(old), _update_state(item))
    return attributes


def _node(item: Node, old: Node | None) -> dict[str, str]:
    attributes = {"name": item.description.hostname}
    if old is not None:
        _differ(attributes, "state", old.status.state, item.status.state)
        _differ(attributes, "availability", old.spec.availability, item.spec.availability)
        _differ(attributes, "role", old.spec.role, item.spec.role)
    return attributes


def _differ(attributes: dict[str, str], name: str, old: str, new: str) -> None:
    if old != new:
        attributes[f"{name}.new"] = new
        if old:
            attributes[f"{name}.old"] = old


def _replicas(service: Service) -> str:
    replicated = service.spec.mode.replicated
    return "" if replicated is None or replicated.replicas is None else str(replicated.replicas)


def _image(service: Service) -> str:
    container = service.spec.task_template.container_spec
    return container.image if container else ""


def _update_state(service: Service) -> str:
    return service.update_status.state if service.update_status else ""


class SwarmEvents:
    """Follows the store while this host is in a swarm; `start` and `stop` may be called at any time."""

    def __init__(self, node: SwarmNode, events: EventBus) -> None:
        self._node = node
        self._events = events
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow; nothing to do where there is no swarm, or it is followed already."""
        if self._node.state == "active" and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._follow(), name="swarm-events")

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _follow(self) -> None:
        while self._node.state == "active":
            try:
                with self._node.store.watch() as watch:
                    async for commit in watch:
                        self._tell(commit.changes)
                return
            except errors.Unavailable as error:
                # It fell behind: what was missed is not told, and clients that compare states lose nothing.
                log.warning("events of the swarm were missed: %s", error)

    def _tell(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            told = of_change(change)
            if told is not None:
                self._events.publish(told.type, told.action, told.id, told.attributes, scope="swarm")
