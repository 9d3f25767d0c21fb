"""A layer's bytes, wherever they lie: a piece of a file, opened as often as wanted."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast


class Section(io.RawIOBase):
    """A piece of an open file, with a position of its own; closes nothing but itself."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._offset = offset
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: object) -> int:
        """Fill `buffer` as far as the piece goes."""
        view = memoryview(cast(bytearray, buffer)).cast("B")
        wanted = min(len(view), max(0, self._size - self._position))
        data = os.pread(self._descriptor, wanted, self._offset + self._position)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """A layer as it is stored: `size` bytes, perhaps compressed.

    `digest` is None where nobody has said or computed it; `diff_id` is that of the uncompressed tar, from the config.
    `path` and `offset` tell where the bytes lie in a file that a worker can open by itself.
    """

    size: int
    media_type: str
    diff_id: str
    digest: str | None
    path: Path
    offset: int
    opener: Callable[[], BinaryIO] = field(repr=False, compare=False)

    def open(self) -> BinaryIO:
        """The stored bytes from the start; the caller closes."""
        return self.opener()
