"""Images made on this host from a file tree: `docker import`, and `docker commit` on top of a container's image."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from msgspec import structs

from gitops import errors
from gitops.engine.images import layout, loading, report, saving
from gitops.objects import base
from gitops.objects.container import ContainerConfig
from gitops.oci import archive, blob, builder, compression
from gitops.oci import manifest as manifests


@dataclass(frozen=True, slots=True)
class Making:
    """What an image gets beside its layer."""

    run: ContainerConfig
    """What to run, whole: what the image below says counts no more."""
    created_ns: int
    comment: str = ""
    author: str = ""
    created_by: str = ""
    """The command that made the layer, for its history."""
    platform: manifests.Platform | None = None
    """Of an image with nothing below; default: this machine's."""


class Assembler:
    """Makes images of layers."""

    def __init__(self, saver: saving.Saver, loader: loading.Loader) -> None:
        self._saver = saver
        self._loader = loader

    async def assemble(
        self, layer: Path, making: Making, *, below: str | None = None, names: Sequence[str] = ()
    ) -> str:
        """An image of the tar `layer`, compressed or not, on top of the image `below`; returns its id.

        `names` are canonical references, taken from the images that had them.

        Raises:
            errors.NotFound: no image `below`.
            errors.Invalid: no tar, or one that an image can't have.
            errors.Unsupported: compressed in a way that we don't know.
            errors.RuntimeFailure: the disk refused.
        """
        with layout.disk_errors(f"read {layer}"):
            top = await asyncio.to_thread(_layer, layer)
        lower = self._saver.image(below) if below else None
        layers = [*(lower.layers if lower else ()), top]
        config = _config(lower.parsed_config() if lower else None, making, top.diff_id)
        image = archive.ArchivedImage(list(names), base.to_json(config), layers)
        await self._loader.take(image, report.silent)
        return image.id


def _layer(path: Path) -> blob.LayerBlob:
    def open_layer() -> BinaryIO:
        return cast(BinaryIO, path.open("rb"))

    with open_layer() as file:
        kind = compression.recognise(file.read(6))
        file.seek(0)
        digest, decoder = hashlib.sha256(), compression.decoder(file.read)
        while chunk := decoder.read_chunk():
            digest.update(chunk)
    diff_id = f"sha256:{digest.hexdigest()}"
    size, media_type = path.stat().st_size, manifests.OCI_LAYER + (f"+{kind}" if kind else "")
    if not size:
        raise errors.Invalid("there is nothing in it: a tar is wanted")
    return blob.LayerBlob(size, media_type, diff_id, None if kind else diff_id, path, 0, open_layer)


def _config(below: manifests.ImageConfig | None, making: Making, diff_id: str) -> manifests.ImageConfig:
    platform = below.platform if below else making.platform or manifests.host()
    created = base.format_time(making.created_ns)
    step = manifests.History(created, making.created_by, making.author, making.comment)
    return manifests.ImageConfig(
        architecture=platform.architecture,
        os=platform.os or "linux",
        variant=platform.variant,
        created=created,
        author=making.author,
        comment=making.comment,
        config=structs.replace(making.run, image="", hostname="", domainname=""),
        rootfs=manifests.RootFS(diff_ids=[*(below.rootfs.diff_ids if below else ()), diff_id]),
        history=[*(builder.history_of(below) if below else ()), step],
    )
