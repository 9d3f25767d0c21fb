"""What every control loop can rely on."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from gitops import errors
from gitops.objects.secret import Config, ConfigSpec
from gitops.simulation.clock import VirtualClock
from gitops.swarm.manager.loop import RESYNC_S, StoreLoop
from gitops.swarm.store.memory import MemoryStore
from gitops.swarm.store.protocol import Change, View
from gitops.swarm.waiting import backoff, race, within


class Recorder(StoreLoop):
    """Notes what it is told and when it acts."""

    def __init__(self, store: MemoryStore, clock: VirtualClock) -> None:
        super().__init__(store, clock, random.Random(1))
        self.resyncs: list[list[str]] = []
        self.noticed: list[str] = []
        self.acted: list[float] = []
        self.errors: list[Exception] = []
        self.due: float | None = None

    def resync(self, view: View) -> None:
        self.resyncs.append([config.id for config in view.all(Config)])

    def notice(self, change: Change) -> None:
        self.noticed.append(change.object.id)

    async def act(self) -> float | None:
        self.acted.append(self.clock.monotonic())
        if self.errors:
            raise self.errors.pop(0)
        return self.due


class Bench:
    """A recorder that runs."""

    def __init__(self, **store: Any) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock, **store)
        self.loop = Recorder(self.store, self.clock)
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.task = asyncio.ensure_future(self.loop.run())
        await self.clock.settle()

    async def put(self, name: str) -> None:
        await self.store.update(lambda tx: tx.create(Config(id=name, spec=ConfigSpec(name=name))))

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task})


@pytest.fixture
async def bench() -> Any:
    made = Bench(watch_limit=5)
    yield made
    await made.close()


async def test_a_loop_begins_with_everything_and_goes_on_with_changes(bench: Any) -> None:
    await bench.put("before")
    await bench.start()
    await bench.put("after")
    await bench.clock.settle()
    assert bench.loop.resyncs == [["before"]]
    assert bench.loop.noticed == ["after"]
    assert len(bench.loop.acted) == 2


async def test_a_loop_that_fell_behind_reads_everything_again(bench: Any) -> None:
    await bench.start()
    for number in range(20):
        await bench.put(f"c{number}")
    await bench.clock.advance(2)
    assert len(bench.loop.resyncs) == 2
    assert len(bench.loop.resyncs[-1]) == 20
    await bench.put("later")
    await bench.clock.settle()
    assert bench.loop.noticed[-1] == "later"


async def test_from_time_to_time_everything_is_looked_at_anyway(bench: Any) -> None:
    await bench.start()
    await bench.clock.advance(3 * RESYNC_S)
    assert len(bench.loop.resyncs) == 4


async def test_a_loop_acts_again_when_it_said_it_had_to(bench: Any) -> None:
    bench.loop.due = 7.0
    await bench.start()
    await bench.clock.advance(22)
    assert bench.loop.acted == [0.0, 7.0, 14.0, 21.0]


async def test_an_error_is_tried_again_with_growing_waits_and_everything_touched(bench: Any, caplog: Any) -> None:
    bench.loop.errors = [errors.Unavailable("the disk is full"), ZeroDivisionError("a defect"), ValueError("another")]
    await bench.start()
    await bench.clock.advance(10)
    waits = [after - before for before, after in zip(bench.loop.acted, bench.loop.acted[1:], strict=False)]
    assert len(bench.loop.acted) == 4
    assert waits == sorted(waits)
    assert 0.5 <= waits[0] <= 0.75
    assert len(bench.loop.resyncs) == 4
    # What was expected is a line in the log; a defect has its traceback.
    assert [bool(record.exc_info) for record in caplog.records] == [False, True, True]


async def test_changes_do_not_cut_the_wait_after_an_error_short(bench: Any) -> None:
    bench.loop.errors = [errors.Unavailable("not now")]
    await bench.start()
    for number in range(3):
        await bench.put(f"c{number}")
        await bench.clock.advance(0.1)
    assert len(bench.loop.acted) == 1
    await bench.clock.advance(1)
    assert len(bench.loop.acted) == 2


async def test_a_loop_ends_with_its_store(bench: Any) -> None:
    await bench.start()
    await bench.store.close()
    await bench.clock.settle()
    assert bench.task.done()
    assert bench.task.exception() is None


async def test_commits_are_gathered_until_it_is_quiet_and_no_longer_than_the_limit(bench: Any) -> None:
    bench.loop.quiet_s, bench.loop.max_s = 0.05, 0.3
    await bench.start()
    started = bench.clock.monotonic()
    for number in range(5):
        await bench.put(f"c{number}")
        await bench.clock.advance(0.04)
    assert len(bench.loop.acted) == 1
    await bench.clock.advance(0.02)
    assert bench.loop.acted[1] - started == pytest.approx(0.21)
    for number in range(20):
        await bench.put(f"d{number}")
        await bench.clock.advance(0.04)
    assert bench.loop.acted[2] - bench.loop.acted[1] == pytest.approx(0.3, abs=0.05)


async def test_within_says_whether_the_work_was_done_and_cancels_it_otherwise() -> None:
    clock, cancelled = VirtualClock(), []

    async def work(seconds: float) -> None:
        try:
            await clock.sleep(seconds)
        except asyncio.CancelledError:
            cancelled.append(seconds)
            raise

    waiting = [asyncio.ensure_future(within(clock, 5, work(seconds))) for seconds in (1, 9)]
    await clock.advance(6)
    assert [await item for item in waiting] == [True, False]
    assert cancelled == [9]


async def test_a_caller_that_is_cancelled_ends_what_it_waits_for() -> None:
    clock, ended = VirtualClock(), []

    async def work() -> None:
        try:
            await clock.sleep(100)
        finally:
            ended.append(True)

    for waiting in (within(clock, 50, work()), race(work(), work())):
        task = asyncio.ensure_future(waiting)
        await clock.settle()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
    assert len(ended) == 3


async def test_the_first_to_end_wins_a_race_and_its_error_is_raised() -> None:
    clock = VirtualClock()

    async def fail(seconds: float) -> None:
        await clock.sleep(seconds)
        raise errors.Unavailable(f"after {seconds}")

    racing = asyncio.ensure_future(race(fail(3), fail(1), clock.sleep(2)))
    await clock.advance(2)
    with pytest.raises(errors.Unavailable, match="after 1"):
        await racing


def test_waits_double_up_to_their_limit_with_jitter() -> None:
    rng = random.Random(4)
    waits = [backoff(number, rng, first_s=0.1, max_s=8) for number in range(1, 40)]
    assert all(0.1 * 2**number <= wait <= 0.15 * 2**number for number, wait in enumerate(waits[:6]))
    assert all(8 <= wait <= 12 for wait in waits[7:])
    assert len(set(waits)) == len(waits)
