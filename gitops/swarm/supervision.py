"""Long runs that must not end: each in a task of its own, logged and begun again when it fails, stopped in order."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Protocol

from gitops import errors
from gitops.swarm.clock import Clock
from gitops.swarm.waiting import backoff, discard

log = logging.getLogger(__name__)

BACKOFF_S = 0.5
BACKOFF_MAX_S = 30.0
STEADY_S = 60.0
"""Seconds after which a run counts as healthy, so that a later failure begins with the short wait again."""


class Runs(Protocol):
    """Something that runs until it is cancelled, or has nothing more to do."""

    async def run(self) -> None:
        """Run."""
        ...


class Supervisor:
    """The owner of a list of runs."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, run: Runs) -> None:
        """Begin a run, after those that were started before."""
        self._tasks.append(asyncio.create_task(self._keep(name, run), name=name))

    async def stop(self) -> None:
        """End all runs, the last one first; calling it twice does no harm."""
        while self._tasks:
            await discard(self._tasks.pop())

    async def _keep(self, name: str, run: Runs) -> None:
        failures = 0
        while True:
            began = self._clock.monotonic()
            try:
                await run.run()
                return
            except Exception as error:
                # One run that ends takes the whole swarm's service with it: anything is worth another try.
                failures = failures + 1 if self._clock.monotonic() - began < STEADY_S else 1
                wait = backoff(failures, self._rng, first_s=BACKOFF_S, max_s=BACKOFF_MAX_S)
                said = expected(error)
                log.error("%s ended, next attempt in %.1f s: %s", name, wait, said or error, exc_info=not said)
            await self._clock.sleep(wait)


def expected(error: BaseException) -> str:
    """What an error of ours says, or a group of such errors; "" for any other, which wants its traceback."""
    if isinstance(error, BaseExceptionGroup):
        said = [expected(inner) for inner in error.exceptions]
        return "; ".join(said) if all(said) else ""
    return str(error) if isinstance(error, errors.GitopsError) else ""
