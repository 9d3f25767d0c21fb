"""Calls that meet in the middle of each other, and callers that go away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gitops import errors
from gitops.engine.containers import InjectedFile
from gitops.objects.container import HostConfig, RestartPolicy

pytestmark = pytest.mark.e2e


async def become(wanted: Callable[[], bool]) -> None:
    """Return when it is so."""
    async with asyncio.timeout(30):
        while not wanted():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def waiters(container: Any, count: int) -> None:
    """Return when so many wait for the container's lock."""
    await become(lambda: len(container.lock._waiters or ()) >= count)


async def test_a_restart_keeps_a_container_that_goes_with_its_end(service: Any, call: Any) -> None:
    made = await service.create(call("sleep", "100", host=HostConfig(auto_remove=True)))
    await service.start_container(made.id)
    await service.restart(made.id, 0)
    assert service.get(made.id).state.running
    await service.stop(made.id, 0)
    await service.wait(made.id, "removed")


async def test_a_caller_that_goes_away_leaves_a_creation_whole(service: Any, host: Any, call: Any) -> None:
    files = [InjectedFile("/run/secrets/s", b"x")]
    creation = asyncio.create_task(service.create(call("true"), "made", files=files))
    await asyncio.sleep(0)
    creation.cancel()
    await asyncio.gather(creation, return_exceptions=True)
    await become(lambda: bool(service.list(all=True)))
    await service.start_container("made")
    assert await service.wait("made") == 0
    await service.remove("made")
    assert host.leftovers() == []


async def test_a_container_that_was_removed_meanwhile_gets_no_other_name(service: Any, host: Any, call: Any) -> None:
    made = await service.create(call("true"), "old")
    container = service._find(made.id)
    async with container.lock:
        removal = asyncio.create_task(service.remove(made.id))
        await waiters(container, 1)
        renaming = asyncio.create_task(service.rename(made.id, "new"))
        await waiters(container, 2)
    await removal
    with pytest.raises(errors.NotFound, match="No such container"):
        await renaming
    await host.stop()
    assert (await host.start()).list(all=True) == []


async def test_what_was_stopped_while_its_restart_was_due_stays_so(service: Any, call: Any) -> None:
    policy = HostConfig(restart_policy=RestartPolicy(name="always"))
    made = await service.create(call("false", host=policy))
    await service.start_container(made.id)
    container = service._find(made.id)
    await become(lambda: bool(container.record.status == "restarting"))
    async with container.lock:
        stopping = asyncio.create_task(service.stop(made.id))
        await waiters(container, 2)
    assert await stopping is True
    async with container.lock:
        assert container.record.status == "exited"


async def test_an_image_that_goes_while_a_container_is_made_is_missed(service: Any, host: Any, call: Any) -> None:
    creation = asyncio.create_task(service.create(call("true"), "made"))
    await asyncio.sleep(0)

    def gone(image_id: str) -> None:
        raise errors.NotFound(f"No such image: {image_id}")

    host.images.layers = gone
    with pytest.raises(errors.NotFound, match="No such image"):
        await creation
    assert service.list(all=True) == [] and host.leftovers() == []


async def test_nothing_reads_a_log_on_after_its_reader_went_away(service: Any, call: Any) -> None:
    made = await service.create(call("seq", "1", "200000"))
    await service.start_container(made.id)
    await service.wait(made.id)

    async def last() -> None:
        async for _ in service.logs(made.id, tail=150_000):
            return

    reading = asyncio.create_task(last())
    await asyncio.sleep(0.02)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
