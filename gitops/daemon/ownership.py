"""Who owns a data root and a run root: locks that die with their process, and a pid file that tells it to others."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

import msgspec

from gitops import errors
from gitops.config import EngineConfig

_LOCK = "lock"
_PID_FILE = "engine.pid"
_START_TIME = 19
"""Place of the start time in /proc/PID/stat, counted after the command's name."""


class Identity(msgspec.Struct, frozen=True):
    """A process that can't be mistaken for a later one of the same id."""

    pid: int
    started: int
    """Ticks since the boot."""
    boot: str
    """The boot's id: ticks begin anew with it."""
    hosts: list[str]
    """Where it listens."""


class Lock:
    """An exclusive lock on a directory. A POSIX record lock: children don't inherit it, the kernel frees it."""

    def __init__(self, directory: Path) -> None:
        """Take it.

        Raises:
            errors.Conflict: another process has it. errors.RuntimeFailure: the directory can't be made or written.
        """
        self.path = directory / _LOCK
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file: IO[str] = self.path.open("a+")
        except OSError as error:
            raise errors.RuntimeFailure(f"can't use {directory}: {error.strerror or error}") from error
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise errors.Conflict(
                f"another engine uses {directory}: stop it with `gitops engine stop`, "
                "or give this one roots of its own (--data-root, --run-root)"
            ) from error

    def close(self) -> None:
        """Free it. The file stays: to remove it would let two processes lock two files of one name."""
        self._file.close()


def write_pid_file(config: EngineConfig) -> None:
    """Tell others who we are, by a file that is never seen half-written."""
    path = config.run_root / _PID_FILE
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(identity_of(os.getpid(), list(config.listen))))
    temporary.replace(path)


def remove_pid_file(config: EngineConfig) -> None:
    """The engine ends."""
    with contextlib.suppress(FileNotFoundError):
        (config.run_root / _PID_FILE).unlink()


def running(run_root: Path) -> Identity | None:
    """The engine of a run root, if it runs: a pid file without its process, or with another one, counts for nothing."""
    try:
        found = msgspec.json.decode((run_root / _PID_FILE).read_bytes(), type=Identity)
    except (OSError, msgspec.DecodeError):
        return None
    return found if is_alive(found) else None


def is_alive(identity: Identity) -> bool:
    """Whether this very process still runs."""
    try:
        now = identity_of(identity.pid, identity.hosts)
    except (OSError, IndexError, ValueError):
        return False
    return now == identity and _state(identity.pid) != "Z"


def identity_of(pid: int, hosts: list[str]) -> Identity:
    """The identity of a process that runs now."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Identity(pid=pid, started=int(_stat(pid)[_START_TIME]), boot=boot, hosts=hosts)


def _state(pid: int) -> str:
    try:
        return _stat(pid)[0]
    except (OSError, IndexError):
        return "Z"


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
