"""Failures of services on nodes, of the last five minutes: a node on which a service keeps failing is avoided.

Kept by whoever watches tasks, since the history of tasks in a store is too short to count in.
"""

from __future__ import annotations

from collections import deque

from gitops.objects import base
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling.nodes import FailureKey

WINDOW_NS = 5 * 60 * base.SECOND
THRESHOLD = 5
"""Failures from which on a node is held to be a bad place for the service."""
_KEPT = 64


class FailureLog:
    """When tasks failed or were rejected, by node, service and spec version."""

    def __init__(self) -> None:
        self._times: dict[FailureKey, deque[int]] = {}
        self._seen: dict[str, int] = {}

    def record(self, task: Task, now_ns: int) -> None:
        """Note a task that failed on its node; others, and one that was noted before, change nothing."""
        if not is_failure(task) or task.id in self._seen:
            return
        self._seen[task.id] = now_ns
        key = (task.node_id, task.service_id, task.spec_version.index)
        self._times.setdefault(key, deque(maxlen=_KEPT)).append(now_ns)

    def counts(self, now_ns: int) -> dict[FailureKey, int]:
        """Failures within the window; older ones are forgotten."""
        start = now_ns - WINDOW_NS
        self._seen = {task_id: seen for task_id, seen in self._seen.items() if seen > start}
        for key, times in list(self._times.items()):
            while times and times[0] <= start:
                times.popleft()
            if not times:
                del self._times[key]
        return {key: len(times) for key, times in self._times.items()}


def is_failure(task: Task) -> bool:
    """Whether the task failed or was rejected on a node."""
    return bool(task.node_id) and task.status.state in (TaskState.FAILED, TaskState.REJECTED)
