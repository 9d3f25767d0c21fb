"""Programs that are run to their end, and processes that are not our children: recognised for certain, awaited."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gitops import errors

_OUTPUT_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Done:
    """A program that ended: its exit code (negative for a signal), and the beginning of what it said."""

    code: int
    output: str


async def run(
    command: Sequence[str | Path],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> Done:
    """Run a program with nothing to read; it gets no descriptor of ours but `pass_fds`, under the same numbers.

    What it says goes to memory rather than to a pipe: nobody has to read along, and a grandchild that keeps the
    descriptor can't hold us. Cancelled or late, it is killed.

    Raises:
        errors.RuntimeFailure: it isn't there, or took longer than `timeout_s`.
    """
    output = os.memfd_create("output", os.MFD_CLOEXEC)
    try:
        try:
            child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if env is None else dict(env),
                cwd=cwd,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
        except OSError as error:
            raise errors.RuntimeFailure(f"can't run {command[0]}: {error.strerror}") from error
        code = await _end_of(child, timeout_s, str(command[0]))
        return Done(code, os.pread(output, _OUTPUT_LIMIT, 0).decode(errors="replace"))
    finally:
        os.close(output)


async def _end_of(child: subprocess.Popen[bytes], timeout_s: float, name: str) -> int:
    try:
        descriptor = os.pidfd_open(child.pid)
        try:
            async with asyncio.timeout(timeout_s):
                await readable(descriptor)
        finally:
            os.close(descriptor)
    except BaseException as error:
        child.kill()
        child.wait()
        if isinstance(error, TimeoutError):
            raise errors.RuntimeFailure(f"{name} took longer than {timeout_s:g} s and was killed") from error
        raise
    return child.wait()


async def readable(descriptor: int) -> None:
    """Return when `descriptor` can be read (a pidfd: when the process ended). One waiter a descriptor."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


@functools.cache
def boot_id() -> str:
    """Tells one boot of the kernel from another."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since the boot; None when there is none, or only a zombie."""
    try:
        # As bytes: a process gives itself a name of any.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError):
        return None


def started_ns(ticks: int) -> int:
    """The time since the epoch of a start, in nanoseconds, as exact as the clock tick is."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1]) * 1_000_000_000 + ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return 0


def read_pid(path: Path) -> int | None:
    """The number in a pid file."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def open_process(pid: int, ticks: int | None = None) -> int | None:
    """A pidfd of the process that started at `ticks`; None when it is gone, or the number is another's by now."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return None
    if ticks is not None and start_ticks(pid) != ticks:
        os.close(descriptor)
        return None
    return descriptor


def has_word(pid: int, word: str) -> bool:
    """Whether `word` is an argument of the process."""
    try:
        return word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def send(descriptor: int, number: int) -> bool:
    """Send a signal by pidfd; False when the process is gone."""
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    return True
