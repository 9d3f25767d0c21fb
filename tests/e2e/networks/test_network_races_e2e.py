"""Calls on networks that meet in the middle of each other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gitops import errors
from gitops.engine.networks import Attachment
from gitops.objects.network import NetworkCreate

pytestmark = pytest.mark.e2e


async def test_a_network_that_goes_while_a_container_comes_is_missed_by_name(world: Any) -> None:
    service = await world.start()
    await service.create(NetworkCreate(name="front"))
    async with service._network_lock:
        removal = asyncio.create_task(service.remove("front"))
        await asyncio.sleep(0)
        making = asyncio.create_task(service.create_sandbox("c" * 64, [Attachment("front")], gateway_leg=True))
        await asyncio.sleep(0)
    await removal
    with pytest.raises(errors.NotFound, match="network front not found"):
        await making
    assert await service.audit() == []


async def test_two_removals_at_once_remove_once(world: Any) -> None:
    service = await world.start()
    await service.create(NetworkCreate(name="front"))
    found = await asyncio.gather(service.remove("front"), service.remove("front"), return_exceptions=True)
    assert found[0] is None and isinstance(found[1], errors.NotFound)
    assert [event.action for event in world.events.recent()].count("destroy") == 1


async def test_whatever_goes_wrong_the_watch_looks_again(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitops.engine.networks.watch.INTERVAL_S", 0.01)
    service = await world.start()
    looks = 0
    again = asyncio.Event()

    async def look(*, is_full: bool = False) -> None:
        nonlocal looks
        looks += 1
        if looks > 1:
            again.set()
        raise KeyError("something that nobody thought of")

    monkeypatch.setattr(service._watch, "look", look)
    async with asyncio.timeout(10):
        await again.wait()
