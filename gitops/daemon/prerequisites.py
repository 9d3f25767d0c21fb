"""What a host must have before the engine can serve it, asked in one go: all that is missing is told at once."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

_PROGRAMS = (("conmon",), ("crun", "runc"), ("mount",), ("umount",))
_PACKAGES = {"mount": "mount", "umount": "mount"}
_NFTABLES = "libnftables.so.1"
_SECCOMP = Path("/usr/share/containers/seccomp.json")
_SYSTEMD = Path("/run/systemd/system")
_CGROUPS = Path("/sys/fs/cgroup")


def has_systemd() -> bool:
    """Whether systemd runs this host, and can be spoken to."""
    return _SYSTEMD.is_dir() and shutil.which("systemctl") is not None


def missing(which: Callable[[str], str | None] = shutil.which) -> list[str]:
    """What the engine can't do without and isn't there, each with the way to get it."""
    found = []
    for names in _PROGRAMS:
        if not any(which(name) for name in names):
            package = _PACKAGES.get(names[0], names[0])
            found.append(f"{' or '.join(names)}: install the package {package}")
    if not _has_library(_NFTABLES):
        found.append(f"{_NFTABLES}: install the package libnftables1")
    if not _SECCOMP.is_file():
        found.append(f"{_SECCOMP}: install the package golang-github-containers-common")
    if not any(_CGROUPS.glob("*")):
        found.append(f"cgroups: nothing is mounted on {_CGROUPS}")
    return found


def _has_library(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def writable_by_others(paths: Iterable[Path]) -> list[Path]:
    """Those of `paths` that somebody else than root can change, themselves or a directory above them.

    What root's service runs from there, that user decides.
    """
    return [path for path in paths if any(_is_open(part) for part in (path, *path.parents))]


def _is_open(path: Path) -> bool:
    status = os.stat(path)
    is_sticky = stat.S_ISDIR(status.st_mode) and bool(status.st_mode & stat.S_ISVTX)
    return status.st_uid != 0 or (bool(status.st_mode & 0o022) and not is_sticky)
