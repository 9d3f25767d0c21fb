"""The restart supervisor: what follows when a task ended, or lost its node, while it is wanted.

A restart is a new task in the same slot, or on the same node where the service has one on each (a node that takes no
tasks gets one later, from the orchestrator). It is made at once with desired READY, so that it is placed, pulled and
created while the delay runs, and becomes RUNNING (for jobs COMPLETE) when the delay is over and its predecessor has
stopped (or its node is gone, or it refused to for a minute).

All of it follows from the stored tasks: when a replacement was made, what it replaces, how many came before it. A
manager that takes over in the middle of a delay goes on with the rest of it, and no attempt is forgotten as long as
the reaper keeps a slot's last tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

from gitops.objects import base, defaults
from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import modes, restart
from gitops.swarm.scheduling.board import Board, Glance, Ids, Time
from gitops.swarm.scheduling.tasks import (
    advance,
    by_place,
    is_runnable,
    may_hold_container,
    new_task,
    node_of,
    place_of,
)

_INSTANT_S = 0.001
"""Seconds that aren't waited for: two clocks differ by as much."""


class RestartSupervisor:
    """Replaces dead tasks of a service and lets replacements start."""

    def __init__(self, clock: Time, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids
        self._seen: dict[str, float] = {}

    def tend(self, tx: Board, service: Service) -> float | None:
        """Do what is due for a service's tasks; returns the seconds until more may be due.

        Runs inside a transaction, and may be run again.
        """
        slots = by_place(tx.tasks_of_service(service.id))
        waits = [self._tend_slot(tx, service, tasks) for tasks in slots.values()]
        return min((wait for wait in waits if wait is not None), default=None)

    def forget(self, view: Glance) -> None:
        """Let go of what is remembered of tasks that are over."""
        waiting = {task_id for task_id in self._seen if _is_waiting(view.get(Task, task_id))}
        self._seen = {task_id: since for task_id, since in self._seen.items() if task_id in waiting}

    def _tend_slot(self, tx: Board, service: Service, tasks: Sequence[Task]) -> float | None:
        wait: float | None = None
        for task in tasks:
            if not is_runnable(task):
                continue
            is_dead = restart.is_dead(task, node_of(tx, task))
            if not is_dead and task.desired_state is not TaskState.READY:
                continue
            # A second failure while the delay runs waits for its end: no tight loop when an image is missing.
            left = self._time_left(tx, task, tasks) if task.desired_state is TaskState.READY else 0.0
            if left > _INSTANT_S:
                wait = left if wait is None else min(wait, left)
            elif is_dead:
                self._replace(tx, service, task, tasks)
            else:
                advance(tx, task, modes.goal(service.spec.mode))
        return wait

    def _replace(self, tx: Board, service: Service, task: Task, tasks: Sequence[Task]) -> None:
        advance(tx, task, TaskState.SHUTDOWN)
        if should_restart(task, tasks) and _has_place(tx, task):
            task_id = self._ids()
            tx.create(new_task(service, place_of(task), task_id, TaskState.READY, self._clock.now_ns()))

    def _time_left(self, view: Glance, task: Task, tasks: Sequence[Task]) -> float:
        """Seconds until a READY task may be RUNNING."""
        age = self._age(task)
        left = delay_s(view, task, predecessor(task, tasks)) - age
        others = (other for other in tasks if other.id != task.id and not is_runnable(other))
        if any(may_hold_container(view, other) for other in others):
            left = max(left, defaults.TASK_TIMEOUT_S - age)
        return left

    def _age(self, task: Task) -> float:
        """Seconds since the task was made.

        The wall clock counts over a change of managers; the monotonic one sees to it that a wall clock that is set
        back doesn't stretch a delay.
        """
        now = self._clock.monotonic()
        since = self._seen.setdefault(task.id, now)
        return max(now - since, (self._clock.now_ns() - base.parse_time(task.created_at)) / base.SECOND)


def should_restart(task: Task, tasks: Sequence[Task]) -> bool:
    """Whether the policy gives a task that is over a successor; `tasks` are all of its slot."""
    return restart.should_restart(task, restart.rebuild(tasks))


def _has_place(view: Glance, task: Task) -> bool:
    """Whether a successor can be made now; one for a node that takes no tasks would only wait there."""
    node = node_of(view, task)
    return not task.is_by_node or (node is not None and modes.takes_tasks(node))


def predecessor(task: Task, tasks: Sequence[Task]) -> Task | None:
    """The task that was made before `task` in its slot."""
    before: Task | None = None
    for other in tasks:
        if other.id == task.id:
            return before
        before = other
    return before


def delay_s(view: Glance, task: Task, before: Task | None) -> float:
    """Seconds that a READY task waits after it was made, by what it replaces.

    A task that failed is replaced after the delay of the policy. One that is drained, scaled away or updated stopped
    on order: there is nothing to wait for but its end.
    """
    if before is None or before.desired_state is TaskState.REMOVE:
        return 0.0
    node = node_of(view, before)
    if node is not None and node.spec.availability == "drain":
        return 0.0
    if before.spec_version != task.spec_version and not _ended_before(before, task):
        return 0.0
    return restart.delay_ns(task, None) / base.SECOND


def _ended_before(before: Task, task: Task) -> bool:
    """Whether `before` was over when `task` was made, so that `task` is no update of it but its restart."""
    ended = base.parse_time(before.status.applied_at or before.status.timestamp)
    return before.status.state.is_terminal and ended <= base.parse_time(task.created_at)


def _is_waiting(task: Task | None) -> bool:
    return task is not None and task.desired_state is TaskState.READY
