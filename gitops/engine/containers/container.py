"""A container in memory: its stored record, and what belongs to this process alone (descriptors, tasks, listeners)."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from gitops.engine.containers import health, record
from gitops.engine.containers.streams import Streams


class Container:
    """One container of the engine. Its record changes through the supervisor only, which stores it first."""

    def __init__(self, stored: record.ContainerRecord) -> None:
        self.record = stored
        self.lock = asyncio.Lock()
        """Held by whatever changes its state: start, the handling of an exit, pause, removal."""
        self.process: int | None = None
        """A pidfd of the first process, while it runs and this engine watches it."""
        self.verdict = health.Verdict(status=stored.health or health.STARTING)
        self.exits = 0
        """Runs that ended while this engine watched."""
        self.is_removing = False
        self.is_gone = False
        self.is_restarting = False
        """It is being stopped only to be started again."""
        self.restart_pause_s = 0.0
        self.streams = Streams()
        self.tasks: dict[str, asyncio.Task[Any]] = {}
        """What runs for it: `watch`, `health`, `restart`."""
        self._listeners: set[asyncio.Event] = set()

    @property
    def id(self) -> str:
        """The full id."""
        return self.record.id

    def listen(self) -> asyncio.Event:
        """An event that is set at each change, from now on until `unlisten`."""
        event = asyncio.Event()
        self._listeners.add(event)
        return event

    def unlisten(self, event: asyncio.Event) -> None:
        """The counterpart of `listen`."""
        self._listeners.discard(event)

    def notify(self) -> None:
        """Tell the listeners."""
        for event in self._listeners:
            event.set()

    def close_process(self) -> None:
        """Give the pidfd back."""
        if self.process is not None:
            os.close(self.process)
            self.process = None

    def cancel(self, name: str) -> None:
        """End one of its tasks, if it is there and isn't the caller's own."""
        task = self.tasks.pop(name, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
