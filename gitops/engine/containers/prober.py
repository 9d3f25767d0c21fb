"""Health probes: a process in the container again and again, its exit code, the beginning of its output."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from gitops.engine.containers import health, processes, record
from gitops.engine.containers.container import Container
from gitops.engine.containers.launcher import Launcher
from gitops.engine.containers.record import Run
from gitops.engine.containers.runtime import Runtime
from gitops.objects import base
from gitops.objects.container import HealthResult


async def probe_for_ever(
    container: Container,
    probe: health.Probe,
    runtime: Runtime,
    launcher: Launcher,
    judged: Callable[[Container, health.Verdict], None],
) -> None:
    """Probe a container that runs, until cancelled, and tell `judged` after each probe where it stands."""
    started_ns = container.record.started_ns
    process = await launcher.process(container.record)
    bundle = runtime.bundle(container.id)
    while True:
        since = time.time_ns() - started_ns
        await asyncio.sleep(health.pause_ns(container.verdict.status, probe, since) / base.SECOND)
        if container.record.status != record.RUNNING:
            continue
        try:
            found = await run(runtime, container.id, process, probe, bundle)
        except OSError as error:
            now = time.time_ns()
            found = health.result(now, now, health.TIMED_OUT, str(error).encode())
        # A probe that failed because the container is ending says nothing.
        if container.record.status == record.RUNNING and _is_there(container.record.run):
            judged(container, health.judge(container.verdict, found, probe, time.time_ns() - started_ns))


def _is_there(run_of_it: Run | None) -> bool:
    return run_of_it is not None and processes.start_ticks(run_of_it.pid) is not None


async def run(
    runtime: Runtime, container: str, process: Mapping[str, object], probe: health.Probe, bundle: Path
) -> HealthResult:
    """Run `probe` with the environment, user and capabilities of `process`. Too late, it is killed."""
    process_file, pid_file = bundle / "probe.json", bundle / "probe.pid"
    pid_file.unlink(missing_ok=True)
    process_file.write_text(json.dumps({**process, "args": list(probe.args), "terminal": False}))
    started = time.time_ns()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        child = subprocess.Popen(
            [str(word) for word in runtime.exec_command(container, process_file, pid_file)],
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            cwd=bundle,
            start_new_session=True,
        )
        os.close(writer)
        writer = -1
        output = _Output(reader)
        try:
            code = await _end_of(child, probe.timeout / base.SECOND, pid_file)
        finally:
            output.close()
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    if code is None:
        return health.timed_out(started, time.time_ns(), probe, output.data)
    return health.result(started, time.time_ns(), code, output.data)


async def _end_of(child: subprocess.Popen[bytes], timeout_s: float, pid_file: Path) -> int | None:
    """The exit code; None when it took too long."""
    descriptor = os.pidfd_open(child.pid)
    try:
        async with asyncio.timeout(timeout_s):
            await processes.readable(descriptor)
        return child.wait()
    except TimeoutError:
        return None
    finally:
        os.close(descriptor)
        if child.returncode is None:
            _kill(child, pid_file)


def _kill(child: subprocess.Popen[bytes], pid_file: Path) -> None:
    # The process in the container first: without its parent it would live on. As long as the parent is there, the
    # number can't be another's.
    pid = processes.read_pid(pid_file)
    if pid is not None and child.poll() is None:
        target = processes.open_process(pid)
        if target is not None:
            processes.send(target, 9)
            os.close(target)
    child.kill()
    child.wait()


class _Output:
    """Collects what comes out of a pipe, and lets go by what is too much."""

    def __init__(self, descriptor: int) -> None:
        self.data = b""
        self._descriptor = descriptor
        self._is_open = True
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            piece = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        self.data = (self.data + piece)[: health.MAX_OUTPUT + 1]
        if not piece:
            self._stop()

    def close(self) -> None:
        """Take what is still there; a process that holds the other end is not waited for."""
        if self._is_open:
            self._read()
            self._stop()

    def _stop(self) -> None:
        if self._is_open:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._is_open = False
