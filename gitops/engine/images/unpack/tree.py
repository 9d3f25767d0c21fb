"""Writes the entries of one layer into the current directory, which is the layer's root.

The kernel never follows a symlink for us: the parent of every entry is resolved by hand to a path whose every component
is known to be a real directory that this layer has made. Directories stay 0700 and root's until all is written: then
nothing is inherited from a setgid directory, and no later entry spoils a time. What only the layers below can decide
(whiteouts, directories that no entry made, hard links into them) is written down for the finish pass.

The process must be alone in the directory and have the umask 0.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator

from gitops import errors
from gitops.engine.images.unpack import metadata, names
from gitops.engine.images.unpack.job import DeferredLink
from gitops.engine.images.unpack.lowerview import LowerView
from gitops.oci import tarheader
from gitops.oci.limits import Limits
from gitops.oci.tarheader import Member, show

_PRIVATE = 0o700
_UNIT = 4096
_SPACE_EVERY = 16 << 20


class _NoDirectory(errors.Invalid):
    """A component of a path is a file."""


class TreeWriter:
    """Takes members in the order of the layer. After the last, `complete`; then the fields say what was found.

    `lower` shows the layers below, where they are wanted in the way that paths are resolved.
    """

    def __init__(self, limits: Limits, lower: LowerView | None = None) -> None:
        self._limits = limits
        self._lower = lower
        self._directories: dict[bytes, Member | None] = {b"": None}
        self._links: dict[bytes, bytes] = {}
        self._unchecked = 0
        self._below: dict[bytes, set[bytes]] = {}
        self.opaque: set[bytes] = set()
        self.fresh: set[bytes] = set()
        self.implied: dict[bytes, None] = {}
        self.whiteouts: dict[bytes, None] = {}
        self.members = 0
        self.unpacked_bytes = 0
        self.disk_bytes = 0

    @property
    def has_root(self) -> bool:
        """The layer has an entry for its root."""
        return self._directories[b""] is not None

    @property
    def links(self) -> list[DeferredLink]:
        """Hard links whose targets this layer doesn't have."""
        return [DeferredLink(name, target) for name, target in self._links.items()]

    def add(self, member: Member, data: Iterator[bytes]) -> None:
        """Write one entry.

        Raises:
            errors.Invalid: it can't be, or is beyond a limit.
            OSError: the disk's trouble.
        """
        self.members += 1
        if self.members > self._limits.members:
            raise errors.Invalid(f"more than {self._limits.members} entries")
        parts = names.clean(member.name, self._limits)
        if names.is_dropped(parts):
            return
        mark = names.whiteout(parts)
        if mark is not None:
            self._mark(mark)
            return
        metadata.check(member)
        if not parts:
            self._root(member)
            return
        path = self._child(self._parent(parts[:-1]), parts[-1])
        if member.kind == tarheader.DIRECTORY:
            self._directory(path, member)
        elif member.kind == tarheader.HARDLINK:
            self._hardlink(path, member)
        else:
            self._entry(path, member, data)

    def complete(self) -> None:
        """Write whiteouts, then the metadata of directories, then their times, deepest first."""
        for path in list(self.whiteouts):
            self._whiteout(path)
        known = [(path, member) for path, member in self._directories.items() if member is not None]
        known.sort(key=lambda item: item[0].count(b"/"), reverse=True)
        for path, member in known:
            self._open_and_set(path, member)
        for path, member in known:
            metadata.set_times(path or b".", member.mtime_ns)

    # -- whiteouts

    def _mark(self, mark: names.Whiteout) -> None:
        try:
            parent = self._parent(mark.parent)
        except _NoDirectory:
            return
        if mark.name is None:
            self._set_opaque(parent)
        else:
            path = self._child(parent, mark.name)
            self.whiteouts[path] = None
            self._note(path)
            if self._lower is not None:
                self._lower.hide(path)

    def _set_opaque(self, path: bytes) -> None:
        self.opaque.add(path)
        if self._lower is not None:
            self._lower.hide(path)

    def _whiteout(self, path: bytes) -> None:
        """Whiteouts act on the layers below only: what this layer has at the path stays."""
        if path in self._directories:
            self.opaque.add(path)
            self.fresh.add(path)
            del self.whiteouts[path]
        elif path in self._links or os.path.lexists(path):
            del self.whiteouts[path]
        else:
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
            self.disk_bytes += _UNIT

    # -- kinds of entries

    def _root(self, member: Member) -> None:
        if member.kind != tarheader.DIRECTORY:
            raise errors.Invalid("an entry for the layer's root that is no directory")
        self._directories[b""] = member

    def _directory(self, path: bytes, member: Member) -> None:
        if path not in self._directories:
            # A file was here first: it had ended the merging with what is below.
            if self._remove(path):
                self._set_opaque(path)
            self._make(path)
        self.implied.pop(path, None)
        self._directories[path] = member

    def _make(self, path: bytes) -> None:
        os.mkdir(path, _PRIVATE)
        self._directories[path] = None
        self._note(path)
        self.disk_bytes += _UNIT

    def _entry(self, path: bytes, member: Member, data: Iterator[bytes]) -> None:
        if member.kind == tarheader.FILE:
            self._file(path, member, data)
            return
        self._remove(path)
        if member.kind == tarheader.SYMLINK:
            if not member.linkname:
                raise errors.Invalid(f"{show(member.name)}: a symlink to nothing")
            os.symlink(member.linkname, path)
        else:
            self._node(path, member)
        metadata.set_path(path, member)
        metadata.set_times(path, member.mtime_ns)
        self.disk_bytes += _UNIT

    def _node(self, path: bytes, member: Member) -> None:
        kind = {tarheader.FIFO: stat.S_IFIFO, tarheader.CHAR: stat.S_IFCHR, tarheader.BLOCK_DEVICE: stat.S_IFBLK}
        major, minor = member.device
        if member.kind == tarheader.CHAR and (major, minor) == (0, 0):
            raise errors.Invalid(f"{show(member.name)}: the character device 0:0 is a mark of overlayfs's own")
        if not 0 <= major < 1 << 12 or not 0 <= minor < 1 << 20:
            raise errors.Invalid(f"{show(member.name)}: no device {major}:{minor} can be")
        # With the umask 0 the mode is the node's; chown may clear its setuid bits, so they are set once more.
        os.mknod(path, kind[member.kind] | member.mode, os.makedev(major, minor))
        if (member.uid or member.gid) and member.mode & 0o7000:
            os.chown(path, member.uid, member.gid, follow_symlinks=False)
            os.chmod(path, member.mode)

    def _file(self, path: bytes, member: Member, data: Iterator[bytes]) -> None:
        self.unpacked_bytes += member.size
        if self.unpacked_bytes > self._limits.layer_bytes:
            raise errors.Invalid(f"more than {self._limits.layer_bytes} bytes of files")
        descriptor = self._create(path, member.mode & 0o777)
        try:
            stored = (
                self._sparse(descriptor, member, data) if member.pieces is not None else self._plain(descriptor, data)
            )
            metadata.set_open(descriptor, member, created_mode=member.mode & 0o777)
            metadata.set_times(descriptor, member.mtime_ns)
        finally:
            os.close(descriptor)
        self.disk_bytes += -(-stored // _UNIT) * _UNIT

    def _create(self, path: bytes, mode: int) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        if path not in self._links:
            try:
                return os.open(path, flags, mode)
            except FileExistsError:
                pass
        # A new inode: an earlier hard link to what was here keeps the old content.
        self._remove(path)
        return os.open(path, flags, mode)

    def _plain(self, descriptor: int, data: Iterable[bytes]) -> int:
        total = 0
        for piece in data:
            self._write(descriptor, piece)
            total += len(piece)
        return total

    def _sparse(self, descriptor: int, member: Member, data: Iterator[bytes]) -> int:
        os.ftruncate(descriptor, member.size)
        rest = b""
        total = 0
        for offset, length in member.pieces or ():
            os.lseek(descriptor, offset, os.SEEK_SET)
            total += length
            while length:
                rest = rest or next(data)
                self._write(descriptor, rest[:length])
                length, rest = length - len(rest[:length]), rest[length:]
        return total

    def _write(self, descriptor: int, piece: bytes) -> None:
        self._unchecked += len(piece)
        if self._unchecked >= _SPACE_EVERY:
            self._check_space(descriptor)
        view = memoryview(piece)
        while view:
            view = view[os.write(descriptor, view) :]

    def _check_space(self, descriptor: int) -> None:
        self._unchecked = 0
        free = os.fstatvfs(descriptor)
        if free.f_bavail * free.f_frsize < self._limits.reserve_bytes:
            raise OSError(errno.ENOSPC, f"less than {self._limits.reserve_bytes} bytes would stay free")

    # -- hard links

    def _hardlink(self, path: bytes, member: Member) -> None:
        parts = names.clean(member.linkname, self._limits)
        if not parts:
            raise errors.Invalid(f"{show(member.name)}: a hard link to the root")
        target = self._child(self._resolve(parts[:-1], make=False), parts[-1])
        if target == path:
            if path in self._links or os.path.lexists(path):
                return
        elif target.startswith(path + b"/"):
            raise errors.Invalid(f"{show(member.name)}: a hard link in the place of the directory of its target")
        elif target in self._directories:
            # What only a name implied may turn out to be a file below.
            if target not in self.implied or self._lower is not None:
                raise errors.Invalid(f"{show(member.name)}: a hard link to a directory")
        elif os.path.lexists(target):
            self._remove(path)
            self._link(target, path, member)
            return
        self._remove(path)
        # A link to a deferred link is one to the same file.
        self._links[path] = self._links.get(target, target)
        self._note(path)

    def _link(self, target: bytes, path: bytes, member: Member) -> None:
        try:
            os.link(target, path, follow_symlinks=False)
        except OSError as error:
            raise errors.Invalid(
                f"{show(member.name)}: can't be a hard link to {show(member.linkname)}: {error.strerror}"
            ) from error

    # -- paths

    def _child(self, parent: bytes, name: bytes) -> bytes:
        path = parent + b"/" + name if parent else name
        if len(path) > self._limits.path_bytes or path.count(b"/") >= self._limits.depth:
            raise errors.Invalid(f"{show(path)}: longer or deeper than the limits")
        return path

    def _parent(self, parts: list[bytes]) -> bytes:
        path = b"/".join(parts)
        return path if path in self._directories else self._resolve(parts, make=True)

    def _resolve(self, parts: list[bytes], *, make: bool) -> bytes:
        """The real directory of this layer that a path leads to, symlinks included, never outside the root.

        Missing ones are made, or, without `make`, thought.
        """
        todo = parts[::-1]
        current = b""
        hops = 0
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                current = os.path.dirname(current)
                continue
            path = self._child(current, part)
            target = None if path in self._directories else self._target(path, make=make)
            if target is None:
                current = path
                continue
            hops += 1
            if hops > self._limits.symlink_hops:
                raise errors.Invalid(f"{show(b'/'.join(parts))}: more than {self._limits.symlink_hops} symlinks")
            if target.startswith(b"/"):
                current = b""
            todo += target.split(b"/")[::-1]
        return current

    def _target(self, path: bytes, *, make: bool) -> bytes | None:
        """Where the symlink at `path` leads; None for a directory, which is made if it is missing."""
        if path in self._links:
            raise _NoDirectory(f"{show(path)}: a file where a directory must be")
        try:
            return os.readlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _NoDirectory(f"{show(path)}: a file where a directory must be") from error
        target = self._lower_target(path)
        if target is None and make:
            self._make(path)
            self.implied[path] = None
        return target

    def _lower_target(self, path: bytes) -> bytes | None:
        if self._lower is None or path in self.whiteouts:
            return None
        found = self._lower.lookup(path)
        if found is None or found.is_directory:
            return None
        if not found.is_symlink:
            raise _NoDirectory(f"{show(path)}: a file of a lower layer where a directory must be")
        return os.readlink(path, dir_fd=found.descriptor)

    # -- removing

    def _remove(self, path: bytes) -> bool:
        """Take away what this layer has at `path`; whether there was anything."""
        was_link = self._links.pop(path, None) is not None
        if path in self._directories:
            shutil.rmtree(path)
            self._purge(path)
            return True
        try:
            os.unlink(path)
        except FileNotFoundError:
            return was_link
        return True

    def _note(self, path: bytes) -> None:
        """Remember that something is kept of `path`, so that purging costs no more than what it finds."""
        self._below.setdefault(os.path.dirname(path), set()).add(path)

    def _purge(self, path: bytes) -> None:
        """Forget all that was known of a directory and what is below."""
        todo = [path]
        while todo:
            known = todo.pop()
            todo.extend(self._below.pop(known, ()))
            self._directories.pop(known, None)
            if known != path:
                self.whiteouts.pop(known, None)
            self._links.pop(known, None)
            self.implied.pop(known, None)
            self.opaque.discard(known)
            self.fresh.discard(known)

    def _open_and_set(self, path: bytes, member: Member) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path or b".", flags)
        try:
            metadata.set_open(descriptor, member, created_mode=_PRIVATE)
        finally:
            os.close(descriptor)
