"""The update supervisor: takes a service's slots to its present spec, a few at a time, and judges how that goes.

An update is a `Rollout`: the dirty slots in their order, and as many workers as the parallelism allows. A worker
replaces the task of one slot, waits until the new one runs (or is over), pauses for the delay and takes the next. A
new task that fails before it runs, or within the monitor time after, is a failure; when too many of the slots
failed, the update is paused, goes on regardless, or the service gets its previous spec back, which is one more
update. After the last slot the update is watched for one more monitor time.

`step` moves a rollout on by what the snapshot and the clock allow, and waits for nothing: cancelling an update is
forgetting its rollout. A rollout is kept in memory only; a manager that takes over makes a new one of the slots that
are still dirty. A slot whose replacement waits for its predecessor to stop is finished by the restart supervisor.

There is no deadline for a slot: a task that is pending for ever keeps an update going for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Literal

from gitops.objects import base, defaults
from gitops.objects.node import Node
from gitops.objects.service import Service, ServiceSpec, UpdateConfig
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import dirtiness, rollout
from gitops.swarm.scheduling.board import Board, Glance, Ids, Time
from gitops.swarm.scheduling.slots import Place
from gitops.swarm.scheduling.tasks import advance, is_runnable, may_hold_container, new_task

log = logging.getLogger(__name__)

Slots = Mapping[Place, Sequence[Task]]
"""The tasks that stand for each slot (or node), in the order in which slots are to be updated."""
Order = Literal["stop-first", "start-first"]


@dataclass(frozen=True, slots=True)
class Worker:
    """One of the workers: busy with `slot` until `task_id` runs, or free from `free_at` (monotonic seconds) on."""

    slot: Place | None = None
    task_id: str = ""
    free_at: float = 0.0


@dataclass(slots=True)
class Rollout:
    """An update under way."""

    spec: ServiceSpec
    config: UpdateConfig
    total: int
    """Dirty slots at the start: what the failure ratio refers to."""
    queue: list[Place]
    workers: list[Worker]
    made: dict[str, float | None] = field(default_factory=dict)
    """The new tasks, and since when (monotonic seconds) each runs."""
    failed: set[str] = field(default_factory=set)
    is_stopped: bool = False
    """Paused: busy workers finish their slot, no other slot is taken."""
    ends_at: float | None = None
    """When the last monitor time is over."""

    def copy(self) -> Rollout:
        """A copy to work on, so that a transaction can be run again."""
        return changed(
            self, queue=list(self.queue), workers=list(self.workers), made=dict(self.made), failed=set(self.failed)
        )

    @property
    def delay_s(self) -> float:
        """Seconds between two slots of one worker."""
        return self.config.delay / base.SECOND

    @property
    def monitor_s(self) -> float:
        """Seconds after its start in which a task's end is the update's failure."""
        monitor = (self.config.monitor or 0) / base.SECOND
        return monitor if self.delay_s < monitor else self.delay_s + 1

    @property
    def order(self) -> Order:
        """What comes first in a slot.

        Where only one of two tasks can be on a node, the new one could never start beside the old one.
        """
        ports = self.spec.endpoint_spec.ports if self.spec.endpoint_spec else []
        placement = self.spec.task_template.placement
        is_exclusive = any(port.publish_mode == "host" and port.published_port for port in ports)
        if self.config.order != "start-first" or is_exclusive or (placement and placement.max_replicas):
            return "stop-first"
        return "start-first"


class Updater:
    """Moves rollouts on."""

    def __init__(self, clock: Time, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids

    def step(
        self, tx: Board, service: Service, slots: Slots, former: Rollout | None
    ) -> tuple[Rollout | None, float | None]:
        """Do what is due; returns the rollout as it is now and the seconds until more may be due.

        Runs inside a transaction, and may be run again: `former` is not changed.
        """
        update = former.copy() if former is not None and former.spec == service.spec else None
        if update is None:
            update = self._begin(tx, service, slots)
        elif not update.is_stopped and service.update_status is None:
            # The same spec, given again, takes the status away; the update goes on.
            tx.update(rollout.started(service, self._clock.now_ns()))
        if update is None:
            self._settle(tx, service, slots, set())
            return None, None
        if self._judge(tx, service.id, update):
            return None, None
        self._work(tx, service, slots, update)
        self._settle(tx, service, slots, {worker.slot for worker in update.workers})
        return self._end(tx, service.id, update)

    def _begin(self, tx: Board, service: Service, slots: Slots) -> Rollout | None:
        if rollout.is_paused(service):
            return None
        is_resumed = rollout.state_of(service) in (rollout.UPDATING, rollout.ROLLBACK_STARTED)
        dirty = rollout.dirty_slots(service, slots, list(slots), _nodes(tx))
        if not is_resumed:
            # Where a task of this spec is on its way already, its predecessor goes as soon as it runs (`_settle`).
            dirty = [slot for slot in dirty if rollout.step(service, slots[slot], _nodes(tx)).action == "replace"]
        if not dirty:
            self._complete(tx, service.id)
            return None
        if not is_resumed:
            service = tx.update(rollout.started(service, self._clock.now_ns()))
        config = rollout.config_of(service)
        count = min(config.parallelism or len(dirty), len(dirty))
        return Rollout(service.spec, config, len(dirty), dirty, [Worker() for _ in range(count)])

    # Failures

    def _judge(self, tx: Board, service_id: str, update: Rollout) -> bool:
        """Count failures and act on them; whether the rollout is over by that."""
        for task_id, since in update.made.items():
            task = tx.get(Task, task_id)
            if task is None:
                continue
            if since is None and task.status.state is TaskState.RUNNING:
                update.made[task_id] = self._clock.monotonic()
            elif task_id not in update.failed and self._is_early_failure(task, since, update):
                update.failed.add(task_id)
                if not update.is_stopped and self._act_on_failure(tx, service_id, update, task_id):
                    return True
        return False

    def _is_early_failure(self, task: Task, since: float | None, update: Rollout) -> bool:
        """Whether a new task failed before it ran, or within the monitor time after."""
        return is_failure(task) and (since is None or self._clock.monotonic() - since <= update.monitor_s)

    def _act_on_failure(self, tx: Board, service_id: str, update: Rollout, task_id: str) -> bool:
        service = _stored(tx, service_id)
        verdict = rollout.judge(service, len(update.failed), update.total)
        if verdict == "rollback" and service.previous_spec is not None:
            tx.update(rollout.rolled_back(service, task_id, self._clock.now_ns(), tx.version))
            return True
        if verdict != "go on":
            if verdict == "rollback":
                log.warning("service %s has no previous spec to roll back to: its update is paused", service.spec.name)
            tx.update(rollout.paused(service, task_id))
            update.is_stopped = True
            update.queue.clear()
        return False

    # Slots

    def _work(self, tx: Board, service: Service, slots: Slots, update: Rollout) -> None:
        now = self._clock.monotonic()
        for index, worker in enumerate(update.workers):
            if worker.slot is not None:
                worker = self._follow(tx, slots, update, worker)
            while worker.slot is None and worker.free_at <= now and update.queue:
                worker = self._take(tx, service, slots, update, update.queue.pop(0))
            update.workers[index] = worker

    def _follow(self, tx: Board, slots: Slots, update: Rollout, worker: Worker) -> Worker:
        """See whether a worker's slot is done: its new task runs, is over, is gone, or lost its node."""
        task = tx.get(Task, worker.task_id)
        if task is not None and is_runnable(task) and task.status.state.rank < TaskState.RUNNING.rank:
            return worker
        if task is not None and task.status.state is TaskState.RUNNING and worker.slot is not None:
            _stop_others(tx, slots.get(worker.slot, ()), task)
        return Worker(free_at=self._clock.monotonic() + update.delay_s)

    def _take(self, tx: Board, service: Service, slots: Slots, update: Rollout, slot: Place) -> Worker:
        """Begin with a slot; a free worker where nothing is to be done in it."""
        tasks = slots.get(slot, ())
        if not tasks or not dirtiness.is_slot_dirty(service, tasks, _nodes(tx)):
            return Worker()
        step = rollout.step(service, tasks, _nodes(tx))
        # A task that is there already and READY is let go by the restart supervisor, when its delay is over.
        task = step.task or self._make(tx, service, slot, update.order)
        if update.order == "stop-first":
            _stop_others(tx, tasks, task)
        update.made.setdefault(task.id, None)
        return Worker(slot=slot, task_id=task.id)

    def _make(self, tx: Board, service: Service, slot: Place, order: Order) -> Task:
        former = (task for task in tx.tasks_of_service(service.id) if task.place == str(slot))
        must_wait = order == "stop-first" and any(may_hold_container(tx, task) for task in former)
        desired = TaskState.READY if must_wait else TaskState.RUNNING
        return tx.create(new_task(service, slot, self._ids(), desired, self._clock.now_ns()))

    def _settle(self, tx: Board, service: Service, slots: Slots, busy: set[Place | None]) -> None:
        """Stop what start-first left beside a task that runs by now: after a failure, or a change of managers."""
        for slot, tasks in slots.items():
            if slot in busy or len(tasks) < 2:
                continue
            step = rollout.step(service, tasks, _nodes(tx))
            if step.action == "keep" and step.task is not None and step.task.status.state is TaskState.RUNNING:
                _stop_others(tx, tasks, step.task)

    # The end

    def _end(self, tx: Board, service_id: str, update: Rollout) -> tuple[Rollout | None, float | None]:
        now = self._clock.monotonic()
        free = [worker.free_at for worker in update.workers if worker.slot is None]
        if update.queue and free:
            return update, max(0.0, min(free) - now)
        if len(free) < len(update.workers):
            return update, None
        if update.is_stopped:
            return None, None
        if update.ends_at is None:
            is_watched = update.config.failure_action != "continue"
            update.ends_at = now + (update.monitor_s if is_watched else 0.0)
        if update.ends_at > now:
            return update, update.ends_at - now
        self._complete(tx, service_id)
        return None, None

    def _complete(self, tx: Board, service_id: str) -> None:
        service = _stored(tx, service_id)
        if rollout.state_of(service) in (rollout.UPDATING, rollout.ROLLBACK_STARTED):
            tx.update(rollout.completed(service, self._clock.now_ns()))


def _nodes(view: Glance) -> Callable[[str], Node | None]:
    return lambda node_id: view.get(Node, node_id)


def _stored(view: Glance, service_id: str) -> Service:
    service = view.get(Service, service_id)
    assert service is not None, "the service was there at the start of the transaction"
    return service


def _stop_others(tx: Board, tasks: Sequence[Task], kept: Task) -> None:
    for task in tasks:
        if task.id != kept.id and is_runnable(task):
            advance(tx, task, TaskState.SHUTDOWN)


def is_failure(task: Task) -> bool:
    """Whether a new task's state is a failure of its update.

    A task that stopped on order isn't one, and neither is one that did its work and isn't meant to run for ever.
    """
    if task.status.state is TaskState.COMPLETE:
        return defaults.restart_policy(task.spec.restart_policy).condition == "any"
    return task.status.state.is_terminal and task.status.state is not TaskState.SHUTDOWN
