"""The orchestrator: services become tasks, in the way of their mode.

It runs `scheduling.services` over a service, in one transaction, so that nothing is written on the strength of
something older than the snapshot that the transaction runs on. A pass is due when the service, one of its tasks or a
node changed, and when a delay or a monitor time is over.

It writes tasks' desired states, new tasks, services' update status and the spec of a service that is rolled back.
Tasks of a service that is gone are told to go; the reaper takes their objects away.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator, Sequence

from gitops import errors
from gitops.objects.node import Node
from gitops.objects.service import Service
from gitops.objects.task import Task
from gitops.swarm.clock import Clock, IdSource
from gitops.swarm.manager.loop import BACKOFF_MAX_S, BACKOFF_S, StoreLoop
from gitops.swarm.scheduling import modes
from gitops.swarm.scheduling.services import ServicePass
from gitops.swarm.scheduling.updates import Rollout
from gitops.swarm.store.protocol import Change, Store, View
from gitops.swarm.waiting import backoff

log = logging.getLogger(__name__)

TOGETHER = 64
"""Services that are passed over side by side."""


class Orchestrator(StoreLoop):
    """Keeps every service at the tasks that its mode asks for, all of its present spec."""

    def __init__(self, store: Store, clock: Clock, rng: random.Random, ids: IdSource) -> None:
        super().__init__(store, clock, rng)
        self._pass_over = ServicePass(clock, ids)
        self._rollouts: dict[str, Rollout] = {}
        self._dirty: dict[str, None] = {}
        self._due: dict[str, float] = {}
        self._service_failures: dict[str, int] = {}

    def resync(self, view: View) -> None:
        """Every service, and those that only tasks remember."""
        self._dirty.update((service.id, None) for service in view.all(Service))
        self._dirty.update((task.service_id, None) for task in view.all(Task) if task.service_id)
        self._pass_over.forget(view)

    def notice(self, change: Change) -> None:
        """A service is touched by itself, by its tasks, and by what happens to nodes that have or could have one."""
        item = change.object
        if isinstance(item, Service):
            self._dirty[item.id] = None
        elif isinstance(item, Task):
            if item.service_id:
                self._dirty[item.service_id] = None
        elif isinstance(item, Node) and _concerns_tasks(change):
            view = self.store.view()
            self._dirty.update((task.service_id, None) for task in view.tasks_of_node(item.id))
            self._dirty.update((each.id, None) for each in view.all(Service) if modes.is_by_node(each.spec.mode))

    async def act(self) -> float | None:
        """Pass over the services that are touched or due."""
        now = self.clock.monotonic()
        touched, self._dirty = self._dirty, {}
        touched.update((service_id, None) for service_id, due in self._due.items() if due <= now)
        for service_id in touched:
            self._due.pop(service_id, None)
        for chunk in _chunks(list(touched)):
            await self._pass_together(chunk)
        return min((max(0.0, due - self.clock.monotonic()) for due in self._due.values()), default=None)

    async def _pass_together(self, service_ids: Sequence[str]) -> None:
        """Pass over services side by side, so that a store that writes to disk takes their changes in one go."""
        async with asyncio.TaskGroup() as group:
            passes = [group.create_task(self._pass(service_id)) for service_id in service_ids]
        for result in passes:
            if (error := result.result()) is not None:
                raise error

    async def _pass(self, service_id: str) -> errors.Unavailable | None:
        """Pass over a service; returns the store's error when it can't write."""
        try:
            update, wait = await self.store.update(
                lambda tx: self._pass_over.reconcile(tx, service_id, self._rollouts.get(service_id))
            )
        except errors.Unavailable as error:
            # The store's trouble, not the service's: the whole loop waits.
            self._dirty[service_id] = None
            return error
        except Exception:
            # One service that can't be reconciled must not stop the others.
            failures = self._service_failures[service_id] = self._service_failures.get(service_id, 0) + 1
            wait = backoff(failures, self.rng, first_s=BACKOFF_S, max_s=BACKOFF_MAX_S)
            log.exception("service %s can't be reconciled, next attempt in %.1f s", service_id, wait)
            self._due[service_id] = self.clock.monotonic() + wait
            return None
        self._service_failures.pop(service_id, None)
        if update is None:
            self._rollouts.pop(service_id, None)
        else:
            self._rollouts[service_id] = update
        if wait is not None:
            self._due[service_id] = self.clock.monotonic() + wait
        return None


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), TOGETHER):
        yield items[start : start + TOGETHER]


def _concerns_tasks(change: Change) -> bool:
    """Whether a node's change can make its tasks invalid or dirty; a heartbeat or a description can't."""
    node, old = change.object, change.old
    if not isinstance(node, Node) or not isinstance(old, Node):
        return True
    return node.status.state != old.status.state or node.spec != old.spec or node.description != old.description
