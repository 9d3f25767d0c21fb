"""What an image is to be built of: a base, layers of entries, and what to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gitops.objects import service
from gitops.oci.archive import ArchivedImage
from gitops.oci.manifest import Platform


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of the host, copied to `to`; `mode` None keeps the file's permission bits."""

    source: Path
    to: str
    mode: int | None = None
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A directory of the host with all below it.

    `mode` holds for the files; directories get it too, with the right to search wherever it has the right to read.
    """

    source: Path
    to: str
    mode: int | None = None
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class ContentEntry:
    """A file whose content is given."""

    content: bytes
    to: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class LinkEntry:
    """A symlink at `to` that says `target`."""

    target: str
    to: str
    uid: int = 0
    gid: int = 0


Entry = FileEntry | DirectoryEntry | ContentEntry | LinkEntry


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """What the image runs. None leaves the base's value; mappings are merged over the base's."""

    entrypoint: Sequence[str] | None = None
    """Setting it clears the base's cmd, as a Dockerfile's ENTRYPOINT does."""
    cmd: Sequence[str] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    user: str | None = None
    exposed_ports: Sequence[str] = ()
    """`8080/tcp`, `53/udp`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str | None = None
    healthcheck: service.HealthConfig | None = None
    volumes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What `build` makes an image of."""

    layers: Sequence[Sequence[Entry]] = ()
    config: BuildConfig = BuildConfig()
    base: ArchivedImage | None = None
    """None is `scratch`. A `BuiltImage` gives its own by `.image`."""
    tags: Sequence[str] = ()
    """Names under which the archive will be loaded."""
    platform: Platform | None = None
    """None: the base's, or this machine's."""
    created: str = "1970-01-01T00:00:00Z"
    """Fixed, so that two builds are one image."""
