"""Secrets and configs of containers: files on a tmpfs of their own, one a container, below the run root.

They never reach a disk: the tmpfs is kept from swapping where the kernel can, and holds what the container's bind
mounts show. It lives from the container's creation to its removal, and not across a boot. All calls block.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gitops import errors
from gitops.engine.containers import mounts, rootfs, syscalls
from gitops.engine.containers.boundary import InjectedFile
from gitops.engine.containers.record import FileRecord

_FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
_BLOCK = 4096


class InjectedFiles:
    """The tmpfs of each container that was given files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def store(self, container: str, files: Sequence[InjectedFile]) -> None:
        """Keep `files`, numbered as they come.

        Raises:
            errors.RuntimeFailure: the tmpfs can't be made.
        """
        folder = self._folder / container
        folder.mkdir(mode=0o700, parents=True)
        size = sum(len(file.data) // _BLOCK + 2 for file in files) * _BLOCK
        try:
            _mount_tmpfs(folder, f"mode=0700,size={size}")
            for number, file in enumerate(files):
                _write(folder / str(number), file)
        except OSError as error:
            self.remove(container)
            raise errors.RuntimeFailure(f"can't keep the secrets of {container[:12]} in memory: {error}") from error

    def path(self, container: str, file: FileRecord) -> Path:
        """Where the data lies.

        Raises:
            errors.RuntimeFailure: it is lost, by a reboot.
        """
        path = self._folder / container / str(file.number)
        if not path.exists():
            raise errors.RuntimeFailure(
                f"the data of {file.path} was in memory only and is gone since the boot: create the container again"
            )
        return path

    def remove(self, container: str) -> None:
        """Forget a container's files; twice does no harm."""
        folder = self._folder / container
        if folder.exists():
            rootfs.unmount_all(folder)
            folder.rmdir()

    def known(self) -> set[str]:
        """The containers that have files."""
        return {entry.name for entry in os.scandir(self._folder)} if self._folder.is_dir() else set()


def records(files: Sequence[InjectedFile]) -> list[FileRecord]:
    """What the database keeps of `files`.

    Raises:
        errors.Invalid: a path where nothing can be, or two at one path.
    """
    found: dict[str, FileRecord] = {}
    for number, file in enumerate(files):
        path = mounts.clean_target(file.path)
        if path in found:
            raise errors.Invalid(f"bad target {file.path!r} of a secret or config: another one has it")
        found[path] = FileRecord(path=path, number=number, mode=file.mode, uid=file.uid, gid=file.gid)
    return list(found.values())


def _mount_tmpfs(folder: Path, options: str) -> None:
    try:
        syscalls.mount("tmpfs", folder, "tmpfs", _FLAGS, f"{options},noswap")
    except OSError:
        # Kernels before 6.4 don't know noswap.
        syscalls.mount("tmpfs", folder, "tmpfs", _FLAGS, options)


def _write(path: Path, file: InjectedFile) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        target.write(file.data)
        os.fchown(target.fileno(), file.uid, file.gid)
        os.fchmod(target.fileno(), file.mode & 0o7777)
