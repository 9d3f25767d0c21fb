"""A node's agent: keeps a session with a manager and has the worker do what comes over it.

The agent runs for as long as the node is in a swarm, with or without a manager in reach: tasks don't need one.
Cancelling it leaves every task running; the next agent on the same database adopts them.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from gitops import errors
from gitops.objects.assignment import Assignments
from gitops.objects.node import NodeDescription
from gitops.swarm.agent.database import TaskDatabase
from gitops.swarm.agent.executor import Executor
from gitops.swarm.agent.reporter import Reporter
from gitops.swarm.agent.session import Connect, Session
from gitops.swarm.agent.worker import Worker
from gitops.swarm.clock import Clock
from gitops.swarm.waiting import backoff, race, within

log = logging.getLogger(__name__)

BACKOFF_S = 0.1
BACKOFF_MAX_S = 8.0
CONNECT_S = 5.0
"""Seconds that a registration may take."""
DESCRIBE_S = 20.0
"""Seconds between two looks at what the node has."""


class Agent:
    """Runs what a manager assigns to this node."""

    def __init__(self, connect: Connect, executor: Executor, database: Path, clock: Clock, rng: random.Random) -> None:
        """`connect` registers the node; `database` is the file that the node's tasks are remembered in."""
        self._connect = connect
        self._executor = executor
        self._path = database
        self._clock = clock
        self._rng = rng
        self._failures = 0

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            errors.RuntimeFailure: the task database can't be opened.
        """
        database = TaskDatabase(self._path)
        try:
            reporter = Reporter()
            worker = Worker(self._executor, database, reporter, self._clock, self._rng)
            async with asyncio.TaskGroup() as group:
                group.create_task(worker.run(), name="agent-worker")
                group.create_task(self._keep_session(worker, reporter), name="agent-session")
        finally:
            database.close()

    async def _keep_session(self, worker: Worker, reporter: Reporter) -> None:
        while True:
            try:
                await self._serve(worker, reporter)
            except Exception as error:
                # Whatever ended the session, the tasks are here and a manager is to be found.
                self._failures += 1
                wait = backoff(self._failures, self._rng, first_s=BACKOFF_S, max_s=BACKOFF_MAX_S)
                self._log(error, wait)
                await self._clock.sleep(wait)

    def _log(self, error: Exception, wait: float) -> None:
        expected = isinstance(error, errors.GitopsError)
        # A first attempt in vain is everyday life: managers and agents start side by side.
        level = logging.ERROR if not expected else logging.INFO if self._failures > 1 else logging.DEBUG
        text = "no session with a manager, next attempt in %.1f s: %s"
        log.log(level, text, wait, error, exc_info=not expected)

    async def _serve(self, worker: Worker, reporter: Reporter) -> None:
        """One session, to its end; returns when the node's description changed."""
        description = await self._executor.describe()
        worker.describe(description)
        session = await self._register(description)
        await race(
            self._beat(session),
            self._take_assignments(session, worker, reporter),
            self._watch_description(description),
        )
        log.info("the node's description changed: registering again")

    async def _register(self, description: NodeDescription) -> Session:
        sessions: list[Session] = []

        async def connect() -> None:
            sessions.append(await self._connect(description))

        if not await within(self._clock, CONNECT_S, connect()):
            raise errors.Unavailable(f"no manager took the registration within {CONNECT_S:.0f} s")
        return sessions[0]

    async def _beat(self, session: Session) -> None:
        while True:
            await self._clock.sleep(await session.heartbeat())

    async def _take_assignments(self, session: Session, worker: Worker, reporter: Reporter) -> None:
        stream = session.assignments()
        try:
            first = await anext(stream)
            if not first.is_complete:
                raise errors.Unavailable("the manager's first assignments are not complete")
            await worker.apply(first)
            self._failures = 0
            # From here on the manager's view of this node is known, and what it missed of its tasks can be said.
            worker.report_all()
            await race(reporter.run(session), self._follow(stream, first.sequence, worker))
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()

    async def _follow(self, stream: AsyncIterator[Assignments], sequence: int, worker: Worker) -> None:
        async for message in stream:
            sequence += 1
            if message.sequence != sequence:
                raise errors.Unavailable(f"assignments {sequence} of the manager were lost, got {message.sequence}")
            await worker.apply(message)
        raise errors.Unavailable("the manager ended the assignments")

    async def _watch_description(self, known: NodeDescription) -> None:
        while True:
            await self._clock.sleep(DESCRIBE_S)
            if await self._executor.describe() != known:
                return
