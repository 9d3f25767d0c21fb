"""Drives one task through its states by its controller: prepare, start, wait, and shut down when told to.

The observed state only moves forward, each step is recorded before the next one begins, and every step may be
repeated: a driver that starts in the middle, after a restart of the agent, goes on from the recorded state. READY is
where a task waits until it is wanted RUNNING. Cancelling a driver leaves the task as it is: containers outlive agents.

Temporary errors are tried again with growing waits and change no state. Any other error before STARTING means
REJECTED (it could not be set up), from there on FAILED.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec.structs import replace

from gitops import errors
from gitops.objects import base
from gitops.objects.task import ContainerStatus, Task, TaskState, TaskStatus
from gitops.swarm.agent.executor import Controller, TaskExited
from gitops.swarm.clock import Clock
from gitops.swarm.waiting import backoff, discard, within

log = logging.getLogger(__name__)

RETRY_S = 0.5
RETRY_MAX_S = 30.0
Record = Callable[[str, TaskStatus], None]
"""Makes a task's status durable and has it reported; doesn't raise."""


class TaskDriver:
    """One task's life on this node."""

    def __init__(
        self, task: Task, status: TaskStatus, controller: Controller, record: Record, clock: Clock, rng: random.Random
    ) -> None:
        self.task = task
        self.status = status
        self._controller = controller
        self._record = record
        self._clock = clock
        self._rng = rng
        self._failures = 0
        self._desired_changed = asyncio.Event()
        self._stop_wanted = asyncio.Event()
        self._not_before = 0.0
        self.update(task)

    def update(self, task: Task) -> None:
        """Take the task as it is assigned now; only its desired state can differ, and only go forward."""
        if task.desired_state.rank >= self.task.desired_state.rank:
            self.task = task
        self._desired_changed.set()
        if self.task.desired_state.rank >= TaskState.SHUTDOWN.rank:
            self._stop_wanted.set()

    def hold(self, seconds: float) -> None:
        """Don't stop the task within the next `seconds`: connections may still be on their way to it."""
        self._not_before = max(self._not_before, self._clock.monotonic() + seconds)

    async def run(self) -> None:
        """Drive the task until it is over; cancelling leaves it as it is."""
        while not self.status.state.is_terminal:
            try:
                if self._stop_wanted.is_set():
                    await self._stop()
                else:
                    await self._go()
            except Exception as error:
                # A task's trouble is the task's: it must not end the agent.
                await self._handle(error)

    async def retire(self) -> None:
        """Stop the task if it runs, and take away all that it left; tries until it is done."""
        self._stop_wanted.set()
        await self.run()
        await self._insist(self._controller.remove, "removed")

    async def _go(self) -> None:
        """The next step towards RUNNING and the end."""
        state = self.status.state
        if state.rank < TaskState.ACCEPTED.rank:
            self._advance(TaskState.ACCEPTED, "accepted")
        elif state is TaskState.ACCEPTED:
            self._advance(TaskState.PREPARING, "preparing")
        elif state is TaskState.PREPARING:
            if await self._interruptible(self._controller.prepare()):
                self._advance(TaskState.READY, "prepared", container=await self._container())
        elif state is TaskState.READY:
            await self._leave_ready()
        elif state is TaskState.STARTING:
            if await self._interruptible(self._controller.start()):
                await self._note_started()
        elif await self._interruptible(self._controller.wait()):
            self._advance(TaskState.COMPLETE, "finished", container=await self._container())

    async def _leave_ready(self) -> None:
        self._desired_changed.clear()
        if self.task.desired_state.rank >= TaskState.RUNNING.rank:
            self._advance(TaskState.STARTING, "starting")
        else:
            await self._desired_changed.wait()

    async def _note_started(self) -> None:
        container = await self._container()
        ports = await self._controller.port_status()
        self.status = replace(self.status, port_status=ports)
        self._advance(TaskState.RUNNING, "started", container=container)

    async def _stop(self) -> None:
        # The task may end by itself meanwhile; shutting down what ended is a controller's everyday work.
        if (left := self._not_before - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)
        await self._controller.shutdown()
        self._advance(TaskState.SHUTDOWN, "shutdown", container=await self._container())

    async def _interruptible(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work` unless the task is told to stop, then it is cancelled; whether it was done."""
        doing = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stop_wanted.wait())
        try:
            await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                return False
            doing.result()
            self._failures = 0
            return True
        finally:
            await discard(doing, stopping)

    async def _handle(self, error: Exception) -> None:
        stopping = self._stop_wanted.is_set()
        expected = isinstance(error, errors.GitopsError | TaskExited)
        if stopping or (isinstance(error, errors.GitopsError) and error.is_temporary):
            # A task that can't be stopped yet may still run: saying that it is over would let another take its place.
            self._failures += 1
            log.warning("task %s, %s: %s", self.task.id, self.status.state.value, error, exc_info=not expected)
            await self._pause_for_retry(stopping)
            return
        log.log(
            logging.INFO if expected else logging.ERROR,
            "task %s ended while %s: %s",
            self.task.id,
            self.status.state.value,
            error,
            exc_info=not expected,
        )
        await self._fail(error)

    async def _fail(self, error: Exception) -> None:
        is_set_up = self.status.state.rank >= TaskState.STARTING.rank
        if is_set_up and not isinstance(error, TaskExited):
            # It gets a successor, and must not run on beside it.
            await self._insist(self._controller.shutdown, "stopped")
        state, message = (TaskState.FAILED, "started") if is_set_up else (TaskState.REJECTED, "preparing")
        container = await self._container()
        if isinstance(error, TaskExited):
            container = replace(container or ContainerStatus(), exit_code=error.exit_code)
        self._advance(state, message, container=container, error=str(error) or type(error).__name__)

    async def _insist(self, work: Callable[[], Coroutine[Any, Any, None]], done: str) -> None:
        """Do `work` again and again until it succeeds."""
        while True:
            try:
                await work()
                return
            except Exception as error:
                self._failures += 1
                log.warning("task %s could not be %s, trying again: %s", self.task.id, done, error)
                await self._clock.sleep(self._pause())

    async def _pause_for_retry(self, stopping: bool) -> None:
        if stopping:
            await self._clock.sleep(self._pause())
        else:
            await within(self._clock, self._pause(), self._stop_wanted.wait())

    def _pause(self) -> float:
        return backoff(self._failures, self._rng, first_s=RETRY_S, max_s=RETRY_MAX_S)

    async def _container(self) -> ContainerStatus | None:
        """What is known of the container; a task's state must not hang on this."""
        try:
            return await self._controller.container_status()
        except errors.GitopsError as error:
            log.debug("the container of task %s can't be read: %s", self.task.id, error)
            return self.status.container_status

    def _advance(
        self, state: TaskState, message: str, *, container: ContainerStatus | None = None, error: str = ""
    ) -> None:
        self.status = replace(
            self.status,
            timestamp=base.format_time(self._clock.now_ns()),
            state=state,
            message=message,
            err=error,
            container_status=container or self.status.container_status,
            applied_by="",
            applied_at="",
        )
        self._record(self.task.id, self.status)


def merge(recorded: TaskStatus | None, assigned: TaskStatus) -> TaskStatus:
    """The status from which to go on: this node's record, or the manager's where that is ahead.

    The manager may hold a task for over that still runs here (rejected by a changed constraint, orphaned while the
    node was unreachable); what runs must be stopped by this node, so that its own record counts.
    """
    if recorded is None:
        return assigned
    if recorded.state.is_terminal or assigned.state.is_terminal or recorded.state.rank >= assigned.state.rank:
        return recorded
    return assigned
