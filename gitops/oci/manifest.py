"""Manifests, indexes and image configs: reading them, choosing a platform, chain ids.

Reading is lenient about what is unknown and strict about what is contradictory: a document whose own media type
differs from the one it was served as, or that is manifest and index at once, is refused.
"""

from __future__ import annotations

import platform as host_platform
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from gitops import errors
from gitops.objects import container
from gitops.oci import digest as digests

T = TypeVar("T")

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
ACCEPT = (OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST)
"""To be sent with every manifest request: with fewer, a registry may convert to schema 1."""
LAYER_TYPES = frozenset(
    [
        *(f"{OCI_LAYER}{suffix}" for suffix in ("", "+gzip", "+zstd")),
        *(f"application/vnd.oci.image.layer.nondistributable.v1.tar{suffix}" for suffix in ("", "+gzip", "+zstd")),
        DOCKER_LAYER,
        f"{DOCKER_LAYER}.gzip",
        f"{DOCKER_LAYER}.zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ]
)

MANIFEST_LIMIT = 4 << 20
CONFIG_LIMIT = 8 << 20
LAYER_LIMIT = 127


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an image runs on."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = msgspec.field(name="os.version", default="")
    os_features: list[str] | None = msgspec.field(name="os.features", default=None)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A pointer to a blob: what it is, its digest, its size in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One image: its config and its layers, lowest first."""

    config: Descriptor
    layers: list[Descriptor]
    schema_version: int = msgspec.field(default_factory=lambda: 2)
    media_type: str = ""
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Images for several platforms."""

    manifests: list[Descriptor]
    schema_version: int = msgspec.field(default_factory=lambda: 2)
    media_type: str = ""
    annotations: dict[str, str] | None = None


class RootFS(msgspec.Struct, frozen=True):
    """Diff ids of the layers, lowest first."""

    type: str = "layers"
    diff_ids: list[str] = msgspec.field(default_factory=list)


class History(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a layer came to be; `empty_layer` where there is none."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """The config blob of an image; its digest is the image's id. `config` is what to run."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    created: str | None = None
    author: str = ""
    docker_version: str = ""
    comment: str = ""
    config: container.ContainerConfig | None = None
    rootfs: RootFS = msgspec.field(default_factory=RootFS)
    history: list[History] | None = None

    @property
    def run(self) -> container.ContainerConfig:
        """`config`, empty where the image has none."""
        return self.config or container.ContainerConfig()

    @property
    def platform(self) -> Platform:
        """What it runs on."""
        return Platform(self.architecture, self.os, self.variant)


def parse_manifest(data: bytes, content_type: str = "") -> Manifest | Index:
    """Read a manifest or an index of at most 4 MiB.

    `content_type` is what the registry said, "" where nobody did.

    Raises:
        errors.Unsupported: schema 1.
        errors.Invalid: no manifest, too long, contradictory, or with a digest or size that can't be.
    """
    if len(data) > MANIFEST_LIMIT:
        raise errors.Invalid(f"manifest of {len(data)} bytes: the limit is {MANIFEST_LIMIT}")
    raw = _decode(data, dict[str, Any], "manifest")
    kind = _media_type(raw, content_type.partition(";")[0].strip())
    if kind in INDEX_TYPES:
        index = _convert(raw, Index, "image index")
        _check_descriptors(index.manifests)
        return index
    manifest = _convert(raw, Manifest, "image manifest")
    _check_descriptors([manifest.config, *manifest.layers])
    if len(manifest.layers) > LAYER_LIMIT:
        raise errors.Invalid(f"manifest with {len(manifest.layers)} layers: the limit is {LAYER_LIMIT}")
    return manifest


def parse_config(data: bytes) -> ImageConfig:
    """Read an image's config of at most 8 MiB.

    Raises:
        errors.Invalid: no config, too long, or with diff ids that can't be.
    """
    if len(data) > CONFIG_LIMIT:
        raise errors.Invalid(f"image config of {len(data)} bytes: the limit is {CONFIG_LIMIT}")
    raw = _said(_decode(data, dict[str, Any], "image config"), "config", "rootfs", "history")
    config = _convert(raw, ImageConfig, "image config")
    for diff_id in config.rootfs.diff_ids:
        digests.validate(diff_id)
    return config


def _said(value: Any, *inside: str) -> Any:
    """The fields of an object, and of those `inside` of it, that aren't null: to Go's reader, and so to those who
    write images, a null says nothing."""
    if isinstance(value, list):
        return [_said(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {key: _said(inner) if key in inside else inner for key, inner in value.items() if inner is not None}


def _media_type(raw: dict[str, Any], served: str) -> str:
    own = raw.get("mediaType") or ""
    if served in SCHEMA1 or own in SCHEMA1 or raw.get("schemaVersion") == 1:
        raise errors.Unsupported(
            "image manifest in the retired format schema 1: have it pushed again by a current builder"
        )
    if "manifests" in raw and ("layers" in raw or "config" in raw):
        raise errors.Invalid("manifest and image index in one document")
    known = served if served in INDEX_TYPES + MANIFEST_TYPES else ""
    if known and own and known != own:
        raise errors.Invalid(f"manifest says that it is {str(own)[:100]!r} but was served as {known!r}")
    kind = own or known or (OCI_INDEX if "manifests" in raw else OCI_MANIFEST)
    if kind not in INDEX_TYPES + MANIFEST_TYPES:
        raise errors.Invalid(f"unknown type of manifest {str(kind)[:100]!r}")
    if (kind in INDEX_TYPES) != ("manifests" in raw):
        raise errors.Invalid(f"manifest's content is not the {kind!r} that it says it is")
    return str(kind)


def _check_descriptors(descriptors: Sequence[Descriptor]) -> None:
    for descriptor in descriptors:
        digests.validate(descriptor.digest)
        if descriptor.size < 0:
            raise errors.Invalid(f"descriptor of {descriptor.digest} has a negative size")


def _decode(data: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.Invalid(f"invalid {what}: {error}") from error


def _convert(raw: Any, kind: type[T], what: str) -> T:
    try:
        return msgspec.convert(raw, type=kind, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        raise errors.Invalid(f"invalid {what}: {error}") from error


_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
}
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}


def host() -> Platform:
    """The platform of this machine."""
    machine = host_platform.machine()
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform(architecture=architecture, os="linux", variant=variant)


def parse_platform(text: str) -> Platform:
    """`os[/architecture[/variant]]` or an architecture alone, as in `--platform`.

    Raises:
        errors.Invalid: not a platform.
    """
    parts = text.lower().split("/")
    if not all(parts) or len(parts) > 3:
        raise errors.Invalid(f"invalid platform {text[:100]!r}: os/architecture[/variant] is wanted, as in linux/amd64")
    if len(parts) == 1:
        parts = [parts[0], host().architecture] if parts[0] == "linux" else ["linux", parts[0]]
    return Platform(os=parts[0], architecture=_ALIASES.get(parts[1], parts[1]), variant=parts[2] if parts[2:] else "")


def select_platform(index: Index, platform: Platform) -> Descriptor:
    """The manifest of `index` that suits `platform` best; attestations (unknown/unknown) are passed over.

    Raises:
        errors.NotFound: none suits, in Docker's words.
    """
    ranked = [
        (rank, -position, entry)
        for position, entry in enumerate(index.manifests)
        if entry.media_type in MANIFEST_TYPES + INDEX_TYPES and (rank := _rank(entry.platform, platform)) is not None
    ]
    if not ranked:
        raise errors.NotFound(f"no matching manifest for {platform} in the manifest list entries")
    return max(ranked, key=lambda entry: entry[:2])[2]


def _rank(offered: Platform | None, wanted: Platform) -> int | None:
    """How well an offer suits, higher is better; None where it doesn't run."""
    if offered is None:
        return 0
    if (offered.os, offered.architecture) != (wanted.os, wanted.architecture):
        return None
    have, ask = _variant(offered), _variant(wanted)
    if have == ask and (have >= 0 or offered.variant == wanted.variant):
        return 100
    if offered.architecture in ("arm", "amd64") and 0 < have < ask:
        return have
    return None


def _variant(platform: Platform) -> int:
    """The variant as a number; what is left out means amd64 v1, arm64 v8, arm v7; -1 for what we can't order."""
    default = {"amd64": "v1", "arm64": "v8", "arm": "v7"}.get(platform.architecture, "")
    text = (platform.variant or default).removeprefix("v")
    if not text:
        return 0
    return int(text) if text.isascii() and text.isdigit() and len(text) < 3 else -1


def chain_id(parent: str | None, diff_id: str) -> str:
    """The id of a layer on its parents: what its directory is keyed by. `parent` is the chain below, None for none."""
    digests.validate(diff_id)
    return diff_id if not parent else digests.sha256(f"{parent} {diff_id}".encode())


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The chain id of every layer, lowest first."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(chain_id(chain[-1] if chain else None, diff_id))
    return chain
