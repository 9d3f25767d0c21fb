"""One more process in a container: the runtime's `exec`, its pipes or its terminal, its end.

The runtime's program is our child, ends with the process, and has its code. It leaves the process's id in a file, which
tells that it runs, and its own complaints in another, so that they can't be taken for the process's output.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import subprocess
import termios
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitops import errors
from gitops.engine.containers import processes, syscalls
from gitops.engine.containers.outlets import Feed, Outlets, Tap

_START_TIMEOUT_S = 60.0
_LINGER_S = 2.0
"""How long the output of others is awaited that hold the pipes of a process which has ended; Docker's time."""
_READ = 65536
_PIECE = 4096
_LOG_LIMIT = 8192
_KILLED = 137


class NotStarted(Exception):
    """The runtime couldn't start the process; says why in its own words."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to run it: the command of the runtime, and which streams the process has; others are /dev/null."""

    command: list[str | Path]
    folder: Path
    """A directory of its own."""
    console: Path
    """Where the runtime hands the terminal over."""
    has_terminal: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False

    @property
    def pid_file(self) -> Path:
        """The process's id, as soon as it runs."""
        return self.folder / "pid"

    @property
    def log(self) -> Path:
        """What the runtime itself has to say."""
        return self.folder / "log"


class Execution:
    """A process that is run by a plan, once: `start`, then `wait`."""

    def __init__(self, plan: Plan, outlets: Outlets) -> None:
        self.pid = 0
        self._plan = plan
        self._outlets = outlets
        self._child: subprocess.Popen[bytes] | None = None
        self._taps: list[Tap] = []
        self._feed: Feed | None = None
        self._input = -1
        self._descriptors: list[int] = []
        self._silence = asyncio.Event()

    async def start(self) -> None:
        """Run it; returns when the process is there.

        Raises:
            NotStarted: it isn't, and won't be. errors.RuntimeFailure: the runtime can't be run, or hangs.
        """
        try:
            with _News(self._plan.folder) as news, _Listener(self._plan) as listener:
                self._spawn()
                if listener is not None:
                    await self._unless_ended(self._take_terminal(listener))
                await self._unless_ended(news.until(self._plan.pid_file.exists))
        except BaseException:
            self._give_up()
            raise
        self.pid = processes.read_pid(self._plan.pid_file) or 0

    def _spawn(self) -> None:
        plan, ours, theirs = self._plan, self._descriptors, []

        def pipe(*, is_input: bool) -> int:
            reader, writer = os.pipe()
            mine, other = (writer, reader) if is_input else (reader, writer)
            os.set_blocking(mine, False)
            ours.append(mine)
            theirs.append(other)
            return other

        has_pipes = not plan.has_terminal
        try:
            stdin = pipe(is_input=True) if plan.stdin and has_pipes else subprocess.DEVNULL
            if stdin >= 0:
                self._open_input(ours[-1])
            stdout = pipe(is_input=False) if plan.stdout and has_pipes else subprocess.DEVNULL
            if stdout >= 0:
                self._tap(ours[-1], "stdout")
            stderr = pipe(is_input=False) if plan.stderr and has_pipes else subprocess.DEVNULL
            if stderr >= 0:
                self._tap(ours[-1], "stderr")
            self._child = subprocess.Popen(
                [str(word) for word in plan.command],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=plan.folder,
                start_new_session=True,
            )
        except OSError as error:
            raise errors.RuntimeFailure(f"can't run {plan.command[0]}: {error.strerror}") from error
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self._look_for_silence()

    def _tap(self, descriptor: int, stream: str) -> None:
        def deliver(data: bytes) -> None:
            self._outlets.put(stream, data)

        self._taps.append(
            Tap(descriptor, lambda: os.read(descriptor, _READ), deliver, self._outlets, self._look_for_silence)
        )

    def _look_for_silence(self) -> None:
        if all(tap.is_over for tap in self._taps):
            self._silence.set()

    def _open_input(self, descriptor: int) -> None:
        self._input = descriptor
        self._feed = Feed(descriptor, lambda data: os.write(descriptor, data), _PIECE)

    async def _take_terminal(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(listener)
        with connection:
            await processes.readable(connection.fileno())
            _, (master, *_), _, _ = socket.recv_fds(connection, _PIECE, 1)
        os.set_blocking(master, False)
        self._descriptors.append(master)
        self._silence.clear()
        self._tap(master, "stdout")
        if self._plan.stdin:
            self._open_input(master)

    async def _unless_ended(self, work: Awaitable[None]) -> None:
        """Await `work`; where the runtime ends before that, there is nothing more to wait for."""
        assert self._child is not None
        descriptor = os.pidfd_open(self._child.pid)
        end: asyncio.Task[Any] = asyncio.ensure_future(processes.readable(descriptor))
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait([task, end], timeout=_START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise errors.RuntimeFailure(f"the OCI runtime took longer than {_START_TIMEOUT_S:g} s")
            if task not in done and not self._plan.pid_file.exists():
                raise NotStarted(self._complaint())
            # A process that ended at once has left all the same what is awaited: it only wasn't looked at yet.
            await task
        finally:
            for one in (task, end):
                one.cancel()
            await asyncio.gather(task, end, return_exceptions=True)
            os.close(descriptor)

    def _complaint(self) -> str:
        try:
            return self._plan.log.read_bytes()[:_LOG_LIMIT].decode(errors="replace").strip()
        except OSError:
            return ""

    def _give_up(self) -> None:
        pid = processes.read_pid(self._plan.pid_file)
        if self._child is not None:
            # The process in the container first: without its parent it would live on. As long as the parent is there,
            # the number can't be another's.
            target = processes.open_process(pid) if pid is not None and self._child.poll() is None else None
            if target is not None:
                processes.send(target, 9)
                os.close(target)
            self._child.kill()
            self._child.wait()
        self._close()

    async def wait(self) -> int:
        """Its exit code (128 and the number for a signal), when it has ended; `finish` afterwards."""
        assert self._child is not None
        descriptor = os.pidfd_open(self._child.pid)
        try:
            await processes.readable(descriptor)
        finally:
            os.close(descriptor)
        code = self._child.wait()
        return code if code >= 0 else _KILLED

    async def finish(self) -> None:
        """Deliver what is left of its output, then close."""
        is_silent = False
        while not is_silent:
            try:
                async with asyncio.timeout(_LINGER_S):
                    await self._silence.wait()
                is_silent = True
            except TimeoutError:
                # Either a client is slow, or somebody whom the process left behind holds its pipes.
                is_silent = not self._outlets.is_full
        if complaint := self._complaint():
            # It ran, and couldn't become the program: a wrong format, say.
            self._outlets.put("stderr", f"{complaint}\n".encode())
        self._close()
        self._outlets.end()

    async def write(self, data: bytes) -> bool:
        """Input; False when it takes none."""
        return self._feed is not None and await self._feed.write(data)

    def close_input(self) -> None:
        """The end of its input; a terminal has none."""
        if self._feed is not None and not self._plan.has_terminal:
            self._feed.close()
            self._feed = None
            self._descriptors.remove(self._input)
            os.close(self._input)

    def resize(self, height: int, width: int) -> None:
        """Give the terminal another size, in characters; nothing happens without one."""
        if self._plan.has_terminal and self._descriptors:
            fcntl.ioctl(self._descriptors[-1], termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def _close(self) -> None:
        if self._feed is not None:
            self._feed.close()
            self._feed = None
        for tap in self._taps:
            tap.stop()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()


class _News:
    """Tells of files that appear in a directory."""

    def __init__(self, folder: Path) -> None:
        self._inotify = syscalls.Inotify()
        self._inotify.watch(folder, syscalls.IN_CLOSE_WRITE | syscalls.IN_MOVED_TO)

    def __enter__(self) -> _News:
        return self

    def __exit__(self, *_: object) -> None:
        self._inotify.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition` holds."""
        while not condition():
            await processes.readable(self._inotify.fileno())
            for _ in self._inotify.read():
                continue


class _Listener:
    """The socket on which the runtime hands the terminal over; None for a plan without one."""

    def __init__(self, plan: Plan) -> None:
        self._path = plan.console
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) if plan.has_terminal else None

    def __enter__(self) -> socket.socket | None:
        if self._socket is not None:
            self._socket.bind(str(self._path))
            self._socket.listen(1)
            self._socket.setblocking(False)
        return self._socket

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()
            self._path.unlink(missing_ok=True)
