"""Names of layer entries: cleaned lexically, checked against the limits, whiteouts recognised. Pure."""

from __future__ import annotations

from typing import NamedTuple

from gitops import errors
from gitops.oci.limits import Limits
from gitops.oci.tarheader import show

_WHITEOUT = b".wh."
_AUFS = b".wh..wh."
_OPAQUE = b".wh..wh..opq"


class Whiteout(NamedTuple):
    """A mark of deletion in the directory `parent`: of `name`, or of all of it (None)."""

    parent: list[bytes]
    name: bytes | None


def clean(name: bytes, limits: Limits) -> list[bytes]:
    """The components of a name: `..` stops at the root, a leading `/` says nothing.

    Raises:
        errors.Invalid: empty, with a NUL, or beyond a limit.
    """
    if not name or 0 in name:
        raise errors.Invalid(f"{show(name)!r} is not a name")
    if len(name) > limits.path_bytes:
        raise errors.Invalid(f"{show(name)}: a name of {len(name)} bytes: the limit is {limits.path_bytes}")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            if len(part) > limits.name_bytes:
                raise errors.Invalid(f"{show(name)}: a component of more than {limits.name_bytes} bytes")
            parts.append(part)
    if len(parts) > limits.depth:
        raise errors.Invalid(f"{show(name)}: more than {limits.depth} directories deep")
    return parts


def is_dropped(parts: list[bytes]) -> bool:
    """Whether the entry is aufs's own (`.wh..wh.plnk`, …) or lies below such a one."""
    return any(part.startswith(_AUFS) and part != _OPAQUE for part in parts)


def whiteout(parts: list[bytes]) -> Whiteout | None:
    """The whiteout that a name is, None if it is none.

    Raises:
        errors.Invalid: a whiteout of `.`, `..` or nothing, or an entry below a whiteout.
    """
    if any(part.startswith(_WHITEOUT) for part in parts[:-1]):
        raise errors.Invalid(f"{show(b'/'.join(parts))}: an entry below a whiteout")
    last = parts[-1] if parts else b""
    if not last.startswith(_WHITEOUT):
        return None
    if last == _OPAQUE:
        return Whiteout(parts[:-1], None)
    name = last[len(_WHITEOUT) :]
    if name in (b"", b".", b".."):
        raise errors.Invalid(f"{show(b'/'.join(parts))}: not a valid whiteout")
    return Whiteout(parts[:-1], name)
