"""Where images lie under the data root, and the few file operations that crash safety is made of.

    blobs/sha256/HEX     manifests, configs, layers as the registry has them
    layers/HEX           unpacked layers, by chain id
    l/SHORT              symlinks to layers, so that many of them fit one page of mount options
    tmp/RANDOM           directories being unpacked
    tmp/HEX, HEX.part    blobs on their way; a `.part` survives restarts and is resumed
    trash/RANDOM         what waits for its deletion

All of it on one file system, 0700: device nodes and setuid files lie in there.
"""

from __future__ import annotations

import ctypes
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gitops import errors
from gitops.oci import digest as digests

PART = ".part"


class Layout:
    """Paths under one data root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "blobs" / "sha256"
        self.layers = root / "layers"
        self.short = root / "l"
        self.tmp = root / "tmp"
        self.trash = root / "trash"

    def create(self) -> None:
        """Make the directories that are missing."""
        for path in (self.root, self.blobs.parent, self.blobs, self.layers, self.short, self.tmp, self.trash):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def blob(self, digest: str) -> Path:
        """Where the blob `digest` lies, or would."""
        return self.blobs / digests.parse(digest).hex

    def layer(self, chain_id: str) -> Path:
        """Where the layer `chain_id` lies, or would."""
        return self.layers / digests.parse(chain_id).hex

    def incoming(self, digest: str) -> Path:
        """Where the blob `digest` is kept until its image is committed."""
        return self.tmp / digests.parse(digest).hex

    def part(self, digest: str) -> Path:
        """The blob `digest` as far as it has come."""
        return self.tmp / (digests.parse(digest).hex + PART)

    def new_directory(self) -> Path:
        """An empty directory of a fresh name under `tmp/`."""
        path = self.tmp / random_name()
        path.mkdir(mode=0o700)
        return path


def random_name() -> str:
    """A file name that nobody has."""
    return secrets.token_hex(12)


_libc = ctypes.CDLL(None, use_errno=True)


def sync_filesystem(path: Path) -> None:
    """Write all that is dirty on the file system of `path` to its disk; blocks, from tenths of a second to seconds.

    Raises:
        errors.RuntimeFailure: the disk refused something since the last call.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise errors.RuntimeFailure(f"can't write {path} to its disk: {reason}; check the disk and its free space")
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make renames and links in the directory `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn the system's refusals into ours, saying what was being done."""
    try:
        yield
    except OSError as error:
        raise errors.RuntimeFailure(
            f"can't {what}: {error.strerror or error} ({error.filename}); check the disk and its free space"
        ) from error
