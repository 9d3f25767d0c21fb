"""One layer of a build as a tar: entries to sorted members with fixed owners and times, sources read as they are.

No symlink inside a source directory is followed: it is copied as a symlink.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from gitops import errors
from gitops.oci import manifest as manifests
from gitops.oci import tarheader
from gitops.oci.blob import LayerBlob, Section
from gitops.oci.plan import ContentEntry, DirectoryEntry, Entry, FileEntry, LinkEntry
from gitops.oci.tarheader import Member
from gitops.oci.tarwriter import TarWriter

_BUFFER = 256 << 10


class _Hashing(io.RawIOBase):
    """Writes through and hashes."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = cast(bytes, data)
        self.digest.update(piece)
        return self._file.write(piece)


@dataclass(frozen=True, slots=True)
class _Item:
    """A member to be written and where its content comes from."""

    name: bytes
    member: Member
    source: Path | None = None
    content: bytes = b""


def write_layer(entries: Sequence[Entry], file: BinaryIO) -> LayerBlob:
    """Write the entries, sorted by name, as a tar into the empty `file`, which must stay open as long as the blob.

    Raises:
        errors.Invalid: a target that is no path, two entries for one path, a source of the wrong kind.
        errors.NotFound: a source is missing.
        errors.Conflict: a source changed while it was read.
    """
    output = _Hashing(file)
    writer = TarWriter(cast(BinaryIO, output))
    for item in _sorted(entries):
        if item.source is None:
            writer.add(item.member, item.content)
        else:
            # It was seen as a regular file; a symlink that took its place since then is not followed.
            try:
                descriptor = os.open(item.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                raise _unreadable(item.source, error) from error
            with open(descriptor, "rb", buffering=0) as content:
                writer.add(item.member, cast(BinaryIO, content))
    writer.close()
    file.flush()
    size = file.tell()
    diff_id = f"sha256:{output.digest.hexdigest()}"
    descriptor = file.fileno()
    path = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
    return LayerBlob(size, manifests.OCI_LAYER, diff_id, diff_id, path, 0, lambda: _section(descriptor, size))


def _unreadable(path: Path, error: OSError) -> errors.GitopsError:
    if error.errno in (errno.ENOENT, errno.ELOOP):
        return errors.Conflict(f"{path} changed while it was read; try again")
    return errors.Invalid(f"can't read {path}: {error.strerror}")


def _section(descriptor: int, size: int) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(Section(descriptor, 0, size), _BUFFER))


def _sorted(entries: Sequence[Entry]) -> list[_Item]:
    """The members by name, with the directories above them; a directory that an entry brings keeps its own mode."""
    items: dict[bytes, _Item] = {}
    for entry in entries:
        for item in _items(entry):
            name = item.name
            other = items.get(name)
            if other is not None and not (_is_directory(other) and _is_directory(item)):
                raise errors.Invalid(f"two entries of a layer are for /{tarheader.show(name)}")
            items[name] = item
    for name in list(items):
        for parent in _parents(name):
            above = items.setdefault(parent, _item(parent, tarheader.DIRECTORY, 0o755, 0, 0))
            if not _is_directory(above):
                raise errors.Invalid(f"/{tarheader.show(name)} lies below /{tarheader.show(parent)}, a file or link")
    return [items[name] for name in sorted(items, key=lambda name: name.split(b"/"))]


def _is_directory(item: _Item) -> bool:
    return item.member.kind == tarheader.DIRECTORY


def _parents(name: bytes) -> Iterator[bytes]:
    parts = name.split(b"/")
    for depth in range(1, len(parts)):
        yield b"/".join(parts[:depth])


def _items(entry: Entry) -> Iterator[_Item]:
    name = _name(entry.to)
    if isinstance(entry, ContentEntry):
        _refuse_root(name, entry.to)
        size = len(entry.content)
        yield _item(name, tarheader.FILE, entry.mode, entry.uid, entry.gid, size=size, content=entry.content)
    elif isinstance(entry, LinkEntry):
        _refuse_root(name, entry.to)
        target = os.fsencode(entry.target)
        if not target or b"\0" in target:
            raise errors.Invalid(f"the link {entry.to!r} has no valid target")
        yield _item(name, tarheader.SYMLINK, 0o777, entry.uid, entry.gid, link=target)
    elif isinstance(entry, FileEntry):
        _refuse_root(name, entry.to)
        yield _file(entry.source.resolve(), _status(entry.source, follow=True), name, entry)
    else:
        if not stat.S_ISDIR(_status(entry.source, follow=True).st_mode):
            raise errors.Invalid(f"{entry.source} is not a directory")
        yield from _tree(entry.source, name, entry)


def _tree(source: Path, name: bytes, entry: DirectoryEntry) -> Iterator[_Item]:
    status = _status(source, follow=True)
    if name:
        mode = stat.S_IMODE(status.st_mode) if entry.mode is None else entry.mode | (entry.mode & 0o444) >> 2
        yield _item(name, tarheader.DIRECTORY, mode, entry.uid, entry.gid)
    try:
        children = sorted(os.scandir(os.fsencode(source)), key=lambda found: found.name)
    except OSError as error:
        raise _unreadable(source, error) from error
    for child in children:
        path = Path(os.fsdecode(child.path))
        target = name + b"/" + child.name if name else child.name
        if child.is_symlink():
            link = os.fsencode(os.readlink(path))
            yield _item(target, tarheader.SYMLINK, 0o777, entry.uid, entry.gid, link=link)
        elif child.is_dir(follow_symlinks=False):
            yield from _tree(path, target, entry)
        else:
            yield _file(path, _status(path, follow=False), target, entry)


def _file(path: Path, status: os.stat_result, name: bytes, entry: FileEntry | DirectoryEntry) -> _Item:
    if not stat.S_ISREG(status.st_mode):
        raise errors.Invalid(f"{path} is no regular file, and only files, directories and symlinks go into an image")
    mode = stat.S_IMODE(status.st_mode) if entry.mode is None else entry.mode
    return _item(name, tarheader.FILE, mode, entry.uid, entry.gid, size=status.st_size, source=path)


def _status(path: Path, *, follow: bool) -> os.stat_result:
    try:
        return os.stat(path, follow_symlinks=follow)
    except FileNotFoundError as error:
        raise errors.NotFound(f"{path}: no such file or directory") from error
    except OSError as error:
        raise errors.Invalid(f"can't read {path}: {error.strerror}") from error


def _item(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    *,
    link: bytes = b"",
    size: int = 0,
    source: Path | None = None,
    content: bytes = b"",
) -> _Item:
    if not 0 <= mode <= 0o7777 or not 0 <= uid < 2**32 - 1 or not 0 <= gid < 2**32 - 1:
        raise errors.Invalid(f"/{tarheader.show(name)}: mode {mode:o}, uid {uid} or gid {gid} is out of range")
    stored = name + b"/" if kind == tarheader.DIRECTORY else name
    return _Item(name, Member(stored, kind, mode, uid, gid, size, 0, link), source, content)


def _name(to: str) -> bytes:
    parts = [part for part in to.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in to or not to:
        raise errors.Invalid(f"{to!r} is not a path inside an image")
    name = "/".join(parts)
    if any(part.startswith(".wh.") for part in parts):
        raise errors.Invalid(f"{to!r}: names that begin with .wh. mark deletions in a layer")
    return os.fsencode(name)


def _refuse_root(name: bytes, to: str) -> None:
    if not name or to.endswith("/"):
        raise errors.Invalid(f"{to!r} must name a file")
