"""Waiting on the injected clock: with a limit, or for the first of several. What is started here also ends here."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Coroutine
from typing import Any

from gitops.swarm.clock import Clock


async def within(clock: Clock, seconds: float | None, work: Awaitable[object]) -> bool:
    """Wait for `work`, `seconds` at most (None: for ever); False when time ran out and `work` was cancelled."""
    task = asyncio.ensure_future(work)
    try:
        await until_done(clock, seconds, task)
        if not task.done():
            return False
        task.result()
        return True
    finally:
        await discard(task)


async def until_done(clock: Clock, seconds: float | None, task: asyncio.Future[Any]) -> None:
    """Wait until `task` is done or `seconds` passed (None: for ever); `task` goes on."""
    if task.done():
        return
    if seconds is None:
        await asyncio.wait({task})
        return
    sleeper = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({task, sleeper}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await discard(sleeper)


async def race(*work: Coroutine[Any, Any, object]) -> None:
    """Run `work` together until the first ends, cancel the others, and raise what the first raised."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # In the order given, so that a replay raises the same one when several ended in one turn.
        next(task for task in tasks if task in done).result()
    finally:
        await discard(*tasks)


async def discard(*tasks: asyncio.Future[Any]) -> None:
    """Cancel `tasks` and wait for their end; their outcome is of no interest."""
    for task in tasks:
        task.cancel()
    # Not `await task`: there the task's cancellation and that of the caller could not be told apart.
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


def backoff(failures: int, rng: random.Random, *, first_s: float, max_s: float) -> float:
    """Seconds to wait after so many failures in a row: doubling, with up to half of it added at random."""
    delay = min(max_s, first_s * 2.0 ** min(max(0, failures - 1), 32))
    return delay * (1 + rng.random() / 2)
