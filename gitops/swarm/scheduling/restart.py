"""Whether and when a slot gets a new task after its last one stopped.

A restart is a new task in the same slot, never the old one again. Attempts are counted by slot (for global services
by node) and start anew with each spec version. The manager's time of a status is preferred to the node's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gitops.objects import base, defaults
from gitops.objects.node import Node
from gitops.objects.service import RestartPolicy
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import modes

_KEPT = 1000
"""Restarts whose times are kept: more than any policy's attempts that make sense."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """The restarts of one slot at one spec version."""

    spec_version: int = 0
    total: int = 0
    times_ns: tuple[int, ...] = ()
    """When they were made, the oldest first; kept only where the policy has a window."""


def policy_of(task: Task) -> RestartPolicy:
    """The task's restart policy with its defaults."""
    return defaults.restart_policy(task.spec.restart_policy)


def is_dead(task: Task, node: Node | None) -> bool:
    """Whether a task that is meant to run needs a replacement; `node` is its node, where it has one.

    A job's task that is complete has done what it was meant to.
    """
    if task.desired_state.rank > TaskState.COMPLETE.rank or is_done(task):
        return False
    return task.status.state.is_terminal or (bool(task.node_id) and modes.is_lost(node))


def is_done(task: Task) -> bool:
    """Whether a job's task completed, so that nothing is left to be done in its slot."""
    return task.desired_state is TaskState.COMPLETE and task.status.state is TaskState.COMPLETE


def should_restart(task: Task, attempts: Attempts | None) -> bool:
    """Whether the policy of a stopped task lets its slot have another one.

    A task that was stopped because its node went away is no matter of this policy's condition: it did not end.
    """
    policy = policy_of(task)
    if policy.condition == "none":
        return False
    if policy.condition == "on-failure" and task.status.state is TaskState.COMPLETE:
        return False
    limit = policy.max_attempts or 0
    if limit == 0 or attempts is None or attempts.spec_version != task.spec_version.index:
        return True
    if not policy.window:
        return attempts.total < limit
    ended = _time_of(task)
    return sum(ended - policy.window < time < ended for time in attempts.times_ns) < limit


def record(attempts: Attempts | None, replacement: Task, now_ns: int) -> Attempts:
    """Count a restart that made `replacement`."""
    version = replacement.spec_version.index
    if attempts is None or attempts.spec_version != version:
        attempts = Attempts(version)
    times = (*attempts.times_ns[-_KEPT:], now_ns) if policy_of(replacement).window else ()
    return Attempts(version, attempts.total + 1, times)


def rebuild(tasks: Iterable[Task]) -> Attempts | None:
    """The attempts of a slot as its stored tasks tell them: all of the newest spec version but the first."""
    history = sorted(tasks, key=lambda task: (task.created_at, task.id))
    if not history:
        return None
    newest = max(task.spec_version.index for task in history)
    attempts: Attempts | None = None
    for task in [task for task in history if task.spec_version.index == newest][1:]:
        attempts = record(attempts, task, base.parse_time(task.created_at))
    return attempts


def delay_ns(task: Task, node: Node | None) -> int:
    """Nanoseconds from a task's end to the start of its replacement: none where its node is being drained."""
    if node is not None and node.spec.availability == "drain":
        return 0
    return policy_of(task).delay or 0


def retention(limit: int, policy: RestartPolicy | None) -> int:
    """How many tasks a slot keeps, the present one included; negative keeps all.

    A limit of attempts needs its history, since a new leader counts in it.
    """
    attempts = defaults.restart_policy(policy).max_attempts or 0
    return attempts + 1 if attempts > 0 else limit


def _time_of(task: Task) -> int:
    return base.parse_time(task.status.applied_at or task.status.timestamp)
