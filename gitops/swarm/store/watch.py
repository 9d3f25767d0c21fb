"""Watches: each a bounded queue of commits, filled by the store in order.

A watcher that falls too far behind is not waited for: its queue is dropped, and its next read says that everything
must be read again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable

from gitops import errors
from gitops.swarm.store.protocol import Commit

LIMIT = 10_000
"""Commits that may wait for a watcher: minutes of a busy swarm, and some megabytes at most."""


class CommitWatch:
    """A stream of commits from a moment on; implements `Watch`. One reader at a time."""

    def __init__(self, unregister: Callable[[CommitWatch], None], limit: int = LIMIT) -> None:
        self._unregister = unregister
        self._limit = limit
        self._waiting: deque[Commit] = deque()
        self._arrived = asyncio.Event()
        self._lagging = False
        self._ended = False

    def __enter__(self) -> CommitWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self._unregister(self)
        self._waiting.clear()
        self.end()

    def __aiter__(self) -> AsyncIterator[Commit]:
        return self

    async def __anext__(self) -> Commit:
        """The next commit.

        Raises:
            errors.Unavailable: the watcher fell too far behind; read everything again with a new watch.
            StopAsyncIteration: the store or the watch was closed.
        """
        while not self._waiting:
            if self._lagging:
                raise errors.Unavailable(f"the watch fell behind by more than {self._limit} commits: read again")
            if self._ended:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()

    def drain(self) -> Iterable[Commit]:
        """The commits that wait already."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def push(self, commit: Commit) -> None:
        """Hand over a commit; for the store only."""
        if len(self._waiting) >= self._limit:
            self._lagging = True
            self._waiting.clear()
            self._unregister(self)
        else:
            self._waiting.append(commit)
        self._arrived.set()

    def end(self) -> None:
        """No more commits will come; those that wait can still be read."""
        self._ended = True
        self._arrived.set()
