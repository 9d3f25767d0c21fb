"""Layers on their way in: each is fetched and unpacked once, however many pulls wait for it.

Owns the running jobs and what they have under `tmp/`. A pull joins the layers that it lacks, waits until they are
ready (verified, unpacked, finished against the layers below), commits them to the store and leaves them. The last one
to leave ends the job and clears its directory; blobs that no commit took become `.part` files, which the next pull of
the layer takes up, so that an interrupted pull costs neither its bytes nor space that nobody knows of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gitops import errors
from gitops.engine.images import layout as layouts
from gitops.engine.images import records, report, store
from gitops.engine.images import unpack as unpacking
from gitops.engine.registry import transport
from gitops.oci import digest as digests


@dataclass(frozen=True, slots=True)
class Wanted:
    """A layer that an image needs, by what its config and manifest say."""

    chain_id: str
    parent: str
    """The chain id below, "" for none."""
    diff_id: str
    digest: str | None
    """Of its blob; None where an archive doesn't say."""
    size: int
    media_type: str


class Source(Protocol):
    """Where a layer's blob comes from."""

    @property
    def is_remote(self) -> bool:
        """Whether its bytes are worth keeping for a next try."""
        ...

    async def open(self) -> unpacking.FileSource | unpacking.HttpSource:
        """Where to read now; asked before each try. Raises what the registry client raises."""
        ...

    def explain(self, error: errors.GitopsError) -> errors.GitopsError:
        """The error to raise when the tries are used up."""
        ...


class Unpacker(Protocol):
    """What is needed of `unpack.Unpacker`."""

    async def unpack(
        self, job: unpacking.LayerJob, on_progress: Callable[[unpacking.LayerProgress], None]
    ) -> unpacking.LayerResult:
        """Fetch, verify and write one layer."""
        ...

    async def redo(
        self, job: unpacking.LayerJob, lower: Sequence[Path], on_progress: Callable[[unpacking.LayerProgress], None]
    ) -> unpacking.LayerResult:
        """The same, with the layers below in view."""
        ...


@dataclass(slots=True)
class _Blob:
    """A blob under `tmp/` and who works on it: two layers may be made of one blob."""

    path: Path
    is_remote: bool
    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(eq=False, slots=True)
class Staged:
    """One layer on its way."""

    wanted: Wanted
    source: Source
    blob: _Blob
    listeners: list[report.Listener]
    users: int = 0
    directory: Path | None = None
    task: asyncio.Task[store.NewLayer] | None = None

    @property
    def job(self) -> asyncio.Task[store.NewLayer]:
        """The running task."""
        assert self.task is not None
        return self.task


class Staging:
    """All layers that are on their way, by chain id."""

    def __init__(
        self, content: store.ContentStore, unpacker: Unpacker, *, slots: int, retry: transport.Retry | None = None
    ) -> None:
        """`slots` layers are fetched and unpacked at a time."""
        self._store = content
        self._unpacker = unpacker
        self.slots = slots
        self._slots = asyncio.Semaphore(slots)
        self._retry = retry or transport.Retry()
        self._staged: dict[str, Staged] = {}
        self._is_closed = False
        self._blobs: dict[str, _Blob] = {}

    @asynccontextmanager
    async def joined(self, wanted: Sequence[tuple[Wanted, Source, report.Listener]]) -> AsyncIterator[Sequence[Staged]]:
        """The layers of `wanted` on their way, started in its order; left when the block ends, however it ends."""
        joined: list[Staged] = []
        try:
            for layer, source, listener in wanted:
                joined.append(self._join(layer, source, listener))
            yield joined
        finally:
            await store.uninterrupted(self._leave(joined))

    async def ready(self, staged: Sequence[Staged]) -> list[store.NewLayer]:
        """Wait until all are ready; the first failure is raised at once."""
        if not staged:
            return []
        jobs = [layer.job for layer in staged]
        done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_EXCEPTION)
        for job in done:
            _raise_failure(job)
        return [job.result() for job in jobs]

    def close(self) -> None:
        """End every job; the pulls that wait for them fail, and clear up."""
        self._is_closed = True
        for staged in self._staged.values():
            staged.job.cancel()

    def _join(self, wanted: Wanted, source: Source, listener: report.Listener) -> Staged:
        if self._is_closed:
            raise errors.Unavailable("the engine is stopping: pull again when it runs")
        staged = self._staged.get(wanted.chain_id)
        if staged is None or (staged.job.done() and (staged.job.cancelled() or staged.job.exception())):
            staged = Staged(wanted, source, self._blob_for(wanted, source), [])
            staged.blob.users += 1
            staged.task = asyncio.create_task(self._run(staged), name=f"layer {wanted.chain_id}")
            self._staged[wanted.chain_id] = staged
        staged.users += 1
        staged.listeners.append(listener)
        return staged

    def _blob_for(self, wanted: Wanted, source: Source) -> _Blob:
        if not source.is_remote or wanted.digest is None:
            return _Blob(self._store.layout.tmp / layouts.random_name(), is_remote=False)
        if wanted.digest not in self._blobs:
            self._blobs[wanted.digest] = _Blob(self._store.layout.incoming(wanted.digest), is_remote=True)
        return self._blobs[wanted.digest]

    async def _leave(self, joined: Sequence[Staged]) -> None:
        ended = []
        for staged in joined:
            staged.users -= 1
            if staged.users == 0:
                ended.append(staged)
                if self._staged.get(staged.wanted.chain_id) is staged:
                    del self._staged[staged.wanted.chain_id]
                staged.job.cancel()
        if ended:
            await asyncio.wait([staged.job for staged in ended])
        for staged in ended:
            if not staged.job.cancelled():
                staged.job.exception()  # told to its pulls already; marked as seen
            self._clear(staged)

    def _clear(self, staged: Staged) -> None:
        if staged.directory is not None:
            self._store.trash.throw(staged.directory)
        blob, digest = staged.blob, staged.wanted.digest
        blob.users -= 1
        if blob.users:
            return
        part = blob.path.with_name(blob.path.name + layouts.PART)
        if digest is not None and self._blobs.get(digest) is blob:
            del self._blobs[digest]
        if not blob.is_remote or digest is None or self._store.has_blob(digest):
            blob.path.unlink(missing_ok=True)
            part.unlink(missing_ok=True)
        elif blob.path.exists():
            blob.path.rename(part)
        elif part.exists() and part.stat().st_size == 0:
            part.unlink()

    # -- one layer

    async def _run(self, staged: Staged) -> store.NewLayer:
        async with self._slots, staged.blob.lock:
            result = await self._fetch(staged)
        for listener in staged.listeners:
            listener.unpacked(result.size)
        await self._parent(staged.wanted.parent)
        async with self._store.lock:
            return await self._finish(staged, result)

    async def _fetch(self, staged: Staged) -> unpacking.LayerResult:
        """Fetch and unpack, again after failures that pass; each try has an empty directory."""
        failures, best, is_clean = 0, 0, False
        while True:
            source, keeps_blob = await self._open(staged)
            job = self._job(staged, source, keeps_blob)
            resumes = job.part_path is not None and job.part_path.exists()
            seen = 0

            def progress(now: unpacking.LayerProgress) -> None:
                nonlocal seen
                seen = now.blob_bytes
                for listener in staged.listeners:
                    listener.fetched(seen, staged.wanted.size)

            try:
                return await self._unpacker.unpack(job, progress)
            except errors.Invalid:
                if job.part_path is not None:
                    job.part_path.unlink(missing_ok=True)
                # What was kept from an earlier try may be to blame, or a blob that the disk spoiled: once more from
                # the start.
                spoiled = self._spoiled(staged, source)
                if is_clean or not (resumes or spoiled):
                    raise
                is_clean, pause_s = True, 0.0
            except errors.RuntimeFailure:
                # Most likely a full disk: what was fetched must not keep it full.
                if job.part_path is not None:
                    job.part_path.unlink(missing_ok=True)
                raise
            except (errors.Unavailable, errors.Denied, errors.NotFound) as error:
                # A refusal may be that of an address or a token that has ended: opening again tells.
                failures = 1 if seen > best else failures + 1
                best = max(best, seen)
                pause_s = self._pause_s(error, failures)
                if failures >= self._retry.attempts or pause_s > self._retry.longest_s or not staged.source.is_remote:
                    raise staged.source.explain(error) from error
                for listener in staged.listeners:
                    listener.retrying(pause_s)
            for listener in staged.listeners:
                listener.restarted()
            await asyncio.sleep(pause_s)

    def _spoiled(self, staged: Staged, source: unpacking.FileSource | unpacking.HttpSource) -> bool:
        digest = staged.wanted.digest
        if digest is None or not isinstance(source, unpacking.FileSource):
            return False
        if source.path != self._store.layout.blob(digest):
            return False
        self._store.drop_blob(digest)
        return True

    def _pause_s(self, error: errors.GitopsError, failures: int) -> float:
        asked = error.retry_after_s if isinstance(error, unpacking.FetchFailed) else None
        return self._retry.pause_s(failures) if asked is None else asked

    async def _open(self, staged: Staged) -> tuple[unpacking.FileSource | unpacking.HttpSource, bool]:
        """Where to read, and whether the bytes have to be kept from there."""
        digest = staged.wanted.digest
        if digest is not None and self._store.has_blob(digest):
            return unpacking.FileSource(self._store.layout.blob(digest)), False
        if staged.blob.path.exists():
            return unpacking.FileSource(staged.blob.path), False
        return await staged.source.open(), True

    def _job(
        self, staged: Staged, source: unpacking.FileSource | unpacking.HttpSource, keeps_blob: bool
    ) -> unpacking.LayerJob:
        if staged.directory is not None:
            self._store.trash.throw(staged.directory)
        staged.directory = self._store.layout.new_directory()
        return unpacking.LayerJob(
            source=source,
            target=staged.directory,
            digest=staged.wanted.digest,
            size=staged.wanted.size,
            media_type=staged.wanted.media_type,
            diff_id=staged.wanted.diff_id,
            blob_path=staged.blob.path if keeps_blob else None,
        )

    async def _parent(self, chain_id: str) -> None:
        """Wait until the layer below is finished."""
        below = self._staged.get(chain_id)
        if below is not None and chain_id not in self._store.layers:
            await asyncio.wait([below.job])
            _raise_failure(below.job)

    async def _finish(self, staged: Staged, result: unpacking.LayerResult) -> store.NewLayer:
        lower = self._lower(staged.wanted.parent)
        assert staged.directory is not None
        finished = await self._complete(staged.directory, result, lower)
        if finished.redo:
            digest = staged.wanted.digest
            kept = self._store.layout.blob(digest) if digest and self._store.has_blob(digest) else staged.blob.path
            job = self._job(staged, unpacking.FileSource(kept), keeps_blob=False)
            result = await self._unpacker.redo(job, lower, lambda _: None)
            finished = await self._complete(staged.directory, result, lower)
        if finished.redo:
            raise errors.Invalid(f"layer {staged.wanted.diff_id} can't be placed on the layers below it")
        return store.NewLayer(
            row=_row(staged.wanted, result, finished),
            directory=staged.directory,
            blob=staged.blob.path if staged.blob.path.exists() else None,
        )

    async def _complete(
        self, directory: Path, result: unpacking.LayerResult, lower: Sequence[Path]
    ) -> unpacking.FinishResult:
        # Not to be left by a cancellation: the thread would go on in a directory that is thrown away meanwhile.
        return await store.uninterrupted(asyncio.to_thread(unpacking.finish, directory, result, lower))

    def _lower(self, chain_id: str) -> list[Path]:
        """Directories below, top first, down to the first that hides the rest. Valid under the store's lock."""
        found: list[Path] = []
        while chain_id:
            row = self._store.layers.get(chain_id)
            if row is not None:
                found.append(self._store.layout.layer(chain_id))
            else:
                ready = self._staged[chain_id].job.result()
                row = ready.row
                found.append(ready.directory)
            chain_id = "" if row.is_opaque else row.parent
        return found


def _raise_failure(job: asyncio.Task[store.NewLayer]) -> None:
    if job.cancelled():
        raise errors.Unavailable("the fetching of a layer was ended from elsewhere: pull again")
    if (error := job.exception()) is not None:
        raise error


def _row(wanted: Wanted, result: unpacking.LayerResult, finished: unpacking.FinishResult) -> records.Layer:
    return records.Layer(
        chain_id=wanted.chain_id,
        parent=wanted.parent,
        diff_id=result.diff_id,
        digest=digests.validate(result.digest),
        size=result.size,
        media_type=wanted.media_type,
        unpacked_bytes=result.unpacked_bytes + finished.copied_bytes,
        disk_bytes=result.disk_bytes + finished.copied_bytes,
        members=result.members,
        short="",
        is_opaque=finished.opaque_root,
    )
