"""Filling a new volume with what the image has at its mount point, as Docker does.

The source lies in a container's tree, the target in a volume that another container may be writing to at this moment:
neither may lead out of itself. Every step goes through directory descriptors and follows no link. All calls block.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gitops import errors
from gitops.engine.containers import rootfs, syscalls

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 16 * 1024 * 1024


def fill_volume(root: Path, path: str, volume: Path) -> bool:
    """Copy the directory `path` of the tree `root` into `volume`, where that is empty; True when something was copied.

    Raises:
        errors.RuntimeFailure: the copy failed, for want of space say.
    """
    with rootfs.opened(root) as top:
        try:
            source = syscalls.open_in_root(top, path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return False
    try:
        target = os.open(volume, _DIRECTORY)
        try:
            if os.listdir(target):
                return False
            _copy_folder(source, target)
            _copy_attributes(source, target)
        finally:
            os.close(target)
    except OSError as error:
        raise errors.RuntimeFailure(f"can't copy {path} of the image into the volume at {volume}: {error}") from error
    finally:
        os.close(source)
    return True


def _copy_folder(source: int, target: int) -> None:
    with os.scandir(source) as entries:
        names = sorted(entry.name for entry in entries)
    # Hard links are kept within a directory, which is where images have them.
    first: dict[tuple[int, int], str] = {}
    for name in names:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in first and not stat.S_ISDIR(status.st_mode):
            os.link(first[key], name, src_dir_fd=target, dst_dir_fd=target, follow_symlinks=False)
            continue
        _copy_entry(source, target, name, status)
        first[key] = name


def _copy_entry(source: int, target: int, name: str, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        _copy_subfolder(source, target, name)
    elif kind == stat.S_IFREG:
        _copy_file(source, target, name, status)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    elif kind in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK):
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)


def _copy_subfolder(source: int, target: int, name: str) -> None:
    os.mkdir(name, 0o700, dir_fd=target)
    inner_source = os.open(name, _DIRECTORY, dir_fd=source)
    try:
        inner_target = os.open(name, _DIRECTORY, dir_fd=target)
        try:
            _copy_folder(inner_source, inner_target)
            _copy_attributes(inner_source, inner_target)
        finally:
            os.close(inner_target)
    finally:
        os.close(inner_source)


def _copy_file(source: int, target: int, name: str, status: os.stat_result) -> None:
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writer = os.open(name, flags, 0o600, dir_fd=target)
        try:
            while os.sendfile(writer, reader, None, _CHUNK):
                continue
            _copy_attributes(reader, writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy_attributes(source: int, target: int) -> None:
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if not name.startswith("trusted.overlay."):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
