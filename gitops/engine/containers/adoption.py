"""What became of containers while no engine was there: told from the kernel and conmon's files. Changes nothing.

A process is a container's for certain when it is in the container's cgroup: neither a reused pid nor a reboot can
fake that.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from gitops.engine.containers import processes
from gitops.engine.containers.record import ContainerRecord, Run
from gitops.engine.containers.runtime import Runtime


class Finding(enum.Enum):
    """What there is of a container's last run."""

    NOTHING = "nothing"
    WAITING = "waiting"
    """Set up, never let go: the engine died in the middle of a start."""
    RUNNING = "running"
    ENDED = "ended"
    """Its process is gone, and this run's end isn't stored yet."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The finding, the run that it is about, and its exit code, if conmon left one."""

    finding: Finding
    run: Run | None = None
    exit_code: int | None = None


def survey(record: ContainerRecord, runtime: Runtime, cgroup: str) -> Survey:
    """Look at one container; `cgroup` is the path of its group."""
    bundle = runtime.bundle(record.id)
    pid = processes.read_pid(bundle / "pidfile")
    if pid is None and record.is_alive and record.run is not None:
        pid = record.run.pid
    if pid is not None and is_in_group(pid, cgroup):
        ticks = processes.start_ticks(pid)
        if ticks is not None:
            finding = Finding.WAITING if runtime.is_waiting(record.id) else Finding.RUNNING
            return Survey(finding, Run(pid=pid, start_ticks=ticks, boot_id=processes.boot_id()))
    if record.is_alive:
        return Survey(Finding.ENDED, record.run, exit_code(runtime, record.id))
    return Survey(Finding.NOTHING)


def exit_code(runtime: Runtime, container: str) -> int | None:
    """What conmon wrote."""
    for path in (runtime.exits / container, runtime.bundle(container) / "exit"):
        try:
            return int(path.read_text())
        except (OSError, ValueError):
            continue
    return None


def is_in_group(pid: int, cgroup: str) -> bool:
    """Whether the process is in the group `cgroup` or below it, in any hierarchy."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return False
    paths = [line.split(":", 2)[2] for line in lines if line.count(":") >= 2]
    return any(path == cgroup or path.startswith(f"{cgroup}/") for path in paths)
