"""Reading a container's tree as a tar, and looking at one path of it: for `docker cp` out of it and `docker export`.

The tree is hostile: what is opened is opened below its root by the kernel, and no link is followed but that of a
path which a person gave. All calls block.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from gitops import errors
from gitops.engine.containers import syscalls
from gitops.engine.images.unpack import lowerview
from gitops.oci import tarheader
from gitops.oci.tarheader import Member
from gitops.oci.tarwriter import TarWriter

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DEEPEST = 1000
_CAPABILITIES = "security.capability"
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_KINDS = {
    stat.S_IFREG: tarheader.FILE,
    stat.S_IFDIR: tarheader.DIRECTORY,
    stat.S_IFLNK: tarheader.SYMLINK,
    stat.S_IFCHR: tarheader.CHAR,
    stat.S_IFBLK: tarheader.BLOCK_DEVICE,
    stat.S_IFIFO: tarheader.FIFO,
}
"""Sockets are left out, as everywhere: they mean nothing in an archive."""


@dataclass(frozen=True, slots=True)
class PathStatus:
    """What a path in a container is; `target` is where a symlink leads in the end, in the container."""

    name: str
    status: os.stat_result
    target: str = ""


def absolute(path: str) -> str:
    """A path in a container as Docker reads it: below its root, a last "/" or "/." kept.

    Raises:
        errors.Invalid: none was given.
    """
    if not path or "\0" in path:
        raise errors.Invalid("path cannot be empty" if not path else f"invalid path {path!r}")
    clean = "/" + posixpath.normpath("/" + path).lstrip("/")
    if clean == "/":
        return clean
    if path.endswith("/."):
        return f"{clean}/."
    return f"{clean}/" if path.endswith("/") else clean


def base_name(path: str) -> str:
    """The last part of a path, as Go has it: "." of `a/.`, "/" of the root."""
    return posixpath.basename(path.rstrip("/")) or "/"


def look(top: int, path: str) -> PathStatus:
    """What `path` (from `absolute`) is, a last symlink not followed.

    Raises:
        OSError: it isn't there.
    """
    follows = path.endswith(("/", "/."))
    descriptor = syscalls.open_in_root(top, path, os.O_PATH | (0 if follows else os.O_NOFOLLOW))
    try:
        status = os.fstat(descriptor)
        target = ""
        if stat.S_ISLNK(status.st_mode):
            target = final_target(top, path)
        return PathStatus(base_name(path), status, target)
    finally:
        os.close(descriptor)


def final_target(top: int, path: str) -> str:
    """Where the symlink `path` leads in the end, below the root; a broken one's own text, read from where it lies."""
    try:
        descriptor = syscalls.open_in_root(top, path, os.O_PATH)
    except OSError:
        descriptor = syscalls.open_in_root(top, path, os.O_PATH | os.O_NOFOLLOW)
        try:
            text = os.readlink("", dir_fd=descriptor)
        finally:
            os.close(descriptor)
        return "/" + posixpath.normpath(posixpath.join(posixpath.dirname(path), text)).lstrip("/")
    try:
        root, found = (os.readlink(f"/proc/self/fd/{number}") for number in (top, descriptor))
    finally:
        os.close(descriptor)
    return found.removeprefix(root) or "/"


def pack(top: int, path: str, output: BinaryIO) -> None:
    """Write `path` (from `absolute`) with all that is in it as a tar whose names begin with the path's last part.

    Raises:
        OSError: it isn't there, can't be read, or nobody reads `output` any more.
    """
    writer = TarWriter(output)
    name = os.fsencode(base_name(path))
    status = look(top, path).status
    if stat.S_ISDIR(status.st_mode):
        descriptor = syscalls.open_in_root(top, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _Packer(writer).tree(descriptor, b"" if name == b"/" else name + b"/")
        finally:
            os.close(descriptor)
    else:
        parent = syscalls.open_in_root(top, posixpath.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            _Packer(writer).entry(parent, name, name)
        finally:
            os.close(parent)
    writer.close()


def pack_all(top: int, output: BinaryIO) -> None:
    """Write the whole tree as `docker export` does: names from the root, without a member for the root itself."""
    writer = TarWriter(output)
    descriptor = syscalls.open_in_root(top, "/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        _Packer(writer).inner(descriptor, b"")
    finally:
        os.close(descriptor)
    writer.close()


def pack_layer(upper: int, output: BinaryIO, hidden: Collection[bytes]) -> None:
    """Write an overlay's upper directory as the layer of an image, without the paths of `hidden` (no "/" before them).

    A deletion becomes an entry `.wh.NAME`, a directory that hides the one below it gets an entry `.wh..wh..opq`.
    """
    writer = TarWriter(output)
    _LayerPacker(writer, hidden).inner(upper, b"")
    writer.close()


class _Packer:
    """One archive: which file came under which name already, since further hard links are only named."""

    def __init__(self, writer: TarWriter) -> None:
        self._writer = writer
        self._seen: dict[tuple[int, int], bytes] = {}

    def tree(self, folder: int, prefix: bytes) -> None:
        """An open directory with what is in it; `prefix` ends in a slash, or is empty for a root."""
        self._writer.add(_member(os.fstat(folder), prefix or b"/", folder))
        self.inner(folder, prefix)

    def inner(self, folder: int, prefix: bytes) -> None:
        """What is in a directory, depth first, by names; without recursion, as deep as it goes."""
        stack = [(folder, prefix, _names(folder))]
        try:
            while stack:
                descriptor, path, names = stack[-1]
                name = next(names, None)
                if name is None:
                    stack.pop()
                    if descriptor != folder:
                        os.close(descriptor)
                    continue
                found = self.entry(descriptor, name, path + name)
                if found is not None:
                    stack.append((found, path + name + b"/", _names(found)))
                    if len(stack) > _DEEPEST:
                        raise errors.Unsupported(f"directories of more than {_DEEPEST} levels are not copied")
        finally:
            for descriptor, _, _ in stack:
                if descriptor != folder:
                    os.close(descriptor)

    def entry(self, folder: int, name: bytes, path: bytes) -> int | None:
        """One entry of an open directory; an open descriptor where it is a directory itself, the caller's to close."""
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None  # of a container that runs: gone since the directory was read
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return None
        if kind == tarheader.DIRECTORY:
            return self._folder(folder, name, path)
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in self._seen:
            member = _member(status, path, None)
            member.kind, member.size, member.linkname = tarheader.HARDLINK, 0, self._seen[key]
            self._writer.add(member)
            return None
        if status.st_nlink > 1:
            self._seen[key] = path
        if kind == tarheader.FILE:
            self._file(folder, name, path)
            return None
        member = _member(status, path, None)
        if kind == tarheader.SYMLINK:
            member.linkname = os.readlink(name, dir_fd=folder)
        self._writer.add(member)
        return None

    def _folder(self, folder: int, name: bytes, path: bytes) -> int | None:
        try:
            descriptor = os.open(name, _DIRECTORY, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            self._writer.add(_member(os.fstat(descriptor), path + b"/", descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _file(self, folder: int, name: bytes, path: bytes) -> None:
        try:
            descriptor = os.open(name, _FILE, dir_fd=folder)
        except FileNotFoundError:
            return
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return  # something else was put in its place
            self._writer.add(_member(status, path, descriptor), cast(BinaryIO, _Exactly(descriptor, status.st_size)))
        finally:
            os.close(descriptor)


class _LayerPacker(_Packer):
    """The archive of a layer."""

    def __init__(self, writer: TarWriter, hidden: Collection[bytes]) -> None:
        super().__init__(writer)
        self._hidden = hidden

    def entry(self, folder: int, name: bytes, path: bytes) -> int | None:
        """One entry, or the mark of its deletion."""
        if path in self._hidden:
            return None
        status = lowerview.lstat(name, folder)
        if status is not None and lowerview.is_whiteout(status):
            self._mark(path[: len(path) - len(name)] + _WHITEOUT + name)
            return None
        descriptor = super().entry(folder, name, path)
        if descriptor is not None and lowerview.is_opaque(b"", descriptor):
            self._mark(path + b"/" + _OPAQUE)
        return descriptor

    def _mark(self, path: bytes) -> None:
        self._writer.add(Member(path, tarheader.FILE, 0o600, 0, 0, 0, 0))


class _Exactly:
    """A file's first `size` bytes, filled up with zeros where it shrinks: a program may be writing to it."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._left = size

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        wanted = min(size, self._left)
        if not wanted:
            return b""
        piece = os.read(self._descriptor, wanted) or bytes(wanted)
        self._left -= len(piece)
        return piece


def _names(folder: int) -> Iterator[bytes]:
    return iter(sorted(os.fsencode(name) for name in os.listdir(folder)))


def _member(status: os.stat_result, path: bytes, descriptor: int | None) -> Member:
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    member = Member(
        name=path,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if kind == tarheader.FILE else 0,
        mtime_ns=status.st_mtime_ns,
    )
    if kind in (tarheader.CHAR, tarheader.BLOCK_DEVICE):
        member.device = (os.major(status.st_rdev), os.minor(status.st_rdev))
    if descriptor is not None:
        member.xattrs = _capabilities(descriptor)
    return member


def _capabilities(descriptor: int) -> dict[bytes, bytes]:
    """What a program may without being root: the one attribute that Docker's archives carry."""
    try:
        return {_CAPABILITIES.encode(): os.getxattr(descriptor, _CAPABILITIES)}
    except OSError:
        return {}
