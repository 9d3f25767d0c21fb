"""Which files a manifest may read, and the reading of them.

A manifest reads files inside its repository: the git work tree around the path that was given, or that path itself.
Links are resolved first, and where they lead must lie inside too; the file is then opened component by component from
the repository's directory without following any link, so that nothing that is swapped in between leads outside. Files
of git itself (`.git`) are never read. What the operator allows beyond that is in `allowed`. Only regular files are
read, up to a limit that is checked before.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_CHUNK = 1 << 20
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_MAX_FILES = 20_000
"""Files below one directory that a manifest names; more is a mistake (a home directory, `node_modules`)."""


class Refused(Exception):
    """A file can't or mustn't be read: why, and what to do."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Refused) and (self.reason, self.hint) == (other.reason, other.hint)

    __hash__ = Exception.__hash__


def root_of(path: Path) -> Path:
    """The directory that manifests at `path` may read in: the git work tree around it, or the directory itself."""
    directory = path if path.is_dir() else path.parent
    for candidate in (directory, *directory.parents):
        if (candidate / ".git").exists():
            return candidate
    return directory


@dataclass(slots=True)
class Repository:
    """The files of one given path. `shown_from` is the directory that names are relative to."""

    root: Path
    shown_from: Path
    allowed: Sequence[Path] = ()
    read_digests: dict[str, str] = field(default_factory=dict)
    """What was read: shown name to SHA-256 in hex."""
    data_paths: set[Path] = field(default_factory=set)
    """Files and directories that manifests named: they are data, whatever their names end in."""
    looks: int = 0
    """How often something of it was looked up or opened."""

    def shown(self, path: Path) -> str:
        """A path as people see it: relative to what was given, where it lies near."""
        below = _below(path, self.shown_from)
        if below is not None:
            return below or "."
        return os.path.relpath(path, self.shown_from) if _below(path, self.root) is not None else str(path)

    def resolve(self, directory: str, text: str, *, is_data: bool = True) -> Path:
        """Where a path in a manifest leads, links resolved. `is_data`: what lies there is no manifest.

        Raises:
            Refused: outside of what may be read, or nothing there.
        """
        self.looks += 1
        if not text or "\0" in text:
            raise Refused("is no path")
        path = Path(directory, os.path.expanduser(text) if text.startswith("~") else text)
        if is_data:
            self.data_paths.add(Path(os.path.normpath(path)))
        try:
            real = Path(os.path.realpath(path, strict=True))
        except FileNotFoundError as error:
            self._base(Path(os.path.realpath(path)), text)
            raise Refused(f"no such file: {text!r}", "paths are relative to the manifest") from error
        except OSError as error:
            raise Refused(f"can't read {text!r}: {os.strerror(error.errno or errno.EIO).lower()}") from error
        self._base(real, text)
        if is_data:
            self.data_paths.add(real)
        return real

    def read(self, path: Path, limit: int, *, note: bool = True) -> bytes:
        """The content of a resolved file.

        Raises:
            Refused: outside, no regular file, or larger than `limit` bytes.
        """
        descriptor = self._open(path)
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            if size > limit:
                raise Refused(f"has {size} bytes, more than the limit of {limit}")
            data = file.read(limit + 1)
        if len(data) > limit:
            raise Refused(f"has more than the limit of {limit} bytes")
        if note:
            self.read_digests[self.shown(path)] = hashlib.sha256(data).hexdigest()
        return data

    def digest(self, path: Path) -> str:
        """SHA-256 in hex of a resolved file of any size."""
        descriptor = self._open(path)
        with os.fdopen(descriptor, "rb") as file:
            found = _digest(file.fileno())
        self.read_digests[self.shown(path)] = found
        return found

    def content(self, path: Path) -> str:
        """Digest and permission bits of a resolved file: all of it that goes into an image."""
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            raise Refused(f"{self.shown(path)!r} is no regular file")
        return f"{self.digest(path)} {stat.S_IMODE(mode):04o}"

    def tree(self, directory: Path) -> Iterator[tuple[Path, str]]:
        """Every file below a resolved directory with its `content`, in order; of a link the digest of its text.

        Links below are neither followed nor judged: they are copied as links.
        """
        count = 0
        for parent, directories, files in os.walk(directory):
            directories.sort()
            linked = [name for name in directories if os.path.islink(os.path.join(parent, name))]
            for name in sorted([*files, *linked]):
                count += 1
                if count > _MAX_FILES:
                    raise Refused(
                        f"{self.shown(directory)!r} holds more than {_MAX_FILES} files", "name what is needed"
                    )
                path = Path(parent, name)
                if path.is_symlink():
                    digest = hashlib.sha256(b"link:" + os.fsencode(os.readlink(path))).hexdigest()
                    self.read_digests[self.shown(path)] = digest
                    yield path, digest
                else:
                    yield path, self.content(path)

    def _base(self, real: Path, text: str = "") -> Path:
        """What allows the path to be read; `text` is how the manifest says it."""
        below = _below(real, self.root)
        if below is not None:
            if ".git" in below.split("/"):
                raise Refused("files of git itself are not read", "copy what is needed")
            return self.root
        for path in self.allowed:
            if _below(real, path) is not None:
                return path
        raise Refused(
            f"{(text or str(real))!r} leads outside of the repository",
            "move it inside, or let the operator allow it with --allow-host-path",
        )

    def _open(self, real: Path) -> int:
        """Open a resolved path from its base downwards, following no link."""
        self.looks += 1
        base = self._base(real)
        if real == base:
            base = base.parent
        try:
            current = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                *parents, name = (_below(real, base) or "").split("/")
                for part in parents:
                    below = os.open(part, _OPEN | os.O_DIRECTORY, dir_fd=current)
                    os.close(current)
                    current = below
                descriptor = os.open(name, _OPEN, dir_fd=current)
            finally:
                os.close(current)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise Refused("changed while it was read", "try again") from error
            raise Refused(f"can't be read: {os.strerror(error.errno or errno.EIO).lower()}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Refused("is no regular file")
        return descriptor


def _below(path: Path, base: Path) -> str | None:
    """What is left of a normal path below `base` ("" is `base` itself); None if it lies elsewhere.

    `Path.relative_to` does the same in many times the time, and this is asked a few times of every file.
    """
    text, prefix = str(path), str(base)
    if text == prefix:
        return ""
    prefix = prefix if prefix.endswith("/") else prefix + "/"
    return text[len(prefix) :] if text.startswith(prefix) else None


_archives: dict[tuple[str, int, int, int], str] = {}


def archive_digest(repository: Repository, path: Path) -> str:
    """`sha256:…` of an archive, or of a layout's index; remembered while size, times and inode stay the same."""
    target = path / "index.json" if path.is_dir() else path
    try:
        status = target.stat()
    except OSError as error:
        hint = "a directory must be an OCI layout"
        raise Refused(f"{repository.shown(target)!r} can't be read", hint if path.is_dir() else "") from error
    key = (str(target), status.st_size, status.st_mtime_ns, status.st_ino)
    if key not in _archives:
        if len(_archives) > 1000:
            _archives.clear()
        _archives[key] = repository.digest(target)
    repository.read_digests[repository.shown(target)] = _archives[key]
    return f"sha256:{_archives[key]}"


def _digest(descriptor: int) -> str:
    digest = hashlib.sha256()
    while chunk := os.read(descriptor, _CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
