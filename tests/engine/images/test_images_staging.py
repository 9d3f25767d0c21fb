"""Layers on their way in, with an unpacker that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gitops import errors
from gitops.engine import database
from gitops.engine.images import layout, records, report, staging, store, unpack
from gitops.engine.registry import transport
from gitops.objects import image
from gitops.oci import digest as digests
from gitops.oci import manifest as manifests

Progress = Callable[[unpack.LayerProgress], None]


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


@dataclass
class Unpacker:
    """Pretends: writes the blob, tells of its progress, then follows the script of its digest."""

    script: dict[str, list[Exception | asyncio.Event]] = field(default_factory=dict)
    jobs: list[unpack.LayerJob] = field(default_factory=list)
    redone: list[unpack.LayerJob] = field(default_factory=list)
    running: int = 0
    most: int = 0
    begun: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def has_begun(self, jobs: int) -> None:
        """Wait until so many jobs were started."""
        async with self.begun:
            await self.begun.wait_for(lambda: len(self.jobs) >= jobs)

    async def unpack(self, job: unpack.LayerJob, on_progress: Progress) -> unpack.LayerResult:
        async with self.begun:
            self.jobs.append(job)
            self.begun.notify_all()
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self._follow(job, on_progress)
        finally:
            self.running -= 1
        return self._result(job)

    async def _follow(self, job: unpack.LayerJob, on_progress: Progress) -> None:
        assert not any(job.target.iterdir())
        (job.target / "file").write_bytes(b"x")
        if job.part_path is not None:
            job.part_path.write_bytes(b"part")
        on_progress(unpack.LayerProgress(4, 0, 0))
        await asyncio.sleep(0)
        steps = self.script.get(job.digest or "", [])
        step = steps.pop(0) if steps else None
        if isinstance(step, Exception):
            raise step
        if step is not None:
            await step.wait()
        if job.part_path is not None and job.blob_path is not None:
            job.part_path.rename(job.blob_path)

    async def redo(self, job: unpack.LayerJob, lower: Sequence[Path], on_progress: Progress) -> unpack.LayerResult:
        self.redone.append(job)
        return self._result(job)

    def _result(self, job: unpack.LayerJob) -> unpack.LayerResult:
        assert job.digest is not None and job.diff_id is not None
        return unpack.LayerResult(job.digest, job.diff_id, job.size or 0, 1, 4096, 1)


@dataclass
class Source:
    is_remote: bool = True
    opened: int = 0
    failure: errors.GitopsError | None = None

    async def open(self) -> unpack.HttpSource:
        self.opened += 1
        if self.failure:
            raise self.failure
        return unpack.HttpSource("http://registry.example/blob")

    def explain(self, error: errors.GitopsError) -> errors.GitopsError:
        return errors.Unavailable(f"explained: {error}")


@dataclass
class Bench:
    root: layout.Layout
    content: store.ContentStore
    unpacker: Unpacker
    stages: staging.Staging
    finished: list[tuple[str, list[str]]]
    lines: list[image.Progress] = field(default_factory=list)
    source: Source = field(default_factory=Source)

    def wanted(self, number: int, parent: str = "", size: int = 100) -> staging.Wanted:
        diff_id = digest(number + 1000)
        chain = manifests.chain_id(parent or None, diff_id)
        return staging.Wanted(chain, parent, diff_id, digest(number), size, manifests.OCI_LAYER)

    def entry(self, wanted: staging.Wanted) -> tuple[staging.Wanted, staging.Source, report.Listener]:
        return wanted, self.source, report.LayerReport(self.lines.append, report.short_id(wanted.digest or ""))

    async def get(self, *wanted: staging.Wanted, names: Sequence[str] = ()) -> list[store.NewLayer]:
        """Join, wait, commit as an image, leave."""
        config = b"config" + "".join(layer.chain_id for layer in wanted).encode()
        image_id = digests.sha256(config)
        row = records.Image(
            image_id,
            manifests.Descriptor(manifests.OCI_MANIFEST, image_id, len(config)),
            [records.ImageLayer(layer.chain_id, layer.digest or "") for layer in wanted],
            1,
        )
        missing = [self.entry(layer) for layer in wanted if layer.chain_id not in self.content.layers]
        with self.content.lease() as lease:
            lease([layer.chain_id for layer in wanted] + [layer.digest or "" for layer in wanted])
            async with self.stages.joined(missing) as staged:
                ready = await self.stages.ready(staged)
                await self.content.commit(row, ready, {image_id: config}, names)
        return ready

    def temporary(self) -> list[str]:
        return sorted(path.name for path in self.root.tmp.iterdir())


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    finished: list[tuple[str, list[str]]] = []

    def finish(layer: Path, result: unpack.LayerResult, lower: Sequence[Path]) -> unpack.FinishResult:
        assert layer.is_dir() and all(path.is_dir() for path in lower)
        finished.append((result.digest, [path.name for path in lower]))
        return unpack.FinishResult(
            redo=result.digest == digest(666) and not (layer.parent / "redone").exists(),
            opaque_root=result.digest == digest(777),
        )

    monkeypatch.setattr(unpack, "finish", finish)
    root, rows = layout.Layout(tmp_path), database.Database(tmp_path / "engine.db")
    content, unpacker = store.ContentStore(root, rows), Unpacker()
    await content.start()
    retry = transport.Retry(attempts=3, base_s=0.001, longest_s=1)
    yield Bench(root, content, unpacker, staging.Staging(content, unpacker, slots=2, retry=retry), finished)
    await content.close()
    rows.close()


def chain(bench: Bench, *numbers: int) -> list[staging.Wanted]:
    made: list[staging.Wanted] = []
    for number in numbers:
        made.append(bench.wanted(number, made[-1].chain_id if made else ""))
    return made


async def test_layers_are_finished_bottom_up_whatever_comes_first(bench: Bench) -> None:
    base, middle, top = chain(bench, 1, 2, 3)
    held = asyncio.Event()
    bench.unpacker.script[digest(1)] = [held]
    getting = asyncio.create_task(bench.get(base, middle, top))
    await bench.unpacker.has_begun(3)
    held.set()
    await getting
    assert [name for name, _ in bench.finished] == [digest(1), digest(2), digest(3)]
    assert [len(lower) for _, lower in bench.finished] == [0, 1, 2]
    assert bench.unpacker.most == 2
    assert bench.temporary() == []
    assert len(bench.content.lower(top.chain_id)) == 3


async def test_the_first_failure_is_raised_and_the_others_end(bench: Bench) -> None:
    bench.unpacker.script = {digest(1): [errors.Invalid("bad layer")], digest(2): [asyncio.Event()]}
    base, top = chain(bench, 1, 2)
    with pytest.raises(errors.Invalid, match="bad layer"):
        await bench.get(base, top)
    assert bench.unpacker.running == 0
    assert bench.temporary() == [f"{2:064x}.part"], "what was refused isn't kept, what was interrupted is"
    await bench.get(base, top)


async def test_an_interrupted_download_is_tried_again_and_opened_anew(bench: Bench) -> None:
    bench.unpacker.script[digest(1)] = [errors.Unavailable("cut"), errors.Denied("expired")]
    await bench.get(bench.wanted(1))
    assert bench.source.opened == 3
    assert [line.status for line in bench.lines].count("Retrying in 1 seconds") == 2


async def test_tries_end_and_the_source_explains(bench: Bench) -> None:
    bench.unpacker.script[digest(1)] = [errors.Unavailable("cut")] * 10
    with pytest.raises(errors.Unavailable, match="explained: cut"):
        await bench.get(bench.wanted(1))
    assert len(bench.unpacker.jobs) == 3
    assert bench.temporary() == [f"{1:064x}.part"]


async def test_a_layer_that_was_complete_is_kept_for_the_next_try_as_well(bench: Bench) -> None:
    base, top = chain(bench, 1, 2)
    bench.unpacker.script[digest(2)] = [errors.Unavailable("cut")] * 10
    with pytest.raises(errors.Unavailable):
        await bench.get(base, top)
    assert bench.temporary() == [f"{1:064x}.part", f"{2:064x}.part"]
    assert list(bench.root.layers.iterdir()) == list(bench.root.blobs.iterdir()) == []


async def test_a_long_pause_that_the_server_asks_for_isnt_waited_for(bench: Bench) -> None:
    bench.unpacker.script[digest(1)] = [unpack.FetchFailed("busy", status=429, retry_after_s=3600)]
    with pytest.raises(errors.Unavailable, match="busy"):
        await bench.get(bench.wanted(1))


async def test_an_error_of_opening_is_final(bench: Bench) -> None:
    bench.source.failure = errors.NotFound("no such blob")
    with pytest.raises(errors.NotFound):
        await bench.get(bench.wanted(1))
    assert bench.source.opened == 1


async def test_bad_content_after_a_resume_is_fetched_once_from_the_start(bench: Bench) -> None:
    bench.root.part(digest(1)).write_bytes(b"old")
    bench.unpacker.script[digest(1)] = [errors.Invalid("digest"), errors.Invalid("digest again")]
    with pytest.raises(errors.Invalid, match="digest again"):
        await bench.get(bench.wanted(1))
    assert len(bench.unpacker.jobs) == 2
    assert bench.temporary() == []


async def test_a_redo_reads_the_kept_blob_with_the_layers_below_in_view(bench: Bench) -> None:
    base, top = chain(bench, 1, 666)
    original = bench.unpacker.redo

    async def redo(job: unpack.LayerJob, lower: Sequence[Path], on_progress: Progress) -> unpack.LayerResult:
        (bench.root.tmp / "redone").touch()
        assert [path.is_dir() for path in lower] == [True]
        return await original(job, lower, on_progress)

    bench.unpacker.redo = redo  # type: ignore[method-assign]
    await bench.get(base, top)
    (job,) = bench.unpacker.redone
    assert isinstance(job.source, unpack.FileSource) and job.source.path == bench.root.incoming(digest(666))
    assert [name for name, _ in bench.finished] == [digest(1), digest(666), digest(666)]


async def test_an_opaque_layer_hides_those_below(bench: Bench) -> None:
    layers = chain(bench, 1, 777, 3)
    await bench.get(*layers)
    assert [len(lower) for _, lower in bench.finished] == [0, 1, 1]
    assert len(bench.content.lower(layers[2].chain_id)) == 2


async def test_two_pulls_share_a_layer_and_the_one_that_leaves_takes_nothing(bench: Bench) -> None:
    held, layer = asyncio.Event(), bench.wanted(1)
    bench.unpacker.script[digest(1)] = [held]
    first, second = [asyncio.create_task(bench.get(layer)) for _ in range(2)]
    await bench.unpacker.has_begun(1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    held.set()
    await second
    assert len(bench.unpacker.jobs) == 1
    assert layer.chain_id in bench.content.layers
    assert bench.temporary() == []


async def test_a_failed_layer_isnt_joined_by_who_comes_later(bench: Bench) -> None:
    layer = bench.wanted(1)
    bench.unpacker.script = {digest(1): [errors.Invalid("bad")]}
    async with bench.stages.joined([bench.entry(layer)]) as staged:
        with pytest.raises(errors.Invalid):
            await bench.stages.ready(staged)
        await bench.get(layer)
    assert len(bench.unpacker.jobs) == 2
    assert bench.temporary() == []


async def test_a_closed_staging_ends_all_and_takes_no_more(bench: Bench) -> None:
    bench.unpacker.script[digest(1)] = [asyncio.Event()]
    getting = asyncio.create_task(bench.get(bench.wanted(1)))
    await bench.unpacker.has_begun(1)
    bench.stages.close()
    with pytest.raises(errors.Unavailable):
        await getting
    with pytest.raises(errors.Unavailable, match="stopping"):
        await bench.get(bench.wanted(2))
    assert bench.temporary() == [f"{1:064x}.part"]


# -- the store's own promises


async def test_what_is_leased_isnt_collected(bench: Bench) -> None:
    base, top = chain(bench, 1, 2)
    await bench.get(base, top)
    (image_id,) = bench.content.images
    bench.content.rename(records.Image(image_id, bench.content.images[image_id].manifest, [], 1, is_removed=True))
    with bench.content.lease() as lease:
        lease([top.chain_id])
        assert await bench.content.collect(lambda _: False) == []
        assert len(bench.content.layers) == 2
    assert sorted(await bench.content.collect(lambda _: False)) == sorted([base.chain_id, top.chain_id])
    assert list(bench.root.layers.iterdir()) == list(bench.root.blobs.iterdir()) == list(bench.root.short.iterdir())


async def test_short_names_grow_where_they_would_collide(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.get(bench.wanted(1))
    second = bench.wanted(2)
    bench.content._shorts.add(second.chain_id.removeprefix("sha256:")[:6])
    await bench.get(second)
    assert len(bench.content.layers[second.chain_id].short) == 7
    assert bench.content.lower(second.chain_id)[0].resolve() == bench.root.layer(second.chain_id).resolve()


async def test_rows_of_two_stores_on_one_disk_are_the_same(bench: Bench) -> None:
    await bench.get(*chain(bench, 1, 2), names=["docker.io/library/app:1"])
    again = store.ContentStore(bench.root, bench.content._database)
    await again.start()
    assert (again.layers, again.images, again.names) == (
        bench.content.layers,
        bench.content.images,
        bench.content.names,
    )
    assert again.findings == []
    assert again.usage() == bench.content.usage()
    await again.close()
