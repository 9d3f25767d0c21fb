"""Mount points as the kernel lists them.

`os.path.ismount` compares devices, and so doesn't see a bind mount from the same file system.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from gitops import errors

MOUNTINFO = Path("/proc/self/mountinfo")
_DEEPEST = 64
"""Directories that are held open in each other while a tree is removed."""
_ESCAPED = re.compile(r"\\([0-7]{3})")


def unescape(text: str) -> str:
    """A path that /proc wrote with octal numbers for blanks and the like."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)


def lines(listing: Path = MOUNTINFO) -> list[str]:
    """The lines of a list of mounts. A name on the host may be of any bytes: they stand as `os.fsdecode` has them."""
    return [line for line in os.fsdecode(listing.read_bytes()).split("\n") if line]


def below(folder: Path, mountinfo: Path = MOUNTINFO) -> list[Path]:
    """Mount points at and below `folder`, in the order in which they must go; one that is stacked comes repeatedly."""
    top = Path(os.path.realpath(folder))
    points = [Path(unescape(line.split(" ", 5)[4])) for line in lines(mountinfo)]
    return [point for point in reversed(points) if point == top or top in point.parents]


def propagation(path: Path, listing: Path = MOUNTINFO) -> tuple[Path, frozenset[str]]:
    """The mount that a path lies on, and how it is tied to others: `shared`, `master` (a slave), both, or neither."""
    real = Path(os.path.realpath(path))
    found, ties = Path("/"), frozenset[str]()
    for line in lines(listing):
        fields = line.partition(" - ")[0].split()
        point = Path(unescape(fields[4]))
        # The last one of those at one place is on top.
        if (point == real or point in real.parents) and len(point.parts) >= len(found.parts):
            found, ties = point, frozenset(field.partition(":")[0] for field in fields[6:])
    return found, ties


def remove_tree(folder: Path) -> None:
    """Remove a directory with all that is in it, but nothing that is mounted there. Nothing there is no error.

    What is in it may be of a container's making, as deep as that liked: neither the stack nor descriptors run out.

    Raises:
        errors.RuntimeFailure: something is mounted in it, or can't be removed.
    """
    mounted = below(folder)
    if mounted:
        raise errors.RuntimeFailure(f"can't remove {folder}: {mounted[0]} is mounted in it; unmount that first")
    try:
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _empty(top)
        finally:
            os.close(top)
        os.rmdir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise errors.RuntimeFailure(f"can't remove {folder}: {error}") from error


def remove_entry(name: str, parent: int) -> None:
    """Remove `name`, of whatever kind and depth, from an open directory. Raises OSError, as where it is mounted on."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except IsADirectoryError:
        pass
    # Aside first: what is too deep is moved up while it is removed, and nobody may see that.
    aside = f".removing-{secrets.token_hex(12)}"
    os.mkdir(aside, 0o700, dir_fd=parent)
    try:
        top = os.open(aside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.rename(name, "entry", src_dir_fd=parent, dst_dir_fd=top)
            _empty(top)
        finally:
            os.close(top)
    finally:
        os.rmdir(aside, dir_fd=parent)


def _empty(top: int) -> None:
    while names := os.listdir(top):
        for name in names:
            _remove_entry(name, top, top, 1)


def _remove_entry(name: str, parent: int, top: int, depth: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
        return
    except IsADirectoryError:
        pass
    if depth > _DEEPEST:
        # Its turn comes when the directories above it are gone.
        os.rename(name, f".removing-{secrets.token_hex(12)}", src_dir_fd=parent, dst_dir_fd=top)
        return
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        for inner in os.listdir(descriptor):
            _remove_entry(inner, descriptor, top, depth + 1)
    finally:
        os.close(descriptor)
    os.rmdir(name, dir_fd=parent)


def is_mount_point(path: Path) -> bool:
    """Whether something is mounted at `path`, a file or a directory."""
    return Path(os.path.realpath(path)) in below(path)
