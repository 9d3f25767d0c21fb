"""Compressed streams, recognised by their first bytes: gzip (many members too), zstd (many frames too), none.

Output is bounded per call, so that a bomb costs disk or a limit, never memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Protocol, cast

import zstandard
from isal import isal_zlib

from gitops import errors

INPUT = 256 << 10
OUTPUT = 512 << 10
_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
_REFUSED = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x5d\0\0": "lzma", b"\x04\x22\x4d\x18": "lz4"}
_WINDOW = 128 << 20
_GzipError = cast("type[Exception]", isal_zlib.error)


class Decoder(Protocol):
    """The uncompressed bytes, piece by piece."""

    def read_chunk(self) -> bytes:
        """At most 512 KiB; b"" at the end.

        Raises:
            errors.Invalid: damaged, cut short, or followed by something else.
        """
        ...


def recognise(head: bytes) -> str:
    """`gzip`, `zstd` or "" for no compression, by the first bytes.

    Raises:
        errors.Unsupported: a compression that images may not have.
    """
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_ZSTD) or (head[1:4] == _ZSTD_SKIPPABLE and 0x50 <= head[0] <= 0x5F):
        return "zstd"
    for magic, name in _REFUSED.items():
        if head.startswith(magic):
            raise errors.Unsupported(f"compressed by {name}: images are uncompressed, gzip or zstd")
    return ""


def decoder(read: Callable[[int], bytes]) -> Decoder:
    """The decoder for what `read` gives: at most n bytes, b"" at the end.

    Raises:
        errors.Unsupported: a compression that images may not have.
    """
    head = b""
    while len(head) < 6 and (more := read(INPUT)):
        head += more
    kind = recognise(head)
    source = _Pushback(head, read)
    if kind == "gzip":
        return _Gzip(source)
    return _Zstd(source) if kind == "zstd" else _Plain(source)


class _Pushback:
    """A reader whose first bytes were read already."""

    def __init__(self, head: bytes, read: Callable[[int], bytes]) -> None:
        self._head = head
        self._read = read

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._read(size if size > 0 else INPUT)
        size = size if size > 0 else len(self._head)
        piece, self._head = self._head[:size], self._head[size:]
        return piece


class _Plain:
    def __init__(self, source: _Pushback) -> None:
        self._source = source

    def read_chunk(self) -> bytes:
        return self._source.read(INPUT)


class _Gzip:
    def __init__(self, source: _Pushback) -> None:
        self._source = source
        self._inflate = isal_zlib.decompressobj(wbits=31)
        self._pending = b""
        self._is_fresh = True

    def read_chunk(self) -> bytes:
        while True:
            if not self._pending:
                self._pending = self._source.read(INPUT)
                if not self._pending:
                    return self._end()
            try:
                output: bytes = self._inflate.decompress(self._pending, OUTPUT)
            except _GzipError as error:
                raise errors.Invalid(f"damaged gzip data: {error}") from error
            self._is_fresh = False
            if self._inflate.eof:
                self._pending = self._inflate.unused_data
                self._inflate = isal_zlib.decompressobj(wbits=31)
                self._is_fresh = True
            else:
                self._pending = self._inflate.unconsumed_tail
            if output:
                return output

    def _end(self) -> bytes:
        # A stream whose trailer was cut off has given all its data, and its check sum was never compared.
        if self._is_fresh:
            return b""
        try:
            output: bytes = self._inflate.decompress(b"", OUTPUT)
        except _GzipError as error:
            raise errors.Invalid(f"damaged gzip data: {error}") from error
        self._is_fresh = self._inflate.eof
        if output or self._is_fresh:
            return output
        raise errors.Invalid("gzip data is cut short")


class _Zstd:
    def __init__(self, source: _Pushback) -> None:
        # A frame that needs a larger window than the format's own advice would cost that much memory.
        context = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        self._reader = context.stream_reader(cast(IO[bytes], source), read_size=INPUT, read_across_frames=True)

    def read_chunk(self) -> bytes:
        try:
            return self._reader.read(OUTPUT)
        except zstandard.ZstdError as error:
            raise errors.Invalid(f"damaged zstd data: {error}") from error
