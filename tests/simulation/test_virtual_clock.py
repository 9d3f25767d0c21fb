"""Time passes only when told to, in order, and everything that can happen happens before it passes on."""

from __future__ import annotations

import asyncio

import pytest

from gitops.simulation.clock import VirtualClock


async def test_sleepers_wake_in_the_order_of_their_deadlines_at_their_own_time() -> None:
    clock = VirtualClock()
    start, woken = clock.monotonic(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic() - start))

    async with asyncio.TaskGroup() as group:
        for seconds in (3.0, 1.0, 2.0):
            group.create_task(sleeper(seconds))
        await clock.advance(10)
    assert woken == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]
    assert clock.monotonic() - start == 10


async def test_a_task_that_sleeps_again_wakes_within_the_same_advance() -> None:
    clock, ticks = VirtualClock(), 0

    async def ticker() -> None:
        nonlocal ticks
        while True:
            await clock.sleep(1)
            ticks += 1

    task = asyncio.ensure_future(ticker())
    await clock.advance(3600)
    assert ticks == 3600
    task.cancel()
    await asyncio.wait({task})


async def test_settle_lets_long_chains_of_wakeups_end() -> None:
    clock, events = VirtualClock(), [asyncio.Event() for _ in range(100)]

    async def pass_on(index: int) -> None:
        await events[index].wait()
        if index + 1 < len(events):
            events[index + 1].set()

    async with asyncio.TaskGroup() as group:
        for index in range(len(events)):
            group.create_task(pass_on(index))
        events[0].set()
        await clock.settle()
        assert all(event.is_set() for event in events)


async def test_a_cancelled_sleeper_holds_nothing_up() -> None:
    clock = VirtualClock()
    task = asyncio.ensure_future(clock.sleep(5))
    await clock.settle()
    task.cancel()
    with pytest.raises(TimeoutError, match="does not hold"):
        await clock.until(lambda: False, limit_s=10)
    assert task.cancelled()


async def test_until_stops_at_the_moment_when_the_condition_holds() -> None:
    clock = VirtualClock()
    start, done = clock.monotonic(), asyncio.Event()

    async def finish() -> None:
        await clock.sleep(42)
        done.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(finish())
        await clock.until(done.is_set)
        assert clock.monotonic() - start == 42


async def test_a_livelock_is_an_error_and_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitops.simulation.clock.MAX_TURNS", 50)
    clock = VirtualClock()

    async def busy() -> None:
        while True:
            await clock.sleep(0)

    task = asyncio.ensure_future(busy())
    with pytest.raises(RuntimeError, match="busy"):
        await clock.settle()
    task.cancel()
    await asyncio.wait({task})
