"""Where a service stands on its way to what was declared. Pure: objects in, a verdict out.

A service has converged when as many tasks of its present spec run as it wants, on nodes that are not down, no task of
a former spec is left that should go, and its update, where there was one, has ended well. A paused update and a
rollback are failures, whatever the number of tasks.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gitops.objects.node import Node
from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState

MAX_FAILURES = 5
"""Attempts that may fail in one slot before a service that isn't there yet is called failed."""

_FAILED_UPDATES = {"paused", "rollback_started", "rollback_paused", "rollback_completed"}
_BAD = {TaskState.FAILED, TaskState.REJECTED}


class Verdict(enum.StrEnum):
    """What to do next: wait, be glad, or report."""

    WAITING = "waiting"
    CONVERGED = "converged"
    FAILED = "failed"
    UNSCHEDULABLE = "unschedulable"


@dataclass(frozen=True, slots=True)
class Progress:
    """A service's state at a moment; `states` counts its live tasks, `reason` says what blocks or broke."""

    name: str
    verdict: Verdict
    running: int
    desired: int
    states: Mapping[str, int]
    update: str
    reason: str

    @property
    def summary(self) -> str:
        """`3/5 running, 2 preparing`, with what blocks."""
        others = ", ".join(f"{count} {state}" for state, count in self.states.items() if state != "running")
        text = f"{self.running}/{self.desired} running" + (f", {others}" if others else "")
        return f"{text}: {self.reason}" if self.reason and self.verdict is not Verdict.CONVERGED else text


def evaluate(service: Service, current: Sequence[Task], former: Sequence[Task], nodes: Mapping[str, Node]) -> Progress:
    """Judge a service by its tasks: `current` are those of its present spec, `former` all others. History included."""
    desired = replicas(service)
    live = [task for task in current if task.desired_state.rank <= TaskState.RUNNING.rank]
    running = sum(_is_running(task, nodes) for task in live)
    stale = sum(
        task.desired_state.rank <= TaskState.RUNNING.rank and not task.status.state.is_terminal for task in former
    )
    update = service.update_status.state if service.update_status else ""
    states = Counter(str(task.status.state) for task in live)
    verdict, reason = _judge(service, current, live, running, desired, stale, update)
    return Progress(service.spec.name, verdict, running, desired, dict(sorted(states.items())), update, reason)


def replicas(service: Service) -> int:
    """How many tasks a replicated service wants."""
    replicated = service.spec.mode.replicated
    return 1 if replicated is None or replicated.replicas is None else replicated.replicas


def _judge(
    service: Service,
    current: Sequence[Task],
    live: Sequence[Task],
    running: int,
    desired: int,
    stale: int,
    update: str,
) -> tuple[Verdict, str]:
    if update in _FAILED_UPDATES:
        message = service.update_status.message if service.update_status else ""
        cause = _last_error(current)
        return Verdict.FAILED, f"{update.replace('_', ' ')}: {message}" + (f" ({cause})" if cause else "")
    surplus = len(live) > desired
    if running == desired and not stale and not surplus and update in ("", "completed"):
        return Verdict.CONVERGED, ""
    blocked = [
        task for task in live if task.status.state is TaskState.PENDING and "no suitable node" in task.status.err
    ]
    if blocked:
        return Verdict.UNSCHEDULABLE, blocked[0].status.err
    failures = Counter(task.slot for task in current if task.status.state in _BAD)
    if running < desired and failures and max(failures.values()) >= MAX_FAILURES:
        slot, count = failures.most_common(1)[0]
        return Verdict.FAILED, f"slot {slot} failed {count} times: {_last_error(current)}"
    if (
        running < desired
        and not live
        and not stale
        and current
        and all(task.status.state.is_terminal for task in current)
    ):
        return Verdict.FAILED, f"no task is left and none is started again: {_last_error(current) or 'all have ended'}"
    return Verdict.WAITING, _last_error(current) or _slowest(live)


def _is_running(task: Task, nodes: Mapping[str, Node]) -> bool:
    node = nodes.get(task.node_id)
    is_up = node is None or node.status.state != "down"
    return task.status.state is TaskState.RUNNING and task.desired_state is TaskState.RUNNING and is_up


def _last_error(tasks: Sequence[Task]) -> str:
    failed = [task for task in tasks if task.status.err and task.status.state is not TaskState.RUNNING]
    return max(failed, key=lambda task: task.status.timestamp).status.err if failed else ""


def _slowest(live: Sequence[Task]) -> str:
    waiting = [task for task in live if task.status.state is not TaskState.RUNNING]
    if not waiting:
        return ""
    task = min(waiting, key=lambda task: task.status.state.rank)
    return f"slot {task.slot} is {task.status.state}" + (f" ({task.status.message})" if task.status.message else "")
