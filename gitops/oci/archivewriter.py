"""Writes images into one archive that old and new readers take: `docker load`, OCI tools, and our own reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, cast

import msgspec

from gitops.oci import archive, tarheader
from gitops.oci import digest as digests
from gitops.oci import manifest as manifests
from gitops.oci import reference as references
from gitops.oci.archive import ArchivedImage
from gitops.oci.blob import LayerBlob
from gitops.oci.tarheader import Member
from gitops.oci.tarwriter import TarWriter


def write_archive(images: Sequence[ArchivedImage], output: BinaryIO) -> None:
    """Write an archive for `docker load` that is an OCI archive too: manifest.json beside index.json, one set of blobs.

    Every image needs its `manifest`. The same images give the same bytes.

    Raises:
        errors.Conflict: a layer's file changed meanwhile.
    """
    writer = TarWriter(output)
    blobs: dict[str, LayerBlob | bytes] = {}
    for image in images:
        blobs.update(_blobs(image))
    for directory in ("blobs/", "blobs/sha256/"):
        writer.add(Member(directory.encode(), tarheader.DIRECTORY, 0o755, 0, 0, 0, 0))
    for digest in sorted(blobs):
        _write_blob(writer, _blob_name(digest), blobs[digest])
    _write_blob(writer, "index.json", msgspec.json.encode(_index(images)))
    _write_blob(writer, "manifest.json", msgspec.json.encode([_docker_line(image) for image in images]))
    _write_blob(writer, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    writer.close()


def _blobs(image: ArchivedImage) -> dict[str, LayerBlob | bytes]:
    manifest = cast(bytes, image.manifest)
    blobs: dict[str, LayerBlob | bytes] = {image.id: image.config, digests.sha256(manifest): manifest}
    for layer, descriptor in zip(image.layers, _descriptors(manifest), strict=True):
        blobs[descriptor.digest] = layer
    return blobs


def _descriptors(manifest: bytes) -> Sequence[manifests.Descriptor]:
    return cast(manifests.Manifest, manifests.parse_manifest(manifest)).layers


def _write_blob(writer: TarWriter, name: str, blob: LayerBlob | bytes) -> None:
    member = Member(name.encode(), tarheader.FILE, 0o644, 0, 0, 0, 0)
    if isinstance(blob, bytes):
        member.size = len(blob)
        writer.add(member, blob)
        return
    member.size = blob.size
    with blob.open() as content:
        writer.add(member, content)


def _index(images: Sequence[ArchivedImage]) -> manifests.Index:
    entries = []
    for image in images:
        manifest = cast(bytes, image.manifest)
        kind = manifests.parse_manifest(manifest).media_type or manifests.OCI_MANIFEST
        plain = manifests.Descriptor(kind, digests.sha256(manifest), len(manifest), image.parsed_config().platform)
        for tag in image.tags or [""]:
            annotations = {archive.IMAGE_NAME: tag, archive.REF_NAME: references.parse(tag).tag or ""} if tag else None
            entries.append(msgspec.structs.replace(plain, annotations=annotations))
    return manifests.Index(entries, media_type=manifests.OCI_INDEX)


def _docker_line(image: ArchivedImage) -> dict[str, object]:
    tags = [references.parse(tag).familiar() for tag in image.tags]
    layers = [_blob_name(descriptor.digest) for descriptor in _descriptors(cast(bytes, image.manifest))]
    return {"Config": _blob_name(image.id), "RepoTags": tags or None, "Layers": layers}


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digests.parse(digest).hex}"
