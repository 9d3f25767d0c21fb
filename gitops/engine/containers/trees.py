"""The files of containers, as people copy, export and compare them; running or not.

Promises: nothing that a container or an archive holds leads out of the container's file system; what is read of a
container that doesn't run changes nothing of it. Leaves to others: how a view is put together (`view`), how a tar is
written and read (`packing`, `unpacking`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import posixpath
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from gitops import errors
from gitops.engine import diskusage
from gitops.engine.containers import differences, packing, record, unpacking, users, view
from gitops.engine.containers.boundary import Images
from gitops.engine.containers.container import Container
from gitops.engine.containers.launcher import Launcher
from gitops.engine.containers.record import ContainerRecord
from gitops.engine.volumes import VolumeService
from gitops.objects import base
from gitops.objects.container import FileChange, PathStat
from gitops.oci import compression, tarstream

T = TypeVar("T")

_ETC = ("hosts", "hostname", "resolv.conf")
_GO_KINDS = {
    0o040000: 1 << 31,
    0o120000: 1 << 27,
    0o060000: 1 << 26,
    0o020000: 1 << 26 | 1 << 21,
    0o010000: 1 << 25,
    0o140000: 1 << 24,
}
_GO_BITS = {0o4000: 1 << 23, 0o2000: 1 << 22, 0o1000: 1 << 20}


class Trees:
    """`docker cp`, `export` and `diff` of one engine's containers."""

    def __init__(
        self,
        find: Callable[[str], Container],
        launcher: Launcher,
        images: Images,
        volumes: VolumeService,
        tell: Callable[..., None],
    ) -> None:
        self._find = find
        self._launcher = launcher
        self._images = images
        self._volumes = volumes
        self._tell = tell

    async def stat(self, name: str, path: str) -> PathStat:
        """What `path` is in the container.

        Raises:
            errors.NotFound: no such container, or no such path.
        """
        container, place = self._find(name), packing.absolute(path)
        async with self._begun(container, lambda top: packing.look(top, place)) as future:
            with _explained(name, path):
                return _shown(await asyncio.wrap_future(future))

    @asynccontextmanager
    async def read(self, name: str, path: str, output: BinaryIO) -> AsyncIterator[tuple[PathStat, Future[None]]]:
        """What `path` is, and the writing of it as a tar to `output`, which is closed at its end.

        Raises:
            errors.NotFound: no such container, or no such path.
        """
        container, place = self._find(name), packing.absolute(path)
        loop = asyncio.get_running_loop()
        seen: asyncio.Future[packing.PathStatus | None] = loop.create_future()

        def work(top: int) -> None:
            with output:
                loop.call_soon_threadsafe(_answer, seen, packing.look(top, place))
                packing.pack(top, place, output)

        async with self._begun(container, work) as future:
            future.add_done_callback(lambda _: _close(output))
            done = asyncio.wrap_future(future)
            done.add_done_callback(lambda _: _answer(seen, None))
            done.add_done_callback(_take_note)
            found = await seen
            with _explained(name, path):
                if found is None:
                    await done
                assert found is not None
                self._tell(container, "archive-path")
                yield _shown(found), future

    async def write(
        self, name: str, path: str, archive: Path, *, keeps_kinds: bool = False, as_user: bool = False
    ) -> None:
        """Write a tar, compressed or not, into the directory `path`; `as_user` makes its files the container's user's.

        Raises:
            errors.NotFound: no such container or path. errors.Invalid: no directory, read-only, or a bad archive.
        """
        container, place = self._find(name), packing.absolute(path)

        def work(top: int) -> None:
            _check_writable(top, place, container.record)
            identity = users.resolve_at(top, container.record.config.user) if as_user else None
            rules = unpacking.Rules(keeps_kinds, (identity.uid, identity.gid) if identity else None)
            with archive.open("rb") as file:
                unpacking.unpack(top, place, tarstream.TarReader(compression.decoder(file.read).read_chunk), rules)

        # Held to the end: two mounts of one upper directory must not be written to at a time.
        async with container.lock, self._parts(container, is_writable=True) as parts:
            with _explained(name, path):
                await asyncio.shield(asyncio.wrap_future(view.start(parts, work)))
        self._tell(container, "extract-to-dir")

    @asynccontextmanager
    async def export(self, name: str, output: BinaryIO) -> AsyncIterator[Future[None]]:
        """The writing of all files, without volumes and binds, as a tar to `output`, which is closed at its end."""
        container = self._find(name)

        def work(top: int) -> None:
            with output:
                packing.pack_all(top, output)

        async with self._begun(container, work, has_mounts=False) as future:
            future.add_done_callback(lambda _: _close(output))
            self._tell(container, "export")
            yield future

    async def changes(self, name: str) -> Sequence[FileChange]:
        """What it changed of its image's files."""
        now = self._find(name).record
        layers = [layer.resolve() for layer in self._images.layers(now.image_id)]
        mounted = [mount.target for mount in now.mounts] + [file.path for file in now.files]
        upper = self._launcher.folder(now.id) / "diff"
        with _explained(name, "/"):
            return await asyncio.to_thread(differences.changes, upper, layers, mounted)

    async def layer(self, name: str, path: Path) -> ContainerRecord:
        """Write what it changed of its image's files to `path`, as a layer; returns the record that this is true of.

        Raises:
            errors.NotFound: no such container. errors.RuntimeFailure: the disk refused.
        """
        container = self._find(name)
        now = container.record
        upper = self._launcher.folder(now.id) / "diff"
        hidden = {os.fsencode(place).strip(b"/") for place in (*differences.PLACES, *(one.path for one in now.files))}

        def work() -> None:
            upper.mkdir(mode=0o755, exist_ok=True)
            descriptor = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with path.open("wb") as output:
                    packing.pack_layer(descriptor, output, hidden)
            finally:
                os.close(descriptor)

        async with container.lock:
            with _explained(name, "/"):
                await asyncio.shield(asyncio.to_thread(work))
        return now

    async def sizes(self, name: str) -> tuple[int, int]:
        """Bytes of its own layer, and with its image's."""
        now = self._find(name).record
        own = await asyncio.to_thread(diskusage.of, self._launcher.folder(now.id) / "diff")
        try:
            return own, own + self._images.inspect(now.image_id).size
        except errors.NotFound:
            return own, own  # the image was removed by force

    @asynccontextmanager
    async def _begun(
        self, container: Container, work: Callable[[int], T], *, has_mounts: bool = True
    ) -> AsyncIterator[Future[T]]:
        """`work` on a view for reading. The lock is held until the view stands: its parts could go before."""
        loop = asyncio.get_running_loop()
        stands = asyncio.Event()

        def inside(top: int) -> T:
            loop.call_soon_threadsafe(stands.set)
            return work(top)

        async with contextlib.AsyncExitStack() as held:
            async with container.lock:
                parts = await held.enter_async_context(self._parts(container, has_mounts=has_mounts))
                future = view.start(parts, inside)
                future.add_done_callback(lambda _: loop.call_soon_threadsafe(stands.set))
                await stands.wait()
            try:
                yield future
            finally:
                # What is mounted for it may be released only when nobody reads there any more.
                ending = asyncio.wrap_future(future)
                ending.add_done_callback(_take_note)
                await asyncio.wait([ending])

    @asynccontextmanager
    async def _parts(
        self, container: Container, *, has_mounts: bool = True, is_writable: bool = False
    ) -> AsyncIterator[view.Parts]:
        now, folder = container.record, self._launcher.folder(container.id)
        if now.status == record.REMOVING or container.is_gone:
            raise errors.NotFound(f"No such container: {now.short_name}")
        user = f"copy-{secrets.token_hex(6)}"
        taken: list[str] = []
        shown: list[view.Shown] = []
        try:
            for mount in now.mounts if has_mounts else ():
                if mount.type == "volume":
                    source = await self._volumes.acquire(mount.source, user)
                    taken.append(mount.source)
                    shown.append(view.Shown(source, mount.target, mount.subpath, mount.read_only))
                elif mount.type == "bind":
                    shown.append(view.Shown(Path(mount.source), mount.target, "", mount.read_only))
            if has_mounts:
                shown += [view.Shown(folder / file, f"/etc/{file}") for file in _ETC if (folder / file).exists()]
            yield view.Parts(
                mounted=self._launcher.root(container.id) if now.is_alive else None,
                layers=self._images.layers(now.image_id),
                upper=folder / "diff",
                work=folder / "work",
                staging=folder / "view",
                shown=shown,
                is_writable=is_writable,
            )
        finally:
            for volume in taken:
                await self._volumes.release(volume, user)


class _explained:
    """Turns what the kernel says of a path into what Docker says."""

    def __init__(self, container: str, path: str) -> None:
        self._container = container
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            return
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise errors.NotFound(f"Could not find the file {self._path} in container {self._container}") from error
        if error.errno == errno.EROFS:
            raise errors.Invalid("mounted volume is marked read-only") from error
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
            raise errors.Invalid(f"{self._path}: {error.strerror}") from error
        raise errors.RuntimeFailure(f"can't copy {self._path} of container {self._container}: {error}") from error


def _answer(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _take_note(future: asyncio.Future[Any]) -> None:
    """Who waits for it is told; where the client went away, which is no failure, nobody is left to be."""
    if not future.cancelled():
        future.exception()


def _close(output: BinaryIO) -> None:
    # Also where no view stood, and nothing was written: who reads waits for the end.
    with contextlib.suppress(OSError):
        output.close()


def _check_writable(top: int, place: str, now: ContainerRecord) -> None:
    if not now.host_config.readonly_rootfs:
        return
    real = packing.final_target(top, place.removesuffix("/.").rstrip("/") or "/")
    inside = [mount.target for mount in now.mounts if mount.type in ("volume", "bind")]
    if not any(posixpath.commonpath([real, target]) == target for target in inside):
        raise errors.Invalid("container rootfs is marked read-only")


def _shown(found: packing.PathStatus) -> PathStat:
    status = found.status
    mode = status.st_mode & 0o777 | _GO_KINDS.get(status.st_mode & 0o170000, 0)
    for bit, go in _GO_BITS.items():
        mode |= go if status.st_mode & bit else 0
    return PathStat(found.name, status.st_size, mode, base.format_time(status.st_mtime_ns), found.target)
