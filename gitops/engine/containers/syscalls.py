"""System calls that Python lacks: mount, umount2, openat2, inotify. Each is blocking and raises `OSError`."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
_libc.syscall.restype = ctypes.c_long

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10
_SYS_OPENAT2 = 437  # the same on every architecture

IN_MODIFY = 0x002
IN_CLOSE_WRITE = 0x008
IN_MOVED_TO = 0x080
IN_CREATE = 0x100
IN_IGNORED = 0x8000
"""A watch has gone, its file being removed."""
_EVENT = struct.Struct("iIII")


def mount(source: str, target: Path, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    _check(
        _libc.mount(os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, os.fsencode(data) or None),
        str(target),
    )


def unmount(target: Path, flags: int = MNT_DETACH) -> None:
    """umount2(2); by default lazily, so that a reader of one file can't hold it."""
    _check(_libc.umount2(os.fsencode(target), flags), str(target))


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` below the directory descriptor `root`, which stands for "/" also to ".." and to absolute links."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    descriptor = _libc.syscall(
        ctypes.c_long(_SYS_OPENAT2), ctypes.c_int(root), ctypes.c_char_p(os.fsencode(path)), how, ctypes.c_size_t(24)
    )
    _check(descriptor, path)
    return int(descriptor)


@dataclass(frozen=True, slots=True)
class FileEvent:
    """One inotify event: `name` within the directory of a watch, by the number that `Inotify.watch` gave."""

    mask: int
    name: str
    watch: int = 0


class Inotify:
    """An inotify descriptor; `fileno()` becomes readable, `read()` never blocks."""

    def __init__(self) -> None:
        self._descriptor: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        _check(self._descriptor, "inotify")

    def fileno(self) -> int:
        """For the event loop."""
        return self._descriptor

    def watch(self, path: Path, mask: int) -> int:
        """Report `mask` on `path`; the number of the watch."""
        watch: int = _libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask)
        _check(watch, str(path))
        return watch

    def read(self) -> Iterator[FileEvent]:
        """The events that are there."""
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, offset)
            offset += _EVENT.size
            yield FileEvent(mask, os.fsdecode(data[offset : offset + length].rstrip(b"\0")), watch)
            offset += length

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _check(result: int, subject: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)
