"""Deletes what was thrown away, in a thread of its own, slowly, and not while something is being unpacked.

Deleting a large tree slows the file system for everybody, and ext4's inode allocator for minutes, so nobody waits for
it: a rename into `trash/` is the removal. What is left when the daemon ends is deleted after its next start.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gitops.engine.images import layout

_log = logging.getLogger(__name__)

_BATCH = 200
_PAUSE_S = 0.01
"""After so many files a pause: 20,000 files a second at most."""


class Trash:
    """The directory `trash/` and the thread that empties it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._changed = threading.Condition()
        self._busy = 0
        self._is_closing = False
        self._generation = 1
        """Rises with each piece of trash; 1 at the start, for what an earlier run left."""
        self._done = 0
        self._thread: threading.Thread | None = None
        self._count = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="image-trash", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread; it stops within some files."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def throw(self, path: Path) -> None:
        """Take `path`, file or directory, out of its place at once; what isn't there is no error."""
        try:
            path.rename(self._directory / layout.random_name())
        except FileNotFoundError:
            return
        with self._changed:
            self._generation += 1
            self._changed.notify_all()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No deletion inside."""
        with self._changed:
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Block until all is deleted; False if it took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not os.listdir(self._directory), timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing or (self._generation != self._done and not self._busy))
                if self._is_closing:
                    return
                self._done = self._generation
            self._empty()

    def _empty(self) -> None:
        for name in os.listdir(self._directory):
            try:
                # Looked at after the listing, so that what is thrown away inside a pause waits for its end.
                if not self._may_go_on() or not self._delete(None, str(self._directory / name)):
                    return
            except OSError as error:
                # It stays for the next start; nothing depends on its going.
                _log.warning("can't delete %s from the trash: %s", name, error)
        with self._changed:
            self._changed.notify_all()

    def _delete(self, parent: int | None, name: str) -> bool:
        """Delete `name` in the open directory `parent`, following no link; False when the thread has to end."""
        if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            os.unlink(name, dir_fd=parent)
            return self._rest()
        # By descriptors: paths in a hostile layer may be longer than the kernel takes, and no component is a link.
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            for child in os.listdir(descriptor):
                if not self._delete(descriptor, child):
                    return False
        finally:
            os.close(descriptor)
        os.rmdir(name, dir_fd=parent)
        return self._rest()

    def _rest(self) -> bool:
        self._count += 1
        if self._count % _BATCH == 0:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing, _PAUSE_S)
        return self._may_go_on()

    def _may_go_on(self) -> bool:
        """Wait for the end of a pause; False when the thread has to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing or not self._busy)
            return not self._is_closing
