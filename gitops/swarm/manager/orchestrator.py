"""The replicated orchestrator: services become tasks.

One pass over a service, in one transaction: the restart supervisor replaces what died, free slots are filled or
surplus ones removed, and the updater moves dirty slots on. All of it is computed from the snapshot that the
transaction runs on, so that nothing is written on the strength of something older. A pass is due when the service, one
of its tasks or a node changed, and when a delay or a monitor time is over.

It writes tasks' desired states, new tasks, services' update status and the spec of a service that is rolled back.
Tasks of a service that is gone are told to go; the reaper takes their objects away.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from gitops import errors
from gitops.objects.node import Node
from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.clock import Clock, IdSource
from gitops.swarm.manager.loop import BACKOFF_MAX_S, BACKOFF_S, StoreLoop
from gitops.swarm.manager.restart import RestartSupervisor, should_restart
from gitops.swarm.manager.tasks import advance, by_slot, may_hold_container, new_task
from gitops.swarm.manager.updater import Rollout, Updater
from gitops.swarm.scheduling import rollout, slots
from gitops.swarm.store.protocol import Change, Store, Tx, View
from gitops.swarm.waiting import backoff

log = logging.getLogger(__name__)

TOGETHER = 64
"""Services that are passed over side by side."""
Outcome = tuple[Rollout | None, float | None]
"""A service's rollout after a pass, and the seconds until the next one is due."""


class Orchestrator(StoreLoop):
    """Keeps every replicated service at its number of tasks, all of its present spec."""

    def __init__(self, store: Store, clock: Clock, rng: random.Random, ids: IdSource) -> None:
        super().__init__(store, clock, rng)
        self._ids = ids
        self._restarts = RestartSupervisor(clock, ids)
        self._updater = Updater(clock, ids)
        self._rollouts: dict[str, Rollout] = {}
        self._dirty: dict[str, None] = {}
        self._due: dict[str, float] = {}
        self._service_failures: dict[str, int] = {}

    def resync(self, view: View) -> None:
        """Every service, and those that only tasks remember."""
        self._dirty.update((service.id, None) for service in view.all(Service))
        self._dirty.update((task.service_id, None) for task in view.all(Task) if task.service_id)
        self._restarts.forget(view)

    def notice(self, change: Change) -> None:
        """A service is touched by itself, by its tasks, and by what happens to their nodes."""
        item = change.object
        if isinstance(item, Service):
            self._dirty[item.id] = None
        elif isinstance(item, Task):
            if item.service_id:
                self._dirty[item.service_id] = None
        elif isinstance(item, Node) and _concerns_tasks(change):
            self._dirty.update((task.service_id, None) for task in self.store.view().tasks_of_node(item.id))

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
            update, wait = await self.store.update(lambda tx: self._reconcile(tx, service_id))
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

    def _reconcile(self, tx: Tx, service_id: str) -> Outcome:
        service = tx.get(Service, service_id)
        if service is None:
            for task in tx.tasks_of_service(service_id):
                advance(tx, task, TaskState.REMOVE)
            return None, None
        if not is_replicated(service):
            return None, None
        restart_wait = self._restarts.tend(tx, service)
        kept = self._scale(tx, service)
        update, update_wait = self._updater.step(tx, service, kept, self._rollouts.get(service_id))
        waits = [wait for wait in (restart_wait, update_wait) if wait is not None]
        return update, min(waits, default=None)

    def _scale(self, tx: Tx, service: Service) -> dict[int, list[Task]]:
        """Fill free slots or remove surplus ones; returns the slots that stay, new ones left out."""
        all_tasks = by_slot(tx.tasks_of_service(service.id))
        occupied = occupied_slots(service, all_tasks)
        plan = slots.scale(occupied, replicas(service))
        for number in plan.create:
            self._fill(tx, service, number, all_tasks.get(number, []))
        staying = {*plan.keep, *plan.create}
        for number, tasks in all_tasks.items():
            if number not in staying:
                for task in tasks:
                    advance(tx, task, TaskState.REMOVE)
        return {number: occupied[number] for number in plan.keep}

    def _fill(self, tx: Tx, service: Service, number: int, former: list[Task]) -> None:
        """A new task in a free slot; where the former one still stops, it waits for that."""
        must_wait = any(may_hold_container(tx, task) for task in former)
        desired = TaskState.READY if must_wait else TaskState.RUNNING
        tx.create(new_task(service, number, self._ids(), desired, self.clock.now_ns()))


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), TOGETHER):
        yield items[start : start + TOGETHER]


def occupied_slots(service: Service, all_tasks: Mapping[int, Sequence[Task]]) -> slots.Slots:
    """The slots that count, each with the tasks that stand for it; `all_tasks` are the service's by slot."""

    def is_free(last: Task) -> bool:
        if last.desired_state is TaskState.REMOVE:
            return True
        if rollout.is_rolling_back(service) and last.spec_version != service.spec_version:
            # The spec that is rolled back to gets another chance in every slot, once.
            return True
        return should_restart(last, all_tasks[last.slot])

    tasks = (task for tasks in all_tasks.values() for task in tasks)
    return slots.occupancy(replace(service, update_status=None), tasks, is_free).occupied


def is_replicated(service: Service) -> bool:
    """Whether the service runs a number of tasks without end; no mode at all means so too."""
    mode = service.spec.mode
    return mode.global_ is None and mode.replicated_job is None and mode.global_job is None


def replicas(service: Service) -> int:
    """How many tasks a replicated service asks for."""
    replicated = service.spec.mode.replicated
    return 1 if replicated is None or replicated.replicas is None else replicated.replicas


def _concerns_tasks(change: Change) -> bool:
    """Whether a node's change can make its tasks invalid or dirty; a heartbeat or a description can't."""
    node, old = change.object, change.old
    if not isinstance(node, Node) or not isinstance(old, Node):
        return True
    return node.status.state != old.status.state or node.spec != old.spec or node.description != old.description
