"""Writes tar streams that are the same to the byte for the same entries: ustar, and PAX only for what ustar can't hold.

Owners are numbers, without names; times are what the caller says. Used for built layers and for archives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import BinaryIO

from gitops import errors
from gitops.oci import tarheader
from gitops.oci.tarheader import BLOCK, Member

_COPY = 256 << 10
_OCTAL_SIZE = 8**11
_OCTAL_ID = 8**7


class TarWriter:
    """Appends members to a file object; `close` ends the stream with two zero blocks and leaves the file open."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output

    def add(self, member: Member, content: BinaryIO | bytes | None = None) -> None:
        """Append a member; `content` must have exactly `member.size` bytes.

        Raises:
            errors.Conflict: the content changed its length while it was read.
        """
        self._output.write(header(member))
        if member.kind == tarheader.FILE and member.size:
            self._copy(member, content)

    def close(self) -> None:
        """End the stream."""
        self._output.write(bytes(2 * BLOCK))

    def _copy(self, member: Member, content: BinaryIO | bytes | None) -> None:
        done = 0
        for piece in _pieces(content):
            done += len(piece)
            if done > member.size:
                break
            self._output.write(piece)
        if done != member.size:
            raise errors.Conflict(f"{tarheader.show(member.name)}: the file changed while it was read; try again")
        self._output.write(bytes(-member.size % BLOCK))


def _pieces(content: BinaryIO | bytes | None) -> Iterator[bytes]:
    if content is None or isinstance(content, bytes):
        yield content or b""
        return
    while piece := content.read(_COPY):
        yield piece


def header(member: Member) -> bytes:
    """The header blocks of a member: an extended header first, where ustar is too small."""
    extended: dict[bytes, bytes] = {}
    prefix, name = _split(member.name)
    if name is None:
        extended[b"path"] = member.name
        prefix, name = b"", _shorten(member.name)
    link = member.linkname
    if len(link) > 100:
        extended[b"linkpath"] = link
        link = _shorten(link)
    seconds, fraction = divmod(member.mtime_ns, 1_000_000_000)
    if fraction or not 0 <= seconds < _OCTAL_SIZE:
        extended[b"mtime"] = _time(member.mtime_ns)
    for key, value, limit in (
        (b"size", member.size, _OCTAL_SIZE),
        (b"uid", member.uid, _OCTAL_ID),
        (b"gid", member.gid, _OCTAL_ID),
    ):
        if value >= limit:
            extended[key] = b"%d" % value
    extended.update({b"SCHILY.xattr." + key: value for key, value in member.xattrs.items()})
    plain = _ustar(member, prefix, name, link, member.kind, seconds)
    return _extension(extended) + plain if extended else plain


def _ustar(member: Member, prefix: bytes, name: bytes, link: bytes, kind: bytes, seconds: int) -> bytes:
    fields = (
        name.ljust(100, b"\0"),
        _octal(member.mode & 0o7777, 8),
        _octal(member.uid if member.uid < _OCTAL_ID else 0, 8),
        _octal(member.gid if member.gid < _OCTAL_ID else 0, 8),
        _octal(member.size if member.size < _OCTAL_SIZE else 0, 12),
        _octal(seconds if 0 <= seconds < _OCTAL_SIZE else 0, 12),
        b" " * 8,
        kind,
        link.ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        _octal(member.device[0], 8),
        _octal(member.device[1], 8),
        prefix.ljust(155, b"\0"),
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _extension(records: Mapping[bytes, bytes]) -> bytes:
    data = b"".join(_record(key, value) for key, value in sorted(records.items()))
    member = Member(b"PaxHeaders/entry", b"x", 0o644, 0, 0, len(data), 0)
    return _ustar(member, b"", member.name, b"", b"x", 0) + data + bytes(-len(data) % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    total = length + len(str(length))
    total = length + len(str(total))
    return b"%d %s=%s\n" % (total, key, value)


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """Prefix and name of a ustar header; None where they don't fit."""
    if len(name) <= 100:
        return b"", name
    for at in range(max(1, len(name) - 101), min(156, len(name) - 1)):
        if name[at : at + 1] == b"/":
            return name[:at], name[at + 1 :]
    return b"", None


def _shorten(name: bytes) -> bytes:
    return name[:100].rstrip(b"/")


def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def _time(time_ns: int) -> bytes:
    sign = b"-" if time_ns < 0 else b""
    seconds, fraction = divmod(abs(time_ns), 1_000_000_000)
    return sign + b"%d" % seconds + (b".%09d" % fraction).rstrip(b"0") if fraction else sign + b"%d" % seconds
