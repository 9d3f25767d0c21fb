"""The store in memory: the whole of it in tests and simulation, the front of the durable ones elsewhere.

A change runs to its end on the event loop, so that changes are serialised by themselves. Snapshots are shared, never
copied as a whole: reading costs nothing and blocks nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gitops import errors
from gitops.objects import base
from gitops.swarm.clock import Clock
from gitops.swarm.store import watch as watching
from gitops.swarm.store.protocol import Commit, R, Tx, View, Watch
from gitops.swarm.store.snapshot import Draft, Snapshot


class Pending(NamedTuple):
    """A transaction that was run and shows nowhere yet."""

    snapshot: Snapshot
    commit: Commit


class MemoryStore:
    """Implements `Store` with nothing behind it."""

    def __init__(self, clock: Clock, snapshot: Snapshot | None = None, *, watch_limit: int = watching.LIMIT) -> None:
        self._clock = clock
        self._snapshot = snapshot if snapshot is not None else Snapshot.of(())
        self._watch_limit = watch_limit
        self._watches: dict[int, watching.CommitWatch] = {}
        self._closed = False

    def view(self) -> View:
        """The newest snapshot."""
        return self._snapshot

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot, for a store that has this one in front."""
        return self._snapshot

    async def update(self, change: Callable[[Tx], R]) -> R:
        """Run `change` and commit it; see `Store.update`."""
        self.check_open()
        result, pending = self.run(self._snapshot, change)
        if pending is not None:
            self.publish(pending)
        return result

    def run(self, snapshot: Snapshot, change: Callable[[Tx], R]) -> tuple[R, Pending | None]:
        """Run `change` on top of `snapshot` without publishing it."""
        draft = Draft(snapshot, base.format_time(self._clock.now_ns()))
        result = change(draft)
        finished = draft.finish()
        return result, None if finished is None else Pending(*finished)

    def publish(self, pending: Pending) -> None:
        """Make a transaction visible, and tell the watchers."""
        self._snapshot = pending.snapshot
        for item in list(self._watches.values()):
            item.push(pending.commit)

    def watch(self) -> Watch:
        """Commits from now on."""
        item = watching.CommitWatch(self._forget, self._watch_limit)
        if self._closed:
            item.end()
        else:
            self._watches[id(item)] = item
        return item

    def view_and_watch(self) -> tuple[View, Watch]:
        """A snapshot and all commits after it."""
        return self._snapshot, self.watch()

    def check_open(self) -> None:
        """Raise errors.Unavailable once the store is closed."""
        if self._closed:
            raise errors.Unavailable("the store is closed")

    async def close(self) -> None:
        """End all watches and take no more changes."""
        self._closed = True
        for item in list(self._watches.values()):
            item.end()
        self._watches.clear()

    def _forget(self, item: watching.CommitWatch) -> None:
        self._watches.pop(id(item), None)
