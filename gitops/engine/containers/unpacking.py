"""Writing a tar into a directory of a container, for `docker cp` into it.

Both are hostile: the archive may say anything, the tree may hold any link. Each parent directory is opened by the
kernel with the container's root as root, so that neither leads out of it; entries are made in it without following a
link. All calls block.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from dataclasses import dataclass, replace

from gitops import errors
from gitops.engine import mountinfo
from gitops.engine.containers import syscalls, view
from gitops.oci import tarheader
from gitops.oci.tarheader import Member, show
from gitops.oci.tarstream import TarReader

_MOST_PARTS = 256
_MAX_ID = 2**32 - 2
_CAPABILITIES = b"security.capability"
_NODES = {tarheader.CHAR: stat.S_IFCHR, tarheader.BLOCK_DEVICE: stat.S_IFBLK, tarheader.FIFO: stat.S_IFIFO}


@dataclass(frozen=True, slots=True)
class Rules:
    """How an archive is written; `owner` replaces everybody's."""

    keeps_kinds: bool = False
    """Whether a directory in the place of something else, or the other way round, is refused."""
    owner: tuple[int, int] | None = None


def unpack(top: int, path: str, archive: TarReader, rules: Rules) -> None:
    """Write the members of `archive` below the directory `path` of the tree `top`.

    Raises:
        errors.Invalid: `path` is no directory, or the archive isn't good.
        OSError: `path` isn't there, or the disk refused.
    """
    try:
        os.close(syscalls.open_in_root(top, path, os.O_RDONLY | os.O_DIRECTORY))
    except NotADirectoryError as error:
        raise errors.Invalid("extraction point is not a directory") from error
    writer = _Writer(top, path, rules)
    for member in archive:
        try:
            writer.write(member, archive)
        except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
            raise errors.Invalid(f"{show(member.name)}: {(error.strerror or '').lower()}") from error
    writer.finish()


class _Writer:
    def __init__(self, top: int, path: str, rules: Rules) -> None:
        self._top = top
        self._path = path.rstrip("/")
        self._rules = rules
        self._folders: dict[str, int] = {}
        """Times of directories in nanoseconds, set when nothing more is made in them."""

    def write(self, member: Member, archive: TarReader) -> None:
        """One member."""
        parts = _parts(member.name)
        member = self._owned(member)
        if not parts:
            return  # the directory itself, which is there
        name = parts[-1]
        folder = view.make_folders(self._top, self._place(parts[:-1]))
        try:
            self._make_room(folder, name, member)
            if member.kind == tarheader.DIRECTORY:
                self._directory(folder, name, member)
                self._folders[self._place(parts)] = member.mtime_ns
            elif member.kind == tarheader.FILE:
                self._file(folder, name, member, archive)
            elif member.kind == tarheader.HARDLINK:
                self._link(folder, name, member)
            else:
                self._node(folder, name, member)
        finally:
            os.close(folder)

    def finish(self) -> None:
        """Set the times of directories."""
        for path, time_ns in reversed(self._folders.items()):
            try:
                descriptor = syscalls.open_in_root(self._top, path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # replaced meanwhile, by the archive or by a program
            try:
                _set_times(descriptor, time_ns)
            finally:
                os.close(descriptor)

    def _place(self, parts: list[str]) -> str:
        return "/".join([self._path, *parts]) or "/"

    def _owned(self, member: Member) -> Member:
        if not 0 <= member.uid <= _MAX_ID or not 0 <= member.gid <= _MAX_ID or member.mode < 0:
            raise errors.Invalid(f"{show(member.name)}: owner {member.uid}:{member.gid} or mode is out of range")
        uid, gid = self._rules.owner or (member.uid, member.gid)
        return replace(member, uid=uid, gid=gid, mode=member.mode & 0o7777)

    def _make_room(self, folder: int, name: str, member: Member) -> None:
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        was_folder, is_folder = stat.S_ISDIR(status.st_mode), member.kind == tarheader.DIRECTORY
        if self._rules.keeps_kinds and was_folder and not is_folder:
            raise errors.Invalid(f'cannot overwrite directory "{show(member.name)}" with non-directory')
        if self._rules.keeps_kinds and is_folder and not was_folder:
            raise errors.Invalid(f'cannot overwrite non-directory "{show(member.name)}" with directory')
        if not (was_folder and is_folder):
            mountinfo.remove_entry(name, folder)

    def _directory(self, folder: int, name: str, member: Member) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder)
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            _set_attributes(descriptor, member)
        finally:
            os.close(descriptor)

    def _file(self, folder: int, name: str, member: Member, archive: TarReader) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=folder)
        try:
            if member.pieces is None:
                for piece in archive.data():
                    _write(descriptor, piece)
            else:
                _write_sparse(descriptor, member, archive)
            _set_attributes(descriptor, member)
            _set_times(descriptor, member.mtime_ns)
        finally:
            os.close(descriptor)

    def _link(self, folder: int, name: str, member: Member) -> None:
        target = _parts(member.linkname)
        if not target:
            raise errors.Invalid(f"{show(member.name)}: a hard link to no file")
        source = syscalls.open_in_root(self._top, self._place(target[:-1]), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(source)

    def _node(self, folder: int, name: str, member: Member) -> None:
        if member.kind == tarheader.SYMLINK:
            os.symlink(os.fsdecode(member.linkname), name, dir_fd=folder)
        else:
            # The view has no umask. A chmod by name would follow a link that a program puts in its place.
            os.mknod(name, _NODES[member.kind] | member.mode, os.makedev(*member.device), dir_fd=folder)
        os.chown(name, member.uid, member.gid, dir_fd=folder, follow_symlinks=False)
        times = (member.mtime_ns, member.mtime_ns)
        os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False)


def _parts(name: bytes) -> list[str]:
    """The components of a member's name.

    Raises:
        errors.Invalid: it leads above the directory, or is too long.
    """
    clean = posixpath.normpath("/" + os.fsdecode(name).lstrip("/") if name.startswith(b"/") else os.fsdecode(name))
    parts = [part for part in clean.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise errors.Invalid(f"{show(name)}: leads out of the directory that is written to")
    if len(parts) > _MOST_PARTS or any(len(os.fsencode(part)) > 255 for part in parts):
        raise errors.Invalid(f"{show(name)}: too long, or too deep")
    return parts


def _set_attributes(descriptor: int, member: Member) -> None:
    os.fchown(descriptor, member.uid, member.gid)
    os.fchmod(descriptor, member.mode)
    if value := member.xattrs.get(_CAPABILITIES):
        os.setxattr(descriptor, _CAPABILITIES, value)


def _set_times(descriptor: int, time_ns: int) -> None:
    try:
        os.utime(descriptor, ns=(time_ns, time_ns))
    except OverflowError as error:
        raise errors.Invalid(f"a time of {time_ns} ns is out of range") from error


def _write(descriptor: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(descriptor, left) :]


def _write_sparse(descriptor: int, member: Member, archive: TarReader) -> None:
    pieces = iter(member.pieces or ())
    left = 0
    for data in archive.data():
        while data:
            while not left:
                offset, left = next(pieces)
                os.lseek(descriptor, offset, os.SEEK_SET)
            part, data = data[:left], data[left:]
            _write(descriptor, part)
            left -= len(part)
    os.ftruncate(descriptor, member.size)
