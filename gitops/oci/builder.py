"""Images assembled from files, the same to the byte wherever and whenever they are built.

A plan is a base, layers of entries, and what to run. The entries' sources are read here, but whether a manifest may
read them is decided by the caller; this module only promises never to follow a symlink inside a source directory
(it is copied as a symlink). Layers are uncompressed, so that no version of a compressor can change a digest, and the
image's id is known before anything is loaded.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import msgspec

from gitops import errors
from gitops.objects import container
from gitops.oci import archivewriter
from gitops.oci import manifest as manifests
from gitops.oci import reference as references
from gitops.oci.archive import ArchivedImage
from gitops.oci.blob import LayerBlob
from gitops.oci.buildlayer import write_layer
from gitops.oci.plan import (
    BuildConfig,
    BuildPlan,
    ContentEntry,
    DirectoryEntry,
    Entry,
    FileEntry,
    LinkEntry,
)

__all__ = [
    "BuildConfig",
    "BuildPlan",
    "BuiltImage",
    "ContentEntry",
    "DirectoryEntry",
    "Entry",
    "FileEntry",
    "LinkEntry",
    "build",
    "history_of",
    "manifest_of",
    "write_archive",
]

_BUFFER = 256 << 10


class BuiltImage:
    """An image that was built: its id is known, its layers lie in nameless temporary files. A context manager."""

    def __init__(self, image: ArchivedImage, files: Sequence[BinaryIO]) -> None:
        self.image = image
        self._files = list(files)

    @property
    def id(self) -> str:
        """What the engine will call it: the digest of its config."""
        return self.image.id

    @property
    def config(self) -> bytes:
        """The config blob."""
        return self.image.config

    @property
    def manifest(self) -> bytes:
        """The manifest blob."""
        return cast(bytes, self.image.manifest)

    @property
    def layers(self) -> Sequence[LayerBlob]:
        """Lowest first, those of the base included."""
        return self.image.layers

    def close(self) -> None:
        """Drop the built layers; the base's are the caller's."""
        for file in self._files:
            file.close()

    def __enter__(self) -> BuiltImage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def build(plan: BuildPlan, *, scratch: Path | None = None) -> BuiltImage:
    """Make the image of a plan. The base must stay open as long as the result is used. Blocking.

    Raises:
        errors.Invalid: a target that is no path, two entries for one path, a source of the wrong kind, a bad config.
        errors.NotFound: a source is missing.
    """
    files: list[BinaryIO] = []
    try:
        layers = list(plan.base.layers) if plan.base else []
        for entries in plan.layers:
            file = cast(BinaryIO, tempfile.TemporaryFile(dir=scratch))  # noqa: SIM115
            files.append(file)
            layers.append(write_layer(entries, file))
        config = msgspec.json.encode(_config(plan, [layer.diff_id for layer in layers]))
        tags = [references.parse(tag).with_default_tag().canonical() for tag in plan.tags]
        image = ArchivedImage(tags, config, layers)
        return BuiltImage(ArchivedImage(tags, config, layers, manifest_of(image)), files)
    except BaseException:
        for file in files:
            file.close()
        raise


def write_archive(built: BuiltImage | Sequence[BuiltImage], output: BinaryIO) -> None:
    """Write what was built as an archive for POST /images/load; the same images give the same bytes.

    Raises:
        errors.Conflict: a layer's file changed meanwhile.
    """
    images = [built] if isinstance(built, BuiltImage) else built
    archivewriter.write_archive([image.image for image in images], output)


def _config(plan: BuildPlan, diff_ids: Sequence[str]) -> manifests.ImageConfig:
    base = plan.base.parsed_config() if plan.base else manifests.ImageConfig()
    platform = plan.platform or (base.platform if base.os else manifests.host())
    added = [
        manifests.History(created=plan.created, created_by=f"gitops build: layer {number}", comment="gitops")
        for number in range(1, len(plan.layers) + 1)
    ]
    configured = manifests.History(
        created=plan.created, created_by="gitops build: config", comment="gitops", empty_layer=True
    )
    return manifests.ImageConfig(
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant,
        created=plan.created,
        config=_run(base.run, plan.config),
        rootfs=manifests.RootFS(diff_ids=list(diff_ids)),
        history=[*history_of(base), *added, configured],
    )


def history_of(base: manifests.ImageConfig) -> list[manifests.History]:
    """An image's history, for images on top; where it has none, or one of other layers, a line for each layer."""
    history = base.history or []
    count = len(base.rootfs.diff_ids)
    if sum(not line.empty_layer for line in history) == count:
        return history
    return [manifests.History(created=base.created, created_by="base")] * count


def _run(base: container.ContainerConfig, config: BuildConfig) -> container.ContainerConfig:
    cmd = base.cmd if config.entrypoint is None else None
    return msgspec.structs.replace(
        base,
        hostname="",
        image="",
        entrypoint=base.entrypoint if config.entrypoint is None else list(config.entrypoint),
        cmd=cmd if config.cmd is None else list(config.cmd),
        env=_environment(base.env or [], config.env),
        working_dir=base.working_dir if config.working_dir is None else config.working_dir,
        user=base.user if config.user is None else config.user,
        exposed_ports=_keys(base.exposed_ports, [_port(port) for port in config.exposed_ports]),
        volumes=_keys(base.volumes, config.volumes),
        labels=dict(sorted({**(base.labels or {}), **config.labels}.items())) or None,
        stop_signal=base.stop_signal if config.stop_signal is None else config.stop_signal,
        healthcheck=base.healthcheck if config.healthcheck is None else config.healthcheck,
    )


def _environment(base: Sequence[str], own: Mapping[str, str]) -> list[str] | None:
    """The base's variables in their order, replaced where we have them, then ours in the order of their names."""
    merged = dict(line.partition("=")[::2] for line in base)
    for name in sorted(own):
        if not name or "=" in name or "\0" in name + own[name]:
            raise errors.Invalid(f"{name!r} is not the name of an environment variable")
        merged[name] = own[name]
    return [f"{name}={value}" for name, value in merged.items()] or None


def _keys(base: Mapping[str, object] | None, own: Sequence[str]) -> dict[str, object] | None:
    return {key: {} for key in sorted({*(base or {}), *own})} or None


def _port(text: str) -> str:
    port, _, protocol = text.partition("/")
    protocol = protocol or "tcp"
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536) or protocol not in ("tcp", "udp", "sctp"):
        raise errors.Invalid(f"{text!r} is not a port to expose: 8080, 8080/tcp and 53/udp are")
    return f"{int(port)}/{protocol}"


def manifest_of(image: ArchivedImage) -> bytes:
    """The manifest of an image that came without one; its layers are read where their digest is not known."""
    layers = []
    for layer in image.layers:
        digest = layer.digest or _digest(layer)
        layers.append(manifests.Descriptor(layer.media_type, digest, layer.size))
    config = manifests.Descriptor(manifests.OCI_CONFIG, image.id, len(image.config))
    return msgspec.json.encode(manifests.Manifest(config, layers, media_type=manifests.OCI_MANIFEST))


def _digest(layer: LayerBlob) -> str:
    state = hashlib.sha256()
    with layer.open() as content:
        while piece := content.read(_BUFFER):
            state.update(piece)
    return f"sha256:{state.hexdigest()}"
