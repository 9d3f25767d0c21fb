"""Mount points as the kernel lists them.

`os.path.ismount` compares devices, and so doesn't see a bind mount from the same file system.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gitops import errors

MOUNTINFO = Path("/proc/self/mountinfo")
_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


def unescape(text: str) -> str:
    """A path as /proc writes it: octal for blanks and backslashes."""
    for code, char in _ESCAPES:
        text = text.replace(code, char)
    return text


def below(folder: Path, mountinfo: Path = MOUNTINFO) -> list[Path]:
    """Mount points at and below `folder`, in the order in which they must go; one that is stacked comes repeatedly."""
    top = Path(os.path.realpath(folder))
    points = [Path(unescape(line.split(" ", 5)[4])) for line in mountinfo.read_text().splitlines()]
    return [point for point in reversed(points) if point == top or top in point.parents]


def remove_tree(folder: Path) -> None:
    """Remove a directory with all that is in it, but nothing that is mounted there. Nothing there is no error.

    Raises:
        errors.RuntimeFailure: something is mounted in it, or can't be removed.
    """
    mounted = below(folder)
    if mounted:
        raise errors.RuntimeFailure(f"can't remove {folder}: {mounted[0]} is mounted in it; unmount that first")
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise errors.RuntimeFailure(f"can't remove {folder}: {error}") from error


def is_mount_point(path: Path) -> bool:
    """Whether something is mounted at `path`, a file or a directory."""
    return Path(os.path.realpath(path)) in below(path)
