"""What all control loops of a manager share: following the store, gathering commits, full passes, waking at a time.

A loop is a `StoreLoop`: it notices changes, and acts on what they touched by looking at the newest snapshot. What it
does follows from the state alone, so that a change that was noticed twice costs time and nothing else. After a watch
that fell behind, after an error and from time to time anyway everything counts as touched.

No loop calls another. A loop ends by being cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import random
from types import TracebackType

from gitops import errors
from gitops.swarm.clock import Clock
from gitops.swarm.store.protocol import Change, Commit, Store, View, Watch
from gitops.swarm.waiting import backoff, discard, until_done

log = logging.getLogger(__name__)

RESYNC_S = 60.0
"""Seconds between two full passes that nothing asked for."""
BACKOFF_S = 0.5
"""Seconds of the first wait after an error; doubles with each further one, up to `BACKOFF_MAX_S`."""
BACKOFF_MAX_S = 30.0


class Ended(Exception):
    """The store was closed."""


class Follower:
    """Reads a watch in batches; owns the one pending read, so that running out of time loses no commit."""

    def __init__(self, watch: Watch, clock: Clock) -> None:
        self._watch = watch
        self._clock = clock
        self._pending: asyncio.Task[Commit | None] | None = None

    async def __aenter__(self) -> Follower:
        self._watch.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pending is not None:
            await discard(self._pending)
        self._watch.__exit__(kind, error, trace)

    async def batch(
        self, *, timeout_s: float | None = None, quiet_s: float = 0.0, max_s: float = 0.0, limit: int = 10_000
    ) -> list[Commit]:
        """The next commits: from the first on until `quiet_s` without one, at most `max_s` or `limit` changes.

        Empty after `timeout_s` without any.

        Raises:
            Ended: the store was closed.
            errors.Unavailable: the watch fell behind, read everything again.
        """
        commits = await self._take(timeout_s)
        if not commits or quiet_s <= 0:
            return commits
        ends = self._clock.monotonic() + max_s
        while (left := ends - self._clock.monotonic()) > 0 and sum(len(c.changes) for c in commits) < limit:
            more = await self._take(min(quiet_s, left))
            if not more:
                break
            commits.extend(more)
        return commits

    async def _take(self, timeout_s: float | None) -> list[Commit]:
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._read())
        await until_done(self._clock, timeout_s, self._pending)
        if not self._pending.done():
            return []
        task, self._pending = self._pending, None
        commit = task.result()
        if commit is None:
            raise Ended
        return [commit, *self._watch.drain()]

    async def _read(self) -> Commit | None:
        try:
            return await self._watch.__anext__()
        except StopAsyncIteration:
            return None


class StoreLoop:
    """A control loop. Subclasses say what a change touches (`notice`, `resync`) and do what is to be done (`act`)."""

    quiet_s = 0.0
    """Debounce: act when no commit came for so long …"""
    max_s = 0.0
    """… or this long after the first one."""
    limit = 10_000
    """… or when so many changes wait."""

    def __init__(self, store: Store, clock: Clock, rng: random.Random) -> None:
        self.store = store
        self.clock = clock
        self.rng = rng
        self.passes = 0
        """How often the loop acted: its metric."""
        self._failures = 0
        self._not_before = 0.0

    def resync(self, view: View) -> None:
        """Count everything in `view` as touched."""
        raise NotImplementedError

    def notice(self, change: Change) -> None:
        """Note what `change` touches."""
        raise NotImplementedError

    async def act(self) -> float | None:
        """Do what is to be done; returns the seconds after which to be called again without any change, or None."""
        raise NotImplementedError

    async def run(self) -> None:
        """Follow the store until cancelled, or until the store is closed."""
        while True:
            view, watch = self.store.view_and_watch()
            try:
                async with Follower(watch, self.clock) as follower:
                    await self._follow(view, follower)
            except Ended:
                return
            except errors.Unavailable as error:
                log.warning("%s reads everything again: %s", type(self).__name__, error)
            await self.clock.sleep(backoff(1, self.rng, first_s=BACKOFF_S, max_s=BACKOFF_MAX_S))

    async def _follow(self, view: View, follower: Follower) -> None:
        self.resync(view)
        resync_at = self.clock.monotonic() + RESYNC_S
        while True:
            due = await self._attempt()
            left = max(0.0, resync_at - self.clock.monotonic())
            commits = await follower.batch(
                timeout_s=left if due is None else min(due, left),
                quiet_s=self.quiet_s,
                max_s=self.max_s,
                limit=self.limit,
            )
            for commit in commits:
                for change in commit.changes:
                    self.notice(change)
            if self.clock.monotonic() >= resync_at:
                self.resync(self.store.view())
                resync_at = self.clock.monotonic() + RESYNC_S

    async def _attempt(self) -> float | None:
        if (left := self._not_before - self.clock.monotonic()) > 0:
            return left
        self.passes += 1
        try:
            due = await self.act()
        except Exception as error:
            # A loop that ends takes the whole manager's service with it; one that tries again, with everything
            # touched, does no worse than a restart would.
            self._failures += 1
            wait = backoff(self._failures, self.rng, first_s=BACKOFF_S, max_s=BACKOFF_MAX_S)
            expected = isinstance(error, errors.GitopsError) and error.is_temporary
            log.warning("%s tries again in %.1f s: %s", type(self).__name__, wait, error, exc_info=not expected)
            self.resync(self.store.view())
            self._not_before = self.clock.monotonic() + wait
            return wait
        self._failures = 0
        return due
