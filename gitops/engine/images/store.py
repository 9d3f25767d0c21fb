"""The content store: blobs and unpacked layers on disk, and the rows that vouch for them.

Promises: a row exists only for what is complete and on the disk (unpacked aside, syncfs, rename, fsync of the parent
directories, then the rows, in one transaction with the image and its names); a crash anywhere leaves at most garbage
that the next start removes. What is leased, or belongs to an image or to a container's image, is never collected.
Leaves to others: fetching and unpacking (`staging`), what names may do (`removal`).

Belongs to the event loop's thread; disk work goes to threads under one lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from gitops import errors
from gitops.engine import database as databases
from gitops.engine.images import layout as layouts
from gitops.engine.images import records, scan, trash
from gitops.oci import digest as digests
from gitops.oci import manifest as manifests

T = TypeVar("T")

_log = logging.getLogger(__name__)

_CONFIGS_KEPT = 2048


@dataclass(frozen=True, slots=True)
class NewLayer:
    """A layer that is unpacked and finished, not yet committed. `row.short` is given by the commit."""

    row: records.Layer
    directory: Path
    blob: Path | None
    """Its verified blob under `tmp/`; None where the store has it."""


class ContentStore:
    """Layers, blobs, images and names of one engine."""

    def __init__(self, layout: layouts.Layout, database: databases.Database) -> None:
        self.layout = layout
        self.trash = trash.Trash(layout.trash)
        self.lock = asyncio.Lock()
        """Held while directories change their place; who reads lower layers' directories off the loop holds it too."""
        self.layers: dict[str, records.Layer] = {}
        self.images: dict[str, records.Image] = {}
        self.names: dict[str, str] = {}
        """Image id by canonical reference."""
        self.findings: list[str] = []
        """What was found damaged and dropped since the last start."""
        self._database = database
        self._blobs: dict[str, int] = {}
        """Sizes in bytes of the blobs on disk."""
        self._leases: Counter[str] = Counter()
        self._shorts: set[str] = set()
        self._configs: dict[str, manifests.ImageConfig] = {}

    # -- life

    async def start(self) -> None:
        """Read the rows, compare them with the disk, drop what is damaged, clear what a crash left."""
        tables = scan.Tables(
            self._database.all(records.LAYERS, records.Layer),
            self._database.all(records.IMAGES, records.Image),
            {name: row.image_id for name, row in self._database.all(records.NAMES, records.Name).items()},
        )
        with layouts.disk_errors("read the image store"):
            found = await asyncio.to_thread(scan.compare, self.layout, tables)
        self._drop(found, tables)
        self.findings = list(found.problems)
        self.layers, self.images, self.names = tables.layers, tables.images, tables.names
        self._blobs, self._shorts = found.blobs, {layer.short for layer in tables.layers.values()}
        with layouts.disk_errors("tidy the image store"):
            await asyncio.to_thread(scan.tidy, self.layout, found, tables, self.trash)
        for digest in self._dead_blobs():
            self.layout.blob(digest).unlink(missing_ok=True)
        self.trash.start()

    def _drop(self, found: scan.Findings, tables: scan.Tables) -> None:
        for problem in found.problems:
            _log.error("image store: %s", problem)
        with self._database.transaction():
            for table, keys in (
                (records.LAYERS, found.lost_layers),
                (records.IMAGES, found.lost_images),
                (records.NAMES, found.lost_names),
            ):
                for key in keys:
                    self._database.delete(table, key)
        for key in found.lost_layers:
            del tables.layers[key]
        for key in found.lost_images:
            del tables.images[key]
        for key in found.lost_names:
            del tables.names[key]

    async def close(self) -> None:
        """Stop deleting; all that matters is on disk."""
        await asyncio.to_thread(self.trash.close)

    # -- reading

    def image(self, image_id: str) -> records.Image:
        """The row of an image, of a removed one too as long as a container holds it.

        Raises:
            errors.NotFound: there is none.
        """
        found = self.images.get(image_id)
        if found is None:
            raise errors.NotFound(f"No such image: {image_id}")
        return found

    def config(self, image_id: str) -> manifests.ImageConfig:
        """The config of an image; the last ones read are remembered. Raises as `image`."""
        self.image(image_id)
        if image_id not in self._configs:
            if len(self._configs) >= _CONFIGS_KEPT:
                del self._configs[next(iter(self._configs))]
            self._configs[image_id] = manifests.parse_config(self.read_blob(image_id))
        return self._configs[image_id]

    def has_blob(self, digest: str) -> bool:
        """Whether the blob lies on disk, complete."""
        return digest in self._blobs

    def read_blob(self, digest: str) -> bytes:
        """A small blob, whole.

        Raises:
            errors.RuntimeFailure: it is gone or can't be read.
        """
        with layouts.disk_errors(f"read the blob {digest}"):
            return self.layout.blob(digest).read_bytes()

    def lower(self, chain_id: str) -> list[Path]:
        """Directories of the layer and those below it that overlayfs may merge, top first, by their short names."""
        found = []
        layer = self.layers.get(chain_id)
        while layer is not None:
            found.append(self.layout.short / layer.short)
            layer = self.layers.get(layer.parent) if layer.parent and not layer.is_opaque else None
        return found

    def check_layers(self, image: records.Image) -> None:
        """See that the directories of an image's layers are there. Where one is gone, all that needs it is dropped.

        Raises:
            errors.RuntimeFailure: a layer is gone.
        """
        with layouts.disk_errors(f"read the layers of {image.id}"):
            found = scan.compare_layers(self.layout, scan.Tables(self.layers, self.images, self.names), image)
        if not found.problems:
            return
        self._drop(found, scan.Tables(self.layers, self.images, self.names))
        self.findings += found.problems
        raise errors.RuntimeFailure(found.problems[-1])

    def usage(self) -> tuple[int, int]:
        """Bytes on disk of all layers and of all blobs."""
        return sum(layer.disk_bytes for layer in self.layers.values()), sum(self._blobs.values())

    # -- keeping

    @contextmanager
    def lease(self) -> Iterator[Callable[[Collection[str]], None]]:
        """A function that keeps chain ids and blob digests from being collected until the block ends.

        Lease first, then look whether it is there: then no collection can come in between.
        """
        held: list[str] = []

        def hold(keys: Collection[str]) -> None:
            held.extend(keys)
            self._leases.update(keys)

        try:
            yield hold
        finally:
            self._leases.subtract(held)
            self._leases = +self._leases

    # -- writing

    async def commit(
        self,
        image: records.Image,
        layers: Sequence[NewLayer],
        documents: Mapping[str, bytes],
        names: Collection[str],
    ) -> None:
        """Make layers, blobs, the image and its names durable and visible, all or nothing.

        Layers or blobs that another commit brought meanwhile are passed over; the caller clears their `tmp/` names.

        Raises:
            errors.RuntimeFailure: the disk or the database refused.
        """
        with layouts.disk_errors(f"store the image {image.id}"):
            written = await uninterrupted(asyncio.to_thread(self._write_documents, documents))
        try:
            if layers or written:
                with layouts.disk_errors(f"store the image {image.id}"):
                    await asyncio.to_thread(layouts.sync_filesystem, self.layout.tmp)
            async with self.lock:
                await uninterrupted(self._settle(image, layers, written, names))
        finally:
            for path in written.values():
                path.unlink(missing_ok=True)

    def drop_blob(self, digest: str) -> None:
        """Delete a blob that turned out not to be what its name says."""
        self._blobs.pop(digest, None)
        with layouts.disk_errors(f"remove the damaged blob {digest}"):
            self.layout.blob(digest).unlink(missing_ok=True)

    def _write_documents(self, documents: Mapping[str, bytes]) -> dict[str, Path]:
        written = {}
        for digest, data in documents.items():
            if digest not in self._blobs:
                written[digest] = path = self.layout.tmp / layouts.random_name()
                path.write_bytes(data)
        return written

    async def _settle(
        self,
        image: records.Image,
        layers: Sequence[NewLayer],
        written: Mapping[str, Path],
        names: Collection[str],
    ) -> None:
        new = [layer for layer in layers if layer.row.chain_id not in self.layers]
        rows = [self._with_short(layer.row) for layer in new]
        blobs = {**written, **{layer.row.digest: layer.blob for layer in layers if layer.blob is not None}}
        blobs = {digest: path for digest, path in blobs.items() if digest not in self._blobs}
        try:
            with layouts.disk_errors(f"store the image {image.id}"):
                sizes = await asyncio.to_thread(self._move_in, new, rows, blobs)
            with self._database.transaction():
                self._put(image, rows, names)
        except BaseException:
            await asyncio.to_thread(self._move_out, rows, blobs)
            self._shorts.difference_update(row.short for row in rows)
            raise
        self._show(image, names)
        self.layers.update((row.chain_id, row) for row in rows)
        self._blobs.update(sizes)

    def _with_short(self, row: records.Layer) -> records.Layer:
        name = digests.parse(row.chain_id).hex
        short = next(name[:length] for length in range(6, 65) if name[:length] not in self._shorts)
        self._shorts.add(short)
        return msgspec.structs.replace(row, short=short)

    def _move_in(
        self, new: Sequence[NewLayer], rows: Sequence[records.Layer], blobs: Mapping[str, Path]
    ) -> dict[str, int]:
        for layer, row in zip(new, rows, strict=True):
            target = self.layout.layer(row.chain_id)
            self.trash.throw(target)  # garbage of a commit that failed half-way
            layer.directory.rename(target)
            scan.link_short(self.layout, row)
        for digest, path in blobs.items():
            target = self.layout.blob(digest)
            target.unlink(missing_ok=True)
            # A link, not a rename: another layer may be unpacked from the same file at this moment.
            target.hardlink_to(path)
        for directory in (self.layout.layers, self.layout.short, self.layout.blobs):
            layouts.sync_directory(directory)
        return {digest: self.layout.blob(digest).stat().st_size for digest in blobs}

    def _move_out(self, rows: Sequence[records.Layer], blobs: Collection[str]) -> None:
        for row in rows:
            (self.layout.short / row.short).unlink(missing_ok=True)
            self.trash.throw(self.layout.layer(row.chain_id))
        for digest in blobs:
            self.layout.blob(digest).unlink(missing_ok=True)

    def _put(self, image: records.Image, rows: Sequence[records.Layer], names: Collection[str]) -> None:
        for row in rows:
            self._database.put(records.LAYERS, row.chain_id, row)
        self._database.put(records.IMAGES, image.id, image)
        for name in names:
            self._database.put(records.NAMES, name, records.Name(image.id))

    def _show(self, image: records.Image, names: Collection[str]) -> None:
        """Only what is on the disk."""
        self.images[image.id] = image
        self.names.update((name, image.id) for name in names)

    def rename(self, image: records.Image, *, add: Collection[str] = (), drop: Collection[str] = ()) -> None:
        """Write an image's row again, with names added and names taken away."""
        with self._database.transaction():
            for name in drop:
                self._database.delete(records.NAMES, name)
            self._put(image, (), add)
        for name in drop:
            self.names.pop(name, None)
        self._show(image, add)

    def names_of(self, image_id: str) -> list[str]:
        """Canonical references of an image, sorted."""
        return sorted(name for name, target in self.names.items() if target == image_id)

    def names_by_image(self) -> dict[str, list[str]]:
        """Canonical references of every image that has any, sorted."""
        found: dict[str, list[str]] = {}
        for name in sorted(self.names):
            found.setdefault(self.names[name], []).append(name)
        return found

    # -- collecting

    async def collect(self, is_used: Callable[[str], bool]) -> list[str]:
        """Drop removed images that `is_used` (by image id) no longer holds, then all that nothing refers to.

        Returns the chain ids of the layers that went.
        """
        async with self.lock:
            gone = self._forget(is_used)
            await uninterrupted(asyncio.to_thread(self._throw_away, gone, self._dead_blobs()))
            self._shorts.difference_update(layer.short for layer in gone)
        return [layer.chain_id for layer in gone]

    def _forget(self, is_used: Callable[[str], bool]) -> list[records.Layer]:
        # Without an await from the reading of leases to the deletion of rows: a pull sees it all, or nothing of it.
        dead = [image.id for image in self.images.values() if image.is_removed and not is_used(image.id)]
        alive = [image for image in self.images.values() if image.id not in set(dead)]
        kept = {layer.chain_id for image in alive for layer in image.layers}
        kept.update(self._below(key for key in self._leases if key in self.layers))
        gone = [layer for layer in self.layers.values() if layer.chain_id not in kept]
        with self._database.transaction():
            for image_id in dead:
                self._database.delete(records.IMAGES, image_id)
            for layer in gone:
                self._database.delete(records.LAYERS, layer.chain_id)
        for image_id in dead:
            del self.images[image_id]
            self._configs.pop(image_id, None)
        for layer in gone:
            del self.layers[layer.chain_id]
        return gone

    def _below(self, chain_ids: Iterator[str]) -> Iterator[str]:
        for chain_id in chain_ids:
            layer = self.layers.get(chain_id)
            while layer is not None:
                yield layer.chain_id
                layer = self.layers.get(layer.parent)

    def _dead_blobs(self) -> list[str]:
        """Take the blobs that nobody refers to out of the list of those we have."""
        kept = {digest for image in self.images.values() for digest in image.blobs}
        kept.update(layer.digest for layer in self.layers.values())
        kept.update(self._leases)
        dead = [digest for digest in self._blobs if digest not in kept]
        for digest in dead:
            del self._blobs[digest]
        return dead

    def _throw_away(self, gone: Sequence[records.Layer], blobs: Sequence[str]) -> None:
        with layouts.disk_errors("remove what images no longer need"):
            for layer in gone:
                (self.layout.short / layer.short).unlink(missing_ok=True)
                self.trash.throw(self.layout.layer(layer.chain_id))
            for digest in blobs:
                self.layout.blob(digest).unlink(missing_ok=True)


async def uninterrupted(work: Awaitable[T]) -> T:
    """Await `work` to its end even when cancelled meanwhile; the cancellation follows then."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("failed while being cancelled: %s", error)
        raise
