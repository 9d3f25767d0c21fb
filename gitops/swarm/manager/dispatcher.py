"""The managers' side of every node: sessions, heartbeats, assignments, reports.

A node registers and gets a `Session`; its methods are what goes over a wire later, and their messages are the structs
of `objects.assignment`. The dispatcher writes what it alone knows of nodes: their description, READY and DOWN, the
states of tasks that they report, and ORPHANED for tasks of which nobody will report again. What a node should hold is
computed by `assignments`; endpoints are the projection's.

One registration a node counts: a second one ends the first. A session that ended answers with `InvalidSession`, upon
which the node registers again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence

from msgspec.structs import replace

from gitops import errors
from gitops.objects import base
from gitops.objects.assignment import Assignments, TaskStatusReport
from gitops.objects.node import Cluster, Node, NodeDescription, NodeStatus
from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.clock import Clock, IdSource
from gitops.swarm.manager import assignments
from gitops.swarm.manager.liveness import GRACE, RATE_S, TAKEOVER_GRACE, Liveness, Verdict
from gitops.swarm.manager.loop import StoreLoop
from gitops.swarm.manager.statuses import StatusWriter
from gitops.swarm.store.protocol import Change, Store, Tx, View
from gitops.swarm.waiting import within

log = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
"""Where no cluster object says otherwise."""
HEARTBEAT_JITTER_S = 0.5
STALL_S = 1.0
"""Seconds by which this process may be late before it doubts what it heard."""
QUIET_S = 0.02
"""Seconds without a change after which an assignment message is made …"""
BATCH_S = 0.1
"""… the longest that a change waits for it …"""
BATCH_CHANGES = 100
"""… and the number of changes that don't wait."""


class InvalidSession(errors.Unavailable):
    """The session ended: by silence, by a newer registration, or with its manager. Register again."""


class Session:
    """A node's registration with this manager."""

    def __init__(self, dispatcher: Dispatcher, session_id: str, node_id: str) -> None:
        self.id = session_id
        self.node_id = node_id
        self._dispatcher = dispatcher
        self._changes = 0
        self._touched = asyncio.Event()
        self._ended = ""

    async def heartbeat(self) -> float:
        """Say that the node is alive; returns the seconds until the next heartbeat is wanted.

        Raises:
            InvalidSession: the session ended.
        """
        self.check()
        return self._dispatcher.heard(self.node_id)

    async def report(self, reports: Sequence[TaskStatusReport]) -> None:
        """Report on tasks; returns when the reports are stored.

        Raises:
            InvalidSession: the session ended.
            errors.Denied: a task is another node's.
            errors.Unavailable: not stored, report again.
        """
        self.check()
        await self._dispatcher.write(self.node_id, reports)

    async def assignments(self) -> AsyncIterator[Assignments]:
        """What the node should hold: all of it first, then what changes.

        Raises:
            InvalidSession: the session ended.
        """
        held: assignments.Holdings | None = None
        sequence = 0
        while True:
            self.check()
            self._changes = 0
            self._touched.clear()
            want = self._dispatcher.wanted(self.node_id)
            message = assignments.complete(want) if held is None else assignments.difference(held, want)
            held = want
            if message is not None:
                sequence += 1
                yield replace(message, sequence=sequence)
            await self._next_change()

    def touch(self) -> None:
        """Something changed that may concern the node."""
        self._changes += 1
        self._touched.set()

    def end(self, reason: str) -> None:
        """Make the session invalid."""
        self._ended = self._ended or reason
        self._touched.set()

    def check(self) -> None:
        """Raises InvalidSession when the session ended."""
        if self._ended:
            raise InvalidSession(f"the session of node {self.node_id} is invalid: {self._ended}; register again")

    async def _next_change(self) -> None:
        await self._touched.wait()
        clock = self._dispatcher.clock
        ends = clock.monotonic() + BATCH_S
        while not self._ended and self._changes < BATCH_CHANGES and (left := ends - clock.monotonic()) > 0:
            self._touched.clear()
            if not await within(clock, min(QUIET_S, left), self._touched.wait()):
                return


class Dispatcher:
    """All sessions of this manager."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        rng: random.Random,
        ids: IdSource,
        *,
        project: assignments.Project | None = None,
        manager_id: str = "",
    ) -> None:
        self.clock = clock
        self._store = store
        self._rng = rng
        self._ids = ids
        self._project = project or _projection()
        self._sessions: dict[str, Session] = {}
        self._liveness = Liveness()
        self._expectations = asyncio.Event()
        self._statuses = StatusWriter(store, clock, rng, manager_id)
        self._is_running = False

    async def run(self) -> None:
        """Serve sessions until cancelled; then all of them are invalid."""
        await self._take_over()
        self._is_running = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_Touching(self._store, self.clock, self._rng, self).run(), name="dispatcher-watch")
                group.create_task(self._statuses.run(), name="dispatcher-statuses")
                group.create_task(self._judge(), name="dispatcher-liveness")
        finally:
            self._is_running = False
            for session in self._sessions.values():
                session.end("its manager stopped")
            self._sessions.clear()

    async def session(self, node_id: str, description: NodeDescription, addr: str) -> Session:
        """Register a node, which is READY from then on; ends the session that it had.

        Raises:
            errors.NotFound: no such node in the swarm.
            errors.Unavailable: the dispatcher doesn't run, or the node registers too often.
        """
        if not self._is_running:
            raise errors.Unavailable("the manager serves no nodes now; register again")
        if not self._liveness.may_register(node_id, self.clock.monotonic()):
            raise errors.Unavailable(f"node {node_id} registers too often; try again in {RATE_S:.0f} s")
        await self._store.update(lambda tx: _set_ready(tx, node_id, description, addr))
        former = self._sessions.get(node_id)
        if former is not None:
            former.end("the node registered again")
        session = self._sessions[node_id] = Session(self, self._ids(), node_id)
        self.heard(node_id)
        return session

    def heard(self, node_id: str) -> float:
        """Note that the node is alive; returns the seconds until it must say so again."""
        period = self._period() + (self._rng.random() * 2 - 1) * min(HEARTBEAT_JITTER_S, self._period() / 10)
        self._liveness.expect(node_id, self.clock.monotonic() + GRACE * period)
        self._expectations.set()
        return period

    async def write(self, node_id: str, reports: Sequence[TaskStatusReport]) -> None:
        """Store a node's reports; see `StatusWriter.write`."""
        await self._statuses.write(node_id, reports)

    def wanted(self, node_id: str) -> assignments.Holdings:
        """What the node should hold at the newest snapshot."""
        return assignments.wanted(self._store.view(), node_id, self._project)

    def touch(self, node_id: str | None) -> None:
        """Wake a node's session, or all of them."""
        for session in self._sessions.values() if node_id is None else [self._sessions.get(node_id)]:
            if session is not None:
                session.touch()

    def drop(self, node_id: str) -> None:
        """The node left the swarm."""
        self._end(node_id, "the node was removed from the swarm")
        self._liveness.forget(node_id)

    def _period(self) -> float:
        clusters = self._store.view().all(Cluster)
        return clusters[0].spec.dispatcher.heartbeat_period / base.SECOND if clusters else HEARTBEAT_S

    async def _take_over(self) -> None:
        """Nobody was heard yet: nodes are unknown, and have a longer time to come."""
        nodes = await self._store.update(_set_unknown)
        now = self.clock.monotonic()
        for node in nodes:
            if node.status.state == "down":
                self._liveness.down(node.id, now)
            else:
                self._liveness.expect(node.id, now + TAKEOVER_GRACE * self._period())

    async def _judge(self) -> None:
        while True:
            due = self._liveness.next_due()
            self._expectations.clear()
            left = None if due is None else max(0.0, due - self.clock.monotonic())
            wakes_at = None if left is None else self.clock.monotonic() + left
            if left is None or left > 0:
                await within(self.clock, left, self._expectations.wait())
            now = self.clock.monotonic()
            if wakes_at is not None and now - wakes_at > STALL_S:
                # This process stood still, and the heartbeats that were sent meanwhile are not read yet.
                log.warning("the manager stood still for %.1f s: nodes get more time", now - wakes_at)
                self._liveness.postpone(now, GRACE * self._period())
            for node_id, verdict in self._liveness.overdue(now).items():
                await self._execute(node_id, verdict)

    async def _execute(self, node_id: str, verdict: Verdict) -> None:
        try:
            if verdict is Verdict.DOWN:
                await self._store.update(lambda tx: _set_down(tx, node_id))
                self._end(node_id, "its heartbeats failed")
                self._liveness.down(node_id, self.clock.monotonic())
            else:
                await self._store.update(lambda tx: _orphan(tx, node_id, base.format_time(self.clock.now_ns())))
                self._liveness.forget(node_id)
        except errors.Unavailable as error:
            log.warning("node %s could not be marked %s, next attempt in 1 s: %s", node_id, verdict.value, error)
            await self.clock.sleep(1 + self._rng.random())

    def _end(self, node_id: str, reason: str) -> None:
        session = self._sessions.pop(node_id, None)
        if session is not None:
            session.end(reason)


class _Touching(StoreLoop):
    """Wakes the sessions that a change may concern; what they say follows from the snapshot."""

    def __init__(self, store: Store, clock: Clock, rng: random.Random, dispatcher: Dispatcher) -> None:
        super().__init__(store, clock, rng)
        self._dispatcher = dispatcher

    def resync(self, view: View) -> None:
        self._dispatcher.touch(None)

    def notice(self, change: Change) -> None:
        item = change.object
        if isinstance(item, Task):
            old = change.old if isinstance(change.old, Task) else None
            if is_endpoint(item) or is_endpoint(old):
                self._dispatcher.touch(None)
            else:
                self._dispatcher.touch(item.node_id)
        elif isinstance(item, Node):
            if change.action == "delete":
                self._dispatcher.drop(item.id)
            if not isinstance(change.old, Node) or change.old.status.state != item.status.state:
                # Nothing leads to a node that is down.
                self._dispatcher.touch(None)
        elif isinstance(item, Service) or change.action != "create":
            # Of secrets, configs and networks a new one has no user yet.
            self._dispatcher.touch(None)

    async def act(self) -> None:
        return None


def is_endpoint(task: Task | None) -> bool:
    """Whether names and published ports may lead to the task, on any node."""
    return task is not None and task.status.state is TaskState.RUNNING


def _set_ready(tx: Tx, node_id: str, description: NodeDescription, addr: str) -> None:
    node = tx.get(Node, node_id)
    if node is None:
        raise errors.NotFound(f"node {node_id} is not in this swarm")
    ready = replace(node, description=description, status=NodeStatus(state="ready", addr=addr))
    if ready != node:
        tx.update(ready)


def _set_unknown(tx: Tx) -> list[Node]:
    message = 'node moved to "unknown" state due to a change of managers'
    for node in tx.all(Node):
        if node.status.state not in ("down", "unknown"):
            tx.update(replace(node, status=replace(node.status, state="unknown", message=message)))
    return tx.all(Node)


def _set_down(tx: Tx, node_id: str) -> None:
    node = tx.get(Node, node_id)
    if node is not None and node.status.state != "down":
        tx.update(replace(node, status=replace(node.status, state="down", message="heartbeat failure")))


def _orphan(tx: Tx, node_id: str, timestamp: str) -> None:
    for task in tx.tasks_of_node(node_id):
        state = task.status.state
        if TaskState.ASSIGNED.rank <= state.rank <= TaskState.RUNNING.rank:
            status = replace(
                task.status, state=TaskState.ORPHANED, message="its node is down for a day", timestamp=timestamp
            )
            tx.update(replace(task, status=status))


def _projection() -> assignments.Project:
    from gitops.swarm.manager import projection

    return projection.endpoints
