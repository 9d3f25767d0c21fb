"""Images out of the content store: `docker save`, and the images that others are assembled on.

Promises: an image leaves with the blobs that it came with, so that its digest is the same wherever it is loaded; where
a layer is held in another compression than its manifest says, it leaves with a new manifest that tells what is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import BinaryIO, cast

from gitops import errors
from gitops.engine.images import layout, records, store
from gitops.objects import base
from gitops.oci import archive, archivewriter, blob
from gitops.oci import manifest as manifests


class Saver:
    """Reads images of a content store as an archive has them."""

    def __init__(self, content: store.ContentStore) -> None:
        self._store = content

    @asynccontextmanager
    async def save(self, wanted: Mapping[str, Sequence[str]], output: BinaryIO) -> AsyncIterator[asyncio.Future[None]]:
        """The writing of images, canonical names by id, to `output`, which is closed at its end.

        Whoever reads the other end may go away before: then the writing ends. Nothing of it is collected meanwhile.
        """
        images = [self.image(image_id, names) for image_id, names in wanted.items()]

        def write() -> None:
            with layout.disk_errors("read the images"), output:
                archivewriter.write_archive(images, output)

        with self._store.lease() as lease:
            for image_id in wanted:
                row = self._store.image(image_id)
                lease([*row.blobs, *(self._held(layer).digest for layer in row.layers)])
            writing = asyncio.ensure_future(asyncio.to_thread(write))
            writing.add_done_callback(_take_note)
            try:
                yield writing
            finally:
                await asyncio.wait([writing])

    def image(self, image_id: str, names: Sequence[str] = ()) -> archive.ArchivedImage:
        """An image with its layers as they lie in the store.

        Raises:
            errors.NotFound: there is no such image.
            errors.RuntimeFailure: a blob of it is gone.
        """
        row = self._store.image(image_id)
        config = self._store.read_blob(row.id)
        layers = [self._held(layer) for layer in row.layers]
        if all(held.digest == layer.digest for held, layer in zip(layers, row.layers, strict=True)):
            manifest = self._store.read_blob(row.manifest.digest)
        else:
            manifest = make_manifest(row.id, config, layers)
        return archive.ArchivedImage(list(names), config, [self._blob(layer) for layer in layers], manifest)

    def _held(self, layer: records.ImageLayer) -> records.Layer:
        """A layer with the blob that is there: its own, or the one that its directory came from."""
        found = self._store.layers[layer.chain_id]
        if not self._store.has_blob(found.digest):
            raise errors.RuntimeFailure(
                f"the blob {found.digest} of a layer is gone: remove the image and pull or load it again"
            )
        return found

    def _blob(self, layer: records.Layer) -> blob.LayerBlob:
        path = self._store.layout.blob(layer.digest)
        return blob.LayerBlob(
            layer.size, layer.media_type, layer.diff_id, layer.digest, path, 0, lambda: cast(BinaryIO, path.open("rb"))
        )


def _take_note(writing: asyncio.Future[None]) -> None:
    """Who waits for it is told; where the client went away, which is no failure, nobody is left to be."""
    if not writing.cancelled():
        writing.exception()


def make_manifest(image_id: str, config: bytes, layers: Sequence[records.Layer]) -> bytes:
    """A manifest for a config and the layers as they are held, the lowest first."""
    return base.to_json(
        manifests.Manifest(
            config=manifests.Descriptor(manifests.OCI_CONFIG, image_id, len(config)),
            layers=[manifests.Descriptor(layer.media_type, layer.digest, layer.size) for layer in layers],
            media_type=manifests.OCI_MANIFEST,
        )
    )
