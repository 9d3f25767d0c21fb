"""Reads tar streams by the rules of Go's archive/tar, since that is what builds and checks images.

Knows v7, ustar, PAX (`x`), GNU long names (`L`, `K`), base-256 numbers, star, and sparse files in their four forms.
Global PAX headers are read and ignored, as Go does. Names stay bytes. Nothing is kept but the current header; the data
of a member is handed out in pieces. What a stream may cost is bounded by `limits.Limits`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from gitops import errors
from gitops.oci.limits import DEFAULT, Limits
from gitops.oci.tarheader import (
    BLOCK,
    BLOCK_DEVICE,
    CHAR,
    CONTIGUOUS,
    DIRECTORY,
    FIFO,
    FILE,
    GNU_SPARSE,
    HARDLINK,
    SYMLINK,
    Member,
    check_sum,
    cut,
    decimal,
    merge_pax,
    number,
    parse_pax,
    parse_plain,
    show,
)

_ZERO = bytes(BLOCK)
_NO_DATA = frozenset((HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO))
_TYPES = _NO_DATA | {FILE, CONTIGUOUS, GNU_SPARSE}
_EXTENSIONS = frozenset((b"x", b"g", b"L", b"K"))


class TarReader:
    """Iterates over the members of a stream.

    `read_chunk` gives the next bytes of the tar, b"" at its end. The data of a member is read with `data()` before the
    next is asked for; what was not read is skipped. After the last member the stream has been read to its end.

    Raises:
        errors.Invalid: from every method, for a stream that is damaged, cut short or beyond a limit.
    """

    def __init__(self, read_chunk: Callable[[], bytes], limits: Limits = DEFAULT) -> None:
        self._read_chunk = read_chunk
        self._limits = limits
        self._buffer = b""
        self._at = 0
        self._consumed = 0
        self._remaining = 0
        self._padding = 0
        self._headers = 0
        self._is_done = False

    @property
    def offset(self) -> int:
        """Bytes consumed: right after a header, where the member's data begins."""
        return self._consumed

    def __iter__(self) -> Iterator[Member]:
        while (member := self.next()) is not None:
            yield member

    def next(self) -> Member | None:
        """The next member, or None after the last."""
        if self._is_done:
            return None
        pax: dict[bytes, bytes] = {}
        long_name = long_link = None
        while True:
            self._skip_rest()
            block = self._header()
            if block is None:
                if pax or long_name is not None or long_link is not None:
                    raise errors.Invalid("tar: ends after an extension header")
                self._is_done = True
                return None
            kind = block[156:157]
            if kind not in _EXTENSIONS:
                return self._member(block, kind, pax, long_name, long_link)
            data = self._extension(block)
            if kind == b"x":
                pax = parse_pax(data)
            elif kind == b"L":
                long_name = cut(data)
            elif kind == b"K":
                long_link = cut(data)
            else:
                parse_pax(data)

    def data(self) -> Iterator[bytes]:
        """The stored data of the current member in pieces: of a sparse file, without its holes."""
        while self._remaining:
            yield self._take(self._remaining)

    def jump(self, seek: Callable[[int], object]) -> None:
        """Skip the rest of the current member by `seek` (to an offset in the tar) instead of by reading."""
        left = self._remaining + self._padding
        if left <= len(self._buffer) - self._at:
            return
        self._consumed += left
        self._remaining = self._padding = 0
        self._buffer, self._at = b"", 0
        seek(self._consumed)

    # The stream

    def _fill(self) -> bool:
        chunk = self._read_chunk()
        self._buffer, self._at = chunk, 0
        return bool(chunk)

    def _take(self, limit: int) -> bytes:
        """At least one and at most `limit` bytes of the current member's data."""
        if self._at >= len(self._buffer) and not self._fill():
            raise errors.Invalid("tar: unexpected end in the data of a member")
        end = min(len(self._buffer), self._at + limit)
        piece = self._buffer if not self._at and end == len(self._buffer) else self._buffer[self._at : end]
        self._at = end
        self._consumed += len(piece)
        self._remaining -= len(piece)
        return piece

    def _block(self) -> bytes:
        """The next 512 bytes; b"" at a clean end."""
        end = self._at + BLOCK
        if end <= len(self._buffer):
            block = self._buffer[self._at : end]
            self._at = end
        else:
            block = self._buffer[self._at :]
            self._at = len(self._buffer)
            while len(block) < BLOCK and self._fill():
                self._at = min(len(self._buffer), BLOCK - len(block))
                block += self._buffer[: self._at]
            if 0 < len(block) < BLOCK:
                raise errors.Invalid("tar: unexpected end in a header")
        self._consumed += len(block)
        return block

    def _skip_rest(self) -> None:
        while self._remaining:
            self._take(self._remaining)
        self._remaining = self._padding
        self._padding = 0
        while self._remaining:
            # Go takes a stream that ends in the padding of its last member for whole.
            if self._at >= len(self._buffer) and not self._fill():
                self._remaining = 0
                return
            self._take(self._remaining)

    def _set_data(self, size: int) -> None:
        self._remaining = size
        self._padding = -size % BLOCK

    def _header(self) -> bytes | None:
        block = self._block()
        if not block:
            return None
        self._headers += 1
        if self._headers > 2 * self._limits.members:
            raise errors.Invalid(f"tar: more than {2 * self._limits.members} headers")
        if block != _ZERO:
            check_sum(block)
            return block
        second = self._block()
        if second and second != _ZERO:
            raise errors.Invalid("tar: a lone zero block between members")
        self._drain()
        return None

    def _drain(self) -> None:
        """Read what follows the end: the digest of the tar covers it."""
        left = self._limits.trailing_bytes - (len(self._buffer) - self._at)
        self._consumed += len(self._buffer) - self._at
        while left >= 0 and self._fill():
            left -= len(self._buffer)
            self._consumed += len(self._buffer)
        self._buffer, self._at = b"", 0
        if left < 0:
            raise errors.Invalid(f"tar: more than {self._limits.trailing_bytes} bytes after the end")

    # Headers

    def _extension(self, block: bytes) -> bytes:
        size = number(block[124:136], "size")
        if not 0 <= size <= self._limits.header_bytes:
            raise errors.Invalid(f"tar: extension header of {size} bytes: the limit is {self._limits.header_bytes}")
        self._set_data(size)
        return b"".join(self.data())

    def _member(
        self, block: bytes, kind: bytes, pax: dict[bytes, bytes], long_name: bytes | None, long_link: bytes | None
    ) -> Member:
        member, form = parse_plain(block, kind)
        stored = number(block[124:136], "size")
        if pax:
            stored = merge_pax(member, pax, stored, self._limits)
        if long_name is not None:
            member.name = long_name
        if long_link is not None:
            member.linkname = long_link
        if kind == b"\0":
            member.kind = DIRECTORY if member.name.endswith(b"/") else FILE
        if member.kind not in _TYPES:
            raise errors.Invalid(f"tar: {show(member.name)}: unknown type of entry {kind!r}")
        if stored < 0:
            raise errors.Invalid(f"tar: {show(member.name)}: negative size")
        if member.kind in _NO_DATA:
            stored = 0
        self._set_data(stored)
        member.size = stored
        self._sparse(member, block, form, pax)
        if member.size > self._limits.file_bytes:
            raise errors.Invalid(
                f"tar: {show(member.name)}: {member.size} bytes: the limit is {self._limits.file_bytes}"
            )
        if member.kind in (CONTIGUOUS, GNU_SPARSE):
            member.kind = FILE
        return member

    # Sparse files

    def _sparse(self, member: Member, block: bytes, form: str, pax: Mapping[bytes, bytes]) -> None:
        if member.kind == GNU_SPARSE:
            if form != "gnu":
                raise errors.Invalid(f"tar: {show(member.name)}: a sparse file outside the GNU format")
            pieces, member.size = self._old_sparse_map(block)
        elif pax and member.kind in (FILE, CONTIGUOUS):
            found = self._pax_sparse_map(member, pax)
            if found is None:
                return
            pieces = found
        else:
            return
        _check_sparse(member, pieces, self._remaining)
        member.pieces = pieces

    def _old_sparse_map(self, block: bytes) -> tuple[list[tuple[int, int]], int]:
        """The map of GNU's old format: 4 pieces in the header, 21 in each block that follows.

        Those blocks come before the data and are not counted in its size.
        """
        size = number(block[483:495], "real size")
        pieces = _old_pieces(block[386:482])
        more = block[482]
        blocks = 0
        while more:
            blocks += 1
            if blocks * 21 > self._limits.sparse_pieces:
                raise errors.Invalid(f"tar: a sparse file in more than {self._limits.sparse_pieces} pieces")
            extra = self._block()
            if not extra:
                raise errors.Invalid("tar: unexpected end in a sparse map")
            pieces += _old_pieces(extra[:504])
            more = extra[504]
        return pieces, size

    def _pax_sparse_map(self, member: Member, pax: Mapping[bytes, bytes]) -> list[tuple[int, int]] | None:
        version = (pax.get(b"GNU.sparse.major", b""), pax.get(b"GNU.sparse.minor", b""))
        is_one = version == (b"1", b"0")
        is_zero = version in ((b"0", b"0"), (b"0", b"1")) or (version == (b"", b"") and pax.get(b"GNU.sparse.map"))
        if not is_one and not is_zero:
            return None
        if name := pax.get(b"GNU.sparse.name"):
            member.name = name
        size = pax.get(b"GNU.sparse.size") or pax.get(b"GNU.sparse.realsize")
        if size:
            member.size = decimal(size, "sparse size")
        return self._sparse_map_in_data() if is_one else self._sparse_map_in_header(pax)

    def _sparse_map_in_header(self, pax: Mapping[bytes, bytes]) -> list[tuple[int, int]]:
        count = decimal(pax.get(b"GNU.sparse.numblocks", b""), "sparse count")
        text = pax.get(b"GNU.sparse.map", b"")
        numbers = text.split(b",") if text else []
        if count < 0 or count > self._limits.sparse_pieces or len(numbers) != 2 * count:
            raise errors.Invalid("tar: invalid sparse map")
        return _pairs(numbers)

    def _sparse_map_in_data(self) -> list[tuple[int, int]]:
        """The map of PAX sparse 1.0: decimal lines at the start of the data, padded to a block."""
        lines: list[bytes] = []
        rest = b""
        wanted = 1
        while len(lines) < wanted:
            block = self._block() if self._remaining >= BLOCK else b""
            if not block or len(rest) > BLOCK:
                raise errors.Invalid("tar: invalid sparse map")
            self._remaining -= BLOCK
            *found, rest = (rest + block).split(b"\n")
            lines += found
            if wanted == 1 and lines:
                count = decimal(lines[0], "sparse count")
                if not 0 <= count <= self._limits.sparse_pieces:
                    raise errors.Invalid(f"tar: a sparse file in more than {self._limits.sparse_pieces} pieces")
                wanted = 1 + 2 * count
        return _pairs(lines[1:wanted])


def _old_pieces(table: bytes) -> list[tuple[int, int]]:
    pieces = []
    for at in range(0, len(table), 24):
        if not table[at]:
            break
        pieces.append((number(table[at : at + 12], "sparse map"), number(table[at + 12 : at + 24], "sparse map")))
    return pieces


def _pairs(numbers: Sequence[bytes]) -> list[tuple[int, int]]:
    values = [decimal(number, "sparse map") for number in numbers]
    return list(zip(values[::2], values[1::2], strict=True))


def _check_sparse(member: Member, pieces: Sequence[tuple[int, int]], stored: int) -> None:
    """Sorted, inside the file, and together exactly the stored data."""
    end = 0
    for offset, length in pieces:
        if offset < end or length < 0 or offset + length > member.size:
            raise errors.Invalid(f"tar: {show(member.name)}: invalid sparse map")
        end = offset + length
    if member.size < 0 or sum(length for _, length in pieces) != stored:
        raise errors.Invalid(f"tar: {show(member.name)}: sparse map and stored size differ")
