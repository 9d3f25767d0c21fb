"""Long runs: begun again when they fail, stopped in order."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest

from gitops.simulation.clock import VirtualClock
from gitops.swarm.supervision import Supervisor


class Run:
    """Fails a few times, then runs until it is stopped."""

    def __init__(self, name: str, told: list[str], failures: int = 0) -> None:
        self.name = name
        self.told = told
        self.failures = failures

    async def run(self) -> None:
        self.told.append(f"{self.name} begins")
        if self.failures:
            self.failures -= 1
            raise ValueError("no luck")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.told.append(f"{self.name} ends")


async def test_runs_start_in_order_and_stop_in_reverse() -> None:
    clock, told = VirtualClock(), list[str]()
    supervisor = Supervisor(clock, random.Random(1))
    for name in "abc":
        supervisor.start(name, Run(name, told))
    await clock.settle()
    await supervisor.stop()
    await supervisor.stop()
    assert told == ["a begins", "b begins", "c begins", "c ends", "b ends", "a ends"]


async def test_a_run_that_fails_is_logged_and_begun_again_ever_more_slowly(caplog: pytest.LogCaptureFixture) -> None:
    clock, told = VirtualClock(), list[str]()
    supervisor = Supervisor(clock, random.Random(1))
    with caplog.at_level(logging.ERROR):
        supervisor.start("loop", Run("loop", told, failures=3))
        await clock.settle()
        assert len(told) == 1
        await clock.advance(1)
        assert len(told) == 2
        await clock.advance(10)
    assert told.count("loop begins") == 4
    assert [record.getMessage().split(",")[0] for record in caplog.records] == ["loop ended"] * 3
    assert caplog.records[0].exc_info is not None
    await supervisor.stop()
    assert told[-1] == "loop ends"


async def test_a_run_that_is_done_is_left_at_that() -> None:
    class Done:
        count = 0

        async def run(self) -> None:
            self.count += 1

    clock, done = VirtualClock(), Done()
    supervisor = Supervisor(clock, random.Random(1))
    supervisor.start("done", done)
    await clock.advance(100)
    assert done.count == 1
    await supervisor.stop()
