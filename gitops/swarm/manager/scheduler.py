"""The scheduler: gives waiting tasks a node, or says why none takes them.

A pass looks at one snapshot, has `scheduling.placement` decide, and writes all decisions in one transaction. There
each is looked at again: a decision is dropped, and made anew in the next pass, when the task moved or the node is not
what it was decided on. Tasks for which no node is found keep waiting and say so in `Status.Err`.

A waiting task that is not wanted any more is not placed; it is said to be SHUTDOWN, so that nobody waits for it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from msgspec.structs import replace

from gitops.objects import base
from gitops.objects.node import Node
from gitops.objects.task import Task, TaskState
from gitops.swarm.clock import Clock
from gitops.swarm.manager.loop import StoreLoop
from gitops.swarm.scheduling.failures import WINDOW_NS, FailureLog
from gitops.swarm.scheduling.nodes import ClusterState
from gitops.swarm.scheduling.placement import Outcome, place
from gitops.swarm.scheduling.tasks import is_runnable, is_waiting
from gitops.swarm.store.protocol import Change, Store, Tx, View


class Scheduler(StoreLoop):
    """Places tasks."""

    quiet_s = 0.05
    max_s = 1.0

    def __init__(self, store: Store, clock: Clock, rng: random.Random) -> None:
        super().__init__(store, clock, rng)
        self._failed = FailureLog()
        self._is_touched = True

    def resync(self, view: View) -> None:
        """Look at all tasks; failures that a former manager saw count from the history."""
        since = self.clock.now_ns() - WINDOW_NS
        for task in sorted(view.all(Task), key=_ended_ns):
            if _ended_ns(task) > since:
                self._failed.record(task, _ended_ns(task))
        self._is_touched = True

    def notice(self, change: Change) -> None:
        """A task that waits, one that makes room, and a node that changed are reasons to look."""
        item = change.object
        if isinstance(item, Task):
            self._failed.record(item, self.clock.now_ns())
            self._is_touched = True
        elif isinstance(item, Node):
            self._is_touched = True

    async def act(self) -> None:
        """Place what waits."""
        if not self._is_touched:
            return
        view = self.store.view()
        waiting = [task for task in view.all(Task) if is_waiting(task)]
        if waiting:
            wanted = [task for task in waiting if task.status.state is TaskState.PENDING and is_runnable(task)]
            outcome = place(self._state(view), wanted)
            await self.store.update(lambda tx: self._write(tx, view, waiting, outcome))
        self._is_touched = False

    def _state(self, view: View) -> ClusterState:
        return ClusterState.build(view.all(Node), view.all(Task), self._failed.counts(self.clock.now_ns()))

    def _write(self, tx: Tx, seen: View, waiting: Iterable[Task], outcome: Outcome) -> None:
        for task in waiting:
            stored = tx.get(Task, task.id)
            if stored is None or not is_waiting(stored):
                continue
            if not is_runnable(stored):
                self._set(tx, stored, TaskState.SHUTDOWN, "shut down before it was scheduled")
            elif (node_id := outcome.assignments.get(task.id)) is not None:
                if is_still_true(seen, tx, node_id):
                    placed = replace(stored, node_id=node_id)
                    self._set(tx, placed, TaskState.ASSIGNED, "scheduler assigned task to node")
            elif (reason := outcome.reasons.get(task.id)) is not None and reason != stored.status.err:
                self._set(tx, stored, TaskState.PENDING, "pending task scheduling", reason)

    def _set(self, tx: Tx, task: Task, state: TaskState, message: str, err: str = "") -> None:
        now = base.format_time(self.clock.now_ns())
        tx.update(replace(task, status=replace(task.status, timestamp=now, state=state, message=message, err=err)))


def is_still_true(seen: View, now: View, node_id: str) -> bool:
    """Whether a node is what it was when tasks were placed on it, so that the decision holds."""
    node = now.get(Node, node_id)
    return node is not None and node == seen.get(Node, node_id)


def _ended_ns(task: Task) -> int:
    return base.parse_time(task.status.applied_at or task.status.timestamp)
