"""Named volumes: directories that outlive containers, or mounts that are made when a container needs them.

Owns `<data root>/volumes/<name>/_data` and the table `volumes`. Promises: a volume that was acknowledged survives a
crash; one whose removal was begun is gone after the next start; data without a row (a lost database) is taken up
again, never deleted. Leaves to the containers: who uses a volume (`users`), and what is copied into a new one.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import subprocess
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gitops import errors
from gitops.config import EngineConfig
from gitops.engine import diskusage, mountinfo
from gitops.engine.database import Database
from gitops.engine.events import EventBus
from gitops.objects import base
from gitops.objects.container import Volume, VolumeCreate

TABLE = "volumes"
ANONYMOUS_LABEL = "com.docker.volume.anonymous"
"""Docker's mark of a volume that nobody named."""
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_OPTIONS = frozenset({"type", "o", "device"})
_REMOVING = ".removing-"
_MOUNT_TIMEOUT_S = 60.0
_FILTERS = frozenset({"name", "label", "label!", "driver", "dangling", "all"})


def anonymous_name() -> str:
    """A name for a volume that nobody named."""
    return secrets.token_hex(32)


def check_name(name: str) -> None:
    """Raises `errors.Invalid` with Docker's text where `name` can't be a volume's."""
    if not _NAME.fullmatch(name) or len(name) > 255 - len(_REMOVING):
        raise errors.Invalid(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


class VolumeService:
    """The volumes of one engine. Names are unique; only the driver `local` is there."""

    def __init__(self, config: EngineConfig, database: Database, events: EventBus) -> None:
        self._root = config.data_root / "volumes"
        self._database = database
        self._events = events
        self._mounted: dict[str, set[str]] = {}
        # A lock lives as long as somebody holds it or waits for it.
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self.users: Callable[[str], Sequence[str]] = lambda name: ()
        """The ids of the containers that refer to a volume, running or not; set by the containers."""

    async def start(self) -> None:
        """Finish removals that a crash interrupted; take up data whose rows are lost."""
        self._root.mkdir(mode=0o711, parents=True, exist_ok=True)
        for entry in sorted(self._root.iterdir()):
            if entry.name.startswith(_REMOVING):
                await self._finish_removal(entry)
            elif entry.is_dir() and _NAME.fullmatch(entry.name) and self._row(entry.name) is None:
                self._put(Volume(name=entry.name, created_at=base.format_time(entry.stat().st_mtime_ns)))

    async def close(self) -> None:
        """Nothing to stop: what is mounted stays so for the containers that live on."""

    async def create(self, body: VolumeCreate) -> Volume:
        """Make a volume, or give the one of that name that is there.

        Raises:
            errors.Invalid: a bad name or option. errors.NotFound: no such driver.
            errors.Conflict: there is one of that name with other options.
        """
        volume = self.declare(body)
        self.path(volume.name).mkdir(mode=0o755, parents=True, exist_ok=True)
        return volume

    def declare(self, body: VolumeCreate, *, is_anonymous: bool = False) -> Volume:
        """Like `create`, but only the row: the directory is made when the volume is first used.

        It doesn't await, so that it can be a part of the caller's database transaction.
        """
        name = body.name or anonymous_name()
        check_name(name)
        options = _checked_options(name, body)
        existing = self._row(name)
        if existing is not None:
            if options and options != (existing.options or {}):
                raise errors.Conflict(
                    f"a volume named {name} already exists with other options: remove it first, or choose another name"
                )
            return self._shown(existing)
        labels = dict(body.labels or {})
        if is_anonymous or not body.name:
            labels[ANONYMOUS_LABEL] = ""
        volume = Volume(
            name=name, created_at=base.format_time(time.time_ns()), labels=labels or None, options=options or None
        )
        self._put(volume)
        self._events.publish("volume", "create", name, {"driver": "local"})
        return self._shown(volume)

    def get(self, name: str) -> Volume:
        """Raises `errors.NotFound`."""
        row = self._row(name)
        if row is None:
            raise errors.NotFound(f"get {name}: no such volume")
        return self._shown(row)

    def list(self, filters: Mapping[str, Sequence[str]] | None = None) -> list[Volume]:
        """Volumes by name; filters: name (a part of it), label, driver, dangling."""
        wanted = filters or {}
        for key in wanted:
            if key not in _FILTERS:
                raise errors.Invalid(f"invalid filter '{key}'")
        rows = self._database.all(TABLE, Volume).values()
        return [self._shown(row) for row in rows if self._matches(row, wanted)]

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume and its data; with `force` a missing one is no error.

        Raises:
            errors.NotFound; errors.Conflict: a container uses it.
        """
        async with self._lock(name):
            if not self._may_go(name, force=force):
                return
            trash = self._root / f"{_REMOVING}{name}"
            await asyncio.to_thread(self._unmount_now, name)
            await asyncio.to_thread(mountinfo.remove_tree, trash)  # of a removal that failed half-way
            # A container may have been made with it meanwhile; from here to the row's end nothing is awaited.
            if not self._may_go(name, force=force):
                return
            inner = mountinfo.below(self._root / name)
            if inner:
                raise errors.Conflict(f"remove {name}: {inner[0]} is mounted in the volume: unmount that first")
            if (self._root / name).exists():
                os.rename(self._root / name, trash)
            self._database.delete(TABLE, name)
            self._events.publish("volume", "destroy", name, {"driver": "local"})
            await asyncio.to_thread(mountinfo.remove_tree, trash)

    def _may_go(self, name: str, *, force: bool) -> bool:
        if self._row(name) is None:
            if force:
                return False
            raise errors.NotFound(f"get {name}: no such volume")
        users = list(self.users(name))
        if users:
            raise errors.Conflict(f"remove {name}: volume is in use - [{', '.join(sorted(users))}]")
        return True

    async def prune(self, filters: Mapping[str, Sequence[str]] | None = None) -> tuple[Sequence[str], int]:
        """Remove unused anonymous volumes (with filter `all=true` named ones too): their names, and bytes set free."""
        wanted = dict(filters or {})
        everything = any(value.lower() in ("1", "true") for value in wanted.pop("all", ()))
        removed = []
        freed = 0
        for volume in self.list(wanted):
            if self.users(volume.name) or not (everything or ANONYMOUS_LABEL in (volume.labels or {})):
                continue
            freed += await asyncio.to_thread(diskusage.of, self._root / volume.name)
            try:
                await self.remove(volume.name, force=True)
            except errors.Conflict:
                continue  # a container was made with it meanwhile
            removed.append(volume.name)
        return removed, freed

    async def usage(self) -> Sequence[tuple[Volume, int, int]]:
        """Every volume, the bytes that it takes, and how many containers have it."""
        found = []
        for volume in self.list():
            size = await asyncio.to_thread(diskusage.of, self._root / volume.name)
            found.append((volume, size, len(self.users(volume.name))))
        return found

    def path(self, name: str) -> Path:
        """The directory of a volume's data, whether there is one or not."""
        return self._root / name / "_data"

    async def acquire(self, name: str, user: str) -> Path:
        """The directory of a volume for the running container `user`, mounted where its options ask for that.

        Raises:
            errors.NotFound; errors.RuntimeFailure: it can't be mounted.
        """
        async with self._lock(name):
            volume = self.get(name)
            path = self.path(name)
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            if volume.options and not mountinfo.is_mount_point(path):
                await asyncio.to_thread(_mount, volume, path)
            self._mounted.setdefault(name, set()).add(user)
            return path

    async def release(self, name: str, user: str) -> None:
        """`user` no longer runs; the last one unmounts what `acquire` mounted. Twice does no harm."""
        users = self._mounted.get(name, set())
        users.discard(user)
        if users:
            return
        async with self._lock(name):
            row = self._row(name)
            if row is not None and row.options and not self._mounted.get(name):
                await asyncio.to_thread(self._unmount_now, name)

    def adopt(self, name: str, user: str) -> None:
        """Note that the running container `user` has the volume since before this start."""
        self._mounted.setdefault(name, set()).add(user)

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _row(self, name: str) -> Volume | None:
        return self._database.get(TABLE, name, Volume)

    def _put(self, volume: Volume) -> None:
        self._database.put(TABLE, volume.name, volume)

    def _shown(self, row: Volume) -> Volume:
        return Volume(
            name=row.name,
            created_at=row.created_at,
            mountpoint=str(self.path(row.name)),
            labels=row.labels,
            options=row.options,
        )

    def _matches(self, row: Volume, filters: Mapping[str, Sequence[str]]) -> bool:
        labels = row.labels or {}
        tests: dict[str, Callable[[str], bool]] = {
            "name": lambda value: value in row.name,
            "driver": lambda value: value == row.driver,
            "label": lambda value: _has_label(labels, value),
            "label!": lambda value: not _has_label(labels, value),
            "dangling": lambda value: (value.lower() in ("1", "true")) == (not self.users(row.name)),
        }
        # Labels must all match, other filters one of their values.
        return all(
            (all if key.startswith("label") else any)(tests[key](value) for value in values)
            for key, values in filters.items()
            if key in tests and values
        )

    def _unmount_now(self, name: str) -> None:
        path = self.path(name)
        while mountinfo.is_mount_point(path):
            _run(["umount", "--", str(path)], f"unmount the volume {name}")

    async def _finish_removal(self, trash: Path) -> None:
        name = trash.name.removeprefix(_REMOVING)
        if not (self._root / name).exists():
            self._database.delete(TABLE, name)
        await asyncio.to_thread(mountinfo.remove_tree, trash)


def _checked_options(name: str, body: VolumeCreate) -> dict[str, str]:
    if body.driver not in ("", "local"):
        raise errors.NotFound(
            f'create {name}: error looking up volume plugin {body.driver}: plugin "{body.driver}" not found'
        )
    options = dict(body.driver_opts or {})
    for key in options:
        if key not in _OPTIONS:
            raise errors.Invalid(f'create {name}: invalid option: "{key}"')
    if options and not options.get("device"):
        raise errors.Invalid(f"create {name}: missing device in volume options")
    if options and not options.get("type"):
        raise errors.Invalid(f"create {name}: missing type in volume options")
    return options


def _has_label(labels: Mapping[str, str], wanted: str) -> bool:
    key, has_value, value = wanted.partition("=")
    return key in labels and (not has_value or labels[key] == value)


def _mount(volume: Volume, path: Path) -> None:
    options = volume.options or {}
    command = ["mount", "-t", options["type"]]
    if options.get("o"):
        command += ["-o", options["o"]]
    _run([*command, "--", options["device"], str(path)], f"mount the volume {volume.name}")


def _run(command: Sequence[str], what: str) -> None:
    # mount(8) rather than the system call: it knows the helpers of nfs, cifs and the like, and the options' names.
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_MOUNT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        # Not chained: its text is the command, whose options may hold a password.
        raise errors.RuntimeFailure(f"can't {what}: no answer in {_MOUNT_TIMEOUT_S:g} s") from None
    except OSError as error:
        raise errors.RuntimeFailure(f"can't {what}: {error}") from error
    if done.returncode != 0:
        raise errors.RuntimeFailure(f"can't {what}: {done.stderr.strip() or done.returncode}")
