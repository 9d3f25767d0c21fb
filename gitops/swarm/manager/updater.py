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

from msgspec.structs import replace

from gitops.objects import base, defaults
from gitops.objects.base import Version
from gitops.objects.service import Service, ServiceSpec, UpdateConfig, UpdateStatus
from gitops.objects.task import Task, TaskState
from gitops.swarm.clock import Clock, IdSource
from gitops.swarm.manager.tasks import advance, by_slot, is_runnable, may_hold_container, new_task
from gitops.swarm.store.protocol import Tx, View

log = logging.getLogger(__name__)

Slots = Mapping[int, Sequence[Task]]
"""The tasks that stand for each slot, in the order in which slots are to be updated."""
IsDirty = Callable[[View, Service, Task], bool]
"""Whether a task differs from what its service now asks for."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One of the workers: busy with `slot` until `task_id` runs, or free from `free_at` (monotonic seconds) on."""

    slot: int | None = None
    task_id: str = ""
    free_at: float = 0.0


@dataclass(slots=True)
class Rollout:
    """An update under way."""

    spec: ServiceSpec
    config: UpdateConfig
    total: int
    """Dirty slots at the start: what the failure ratio refers to."""
    queue: list[int]
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
    def order(self) -> Literal["stop-first", "start-first"]:
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

    def __init__(self, clock: Clock, ids: IdSource, is_dirty: IsDirty) -> None:
        self._clock = clock
        self._ids = ids
        self._is_dirty = is_dirty

    def step(
        self, tx: Tx, service: Service, slots: Slots, former: Rollout | None
    ) -> tuple[Rollout | None, float | None]:
        """Do what is due; returns the rollout as it is now and the seconds until more may be due.

        Runs inside a transaction, and may be run again: `former` is not changed.
        """
        rollout = former.copy() if former is not None and former.spec == service.spec else None
        if rollout is None:
            rollout = self._begin(tx, service, slots)
        if rollout is None:
            self._settle(tx, service, slots, set())
            return None, None
        if not rollout.is_stopped:
            # The same spec, given again, takes the status away; the update goes on.
            self._set_status(tx, service.id, lambda status: status or self._started(None))
        if self._judge(tx, service, rollout):
            return None, 0.0
        self._work(tx, service, slots, rollout)
        self._settle(tx, service, slots, {worker.slot for worker in rollout.workers})
        return self._end(tx, service, rollout)

    def _begin(self, tx: Tx, service: Service, slots: Slots) -> Rollout | None:
        status = service.update_status.state if service.update_status else ""
        if status in ("paused", "rollback_paused"):
            return None
        dirty = [slot for slot, tasks in slots.items() if self._is_dirty_slot(tx, service, tasks)]
        if not dirty:
            if status in ("updating", "rollback_started"):
                self._set_status(tx, service.id, self._completed)
            return None
        config = service.spec.rollback_config if status == "rollback_started" else service.spec.update_config
        config = defaults.update_config(config)
        if status != "rollback_started":
            self._set_status(tx, service.id, self._started)
        count = min(config.parallelism or len(dirty), len(dirty))
        return Rollout(service.spec, config, len(dirty), dirty, [Worker() for _ in range(count)])

    def _is_dirty_slot(self, view: View, service: Service, tasks: Sequence[Task]) -> bool:
        return len(tasks) > 1 or any(self._is_dirty(view, service, task) for task in tasks)

    # Failures

    def _judge(self, tx: Tx, service: Service, rollout: Rollout) -> bool:
        """Count failures and act on them; whether the rollout is over by that."""
        now = self._clock.monotonic()
        for task_id, since in rollout.made.items():
            task = tx.get(Task, task_id)
            if task is None:
                continue
            if since is None and task.status.state is TaskState.RUNNING:
                rollout.made[task_id] = now
            elif self._is_counted(task, since, rollout):
                rollout.failed.add(task_id)
                too_many = len(rollout.failed) / rollout.total > rollout.config.max_failure_ratio
                if too_many and not rollout.is_stopped:
                    return self._give_up(tx, service.id, rollout, task_id)
        return False

    def _is_counted(self, task: Task, since: float | None, rollout: Rollout) -> bool:
        """Whether a new task's state is one more failure of the update."""
        if rollout.config.failure_action == "continue" or task.id in rollout.failed or not is_failure(task):
            return False
        return since is None or self._clock.monotonic() - since <= rollout.monitor_s

    def _give_up(self, tx: Tx, service_id: str, rollout: Rollout, task_id: str) -> bool:
        service = tx.get(Service, service_id)
        assert service is not None
        is_rollback = service.update_status is not None and service.update_status.state == "rollback_started"
        reason = f"due to failure or early termination of task {task_id}"
        if rollout.config.failure_action == "rollback" and not is_rollback:
            if service.previous_spec is not None:
                tx.update(self._rolled_back(service, f"update rolled back {reason}"))
                return True
            reason += ", and there is no previous spec to roll back to"
        # A rollback that fails is never rolled back in its turn: that would go to and fro for ever.
        state, word = ("rollback_paused", "rollback") if is_rollback else ("paused", "update")
        status = replace(service.update_status or UpdateStatus(), state=state, message=f"{word} paused {reason}")
        tx.update(replace(service, update_status=status))
        rollout.is_stopped = True
        rollout.queue.clear()
        return False

    def _rolled_back(self, service: Service, message: str) -> Service:
        assert service.previous_spec is not None
        return replace(
            service,
            spec=service.previous_spec,
            previous_spec=None,
            # A new version, by which attempts are counted anew. Tasks that were not updated yet are equal to it.
            spec_version=Version(index=service.version.index),
            previous_spec_version=None,
            update_status=UpdateStatus(state="rollback_started", started_at=self._now(), message=message),
        )

    # Slots

    def _work(self, tx: Tx, service: Service, slots: Slots, rollout: Rollout) -> None:
        now = self._clock.monotonic()
        for index, worker in enumerate(rollout.workers):
            if worker.slot is not None:
                worker = self._follow(tx, slots, rollout, worker)
            while worker.slot is None and worker.free_at <= now and rollout.queue:
                worker = self._take(tx, service, slots, rollout, rollout.queue.pop(0))
            rollout.workers[index] = worker

    def _follow(self, tx: Tx, slots: Slots, rollout: Rollout, worker: Worker) -> Worker:
        """See whether a worker's slot is done: its new task runs, is over, or is gone."""
        task = tx.get(Task, worker.task_id)
        if task is not None and task.status.state.rank < TaskState.RUNNING.rank:
            return worker
        if task is not None and task.status.state is TaskState.RUNNING and worker.slot is not None:
            self._stop_others(tx, slots.get(worker.slot, ()), task)
        return Worker(free_at=self._clock.monotonic() + rollout.delay_s)

    def _take(self, tx: Tx, service: Service, slots: Slots, rollout: Rollout, slot: int) -> Worker:
        """Begin with a slot; a free worker where nothing is to be done in it."""
        tasks = slots.get(slot, ())
        if not tasks or not self._is_dirty_slot(tx, service, tasks):
            return Worker()
        is_start_first = rollout.order == "start-first"
        task = next((task for task in tasks if is_runnable(task) and not self._is_dirty(tx, service, task)), None)
        if task is None:
            task = self._make(tx, service, slot, is_start_first)
        elif is_start_first:
            task = advance(tx, task, TaskState.RUNNING)
        if not is_start_first:
            self._stop_others(tx, tasks, task)
        rollout.made.setdefault(task.id, None)
        return Worker(slot=slot, task_id=task.id)

    def _make(self, tx: Tx, service: Service, slot: int, is_start_first: bool) -> Task:
        former = by_slot(tx.tasks_of_service(service.id)).get(slot, [])
        must_wait = not is_start_first and any(may_hold_container(tx, task) for task in former)
        desired = TaskState.READY if must_wait else TaskState.RUNNING
        return tx.create(new_task(service, slot, self._ids(), desired, self._clock.now_ns()))

    @staticmethod
    def _stop_others(tx: Tx, tasks: Sequence[Task], kept: Task) -> None:
        for task in tasks:
            if task.id != kept.id and is_runnable(task):
                advance(tx, task, TaskState.SHUTDOWN)

    def _settle(self, tx: Tx, service: Service, slots: Slots, busy: set[int | None]) -> None:
        """Stop what start-first left beside a task that runs by now: after a failure, or a change of managers."""
        for slot, tasks in slots.items():
            if slot in busy or len(tasks) < 2:
                continue
            for task in tasks:
                if (
                    task.status.state is TaskState.RUNNING
                    and is_runnable(task)
                    and not self._is_dirty(tx, service, task)
                ):
                    self._stop_others(tx, tasks, task)
                    break

    # The end

    def _end(self, tx: Tx, service: Service, rollout: Rollout) -> tuple[Rollout | None, float | None]:
        now = self._clock.monotonic()
        free = [worker.free_at for worker in rollout.workers if worker.slot is None]
        if rollout.queue and free:
            return rollout, max(0.0, min(free) - now)
        if len(free) < len(rollout.workers):
            return rollout, None
        if rollout.is_stopped:
            return None, None
        if rollout.ends_at is None:
            is_watched = rollout.config.failure_action != "continue"
            rollout.ends_at = now + (rollout.monitor_s if is_watched else 0.0)
        if rollout.ends_at > now:
            return rollout, rollout.ends_at - now
        self._set_status(tx, service.id, self._completed)
        return None, None

    def _set_status(
        self, tx: Tx, service_id: str, change: Callable[[UpdateStatus | None], UpdateStatus | None]
    ) -> None:
        service = tx.get(Service, service_id)
        assert service is not None
        status = change(service.update_status)
        if status != service.update_status:
            tx.update(replace(service, update_status=status))

    def _started(self, status: UpdateStatus | None) -> UpdateStatus:
        return UpdateStatus(state="updating", started_at=self._now(), message="update in progress")

    def _completed(self, status: UpdateStatus | None) -> UpdateStatus | None:
        if status is None or status.state not in ("updating", "rollback_started"):
            return status
        word = "rollback" if status.state == "rollback_started" else "update"
        state = "rollback_completed" if word == "rollback" else "completed"
        return replace(status, state=state, completed_at=self._now(), message=f"{word} completed")

    def _now(self) -> str:
        return base.format_time(self._clock.now_ns())


def is_failure(task: Task) -> bool:
    """Whether a new task's state is a failure of its update.

    A task that stopped on order isn't one, and neither is one that did its work and isn't meant to run for ever.
    """
    if task.status.state is TaskState.COMPLETE:
        return defaults.restart_policy(task.spec.restart_policy).condition == "any"
    return task.status.state.is_terminal and task.status.state is not TaskState.SHUTDOWN
