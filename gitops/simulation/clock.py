"""A clock that moves only when told to, and an event loop that is run until nothing is left to do at that moment.

`VirtualClock` implements `gitops.swarm.clock.Clock`. A test or a simulation calls `advance` (or `until`); the clock
goes from one sleeper to the next in the order of their deadlines, and between two of them lets every task run until
all of them wait for time, or for something that only time can bring. Hours pass in milliseconds, and always alike.

It knows only what happens on the event loop: a thread or a socket that is still busy isn't waited for.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from typing import Any, cast

SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND
MAX_TURNS = 200_000
"""Turns of the event loop without any passing of time, after which tasks are held to wake each other for ever."""


class VirtualClock:
    """Time as a test wants it."""

    def __init__(self, start_ns: int = START_NS) -> None:
        self._start_ns = start_ns
        self._now_ns = start_ns
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return self._now_ns

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return (self._now_ns - self._start_ns) / SECOND

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was moved on by `seconds`; at least one turn of the event loop."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        deadline = self._now_ns + max(1, round(seconds * SECOND))
        heapq.heappush(self._sleepers, (deadline, self._count, future))
        await future

    async def settle(self) -> None:
        """Let every task run until all of them wait.

        Raises:
            RuntimeError: they never do.
        """
        # The only sign of an idle loop is its queue of ready callbacks, which asyncio keeps to itself. While this
        # coroutine runs its own callback is not in it, so that an empty queue means that all others wait.
        ready = cast("deque[Any]", cast(Any, asyncio.get_running_loop())._ready)
        for _ in range(MAX_TURNS):
            await asyncio.sleep(0)
            if not ready:
                return
        raise RuntimeError(f"tasks kept each other busy for {MAX_TURNS} turns without waiting for time")

    async def advance(self, seconds: float) -> None:
        """Move on by `seconds`, waking each sleeper at its own time."""
        target = self._now_ns + round(seconds * SECOND)
        await self.settle()
        while (deadline := self._next_deadline()) is not None and deadline <= target:
            await self._step(deadline)
        self._now_ns = target
        await self.settle()

    async def until(self, condition: Callable[[], bool], limit_s: float = 3600.0) -> None:
        """Move on until `condition` holds.

        Raises:
            TimeoutError: it doesn't within `limit_s`.
        """
        target = self._now_ns + round(limit_s * SECOND)
        await self.settle()
        while not condition():
            deadline = self._next_deadline()
            if deadline is None or deadline > target:
                raise TimeoutError(f"the condition does not hold after {limit_s} s of virtual time")
            await self._step(deadline)

    async def _step(self, deadline: int) -> None:
        self._now_ns = max(self._now_ns, deadline)
        _, _, future = heapq.heappop(self._sleepers)
        if not future.done():
            future.set_result(None)
        await self.settle()

    def _next_deadline(self) -> int | None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None
