"""Writes what nodes report of their tasks: many reports in one transaction, forward only.

A report is answered when it is stored, so that a node that got no answer sends it again. The writer alone decides
what is forward: it reads the task in the transaction, and a state that is behind the stored one changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from gitops import errors
from gitops.objects import base
from gitops.objects.assignment import TaskStatusReport
from gitops.objects.task import Task, TaskStatus
from gitops.swarm.clock import Clock
from gitops.swarm.store.protocol import Store, Tx
from gitops.swarm.waiting import within

log = logging.getLogger(__name__)

QUIET_S = 0.02
"""Seconds without a report after which those that wait are written …"""
BATCH_S = 0.1
"""… and the longest that one waits."""
BATCH_REPORTS = 10_000


@dataclass(slots=True)
class _Waiting:
    node_id: str
    reports: Sequence[TaskStatusReport]
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class StatusWriter:
    """The one writer of observed states that nodes report."""

    def __init__(self, store: Store, clock: Clock, rng: random.Random, manager_id: str) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._manager_id = manager_id
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()

    async def write(self, node_id: str, reports: Sequence[TaskStatusReport]) -> None:
        """Store `reports` of a node; returns when they are stored.

        Raises:
            errors.Denied: one is of another node's task; none is stored.
            errors.Unavailable: the store can't write, or the manager stops: report again.
        """
        view = self._store.view()
        for report in reports:
            task = view.get(Task, report.task_id)
            if task is not None and task.node_id != node_id:
                raise errors.Denied(f"node {node_id} may not report on task {task.id}: it is another node's")
        entry = _Waiting(node_id, reports)
        self._waiting.append(entry)
        self._arrived.set()
        await entry.done

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            while True:
                await self._arrived.wait()
                await self._gather()
                await self._flush()
        finally:
            self._fail(self._take(), errors.Unavailable("the manager stops; report to the next one"))

    async def _gather(self) -> None:
        ends = self._clock.monotonic() + BATCH_S
        while (left := ends - self._clock.monotonic()) > 0:
            if sum(len(entry.reports) for entry in self._waiting) >= BATCH_REPORTS:
                return
            self._arrived.clear()
            if not await within(self._clock, min(QUIET_S, left), self._arrived.wait()):
                return

    def _take(self) -> list[_Waiting]:
        entries, self._waiting = self._waiting, []
        self._arrived.clear()
        return entries

    async def _flush(self) -> None:
        entries = self._take()
        try:
            await self._store.update(lambda tx: self._apply(tx, entries))
        except errors.GitopsError as error:
            log.warning("the reports of %d nodes could not be stored: %s", len(entries), error)
            self._fail(entries, errors.Unavailable(f"the status of tasks could not be stored: {error}"))
            return
        except BaseException:
            self._fail(entries, errors.Unavailable("the manager stops; report to the next one"))
            raise
        for entry in entries:
            if not entry.done.done():
                entry.done.set_result(None)

    def _apply(self, tx: Tx, entries: Sequence[_Waiting]) -> None:
        applied_at = base.format_time(self._clock.now_ns())
        for entry in entries:
            for report in entry.reports:
                task = tx.get(Task, report.task_id)
                if task is None or task.node_id != entry.node_id:
                    continue
                if is_forward(task.status, report.status):
                    status = replace(report.status, applied_by=self._manager_id, applied_at=applied_at)
                    tx.update(replace(task, status=status))

    @staticmethod
    def _fail(entries: Sequence[_Waiting], error: Exception) -> None:
        for entry in entries:
            if not entry.done.done():
                entry.done.set_exception(error)


def is_forward(stored: TaskStatus, reported: TaskStatus) -> bool:
    """Whether a report is news: a later state, or other facts of the same one."""
    if reported.state is not stored.state:
        return reported.state.rank > stored.state.rank
    return replace(reported, applied_by="", applied_at="") != replace(stored, applied_by="", applied_at="")
