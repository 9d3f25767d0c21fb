"""The images of an archive into the content store, by the same workers and the same commit as a pull."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gitops import errors
from gitops.engine import events as event_bus
from gitops.engine.images import records, report, saving, staging, store
from gitops.engine.images import unpack as unpacking
from gitops.objects import image
from gitops.oci import archive, blob
from gitops.oci import digest as digests
from gitops.oci import manifest as manifests
from gitops.oci import reference as references


@dataclass(frozen=True, slots=True)
class ArchivedLayer:
    """A layer's blob in an archive."""

    layer: blob.LayerBlob
    is_remote: bool = False

    async def open(self) -> unpacking.FileSource:
        """Its place in the archive's file."""
        return unpacking.FileSource(self.layer.path, self.layer.offset, self.layer.size)

    def explain(self, error: errors.GitopsError) -> errors.GitopsError:
        """As it is."""
        return error


class Loader:
    """Loads archives into a content store."""

    def __init__(self, content: store.ContentStore, stages: staging.Staging, events: event_bus.EventBus) -> None:
        self._store = content
        self._staging = stages
        self._events = events

    async def load(self, path: Path, send: report.Report) -> list[str]:
        """Load every image of the archive; returns their names, the id of one that has none."""
        opened = await asyncio.to_thread(archive.open_archive, path, scratch=self._store.layout.tmp)
        loaded: list[str] = []
        with opened, self._store.trash.paused():
            for entry in opened.images:
                await self.take(entry, send)
                self._tell_loaded(entry, send)
                loaded += [references.parse(tag).familiar() for tag in entry.tags] or [entry.id]
        return loaded

    async def take(self, entry: archive.ArchivedImage, send: report.Report) -> None:
        """One image; layers that the store has aren't opened."""
        wanted = _wanted(entry)
        with self._store.lease() as lease:
            lease([entry.id, *(layer.chain_id for layer in wanted)])
            lease([layer.digest for layer in wanted if layer.digest])
            missing: list[tuple[staging.Wanted, staging.Source, report.Listener]] = [
                (layer, ArchivedLayer(source), report.LoadReport(send, report.short_id(layer.diff_id)))
                for layer, source in zip(wanted, entry.layers, strict=True)
                if layer.chain_id not in self._store.layers
            ]
            missing.sort(key=lambda one: -one[0].size)
            async with self._staging.joined(missing) as staged:
                ready = await self._staging.ready(staged)
                document, row = self._describe(entry, wanted, ready)
                lease([row.manifest.digest, *(layer.digest for layer in row.layers)])
                self._tell_renamed(entry, send)
                blobs = {entry.id: entry.config, row.manifest.digest: document}
                await self._store.commit(row, ready, blobs, [*entry.tags, *_digest_names(entry, row.manifest.digest)])

    def _describe(
        self, entry: archive.ArchivedImage, wanted: Sequence[staging.Wanted], ready: Sequence[store.NewLayer]
    ) -> tuple[bytes, records.Image]:
        """The manifest, made where the archive has none, and the image's row."""
        rows = {layer.row.chain_id: layer.row for layer in ready}
        layers = [rows.get(layer.chain_id) or self._store.layers[layer.chain_id] for layer in wanted]
        if entry.manifest is not None:
            document, blobs = entry.manifest, [layer.digest or layer.diff_id for layer in wanted]
        else:
            document = saving.make_manifest(entry.id, entry.config, layers)
            blobs = [layer.digest for layer in layers]
        kind = manifests.parse_manifest(document).media_type or manifests.OCI_MANIFEST
        now, known = time.time_ns(), self._store.images.get(entry.id)
        return document, records.Image(
            id=entry.id,
            manifest=manifests.Descriptor(kind, digests.sha256(document), len(document)),
            layers=[records.ImageLayer(layer.chain_id, digest) for layer, digest in zip(layers, blobs, strict=True)],
            stored_ns=known.stored_ns if known else now,
            tagged_ns=now if entry.tags else 0,
        )

    def _tell_renamed(self, entry: archive.ArchivedImage, send: report.Report) -> None:
        for tag in entry.tags:
            old = self._store.names.get(tag)
            if old is not None and old != entry.id:
                name = references.parse(tag).familiar()
                text = f"The image {name} already exists, renaming the old one with ID {old} to empty string\n"
                send(image.Progress(stream=text))

    def _tell_loaded(self, entry: archive.ArchivedImage, send: report.Report) -> None:
        names = [references.parse(tag).familiar() for tag in entry.tags]
        for name in names:
            send(image.Progress(stream=f"Loaded image: {name}\n"))
        if not names:
            send(image.Progress(stream=f"Loaded image ID: {entry.id}\n"))
        self._events.publish("image", "load", entry.id, {"name": names[0] if names else entry.id})


def _wanted(entry: archive.ArchivedImage) -> list[staging.Wanted]:
    config = entry.parsed_config()
    if config.os not in ("", "linux"):
        raise errors.Invalid(f"cannot load {config.os[:50]} image on linux: only images for linux run here")
    chain = manifests.chain_ids([layer.diff_id for layer in entry.layers])
    return [
        staging.Wanted(chain_id, parent, layer.diff_id, layer.digest, layer.size, layer.media_type)
        for chain_id, parent, layer in zip(chain, ["", *chain], entry.layers, strict=False)
    ]


def _digest_names(entry: archive.ArchivedImage, digest: str) -> list[str]:
    """An archive that brings its manifest gives its images names by digest too, as a registry does."""
    if entry.manifest is None:
        return []
    return sorted({references.parse(tag).name_only().with_digest(digest).canonical() for tag in entry.tags})
