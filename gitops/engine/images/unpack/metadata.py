"""Owners, modes, extended attributes and times of entries, in the one order that keeps all of them."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from gitops import errors
from gitops.oci.tarheader import Member, show

_DROPPED_PREFIXES = (b"trusted.overlay.", b"user.overlay.")
_DROPPED = (b"security.selinux", b"system.nfs4_acl")
_MAX_ID = 2**32 - 2


def check(member: Member) -> None:
    """Refuse what no file system can hold.

    Raises:
        errors.Invalid: an owner or a mode out of range.
    """
    if not 0 <= member.uid <= _MAX_ID or not 0 <= member.gid <= _MAX_ID or member.mode < 0:
        raise errors.Invalid(f"{show(member.name)}: owner {member.uid}:{member.gid} or mode is out of range")
    member.mode &= 0o7777


def kept(xattrs: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The attributes that a layer may set: none of overlayfs's own, none that only its builder's host understands."""
    return {
        name: value for name, value in xattrs.items() if not name.startswith(_DROPPED_PREFIXES) and name not in _DROPPED
    }


def set_open(descriptor: int, member: Member, *, created_mode: int) -> None:
    """All of an open file or directory but its times. Chown clears setuid and capabilities, so it goes first."""
    if member.uid or member.gid:
        os.fchown(descriptor, member.uid, member.gid)
    if member.mode != created_mode:
        os.fchmod(descriptor, member.mode)
    for name, value in kept(member.xattrs).items():
        _setxattr(descriptor, name, value, member)


def set_path(path: bytes, member: Member) -> None:
    """All of a symlink or node. Not for files and directories, whose mode needs an open descriptor."""
    if member.uid or member.gid:
        os.chown(path, member.uid, member.gid, follow_symlinks=False)
    for name, value in kept(member.xattrs).items():
        _setxattr(path, name, value, member, follow_symlinks=False)


def set_times(target: int | bytes, time_ns: int) -> None:
    """The modification time, and the access time with it."""
    times = (time_ns, time_ns)
    try:
        if isinstance(target, int):
            os.utime(target, ns=times)
        else:
            os.utime(target, ns=times, follow_symlinks=False)
    except OverflowError as error:
        raise errors.Invalid(f"a time of {time_ns} ns is out of range") from error


def _setxattr(target: int | bytes, name: bytes, value: bytes, member: Member, *, follow_symlinks: bool = True) -> None:
    if 0 in name or len(name) > 255:
        raise errors.Invalid(f"{show(member.name)}: {show(name)!r} is no name of an extended attribute")
    try:
        os.setxattr(target, name, value, follow_symlinks=follow_symlinks)
    except OSError as error:
        if _is_expendable(name, error):
            return
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL, errno.ERANGE, errno.E2BIG, errno.ENOSPC):
            raise errors.Invalid(
                f"{show(member.name)}: can't set the extended attribute {show(name)}: {error.strerror}"
            ) from error
        raise


def _is_expendable(name: bytes, error: OSError) -> bool:
    """Name spaces of other systems, and user attributes where there can't be any: Docker leaves them out too."""
    if error.errno == errno.EOPNOTSUPP:
        return name != b"security.capability"
    return error.errno == errno.EPERM and name.startswith(b"user.")
