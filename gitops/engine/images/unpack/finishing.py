"""The finish pass: completes one layer with what the layers below it decide. Bottom up, one layer at a time.

Directories that no entry made take the metadata of the directory below; whiteouts that would hide nothing go, since
overlayfs shows them as ghosts; hard links into lower layers are made by copying the file up. Blocking: milliseconds
for most layers.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from gitops import errors
from gitops.engine.images.unpack.job import FinishResult, LayerResult
from gitops.engine.images.unpack.lowerview import OPAQUE, Found, LowerView, lstat, open_directory
from gitops.oci.tarheader import show

_OVERLAY = "trusted.overlay."
_COPY = 1 << 20


class _Redo(Exception):
    """A path of the layer runs through a symlink of a lower layer."""


def finish(layer: Path, result: LayerResult, lower: Sequence[Path]) -> FinishResult:
    """Complete the unpacked `layer` on the finished layers `lower`, nearest first, as they will be mounted under it.

    With `redo` in the answer, the layer is spoilt: extract it again with the lower layers in view.

    Raises:
        errors.Invalid: the layer can't lie on those below it.
        errors.RuntimeFailure: the disk refused.
    """
    try:
        with LowerView.open(lower, result.opaque) as view:
            descriptor = os.open(layer, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                return _Finisher(descriptor, result, view).run()
            finally:
                os.close(descriptor)
    except _Redo:
        if result.is_redone:
            raise errors.Invalid("a path of the layer leads through a file of a lower layer") from None
        return FinishResult(redo=True)
    except OSError as error:
        raise errors.RuntimeFailure(f"can't finish the layer in {layer}: {error}") from error


class _Finisher:
    def __init__(self, layer: int, result: LayerResult, view: LowerView) -> None:
        self._layer = layer
        self._result = result
        self._view = view
        self._unmarked = LowerView(view.roots)
        self._times: dict[bytes, tuple[int, int]] = {}
        self._names = {link.name for link in result.links}
        self._copied: dict[tuple[int, int], bytes] = {}
        self._groups: dict[int, dict[tuple[int, int], list[bytes]]] = {}
        self._bytes = 0

    def run(self) -> FinishResult:
        implied = [(path, self._below(path)) for path in self._result.implied]
        self._root()
        for path, found in implied:
            self._implied(path, found)
        self._whiteouts()
        for link in self._result.links:
            self._link(link.name, link.target)
        self._drop_empty([path for path, found in implied if found is None])
        self._mark_opaque()
        for path, times in self._times.items():
            self._set_times(path, times)
        return FinishResult(opaque_root=b"" in self._result.opaque, copied_bytes=self._bytes)

    # -- directories

    def _below(self, path: bytes) -> Found | None:
        """What the layers below show where this layer implies a directory."""
        found = None if path in self._result.fresh else self._view.lookup(path)
        if found is not None and not found.is_directory:
            raise _Redo
        return found

    def _root(self) -> None:
        if self._result.has_root:
            return
        # An opaque root without an entry still keeps what the root below it looked like.
        roots = self._view.roots
        if roots:
            self._copy_directory(b"", roots[0])
        else:
            self._plain_directory(b"")

    def _implied(self, path: bytes, found: Found | None) -> None:
        if found is None:
            self._plain_directory(path)
        else:
            self._copy_directory(path, found.descriptor)

    def _plain_directory(self, path: bytes) -> None:
        opened = open_directory(path, self._layer)
        try:
            os.fchown(opened, 0, 0)
            os.fchmod(opened, 0o755)
        finally:
            os.close(opened)
        self._times[path] = (0, 0)

    def _copy_directory(self, path: bytes, source_layer: int) -> None:
        source = open_directory(path, source_layer)
        try:
            target = open_directory(path, self._layer)
            try:
                status = _copy_metadata(source, target)
            finally:
                os.close(target)
        finally:
            os.close(source)
        self._times[path] = (status.st_atime_ns, status.st_mtime_ns)

    def _drop_empty(self, paths: Sequence[bytes]) -> None:
        """Directories that only whiteouts made appear nowhere."""
        for path in reversed(paths):
            self._touch(os.path.dirname(path))
            try:
                os.rmdir(path, dir_fd=self._layer)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                self._times.pop(path, None)

    def _mark_opaque(self) -> None:
        for path in self._result.opaque:
            if path and self._view.merging(os.path.dirname(path)) and lstat(path, self._layer) is not None:
                opened = open_directory(path, self._layer)
                try:
                    os.setxattr(opened, OPAQUE, b"y")
                finally:
                    os.close(opened)

    # -- whiteouts

    def _whiteouts(self) -> None:
        for path in self._result.whiteouts:
            if not self._view.merging(os.path.dirname(path)):
                self._touch(os.path.dirname(path))
                os.unlink(path, dir_fd=self._layer)

    # -- hard links into lower layers

    def _link(self, name: bytes, target: bytes) -> None:
        found = self._target(name, target)
        key = (found.position, found.status.st_ino)
        source = self._copied.get(key)
        if source is None:
            source = self._copied[key] = self._copy_up(name, target, found)
        if source != name:
            self._touch(os.path.dirname(name))
            os.link(source, name, src_dir_fd=self._layer, dst_dir_fd=self._layer, follow_symlinks=False)

    def _copy_up(self, name: bytes, target: bytes, found: Found) -> bytes:
        """Copy the lower file into this layer; returns the name of the copy: its own, or else the link's."""
        place = target if self._is_free(target, found) and self._parents(target) else name
        self._touch(os.path.dirname(place))
        self._copy(target, found, place)
        if found.status.st_nlink > 1 and stat.S_ISREG(found.status.st_mode):
            self._link_siblings(place, found)
        return place

    def _target(self, name: bytes, target: bytes) -> Found:
        """The lower file. What this layer hides can be linked to: its marks have no place in the order of entries."""
        parts = target.split(b"/")
        for depth in range(1, len(parts)):
            prefix = b"/".join(parts[:depth])
            found = self._unmarked.lookup(prefix)
            if found is not None and found.is_symlink:
                raise _Redo
            if found is None or not found.is_directory:
                raise errors.Invalid(f"{show(name)}: a hard link to {show(target)}, which is nowhere")
        found = self._unmarked.lookup(target)
        if found is None:
            raise errors.Invalid(f"{show(name)}: a hard link to {show(target)}, which is nowhere")
        if found.is_directory:
            raise errors.Invalid(f"{show(name)}: a hard link to the directory {show(target)}")
        return found

    def _parents(self, path: bytes) -> bool:
        """Make the directories above `path` as they are below; False where this layer has a file among them."""
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            prefix = b"/".join(parts[:depth])
            if prefix in self._names:
                return False
            own = lstat(prefix, self._layer)
            if own is not None:
                if not stat.S_ISDIR(own.st_mode):
                    return False
                continue
            found = self._view.lookup(prefix)
            if found is None or not found.is_directory:
                return False
            self._touch(os.path.dirname(prefix))
            os.mkdir(prefix, 0o700, dir_fd=self._layer)
            self._copy_directory(prefix, found.descriptor)
        return True

    def _link_siblings(self, copy: bytes, found: Found) -> None:
        """Link the file's other visible names to the copy: overlayfs would split them from it."""
        key = (found.status.st_dev, found.status.st_ino)
        for other in self._group(found.descriptor).get(key, []):
            if self._is_free(other, found) and self._parents(other):
                self._touch(os.path.dirname(other))
                os.link(copy, other, src_dir_fd=self._layer, dst_dir_fd=self._layer, follow_symlinks=False)

    def _is_free(self, path: bytes, wanted: Found) -> bool:
        """Whether this layer has nothing at `path`, nor will, and the file shows through there."""
        if path in self._names or lstat(path, self._layer) is not None:
            return False
        found = self._view.lookup(path)
        return found is not None and found.position == wanted.position

    def _group(self, descriptor: int) -> dict[tuple[int, int], list[bytes]]:
        if descriptor not in self._groups:
            groups: dict[tuple[int, int], list[bytes]] = {}
            for path, status in _walk(descriptor):
                if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
                    groups.setdefault((status.st_dev, status.st_ino), []).append(path)
            self._groups[descriptor] = groups
        return self._groups[descriptor]

    # -- copying

    def _copy(self, target: bytes, found: Found, place: bytes) -> None:
        status = found.status
        if stat.S_ISREG(status.st_mode):
            self._copy_file(target, found.descriptor, place)
            return
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(target, dir_fd=found.descriptor), place, dir_fd=self._layer)
        else:
            os.mknod(place, status.st_mode, status.st_rdev, dir_fd=self._layer)
        os.chown(place, status.st_uid, status.st_gid, dir_fd=self._layer, follow_symlinks=False)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(place, ns=times, dir_fd=self._layer, follow_symlinks=False)

    def _copy_file(self, target: bytes, source_layer: int, place: bytes) -> None:
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        source = os.open(target, os.O_RDONLY | flags, dir_fd=source_layer)
        try:
            copy = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=self._layer)
            try:
                while count := os.sendfile(copy, source, None, _COPY):
                    self._bytes += count
                status = _copy_metadata(source, copy)
                os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
            finally:
                os.close(copy)
        finally:
            os.close(source)

    # -- times

    def _touch(self, path: bytes) -> None:
        """Remember a directory's times before something in it is changed."""
        if path not in self._times:
            status = lstat(path, self._layer)
            if status is not None:
                self._times[path] = (status.st_atime_ns, status.st_mtime_ns)

    def _set_times(self, path: bytes, times: tuple[int, int]) -> None:
        os.utime(path or b".", ns=times, dir_fd=self._layer, follow_symlinks=False)


def _copy_metadata(source: int, target: int) -> os.stat_result:
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if not name.startswith(_OVERLAY):
            os.setxattr(target, name, os.getxattr(source, name))
    return status


def _walk(layer: int) -> Iterator[tuple[bytes, os.stat_result]]:
    """All entries of a layer, without following anything."""
    todo = [b""]
    while todo:
        directory = todo.pop()
        opened = open_directory(directory, layer)
        try:
            names = os.listdir(opened)
        finally:
            os.close(opened)
        for name in map(os.fsencode, names):
            path = directory + b"/" + name if directory else name
            status = lstat(path, layer)
            if status is None:
                continue
            yield path, status
            if stat.S_ISDIR(status.st_mode):
                todo.append(path)
