"""What a stack of finished layers shows at a path, as overlayfs merges them, by `lstat` alone.

The layers don't change while one looks, and every component of a path was seen to be a real directory of the same
layer before the next is looked at: so no symlink of a layer is ever followed. Directories are held open, for a worker
that is locked into another one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

OPAQUE = "trusted.overlay.opaque"


@dataclass(frozen=True, slots=True)
class Found:
    """The topmost entry at a path and the layer that has it (its place in the stack, its open root)."""

    position: int
    descriptor: int
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        """A real directory."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_symlink(self) -> bool:
        """A symlink."""
        return stat.S_ISLNK(self.status.st_mode)


class LowerView:
    """The layers under one layer, nearest first. `opaque` are the directories that the upper layer doesn't merge."""

    def __init__(self, descriptors: Sequence[int], opaque: Iterable[bytes] = ()) -> None:
        self._descriptors = tuple(descriptors)
        self._opaque = set(opaque)
        self._merging: dict[bytes, tuple[int, ...]] = {}

    @classmethod
    def open(cls, layers: Sequence[Path], opaque: Iterable[bytes] = ()) -> LowerView:
        """A view over directories; close it."""
        descriptors: list[int] = []
        try:
            for layer in layers:
                descriptors.append(os.open(layer, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
        except OSError:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        return cls(descriptors, opaque)

    def close(self) -> None:
        """Close the layers."""
        for descriptor in self._descriptors:
            os.close(descriptor)

    def __enter__(self) -> LowerView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def roots(self) -> tuple[int, ...]:
        """The open layers, nearest first."""
        return self._descriptors

    def merging(self, path: bytes) -> tuple[int, ...]:
        """The layers whose directory `path` merges with the upper layer's."""
        known = self._merging.get(path)
        if known is None:
            known = self._merging[path] = self._merge(path)
        return known

    def lookup(self, path: bytes) -> Found | None:
        """What the layers show at `path`, whose parent must be a directory; None where nothing is."""
        for descriptor in self.merging(os.path.dirname(path)):
            status = lstat(path, descriptor)
            if status is not None:
                position = self._descriptors.index(descriptor)
                return None if is_whiteout(status) else Found(position, descriptor, status)
        return None

    def hide(self, path: bytes) -> None:
        """From now on, the upper layer doesn't merge `path`."""
        self._opaque.add(path)
        prefix = path + b"/"
        for key in [key for key in self._merging if key == path or not path or key.startswith(prefix)]:
            del self._merging[key]

    def _merge(self, path: bytes) -> tuple[int, ...]:
        if path in self._opaque:
            return ()
        if not path:
            return self._descriptors
        merged: list[int] = []
        for descriptor in self.merging(os.path.dirname(path)):
            status = lstat(path, descriptor)
            if status is None:
                continue
            if not stat.S_ISDIR(status.st_mode):
                break
            merged.append(descriptor)
            if is_opaque(path, descriptor):
                break
        return tuple(merged)


def lstat(path: bytes, descriptor: int) -> os.stat_result | None:
    """The entry itself, None where there is none. `path` b"" is the directory `descriptor`."""
    try:
        return os.stat(path or b".", dir_fd=descriptor, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_whiteout(status: os.stat_result) -> bool:
    """A character device 0:0: overlayfs's mark of a deletion."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: bytes, descriptor: int) -> bool:
    """Whether the directory hides those below it."""
    opened = open_directory(path, descriptor)
    try:
        return os.getxattr(opened, OPAQUE) == b"y"
    except OSError:
        return False
    finally:
        os.close(opened)


def open_directory(path: bytes, descriptor: int) -> int:
    """Open a real directory of a layer; the caller closes."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path or b".", flags, dir_fd=descriptor)
