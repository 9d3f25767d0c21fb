"""Carries statuses to the manager: newest per task, in batches, again until they are stored.

Statuses are put at any time, in or out of session. `run` sends them over one session and ends with it; what was not
acknowledged stays and goes over the next one.
"""

from __future__ import annotations

import asyncio
import logging

from gitops import errors
from gitops.objects.assignment import TaskStatusReport
from gitops.objects.task import TaskStatus
from gitops.swarm.agent.session import Session

log = logging.getLogger(__name__)

BATCH = 1000
"""Statuses in one message."""


class Reporter:
    """The queue of statuses, bounded by the number of tasks."""

    def __init__(self) -> None:
        self._pending: dict[str, TaskStatus] = {}
        self._arrived = asyncio.Event()

    def put(self, task_id: str, status: TaskStatus) -> None:
        """Have `status` reported; replaces an older one of the task that still waits."""
        self._pending[task_id] = status
        self._arrived.set()

    def drop(self, task_id: str) -> None:
        """The task is gone: nobody asks for its status."""
        self._pending.pop(task_id, None)

    async def run(self, session: Session) -> None:
        """Send over `session` until cancelled, or until it fails.

        Raises:
            errors.GitopsError: the session's; what was not stored is kept.
        """
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._pending:
                await self._send(session, dict(list(self._pending.items())[:BATCH]))

    async def _send(self, session: Session, batch: dict[str, TaskStatus]) -> None:
        try:
            await session.report([TaskStatusReport(task_id=key, status=status) for key, status in batch.items()])
        except errors.Denied:
            if len(batch) > 1:
                # One foreign task must not hold up the others.
                for key, status in batch.items():
                    await self._send(session, {key: status})
                return
            log.warning("the manager takes no status of task %s from this node", *batch)
        except BaseException:
            self._arrived.set()
            raise
        for key, status in batch.items():
            if self._pending.get(key) is status:
                del self._pending[key]
