"""Processes that the kernel killed for want of memory, while their containers run on: told by conmon.

conmon makes an empty file `oom` in the bundle. One inotify descriptor watches the bundles of all containers that have a
limit; a bundle that is removed takes its watch along.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gitops import errors
from gitops.engine.containers import syscalls

logger = logging.getLogger(__name__)

_NAME = "oom"


def happened(bundle: Path) -> bool:
    """Whether conmon has told of it in this run."""
    return (bundle / _NAME).exists()


class Ooms:
    """Calls `told` with a container's id, once a run, when a process of it was killed for want of memory."""

    def __init__(self, told: Callable[[str], None]) -> None:
        self._told = told
        self._inotify: syscalls.Inotify | None = None
        self._bundles: dict[int, Path] = {}

    def start(self) -> None:
        """Begin to listen."""
        self._inotify = syscalls.Inotify()
        asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._look)

    def close(self) -> None:
        """Stop listening."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    def watch(self, bundle: Path) -> None:
        """Listen for the container of a bundle; what happened before is told, too."""
        if self._inotify is None:
            return
        try:
            self._bundles[self._inotify.watch(bundle, syscalls.IN_CREATE)] = bundle
        except OSError as error:
            logger.warning("the memory of container %s can't be watched: %s", bundle.name[:12], error)
        if happened(bundle):
            self._told(bundle.name)

    def _look(self) -> None:
        if self._inotify is None:
            return
        for event in self._inotify.read():
            if event.mask & syscalls.IN_IGNORED:
                self._bundles.pop(event.watch, None)
            elif event.name == _NAME and event.watch in self._bundles:
                with suppress(errors.NotFound):  # it was removed in the same moment
                    self._told(self._bundles[event.watch].name)
