"""SIGKILL of the engine: containers live on, the next start takes them up, nothing is left over or done twice."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gitops.engine.containers import cgroups, processes, syscalls
from gitops.engine.database import Database
from gitops.objects.container import HostConfig, RestartPolicy

pytestmark = pytest.mark.e2e
HERE = Path(__file__).parent


class Child:
    """An engine that can be killed."""

    def __init__(self, host: Any, scenario: str) -> None:
        command = [sys.executable, str(HERE / "engine_child.py"), str(HERE / "conftest.py"), str(host.root)]
        self.process = subprocess.Popen(
            [*command, host.config.cgroup_parent, scenario], stdout=subprocess.PIPE, text=True
        )

    async def says(self, word: str) -> None:
        """Return when it has printed `word`."""
        assert self.process.stdout is not None
        line = await asyncio.to_thread(self.process.stdout.readline)
        assert line.strip() == word

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def wait(self) -> None:
        assert self.process.wait(30) == -signal.SIGKILL
        assert self.process.stdout is not None
        self.process.stdout.close()


def touch_in(pid: int, path: str) -> None:
    Path(f"/proc/{pid}/root{path}").touch()


async def gone(pid: int) -> None:
    descriptor = processes.open_process(pid)
    if descriptor is not None:
        await processes.readable(descriptor)
        os.close(descriptor)


async def output(service: Any, container: str) -> str:
    return b"".join([entry.data async for entry in service.logs(container)]).decode()


async def test_containers_outlive_the_engine_and_are_taken_up(host: Any, call: Any) -> None:
    child = Child(host, "steady")
    await child.says("started")
    await child.says("ready")
    child.kill()
    with Database(host.config.data_root / "engine.db") as database:
        rows = {row["Name"]: row for row in database.all("containers", dict).values()}
    pids = {name: row["Run"]["Pid"] for name, row in rows.items()}
    for name in ("/leaver", "/again", "/gone"):
        touch_in(pids[name], "/tmp/go")
        await gone(pids[name])

    service = await host.start()

    assert service.running().keys() >= {rows["/steady"]["Id"], rows["/paused"]["Id"]}
    steady = service.get("steady").state
    assert (steady.status, steady.pid, steady.health.status) == ("running", pids["/steady"], "healthy")
    assert steady.started_at == service.get("steady").state.started_at
    leaver = service.get("leaver").state
    assert (leaver.status, leaver.exit_code, leaver.error) == ("exited", 21, "")
    assert service.get("paused").state.status == "paused"
    assert "/gone" not in [line.names[0] for line in service.list(all=True)]
    async with asyncio.timeout(20):
        async for state in service.changes("again"):
            if state.status == "running" or (state.restarting and state.exit_code == 22):
                break
    await service.unpause("paused")
    assert await service.stop("steady", 20)
    assert service.get("steady").state.exit_code == 5
    assert await output(service, "steady") == "begun\nasked\n"
    assert list((host.config.data_root / "volumes").iterdir()) == []


async def test_a_start_that_was_cut_off_before_the_process_ran_is_undone(host: Any, call: Any) -> None:
    child = Child(host, "before-letting-go")
    await child.says("started")
    child.wait()
    service = await host.start()
    assert service.get("waiting").state.status == "created"
    assert [entry for entry in host.leftovers() if not entry.startswith("data ")] == []
    await service.start_container("waiting")
    assert service.get("waiting").state.running


async def test_a_conmon_that_is_late_leaves_no_word_for_the_next_run(host: Any, call: Any) -> None:
    child = Child(host, "before-letting-go")
    await child.says("started")
    child.wait()
    (bundle,) = (host.config.run_root / "bundles").iterdir()
    conmon = int((bundle / "conmon.pid").read_text())
    os.kill(conmon, signal.SIGSTOP)
    asyncio.get_running_loop().call_later(0.3, os.kill, conmon, signal.SIGCONT)
    service = await host.start()
    await service.start_container("waiting")
    assert processes.start_ticks(conmon) is None
    assert list((host.config.run_root / "exits").iterdir()) == [] and service.get("waiting").state.running


async def test_a_process_that_ran_before_it_could_be_stored_is_taken_up(host: Any, call: Any) -> None:
    child = Child(host, "after-letting-go")
    await child.says("started")
    child.wait()
    service = await host.start()
    state = service.get("running").state
    assert state.status == "running" and processes.start_ticks(state.pid) is not None
    await service.stop("running", 0)
    assert [entry for entry in host.leftovers() if not entry.startswith("data ")] == []


async def test_killed_at_any_moment_nothing_is_left_over(host: Any, call: Any) -> None:
    rng = random.Random()
    for _ in range(8):
        child = Child(host, "churn")
        await child.says("started")
        await asyncio.sleep(rng.uniform(0, 0.4))
        child.kill()
    service = await host.start()
    for line in service.list(all=True):
        assert line.state in ("created", "running", "exited")
        await service.remove(line.id, force=True, volumes=True)
    assert host.leftovers() == []
    assert list((host.config.data_root / "volumes").iterdir()) == []


async def test_a_container_whose_monitor_was_killed_ends_with_an_explanation(host: Any, call: Any) -> None:
    service = await host.start()
    made = await service.create(call("sleep", "1000"))
    await service.start_container(made.id)
    os.kill(processes.read_pid(host.config.run_root / "bundles" / made.id / "conmon.pid") or 0, signal.SIGKILL)
    await service.kill(made.id)
    assert await service.wait(made.id) == 137
    assert "exit code is unknown" in service.get(made.id).state.error


async def test_what_has_no_owner_is_swept_but_no_stranger_s_processes(host: Any, call: Any) -> None:
    service = await host.start()
    made = await service.create(call("true"))
    await host.stop()
    orphan, stranger = secrets.token_hex(32), secrets.token_hex(32)
    run, groups = host.config.run_root, cgroups.Groups(host.config.cgroup_parent)
    for folder in (
        run / "bundles" / orphan / "rootfs",
        run / "state" / orphan,
        host.config.data_root / "containers" / orphan,
    ):
        folder.mkdir(parents=True)
    syscalls.mount("tmpfs", run / "bundles" / orphan / "rootfs", "tmpfs")
    (run / "exits" / orphan).write_text("0")
    (run / "secrets" / orphan).mkdir(parents=True)
    syscalls.mount("tmpfs", run / "secrets" / orphan, "tmpfs")
    for name in (orphan, stranger):
        for hierarchy in groups.hierarchies:
            (hierarchy.path / groups.parent / name / "inner").mkdir(parents=True)
    alien = subprocess.Popen(["sleep", "1000"])
    (groups.folder(stranger, "pids") / "cgroup.procs").write_text(str(alien.pid))

    service = await host.start()

    assert alien.poll() is None
    alien.kill()
    alien.wait()
    left = host.leftovers()
    assert left == [f"cgroup {stranger}", f"data {made.id}"]
    assert groups.remove(stranger)
    assert service.get(made.id).state.status == "created"


async def test_a_second_start_changes_nothing(host: Any, call: Any) -> None:
    service = await host.start()
    made = await service.create(call("sleep", "1000", host=HostConfig(memory=32 << 20)))
    await service.start_container(made.id)
    before = service.get(made.id)
    await host.stop()
    service = await host.start()
    assert service.get(made.id) == before
    assert service.actions == ()


async def test_a_shutdown_is_no_stop_by_hand(host: Any, call: Any) -> None:
    service = await host.start()
    policies = {"by-policy": "unless-stopped", "by-hand": "unless-stopped", "once": "no"}
    for name, policy in policies.items():
        settings = HostConfig(restart_policy=RestartPolicy(policy))
        made = await service.create(call("sleep", "1000", host=settings, stop_signal="KILL"), name)
        await service.start_container(made.id)
    await service.stop("by-hand", 0)
    await service.stop_all()
    assert service.list() == []
    await host.stop()
    service = await host.start()
    async with asyncio.timeout(20):
        async for state in service.changes("by-policy"):
            if state.status == "running":
                break
    assert [line.names for line in service.list()] == [["/by-policy"]]
