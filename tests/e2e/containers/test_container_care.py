"""What the service does with descriptors, a full disk, and a host that has only runc."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from gitops import errors
from gitops.engine.containers import processes, syscalls
from gitops.objects.base import MILLISECOND
from gitops.objects.container import HostConfig
from gitops.objects.service import HealthConfig

pytestmark = pytest.mark.e2e


def descriptors(pid: int | str = "self") -> dict[str, str]:
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[name] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
    return found


async def test_no_descriptor_is_lost_or_handed_down(service: Any, host: Any, call: Any) -> None:
    check = HealthConfig(test=["CMD", "true"], interval=30 * MILLISECOND)

    async def once() -> None:
        made = await service.create(call("sleep", "1000", healthcheck=check))
        await service.start_container(made.id)
        async for state in service.changes(made.id):
            if state.health.status == "healthy":
                break
        conmon = processes.read_pid(host.config.run_root / "bundles" / made.id / "conmon.pid") or 0
        for pid in (conmon, service.get(made.id).state.pid):
            assert not [path for path in descriptors(pid).values() if str(host.config.data_root / "engine.db") in path]
        assert os.getsid(conmon) == conmon
        async for _ in service.logs(made.id, tail=5):
            pass
        await service.remove(made.id, force=True)

    await once()
    before = descriptors()
    for _ in range(5):
        await once()
    assert len(descriptors()) == len(before), set(descriptors().values()) ^ set(before.values())


async def test_a_disk_that_is_full_is_told_and_hides_no_end(
    service: Any, host: Any, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await service.create(call("sleep", "1000"))
    other = await service.create(call("sleep", "1000"))
    await service.start_container(made.id)

    def full(*_: object) -> None:
        raise errors.RuntimeFailure("can't write to the database: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(host.started[-1][1], "put", full)
        with pytest.raises(errors.RuntimeFailure, match="disk is full"):
            await service.start_container(other.id)
        with pytest.raises(errors.RuntimeFailure, match="disk is full"):
            await service.create(call("true"), "never")
        os.kill(service.get(made.id).state.pid, 9)
        assert await service.wait(made.id) == 137
    assert [entry for entry in host.leftovers() if other.id in entry and not entry.startswith("data ")] == []
    await service.start_container(other.id)
    await service.start_container(made.id)
    await service.create(call("true"), "never")


async def test_runc_takes_the_place_of_crun(host: Any, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("runc") is None:
        pytest.skip("runc is not installed")
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "crun" else which(name))
    service = await host.start()
    assert service.warnings == ("crun isn't installed: containers are started with runc, which takes longer",)
    check = HealthConfig(test=["CMD", "true"], interval=50 * MILLISECOND)
    made = await service.create(
        call("sh", "-c", "cat /proc/self/status; sleep 1000", healthcheck=check, host=HostConfig(memory=32 << 20))
    )
    await service.start_container(made.id)
    async for state in service.changes(made.id):
        if state.health.status == "healthy":
            break
    text = b"".join([entry.data async for entry in service.logs(made.id)]).decode()
    assert "Seccomp:\t2" in text and "CapEff:\t00000000a80425fb" in text
    await service.pause(made.id)
    await service.unpause(made.id)
    await service.stop(made.id, 0)
    with pytest.raises(errors.Invalid, match=r'exec: "nope": executable file not found in \$PATH'):
        await service.start_container((await service.create(call("nope"))).id)
    with pytest.raises(errors.Invalid, match="permission denied"):
        await service.start_container((await service.create(call("/etc/passwd"))).id)
    assert [entry for entry in host.leftovers() if not entry.startswith("data ")] == []


async def test_closing_waits_for_a_start_that_was_begun(host: Any, call: Any) -> None:
    service = await host.start()
    made = await service.create(call("sleep", "1000"))
    starting = asyncio.create_task(service.start_container(made.id))
    await asyncio.sleep(0)
    await host.stop()
    assert await starting is True
    service = await host.start()
    assert service.get(made.id).state.running
    assert Path(f"/proc/{service.get(made.id).state.pid}").exists()


async def test_nothing_that_is_mounted_in_a_volume_is_removed_with_it(service: Any, host: Any, call: Any) -> None:
    outside = host.root / "outside"
    outside.mkdir()
    (outside / "precious").write_text("data")
    made = await service.create(call("true", host=HostConfig(binds=["store:/data"])))
    await service.start_container(made.id)
    await service.wait(made.id)
    await service.remove(made.id)
    inner = service._volumes.path("store") / "inner"
    inner.mkdir()
    syscalls.mount(str(outside), inner, "", syscalls.MS_BIND)
    with pytest.raises(errors.Conflict, match="is mounted in the volume"):
        await service._volumes.remove("store")
    syscalls.unmount(inner)
    await service._volumes.remove("store")
    assert (outside / "precious").read_text() == "data"


async def test_calls_at_the_same_time_leave_one_truth(service: Any, host: Any, call: Any) -> None:
    rng = random.Random()
    refusals: list[str] = []
    made = await service.create(call("sleep", "1000", stop_signal="KILL"), "first")

    async def one(number: int) -> None:
        calls = [
            lambda: service.start_container(made.id),
            lambda: service.stop(made.id, 1),
            lambda: service.kill(made.id),
            lambda: service.pause(made.id),
            lambda: service.unpause(made.id),
            lambda: service.restart(made.id, 1),
            lambda: service.rename(made.id, f"name-{number}-{rng.random()}"),
        ]
        for _ in range(25):
            try:
                async with asyncio.timeout(20):
                    await rng.choice(calls)()
            except (errors.Conflict, errors.RuntimeFailure) as error:
                refusals.append(str(error))

    await asyncio.gather(*(one(number) for number in range(5)))
    assert not [text for text in refusals if "can't" in text]
    await service.stop(made.id, 1)
    shown = service.get(made.id)
    assert shown.state.status == "exited"
    assert [entry for entry in host.leftovers() if not entry.startswith("data ")] == []
    await host.stop()
    again = await host.start()
    assert again.get(made.id) == shown
