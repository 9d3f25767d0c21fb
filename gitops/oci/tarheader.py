"""The headers of tar streams as values: what one entry says, and the readers of its numbers, times and records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gitops import errors
from gitops.oci.limits import Limits

BLOCK = 512

FILE = b"0"
HARDLINK = b"1"
SYMLINK = b"2"
CHAR = b"3"
BLOCK_DEVICE = b"4"
DIRECTORY = b"5"
FIFO = b"6"
CONTIGUOUS = b"7"
GNU_SPARSE = b"S"

_XATTR = b"SCHILY.xattr."
_SIGNED_SHIFT = 1 << 63
_TIME = re.compile(rb"(-?)(\d+)(?:\.(\d*))?")
_NO_NUL = (b"path", b"linkpath", b"uname", b"gname", b"GNU.sparse.name")
_DECIMAL = re.compile(rb"-?\d{1,19}")


@dataclass(slots=True)
class Member:
    """One entry. `size` is the content's length as the file has it, holes included; 0 for all that has no content."""

    name: bytes
    kind: bytes
    """One of FILE, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO."""
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    linkname: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    pieces: Sequence[tuple[int, int]] | None = None
    """Offset and length of the data of a sparse file; None for a file without holes."""


def show(name: bytes) -> str:
    """A name from an archive as it may stand in a message or a log: escaped, at most 200 characters."""
    text = name[:300].decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)[:200]


def parse_plain(block: bytes, kind: bytes) -> tuple[Member, str]:
    """The fields of a header block, size left at 0, and its form: v7, ustar, star or gnu.

    Raises:
        errors.Invalid: a field that is no number.
    """
    magic = block[257:265]
    form = "v7"
    name = cut(block[:100])
    device = (0, 0)
    if magic == b"ustar\x0000":
        form = "star" if block[508:512] == b"tar\0" else "ustar"
        prefix = cut(block[345 : 476 if form == "star" else 500])
        if prefix:
            name = prefix + b"/" + name
    elif magic == b"ustar  \0":
        form = "gnu"
    if form != "v7" and kind in (CHAR, BLOCK_DEVICE):
        device = (number(block[329:337], "device"), number(block[337:345], "device"))
    member = Member(
        name,
        kind,
        number(block[100:108], "mode"),
        number(block[108:116], "uid"),
        number(block[116:124], "gid"),
        0,
        number(block[136:148], "mtime") * 1_000_000_000,
        cut(block[157:257]),
        device,
    )
    return member, form


def merge_pax(member: Member, pax: Mapping[bytes, bytes], stored: int, limits: Limits) -> int:
    """Apply extended headers; an empty value means "not set". Returns the stored size.

    Raises:
        errors.Invalid: a value that is no number or time, or extended attributes beyond the limits.
    """
    for key, value in pax.items():
        if not value:
            continue
        if key == b"path":
            member.name = value
        elif key == b"linkpath":
            member.linkname = value
        elif key == b"size":
            stored = decimal(value, "size")
        elif key == b"uid":
            member.uid = decimal(value, "uid")
        elif key == b"gid":
            member.gid = decimal(value, "gid")
        elif key == b"mtime":
            member.mtime_ns = parse_time(value)
        elif key.startswith(_XATTR):
            member.xattrs[key[len(_XATTR) :]] = value
            if len(value) > limits.xattr_bytes or len(member.xattrs) > limits.xattrs:
                raise errors.Invalid(f"tar: {show(member.name)}: extended attributes beyond the limits")
    return stored


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """The records of an extended header: `LENGTH KEY=VALUE\\n`; the last of a key wins.

    The sparse map of version 0.0, whose keys repeat, is collected into `GNU.sparse.map`.

    Raises:
        errors.Invalid: malformed.
    """
    records: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    at = 0
    while at < len(data):
        key, value, at = _record(data, at)
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            if len(sparse) % 2 != (key == b"GNU.sparse.numbytes") or b"," in value:
                raise errors.Invalid("tar: invalid sparse map")
            sparse.append(value)
        else:
            records[key] = value
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records


def _record(data: bytes, at: int) -> tuple[bytes, bytes, int]:
    space = data.find(b" ", at, at + 21)
    length = data[at:space] if space > at else b""
    if not length.isdigit():
        raise errors.Invalid("tar: invalid extended header")
    end = at + int(length)
    if end > len(data) or end <= space + 1 or data[end - 1] != 0x0A:
        raise errors.Invalid("tar: invalid extended header")
    key, mark, value = data[space + 1 : end - 1].partition(b"=")
    if not mark or not key or b"\0" in key or (b"\0" in value and key in _NO_NUL):
        raise errors.Invalid("tar: invalid extended header")
    return key, value, end


def parse_time(text: bytes) -> int:
    """Nanoseconds of a PAX time: digits by hand, since floats lose them.

    Raises:
        errors.Invalid: not a time.
    """
    match = _TIME.fullmatch(text)
    if match is None or len(match[2]) > 18:
        raise errors.Invalid("tar: invalid time in an extended header")
    value = int(match[2]) * 1_000_000_000 + int((match[3] or b"")[:9].ljust(9, b"0"))
    return -value if match[1] else value


def cut(text: bytes) -> bytes:
    """Up to the first NUL."""
    end = text.find(0)
    return text if end < 0 else text[:end]


def decimal(text: bytes, what: str) -> int:
    """A number of an extended header.

    Raises:
        errors.Invalid: not one; `what` is for the message.
    """
    if not _DECIMAL.fullmatch(text):
        raise errors.Invalid(f"tar: invalid {what} in an extended header")
    return int(text)


def number(text: bytes, what: str) -> int:
    """A number of a header: octal, or base 256 where the top bit is set.

    Raises:
        errors.Invalid: not one; `what` is for the message.
    """
    if text and text[0] & 0x80:
        value = int.from_bytes(text, "big") & ((1 << (8 * len(text) - 1)) - 1)
        if text[0] & 0x40:
            value -= 1 << (8 * len(text) - 1)
        if not -_SIGNED_SHIFT <= value < _SIGNED_SHIFT:
            raise errors.Invalid(f"tar: {what} out of range")
        return value
    digits = text.strip(b" \0")
    digits = cut(digits)
    if not digits:
        return 0
    # int() would also take +7, 1_7 and 0o7.
    if not digits.isdigit():
        raise errors.Invalid(f"tar: invalid {what} in a header")
    try:
        return int(digits, 8)
    except ValueError as error:
        raise errors.Invalid(f"tar: invalid {what} in a header") from error


def check_sum(block: bytes) -> None:
    """Compare a header with its check sum.

    Raises:
        errors.Invalid: they differ.
    """
    given = number(block[148:156], "checksum")
    unsigned = sum(block) - sum(block[148:156]) + 8 * 0x20
    if unsigned == given:
        return
    # Some old writers summed signed bytes.
    negative = sum(1 for byte in block if byte > 127) - sum(1 for byte in block[148:156] if byte > 127)
    if unsigned - 256 * negative != given:
        raise errors.Invalid("tar: invalid checksum of a header")
