"""Exit codes as conmon leaves them: one small file a container in one directory, told of by inotify.

conmon writes a file and renames it into place, so that none is ever seen half-written. It outlives this daemon, and
what happened in between lies there when it comes back.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from gitops.engine.containers import processes, syscalls

_TIMEOUT_S = 30.0
"""From the end of a process to conmon's word about it; a log that is written to a slow disk comes first."""


class Exits:
    """The directory of exit files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._inotify: syscalls.Inotify | None = None
        self._waiting: dict[str, asyncio.Event] = {}

    def start(self) -> None:
        """Begin to listen."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._inotify = syscalls.Inotify()
        self._inotify.watch(self.folder, syscalls.IN_MOVED_TO | syscalls.IN_CLOSE_WRITE)
        asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._wake)

    def close(self) -> None:
        """Stop listening."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    def code(self, container: str) -> int | None:
        """The exit code that lies there."""
        try:
            return int((self.folder / container).read_text())
        except (OSError, ValueError):
            return None

    async def wait(self, container: str) -> int:
        """The exit code, as soon as it is there; wait with a timeout."""
        event = self._waiting.setdefault(container, asyncio.Event())
        try:
            while (code := self.code(container)) is None:
                event.clear()
                await event.wait()
            return code
        finally:
            self._waiting.pop(container, None)

    async def word_of(self, container: str, conmon_pid: Path) -> int | None:
        """The exit code of a container whose process has ended; None when its conmon died without a word."""
        conmon = processes.read_pid(conmon_pid)
        descriptor = None
        if conmon is not None and processes.has_word(conmon, container):
            descriptor = processes.open_process(conmon)
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(self.wait(container))]
        try:
            if descriptor is not None:
                waits.append(asyncio.create_task(processes.readable(descriptor)))
                await asyncio.wait(waits, timeout=_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            return self.code(container)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            if descriptor is not None:
                os.close(descriptor)

    def _wake(self) -> None:
        if self._inotify is None:
            return
        for event in self._inotify.read():
            # After an overflow of the kernel's queue there is no name: then all look.
            names = [event.name] if event.name else list(self._waiting)
            for name in names:
                if name in self._waiting:
                    self._waiting[name].set()
