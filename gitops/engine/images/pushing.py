"""One push: an image's blobs into a repository, and then its manifest under a tag.

Promises: manifest and blobs go as they are stored, so that the digest in the registry is the one that the engine knows
the image by; what the registry has is not sent again; the tag is set only when all blobs are there. A push that broke
off is finished by the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from gitops import errors
from gitops.engine import events as event_bus
from gitops.engine.images import layout, records, report, store
from gitops.engine.registry import client as registries
from gitops.objects import image
from gitops.oci import manifest as manifests
from gitops.oci import reference as references

_BLOCK = 1 << 20
_SLOTS = 3
"""Blobs at a time, as Docker does by default."""
_FOREIGN = (".nondistributable.", ".foreign.")


class Pusher:
    """Pushes images of a content store."""

    def __init__(
        self, content: store.ContentStore, registry: registries.RegistryClient, events: event_bus.EventBus
    ) -> None:
        self._store = content
        self._registry = registry
        self._events = events

    async def push(
        self, reference: references.Reference, row: records.Image, *, auth: image.AuthConfig | None, send: report.Report
    ) -> str:
        """Push `row` as `reference`, which has a tag; returns the digest. Raises as `ImageService.push`."""
        send(image.Progress(status=f"The push refers to repository [{reference.name}]"))
        repository = await self._registry.repository(reference, auth, purpose="push")
        with self._store.lease() as lease:
            lease(row.blobs)
            document = self._store.read_blob(row.manifest.digest)
            manifest = manifests.parse_manifest(document, row.manifest.media_type)
            if not isinstance(manifest, manifests.Manifest):
                raise errors.Unsupported(f"{reference.familiar()}: an index can't be pushed")
            await self._push_blobs(repository, row, manifest, send)
            await repository.put_manifest(reference.tag or references.DEFAULT_TAG, row.manifest.media_type, document)
        digest, size = row.manifest.digest, len(document)
        self._store.rename(self._store.image(row.id), add=[reference.name_only().with_digest(digest).canonical()])
        self._events.publish("image", "push", reference.familiar(), {"name": reference.familiar_name})
        send(image.Progress(status=f"{reference.tag}: digest: {digest} size: {size}"))
        send(image.Progress(aux={"Tag": reference.tag, "Digest": digest, "Size": size}))
        return digest

    async def _push_blobs(
        self,
        repository: registries.Repository,
        row: records.Image,
        manifest: manifests.Manifest,
        send: report.Report,
    ) -> None:
        """The layers, the highest first as Docker tells them, and the config once they are there."""
        diff_ids = self._store.config(row.id).rootfs.diff_ids
        layers: dict[str, tuple[manifests.Descriptor, report.PushReport]] = {}
        for layer, diff_id in zip(reversed(manifest.layers), reversed(diff_ids), strict=True):
            if not any(part in layer.media_type for part in _FOREIGN) and layer.digest not in layers:
                layers[layer.digest] = layer, report.PushReport(send, report.short_id(diff_id))
        for number, (_, listener) in enumerate(layers.values()):
            listener.say("Preparing" if number < _SLOTS else "Waiting")
        slots = asyncio.Semaphore(_SLOTS)

        async def one(layer: manifests.Descriptor, listener: report.PushReport) -> None:
            async with slots:
                await self._push_blob(repository, row, layer, listener)

        try:
            async with asyncio.TaskGroup() as group:
                for layer, listener in layers.values():
                    group.create_task(one(layer, listener))
        except* errors.GitopsError as group_error:
            raise group_error.exceptions[0] from None
        await self._push_blob(repository, row, manifest.config, report.PushReport(report.silent, ""))

    async def _push_blob(
        self,
        repository: registries.Repository,
        row: records.Image,
        blob: manifests.Descriptor,
        listener: report.PushReport,
    ) -> None:
        if await repository.has_blob(blob.digest):
            listener.say("Layer already exists")
            return
        if not self._store.has_blob(blob.digest):
            raise errors.Conflict(
                f"{repository.reference.familiar()}: this engine has the layer {blob.digest} unpacked only, since it"
                " came with another image in another compression: remove both images, then load or pull this one again"
            )
        path, mount_from = self._store.layout.blob(blob.digest), self._mount_from(repository.reference, row)

        async def read() -> AsyncIterator[bytes]:
            sent = 0
            with layout.disk_errors(f"read the blob {blob.digest}"):
                file = await asyncio.to_thread(path.open, "rb")
                with file:
                    while block := await asyncio.to_thread(file.read, _BLOCK):
                        yield block
                        sent += len(block)
                        listener.sent(sent, blob.size)

        is_mounted = await repository.put_blob(blob.digest, blob.size, read, mount_from=mount_from)
        listener.say(f"Mounted from {mount_from}" if is_mounted else "Pushed")

    def _mount_from(self, target: references.Reference, row: records.Image) -> str:
        """Another repository of the same registry that is known to have the image, so that nothing need be sent."""
        names = map(references.parse, self._store.names_of(row.id))
        found = (name.path for name in names if name.digest == row.manifest.digest and name.domain == target.domain)
        return next((path for path in found if path != target.path), "")
