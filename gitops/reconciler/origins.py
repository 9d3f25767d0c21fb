"""Where a watch gets its manifests from each time: a path on this host, or a repository that it keeps a clone of."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gitops import errors
from gitops.reconciler import source
from gitops.reconciler.sources import git

_IGNORED = (".git/objects", ".git/logs")


class Origin(Protocol):
    """A place that changes."""

    async def refresh(self) -> source.Source:
        """The source as it is now.

        Raises:
            errors.Unavailable: a repository can't be reached; try again later.
            errors.NotFound: no such path or ref.
        """
        ...

    def start(self, changed: Callable[[], object]) -> None:
        """Call `changed`, from any thread, whenever something may have changed. It may be called too often."""
        ...

    def stop(self) -> None:
        """No more calls of `changed`."""
        ...


class PathOrigin:
    """A directory or file, watched by file events."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed: Callable[[], object] = lambda: None
        self._observer: _Observer | None = None

    async def refresh(self) -> source.Source:
        """The path, with the commit around it."""
        if not self._path.exists():
            raise errors.NotFound(f"{self._path}: no such file or directory")
        if self._observer and self._observer.is_stale:
            self.stop()
            self.start(self._changed)
        return source.of_path(self._path)

    def start(self, changed: Callable[[], object]) -> None:
        """Watch the directory and all below, and git's own notes of commits."""
        self._changed = changed
        self._observer = _Observer(self._path.resolve(), changed)

    def stop(self) -> None:
        """End the watching thread."""
        if self._observer:
            self._observer.close()
            self._observer = None


class _Observer:
    """watchdog's observer on a directory tree, and on the head of the git work tree around it."""

    def __init__(self, path: Path, changed: Callable[[], object]) -> None:
        from watchdog.events import FileSystemEvent, FileSystemEventHandler
        from watchdog.observers import Observer

        class Handler(FileSystemEventHandler):
            """Any event but a mere look at a file."""

            def on_any_event(self, event: FileSystemEvent) -> None:
                """Wake the watch."""
                if event.event_type not in ("opened", "closed_no_write") and not _is_noise(str(event.src_path)):
                    changed()

        self._observer = Observer()
        self._directory = directory = path if path.is_dir() else path.parent
        self._inode = directory.stat().st_ino
        self._observer.schedule(Handler(), str(directory), recursive=path.is_dir())
        tree = git.worktree(directory)
        head = tree.root / ".git" if tree else None
        if head and head.is_dir() and not head.is_relative_to(directory):
            self._observer.schedule(Handler(), str(head), recursive=False)
        self._observer.start()

    @property
    def is_stale(self) -> bool:
        """Whether another directory stands where the watched one was, as after a checkout: nothing is seen of it."""
        try:
            return self._directory.stat().st_ino != self._inode
        except OSError:
            return True

    def close(self) -> None:
        self._observer.stop()
        self._observer.join()


def _is_noise(path: str) -> bool:
    return any(part in path for part in _IGNORED) or path.endswith(".lock")


class RepositoryOrigin:
    """A repository, fetched at every refresh into a clone of our own."""

    def __init__(self, url: str, ref: str, directory: str, state: Path | None = None) -> None:
        """`directory` is the path inside the repository; `state` is where the clone is kept.

        Raises:
            errors.Invalid: a URL that isn't fetched from, or a path that leads outside.
        """
        if Path(directory).is_absolute() or ".." in Path(directory).parts:
            raise errors.Invalid(f"--path {directory}: must lie inside the repository")
        # Watches of different refs don't share a clone: each removes the trees of commits that it doesn't need.
        name = hashlib.sha256(f"{git.identity(git.check_url(url))}\0{ref}".encode()).hexdigest()[:16]
        self._url = url
        self._ref = ref
        self._directory = directory
        self._mirror = git.Mirror(url, (state or _state()) / name)

    async def refresh(self) -> source.Source:
        """Fetch, and lay out the commit."""
        commit = await self._mirror.resolve(self._ref)
        tree = await self._mirror.tree(commit)
        found = source.of_repository(self._url, await self._mirror.describe(commit), tree, self._directory)
        if not found.path.exists():
            raise errors.NotFound(f"repository {git.redact(self._url)} has no {self._directory!r} in {commit[:12]}")
        return found

    def start(self, changed: Callable[[], object]) -> None:
        """Nothing: the interval decides when to look."""

    def stop(self) -> None:
        """Nothing to stop."""


def _state() -> Path:
    """Where clones are kept: the user's state directory."""
    base = os.environ.get("XDG_STATE_HOME") or (
        "/var/lib" if os.geteuid() == 0 else str(Path.home() / ".local" / "state")
    )
    return Path(base) / "gitops-watch"
