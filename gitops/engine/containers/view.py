"""A container's file system as `docker cp` sees it: its root with its volumes and binds, whether it runs or not.

It is put together in a mount namespace of a thread's own, and gone with the thread: nothing is left on the host, even
after a crash, and no other thread sees it. As with Docker, a tmpfs and /proc are not in it. What is written to a view
of a container that doesn't run is written to the container, if the view is writable; else to a throw-away layer.

A container's tree is hostile: whoever works in a view opens everything below its root by `syscalls.open_in_root`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import posixpath
import stat
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gitops import errors
from gitops.engine.containers import rootfs, syscalls

T = TypeVar("T")

_CLONE_NEWNS = 0x00020000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Shown:
    """A volume or bind in the view: a path of the host, or what `subpath` is in it, at `target`."""

    source: Path
    target: str
    subpath: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """What a view is made of."""

    mounted: Path | None
    """The root file system where it is mounted already, of a container that runs."""
    layers: Sequence[Path]
    upper: Path
    work: Path
    staging: Path
    """A directory that may be mounted on, made if it is missing."""
    shown: Sequence[Shown] = ()
    is_writable: bool = False


def start(parts: Parts, function: Callable[[int], T]) -> Future[T]:
    """Call `function` with a descriptor of the view's root, in a thread of its own; it may block as long as it likes.

    The future fails with `errors.RuntimeFailure` where the view can't be put together, and as `function` does.
    """
    future: Future[T] = Future()

    def target() -> None:
        try:
            future.set_result(_inside(parts, function))
        except BaseException as error:
            future.set_exception(error)

    future.set_running_or_notify_cancel()
    threading.Thread(target=target, name="container-view", daemon=True).start()
    return future


def _inside(parts: Parts, function: Callable[[int], T]) -> T:
    try:
        top = _put_together(parts)
    except OSError as error:
        raise errors.RuntimeFailure(f"can't show the container's file system: {error}") from error
    try:
        return function(top)
    finally:
        os.close(top)


def _put_together(parts: Parts) -> int:
    if _libc.unshare(_CLONE_NEWNS) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "a mount namespace")
    syscalls.mount("none", Path("/"), "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    # The thread's own from here on, like its working directory.
    os.umask(0)
    top = os.open(_root(parts), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for shown in sorted(parts.shown, key=lambda one: one.target.count("/")):
            _show(top, shown)
        # The mounts are below it, not in it: the descriptor of the root sees them all the same.
        return top
    except BaseException:
        os.close(top)
        raise


def _root(parts: Parts) -> Path:
    if parts.mounted is not None:
        return parts.mounted
    parts.staging.mkdir(mode=0o700, parents=True, exist_ok=True)
    if parts.is_writable:
        rootfs.mount_overlay(parts.layers, parts.upper, parts.work, parts.staging)
        return parts.staging
    # Places to mount on may be missing in a container that never ran; nothing of the container's may be written.
    syscalls.mount("tmpfs", parts.staging, "tmpfs", 0, "mode=0700")
    lower = [parts.upper, *parts.layers] if parts.upper.is_dir() else parts.layers
    target = parts.staging / "root"
    rootfs.mount_overlay(lower, parts.staging / "diff", parts.staging / "work", target)
    return target


def _show(top: int, shown: Shown) -> None:
    try:
        source = _open_source(shown)
    except FileNotFoundError:
        return  # a volume that was never used has nothing to be seen
    try:
        _make_place(top, shown.target, is_folder=stat.S_ISDIR(os.fstat(source).st_mode))
        place = syscalls.open_in_root(top, shown.target, os.O_PATH)
        try:
            where = Path(f"/proc/self/fd/{place}")
            syscalls.mount(f"/proc/self/fd/{source}", where, "", syscalls.MS_BIND | syscalls.MS_REC)
        finally:
            os.close(place)
    finally:
        os.close(source)
    if shown.read_only:
        # Opened again: the first descriptor is of what the mount has hidden.
        place = syscalls.open_in_root(top, shown.target, os.O_PATH)
        try:
            flags = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
            syscalls.mount("none", Path(f"/proc/self/fd/{place}"), "", flags)
        finally:
            os.close(place)


def _open_source(shown: Shown) -> int:
    source = os.open(shown.source, os.O_PATH | os.O_CLOEXEC)
    if not shown.subpath:
        return source
    try:
        return syscalls.open_in_root(source, shown.subpath, os.O_PATH)
    finally:
        os.close(source)


def _make_place(top: int, path: str, *, is_folder: bool) -> None:
    parent = make_folders(top, posixpath.dirname(path))
    name = posixpath.basename(path)
    try:
        try:
            os.close(syscalls.open_in_root(top, path, os.O_PATH))
        except FileNotFoundError:
            if is_folder:
                os.mkdir(name, 0o755, dir_fd=parent)
            else:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o755, dir_fd=parent))
    finally:
        os.close(parent)


def make_folders(top: int, path: str | bytes, mode: int = 0o755) -> int:
    """Open the directory `path` below `top`, making what is missing of it; the caller closes.

    Raises:
        OSError: a part of it is there and no directory.
    """
    text = os.fsdecode(path)
    try:
        return syscalls.open_in_root(top, text or "/", os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        outer = make_folders(top, posixpath.dirname(text.rstrip("/")), mode)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(posixpath.basename(text.rstrip("/")), mode, dir_fd=outer)
        return syscalls.open_in_root(top, text, os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(outer)
