"""What an unpacker is asked and what it answers: values that travel between the daemon and its workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from gitops.oci import limits


class FileSource(msgspec.Struct, frozen=True, tag="file"):
    """`size` bytes of the file `path` from `offset`."""

    path: Path
    offset: int = 0
    size: int | None = None
    """None: to the end of the file."""


class HttpSource(msgspec.Struct, frozen=True, tag="http"):
    """A blob on a server, fetched by the worker itself, with no redirect followed: the caller resolves them.

    With a `blob_path` in the job, a broken download leaves `<blob_path>.part`; the next job for the same path reads
    that first and asks the server for the rest only.
    """

    url: str
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    """Sent as they are; they may carry credentials and are never logged."""
    ca_file: Path | None = None
    """Certificates to trust beside the system's."""
    client_certificate: Path | None = None
    client_key: Path | None = None
    insecure_tls: bool = False
    """Accept any certificate; for registries that the operator has marked insecure."""
    timeout_s: float = 60.0
    """For connecting and for every read."""

    @property
    def place(self) -> str:
        """The URL as it may be shown: a query may be a signature."""
        return self.url.partition("?")[0]

    def __repr__(self) -> str:
        return f"HttpSource({self.place!r}, <headers hidden>)"


class LayerJob(msgspec.Struct, frozen=True):
    """One layer to be fetched, verified and unpacked."""

    source: FileSource | HttpSource
    target: Path
    """An empty directory that only root can reach; it becomes the layer's root."""
    digest: str | None = None
    """Of the stored bytes. None only for files whose digest nobody has told."""
    size: int | None = None
    """Of the stored bytes; None where nobody has told."""
    media_type: str = ""
    """For messages only: the compression is recognised by its first bytes."""
    diff_id: str | None = None
    """Of the uncompressed tar."""
    blob_path: Path | None = None
    """Where to keep the stored bytes; on the same file system as its `.part`. None keeps nothing."""
    limits: limits.Limits = limits.DEFAULT

    @property
    def part_path(self) -> Path | None:
        """Where the stored bytes grow until they are verified."""
        return self.blob_path and self.blob_path.with_name(self.blob_path.name + ".part")


class LayerProgress(msgspec.Struct, frozen=True):
    """How far a job is; counts only grow."""

    blob_bytes: int
    """Stored bytes read so far, those of an earlier try included."""
    unpacked_bytes: int
    members: int
    resumed_bytes: int = 0
    """How much of `blob_bytes` came from an earlier try."""


class DeferredLink(msgspec.Struct, frozen=True):
    """A hard link whose target is not in its own layer; both names from the layer's root."""

    name: bytes
    target: bytes


class LayerResult(msgspec.Struct, frozen=True):
    """A layer that was verified and written; what the finish pass needs is below `members`."""

    digest: str
    diff_id: str
    size: int
    """Stored bytes."""
    unpacked_bytes: int
    """Content of regular files."""
    disk_bytes: int
    """The same, each file rounded up to 4 KiB, and 4 KiB for every other entry."""
    members: int
    has_root: bool = False
    """The layer has an entry for its root."""
    opaque: list[bytes] = []
    """Directories that hide what is below; b"" is the root."""
    fresh: list[bytes] = []
    """Those of them that a whiteout made opaque: they take no metadata from below either."""
    whiteouts: list[bytes] = []
    implied: list[bytes] = []
    """Directories that no entry made, in the order of their making."""
    links: list[DeferredLink] = []
    is_redone: bool = False
    """Was extracted with the lower layers in view."""


@dataclass(frozen=True, slots=True)
class FinishResult:
    """What the finish pass found.

    With `redo`, the layer can't be completed from what was extracted: a path of it runs through a symlink of a lower
    layer. Extract it again by `Unpacker.redo` into an empty directory, then finish that.
    """

    redo: bool = False
    opaque_root: bool = False
    """No layer below this one may be mounted: overlayfs ignores the mark on a root."""
    copied_bytes: int = 0
    """Copied up from lower layers for hard links."""
