"""The root file system of a container: overlayfs on the image's layers, and looking into it without leaving it.

A container's tree is hostile: any part of a path may be a symbolic link to the host's files. Whatever is opened here
is opened by the kernel with the tree as root. All calls block.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gitops import errors
from gitops.engine import mountinfo
from gitops.engine.containers import syscalls

_OPTIONS_LIMIT = 4000
"""mount(2) takes one page of options."""


def mount_overlay(layers: Sequence[Path], upper: Path, work: Path, target: Path, *, is_passing: bool = False) -> None:
    """Mount `layers` (the top one first; an image may have none) below the writable `upper` at `target`.

    What is passing is thrown away with its end: the unmounting then doesn't wait until the disk has all of it.

    Raises:
        errors.RuntimeFailure: the kernel refused.
    """
    for folder in (upper, work, target):
        folder.mkdir(mode=0o755 if folder is not work else 0o700, parents=True, exist_ok=True)
    if not layers:
        layers = [upper.with_name("empty")]
        layers[0].mkdir(mode=0o755, exist_ok=True)
    # Left by a passing mount: overlayfs refuses to mount it again, since a crash may have left it half-written.
    shutil.rmtree(work / "work" / "incompat", ignore_errors=True)
    with _short_names([*layers, upper, work]) as names:
        options = f"lowerdir={':'.join(names[:-2])},upperdir={names[-2]},workdir={names[-1]},index=off"
        try:
            _mount(target, options, is_passing=is_passing)
        except OSError as error:
            raise errors.RuntimeFailure(
                f"can't mount the root file system at {target}: {error.strerror}; "
                f"the file system of {upper} must allow overlayfs, and all {len(layers)} layers must be there"
            ) from error


def _mount(target: Path, options: str, *, is_passing: bool) -> None:
    if is_passing:
        with suppress(OSError):  # a kernel from before 5.10 doesn't know the option
            syscalls.mount("overlay", target, "overlay", 0, f"{options},volatile")
            return
    syscalls.mount("overlay", target, "overlay", 0, options)


@contextmanager
def _short_names(folders: Sequence[Path]) -> Iterator[list[str]]:
    # Paths as they are, where they fit and hold nothing that overlayfs reads as a separator. Else open descriptors:
    # overlayfs follows /proc/self/fd at the time of the mount, and 500 layers of them fit.
    plain = [str(folder) for folder in folders]
    if sum(len(name) + 1 for name in plain) < _OPTIONS_LIMIT and not any(set(name) & set(":,\\") for name in plain):
        yield plain
        return
    descriptors: list[int] = []
    try:
        for folder in folders:
            descriptors.append(os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        yield [f"/proc/self/fd/{descriptor}" for descriptor in descriptors]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def mount_shm(target: Path, size: int) -> None:
    """A tmpfs of `size` bytes at `target`, to be the /dev/shm of several containers.

    Raises:
        errors.RuntimeFailure: the kernel refused.
    """
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    try:
        syscalls.mount("shm", target, "tmpfs", flags, f"mode=1777,size={size}")
    except OSError as error:
        raise errors.RuntimeFailure(f"can't make shared memory of {size} bytes: {error.strerror}") from error


def unmount_all(folder: Path) -> None:
    """Unmount everything at and below `folder`, the last mount first. Nothing there is no error."""
    for target in mountinfo.below(folder):
        try:
            syscalls.unmount(target)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise errors.RuntimeFailure(f"can't unmount {target}: {error.strerror}") from error


@contextmanager
def opened(root: Path) -> Iterator[int]:
    """A descriptor of the tree's root, for `syscalls.open_in_root`."""
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_file(root: Path, path: str, limit: int) -> bytes | None:
    """At most `limit` bytes of the regular file `path` inside the tree; None where there is none."""
    with opened(root) as top:
        return read_file_at(top, path, limit)


def read_file_at(top: int, path: str, limit: int) -> bytes | None:
    """`read_file` in a tree whose root is open."""
    try:
        found = syscalls.open_in_root(top, path, os.O_PATH)
    except OSError:
        return None
    try:
        # Looked at before it is opened: what a container has put in the place of the file may be a device of the host,
        # and to open some of those has consequences.
        if not stat.S_ISREG(os.fstat(found).st_mode):
            return None
        descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    finally:
        os.close(found)
    try:
        return _read_up_to(descriptor, limit)
    finally:
        os.close(descriptor)


def _read_up_to(descriptor: int, limit: int) -> bytes:
    data = b""
    while len(data) < limit and (piece := os.read(descriptor, limit - len(data))):
        data += piece
    return data
