"""The event bus: order, memory, listeners that don't keep up."""

from __future__ import annotations

import asyncio

import pytest

from gitops import errors
from gitops.engine import events
from gitops.objects import base


async def test_a_listener_gets_what_is_published_after_it_subscribed() -> None:
    bus = events.EventBus()
    bus.publish("image", "pull", "a")
    with bus.subscribe() as listener:
        bus.publish("image", "tag", "b", {"name": "x"})
        event = await anext(listener)
    assert (event.type, event.action, event.actor.id, event.actor.attributes) == ("image", "tag", "b", {"name": "x"})


async def test_a_waiting_listener_is_woken() -> None:
    bus = events.EventBus()
    with bus.subscribe() as listener:
        waiting = asyncio.ensure_future(anext(listener))
        await asyncio.sleep(0)
        bus.publish("network", "create", "n")
        assert (await waiting).actor.id == "n"


async def test_the_last_256_are_remembered_in_order() -> None:
    bus = events.EventBus()
    for number in range(300):
        bus.publish("container", "start", str(number))
    assert [event.actor.id for event in bus.recent()] == [str(number) for number in range(44, 300)]
    times = [event.time_ns for event in bus.recent()]
    assert times == sorted(set(times))


async def test_since_gives_the_past_and_then_the_present() -> None:
    bus = events.EventBus()
    bus.publish("container", "start", "1")
    second = bus.publish("container", "start", "2")
    with bus.subscribe(since_ns=second.time_ns) as listener:
        bus.publish("container", "start", "3")
        assert [(await anext(listener)).actor.id for _ in range(2)] == ["2", "3"]
    assert bus.recent(0, second.time_ns)[-1] == second


async def test_closing_ends_the_iteration_after_what_is_queued() -> None:
    bus = events.EventBus()
    listener = bus.subscribe()
    bus.publish("container", "start", "1")
    bus.close()
    assert [event.actor.id async for event in listener] == ["1"]


async def test_a_listener_that_lags_too_far_is_told() -> None:
    bus = events.EventBus()
    with bus.subscribe() as listener:
        for number in range(events.QUEUE + 1):
            bus.publish("container", "start", str(number))
        with pytest.raises(errors.Unavailable, match="since"):
            _ = [event async for event in listener]


def test_an_event_has_the_apis_shape() -> None:
    event = events.EventBus().publish("image", "pull", "x:1", {"name": "x"})
    assert base.to_builtins(event) == {
        "Type": "image",
        "Action": "pull",
        "Actor": {"ID": "x:1", "Attributes": {"name": "x"}},
        "scope": "local",
        "time": event.time_ns // 10**9,
        "timeNano": event.time_ns,
    }
