"""The durable store of a single manager: memory in front, SQLite behind.

A change is on disk before anybody sees it. Changes that arrive while the disk is busy are run one after another on top
of each other and written together: one flush carries all of them, and each is still a commit of its own. Where the
write fails none of them happened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitops import errors
from gitops.swarm.clock import Clock
from gitops.swarm.store import watch as watching
from gitops.swarm.store.journal import Journal, Row
from gitops.swarm.store.memory import MemoryStore, Pending
from gitops.swarm.store.protocol import R, Tx, View, Watch
from gitops.swarm.store.seal import Seal

log = logging.getLogger(__name__)

_BATCH = 200
"""Changes that share a flush at most."""


@dataclass(slots=True)
class _Request:
    change: Callable[[Tx], Any]
    done: asyncio.Future[Any]


@dataclass(slots=True)
class _Outcome:
    done: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None

    def tell(self, failure: Exception | None) -> None:
        if self.done.done():
            return
        if (error := failure or self.error) is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(self.result)


class SqliteStore:
    """Implements `Store` over the file at `path`."""

    def __init__(
        self, path: Path, clock: Clock, seal: Seal, *, is_new: bool = True, watch_limit: int = watching.LIMIT
    ) -> None:
        """Open or create the file and read it into memory; blocks. Not `is_new`: it must be there already.

        Raises:
            errors.Unsupported: the file was written by a newer version.
            errors.RuntimeFailure: it can't be opened or read, or is sealed with another key.
        """
        self._seal = seal
        self._journal = Journal(path, seal, is_new=is_new)
        try:
            self._memory = MemoryStore(clock, self._journal.read(), watch_limit=watch_limit)
        except BaseException:
            self._journal.close()
            raise
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="swarm-store")
        self._requests: list[_Request] = []
        self._writer: asyncio.Task[None] | None = None

    def view(self) -> View:
        """The newest snapshot."""
        return self._memory.view()

    async def update(self, change: Callable[[Tx], R]) -> R:
        """Run `change`, have it on disk, show it; see `Store.update`.

        A caller that is cancelled while the disk is busy doesn't take its change back.
        """
        self._memory.check_open()
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._requests.append(_Request(change, done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="swarm-store-writer")
        return await done

    def watch(self) -> Watch:
        """Commits from now on."""
        return self._memory.watch()

    def view_and_watch(self) -> tuple[View, Watch]:
        """A snapshot and all commits after it."""
        return self._memory.view_and_watch()

    async def close(self) -> None:
        """Write what was asked for, end the watches, close the file; calling it twice does no harm."""
        if self._writer is not None:
            await asyncio.wait({self._writer})
        await self._memory.close()
        self._thread.shutdown(wait=True)
        self._journal.close()

    async def _write(self) -> None:
        """Serve requests until there are none."""
        try:
            while self._requests:
                batch, self._requests = self._requests[:_BATCH], self._requests[_BATCH:]
                await self._serve(batch)
        finally:
            self._writer = None

    async def _serve(self, batch: list[_Request]) -> None:
        outcomes, pending = self._run(batch)
        failure = await self._flush(pending) if pending else None
        if failure is None:
            for item in pending:
                self._memory.publish(item)
        for outcome in outcomes:
            outcome.tell(failure)

    async def _flush(self, pending: list[Pending]) -> Exception | None:
        """Bring transactions onto the disk; what went wrong, when it did."""
        former, version = self._memory.snapshot.version, pending[-1].snapshot.version
        try:
            rows = self._rows(pending)
            await asyncio.get_running_loop().run_in_executor(self._thread, self._journal.write, former, version, rows)
        except Exception as error:
            # Callers wait for an answer, whatever it is.
            expected = isinstance(error, errors.GitopsError)
            log.error("changes of the swarm's state could not be stored: %s", error, exc_info=not expected)
            failure = errors.Unavailable(f"the change was not stored: {error}")
            failure.__cause__ = error
            return failure
        return None

    def _run(self, batch: list[_Request]) -> tuple[list[_Outcome], list[Pending]]:
        snapshot = self._memory.snapshot
        outcomes: list[_Outcome] = []
        pending: list[Pending] = []
        for request in batch:
            if request.done.done():
                continue
            try:
                result, made = self._memory.run(snapshot, request.change)
            except Exception as error:
                # Told only after the write: what it was refused for may itself not come to be.
                outcomes.append(_Outcome(request.done, error=error))
                continue
            outcomes.append(_Outcome(request.done, result))
            if made is not None:
                pending.append(made)
                snapshot = made.snapshot
        return outcomes, pending

    def _rows(self, pending: list[Pending]) -> list[Row]:
        return [
            Row(change, item.snapshot.position_of(change.object), self._seal)
            for item in pending
            for change in item.commit.changes
        ]
