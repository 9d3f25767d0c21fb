"""Containers of one engine: the calls that the API and the executor make.

Owns the table `containers`, `<data root>/containers` and what the runtime keeps below the run root. Promises: what was
acknowledged is stored; containers outlive this process, and `start` takes them up again. The order at the engine's
start: images, volumes, `networks.start(containers.running())`, then `start`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from signal import SIGKILL

from gitops import errors
from gitops.config import EngineConfig
from gitops.engine import mountinfo
from gitops.engine.containers import (
    adoption,
    cgroups,
    creation,
    injected,
    inspection,
    logs,
    making,
    mounts,
    names,
    record,
    restarts,
    signals,
)
from gitops.engine.containers.attaching import Attaching
from gitops.engine.containers.boundary import Images, ImageUser, InjectedFile, LogRecord
from gitops.engine.containers.connecting import Connecting
from gitops.engine.containers.container import Container
from gitops.engine.containers.execs import Execs
from gitops.engine.containers.injected import InjectedFiles
from gitops.engine.containers.launcher import Launcher
from gitops.engine.containers.record import ContainerRecord
from gitops.engine.containers.runtime import Runtime
from gitops.engine.containers.stats import Meter
from gitops.engine.containers.supervisor import Supervisor
from gitops.engine.containers.sweep import sweep
from gitops.engine.containers.trees import Trees
from gitops.engine.containers.updating import Updating
from gitops.engine.database import Database
from gitops.engine.events import EventBus
from gitops.engine.networks import NetworkService
from gitops.engine.volumes import VolumeService, anonymous_name
from gitops.objects.container import (
    ContainerConfig,
    ContainerCreate,
    ContainerInspect,
    ContainerState,
    ContainerSummary,
)

logger = logging.getLogger(__name__)

_HEX = re.compile(r"[0-9a-f]{1,64}")
_CONDITIONS = ("", "not-running", "next-exit", "removed")
_KILL_WAIT_S = 10


class ContainerService:
    """Containers are named by full id, name (with or without "/"), or a unique prefix of the id.

    Every method that takes one raises `errors.NotFound` where there is none, `errors.Invalid` where a prefix fits two.
    """

    def __init__(
        self,
        config: EngineConfig,
        database: Database,
        events: EventBus,
        images: Images,
        networks: NetworkService,
        volumes: VolumeService,
    ) -> None:
        self._config = config
        self._database = database
        self._images = images
        self._networks = networks
        self._volumes = volumes
        self._containers: dict[str, Container] = {}
        self._names: dict[str, str] = {}
        self._random = random.Random()
        self._runtime = Runtime(config.run_root)
        self._files = InjectedFiles(config.run_root / "secrets")
        self._launcher = Launcher(config, self._runtime, images, networks, volumes, self._files)
        self._supervisor = Supervisor(
            database, events, self._runtime, self._launcher, self._files, volumes, self._find, self._forget
        )
        save, tell = self._supervisor.save, self._supervisor.tell
        self.attaching = Attaching(self._runtime, self._find, tell)
        self.execs = Execs(self._runtime, self._launcher, self._find, tell)
        self.meter = Meter(self._launcher, self._find)
        self.updating = Updating(self._find, self._launcher, self._runtime, save, tell)
        self.connecting = Connecting(self._find, self._launcher, networks, save)
        self.trees = Trees(self._find, self._launcher, images, volumes, tell)
        self.warnings: tuple[str, ...] = ()
        """What a person should know about this host; for `docker info`."""
        self.actions: tuple[str, ...] = ()
        """What was done to the host at the start."""
        volumes.users = self._volume_users

    # Beginning and end

    def running(self) -> dict[str, int]:
        """The containers that run at this moment, with the pids of their first processes, also before `start`."""
        parent = self._config.cgroup_parent.strip("/")
        found = {}
        for row in self._database.all(record.TABLE, ContainerRecord).values():
            survey = adoption.survey(row, self._runtime, f"/{parent}/{row.id}")
            if survey.finding is adoption.Finding.RUNNING and survey.run is not None:
                found[row.id] = survey.run.pid
        return found

    async def start(self) -> None:
        """Prepare the host, adopt what runs, finish what was begun, sweep what this instance left over.

        Raises:
            errors.RuntimeFailure: a program is missing, the seccomp profile, or all cgroups.
        """
        report = cgroups.prepare_host()
        for action in report.actions:
            logger.warning("%s", action)
        report.warnings += await self._runtime.prepare()
        self._launcher.prepare(cgroups.Groups(self._config.cgroup_parent))
        self.actions, self.warnings = tuple(report.actions), tuple(report.warnings)
        for row in self._database.all(record.TABLE, ContainerRecord).values():
            self._containers[row.id] = Container(row)
            self._names[row.name] = row.id
        self._supervisor.start_watching(self._containers)
        await sweep(self._containers, self._runtime, self._launcher, self._files, self._supervisor)
        for container in list(self._containers.values()):
            self._start_at_boot(container)

    def _start_at_boot(self, container: Container) -> None:
        if "restart" in container.tasks:
            return  # its end was found a moment ago, and the policy applied
        if container.record.status == record.RESTARTING:
            self._supervisor.restart_later(container)
        elif container.record.status == record.EXITED and restarts.at_boot(container.record):
            self._supervisor.save(container, status=record.RESTARTING)
            self._supervisor.restart_later(container)

    async def close(self) -> None:
        """Finish what was begun, stop watching; the containers live on."""
        await self.execs.close()
        await self._supervisor.close()
        for container in self._containers.values():
            container.close_process()
        self._launcher.close()

    async def stop_all(self, *, together: int = 16) -> None:
        """Stop every container, `together` at a time, as at a shutdown: restart policies hold at the next start."""
        self._supervisor.begin_shutdown()
        limit = asyncio.Semaphore(together)

        async def stop(container: Container) -> None:
            async with limit:
                try:
                    await self._supervisor.stop(container, None, None, is_manual=False)
                except errors.GitopsError as error:
                    logger.error("container %s can't be stopped: %s", container.record.short_name, error)

        async with asyncio.TaskGroup() as group:
            for container in list(self._containers.values()):
                group.create_task(stop(container))

    async def destroy(self) -> None:
        """Take the engine's own bind mount and empty cgroups off the host; only `close` may follow."""
        await self._launcher.in_thread(self._runtime.release)
        await self._launcher.in_thread(self._launcher.groups.remove_parent)

    # Creation and removal

    async def create(
        self,
        body: ContainerCreate,
        name: str | None = None,
        *,
        files: Sequence[InjectedFile] = (),
        gateway_leg: bool = False,
        platform: str = "",
    ) -> ContainerInspect:
        """Make a container; durable when it returns. `gateway_leg` gives it one on docker_gwbridge, for swarm tasks.

        Raises:
            errors.NotFound: no such image, or for another `platform`. errors.Conflict: the name is taken.
            errors.Invalid, errors.Unsupported.
        """
        image = self._images.inspect(self._images.resolve(body.image))
        making.check_platform(image, body.image, platform)
        body, _ = making.fit(body, self._launcher.limits)
        container = secrets.token_hex(32)
        full_name = self._free_name(name)
        made = creation.make_record(
            container,
            full_name,
            body,
            image.config or ContainerConfig(),
            image.id,
            time.time_ns(),
            cpus=os.cpu_count() or 1,
            anonymous=anonymous_name,
            files=injected.records(files),
            gateway_leg=gateway_leg,
            inherited=making.inherited(body, self._find),
        )
        making.check_binds(made)
        # Taken before the first await, so that two calls can't have one name.
        self._names[full_name] = container
        handle = Container(made)
        return await self._supervisor.operate(handle, self._keep(handle, files), "create")

    def left_out(self, body: ContainerCreate) -> Sequence[str]:
        """What of a create call this host lacks and goes without, as sentences."""
        return making.fit(body, self._launcher.limits)[1]

    async def _keep(self, handle: Container, files: Sequence[InjectedFile]) -> ContainerInspect:
        made = handle.record
        try:
            if files:
                await self._launcher.in_thread(self._files.store, made.id, files)
            await self._launcher.in_thread(self._make_folder, made.id)
            # Its image may have been removed meanwhile; from here on it is held.
            self._images.layers(made.image_id)
            self._store(handle)
        except BaseException:
            del self._names[made.name]
            self._files.remove(made.id)
            mountinfo.remove_tree(self._launcher.folder(made.id))
            raise
        self._supervisor.tell(handle, "create")
        return self._shown(handle)

    def _make_folder(self, container: str) -> None:
        folder = self._launcher.folder(container)
        folder.mkdir(mode=0o710, parents=True)
        self._launcher.log_folder(container).mkdir(mode=0o700)

    def _store(self, handle: Container) -> None:
        made = handle.record
        volumes = mounts.volumes(made.mounts)
        # Together, so that a crash leaves no volume that nobody knows of.
        with self._database.transaction() if volumes else contextlib.nullcontext():
            for mount in volumes:
                self._volumes.declare(mounts.declaration(mount), is_anonymous=mount.is_anonymous)
            record.store(self._database, made)
        self._containers[made.id] = handle

    def _free_name(self, name: str | None) -> str:
        if not name:
            return names.generate(self._names, self._random)
        full = names.check(name)
        if full in self._names:
            raise errors.Conflict(
                f'Conflict. The container name "{full}" is already in use by container "{self._names[full]}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        return full

    async def rename(self, container: str, name: str) -> None:
        """Give it another name.

        Raises:
            errors.Conflict: the name is taken. errors.Invalid: it is no name.
        """
        found = self._find(container)
        if not name:
            raise errors.Invalid("New name cannot be empty")
        full = names.check(name)
        # Nothing else may be changing the record: a start or an end would write the old name back.
        async with found.lock:
            if found.is_gone:
                raise errors.NotFound(f"No such container: {container}")
            old = found.record.name
            if full == old:
                raise errors.Invalid("Renaming a container with the same name as its current name")
            self._free_name(name)
            self._supervisor.save(found, name=full)
            self._names[full] = self._names.pop(old)
            if found.record.sandbox:
                await self._networks.rename(found.id, found.record.short_name)
        self._supervisor.tell(found, "rename", oldName=old)

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Take it away; `force` kills it first, `volumes` takes its anonymous volumes too.

        Raises:
            errors.Conflict: it runs, or is being removed already.
        """
        found = self._find(container)
        await self._supervisor.operate(found, self._supervisor.remove(found, force=force, volumes=volumes), "remove")

    # Running

    async def start_container(self, container: str) -> bool:
        """Start it; False when it runs already.

        Raises:
            errors.Conflict: paused, being removed, or a port is taken.
            errors.Invalid: its command or user can't be (`exit_status` 126 or 127). errors.RuntimeFailure: all else.
        """
        found = self._find(container)
        return await self._supervisor.operate(found, self._supervisor.start(found), "start")

    async def stop(self, container: str, timeout_s: float | None = None, signal: str | None = None) -> bool:
        """Stop signal, grace period, SIGKILL; False when it doesn't run. A negative timeout waits for ever."""
        if signal:
            signals.parse(signal)
        return await self._supervisor.stop(self._find(container), timeout_s, signal)

    async def restart(self, container: str, timeout_s: float | None = None, signal: str | None = None) -> None:
        """Stop and start; one that goes with its end (`auto_remove`) stays for that."""
        if signal:
            signals.parse(signal)
        found = self._find(container)
        await self._supervisor.operate(found, self._supervisor.restart(found, timeout_s, signal), "restart")

    async def kill(self, container: str, signal: str = "KILL") -> None:
        """Send a signal to its first process, and where that is SIGKILL wait for its end.

        Raises `errors.Conflict` where it doesn't run, `errors.Invalid` for what is no signal.
        """
        found = self._find(container)
        await self._supervisor.kill(found, signal)
        if signals.parse(signal or "KILL") == SIGKILL:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended(found, "not-running"), _KILL_WAIT_S)

    async def pause(self, container: str) -> None:
        """Freeze all its processes; raises `errors.Conflict` where it doesn't run or is paused."""
        await self._supervisor.pause(self._find(container))

    async def unpause(self, container: str) -> None:
        """Let them run again; raises `errors.RuntimeFailure` where it isn't paused."""
        await self._supervisor.unpause(self._find(container))

    async def wait(self, container: str, condition: str = "not-running") -> int:
        """Its exit code, when `condition` (not-running, next-exit, removed) holds.

        Raises:
            errors.Invalid: another condition.
        """
        if condition not in _CONDITIONS:
            raise errors.Invalid(f'invalid condition: "{condition}"')
        return await self._ended(self._find(container), condition)

    async def _ended(self, found: Container, condition: str) -> int:
        exits, event = found.exits, found.listen()
        try:
            while not self._holds(found, condition, exits):
                event.clear()
                await event.wait()
        finally:
            found.unlisten(event)
        return found.record.exit_code

    def _holds(self, container: Container, condition: str, exits: int) -> bool:
        if container.is_gone or condition == "removed":
            return container.is_gone
        if condition == "next-exit" or container.exits > exits:
            return container.exits > exits  # also where it is started again at once
        return not container.record.is_alive and container.record.status != record.RESTARTING

    # Looking

    def get(self, container: str) -> ContainerInspect:
        """What the API shows of it."""
        return self._shown(self._find(container))

    def gateway_address(self, container: str) -> str:
        """Its address on the bridge of swarm tasks, while it runs; else ""."""
        return self._find(container).record.gateway_address

    def list(
        self, *, all: bool = False, limit: int | None = None, filters: Mapping[str, Sequence[str]] | None = None
    ) -> Sequence[ContainerSummary]:
        """Running containers, or all (also where `limit`, or a filter on the state, is given), newest first."""
        wanted = dict(filters or {})
        newest = sorted(self._containers.values(), key=lambda one: one.record.created_ns, reverse=True)
        found = inspection.selected(newest, wanted, self._find, self._image_id)
        if not (all or limit or wanted.keys() & {"status", "exited"}):
            found = [one for one in found if inspection.state(one).running]
        now = time.time_ns()
        folder = self._config.data_root / "volumes"
        return [inspection.summary(one, folder, now) for one in (found[:limit] if limit else found)]

    async def logs(
        self,
        container: str,
        *,
        stdout: bool = True,
        stderr: bool = True,
        since_ns: int = 0,
        until_ns: int = 0,
        timestamps: bool = False,
        tail: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogRecord]:
        """Its output, oldest first; `follow` goes on until it ends. With `timestamps` each line begins with its time.

        Raises:
            errors.Unsupported: it keeps no log.
        """
        found = self._find(container)
        log = found.record.host_config.log_config
        if log is not None and log.type == "none":
            raise errors.Unsupported("configured logging driver does not support reading")
        query = logs.Query(stdout, stderr, since_ns, until_ns, tail, follow)
        begun: dict[str, bool] = {}
        wake = found.listen()
        try:
            folder = self._launcher.log_folder(found.id)
            async for entry in logs.read(folder, query, lambda: self._is_silent(found), wake):
                for shown in logs.stamp([entry], begun) if timestamps else [entry]:
                    yield shown
        finally:
            found.unlisten(wake)

    def _is_silent(self, container: Container) -> bool:
        return container.is_gone or not (
            container.record.is_alive or container.record.status == record.RESTARTING or container.lock.locked()
        )

    async def changes(self, container: str) -> AsyncIterator[ContainerState]:
        """Its state now and after each change, health included; some in between may be skipped. Ends at its removal."""
        found = self._find(container)
        event = found.listen()
        last = None
        try:
            while not found.is_gone:
                event.clear()
                state = inspection.state(found)
                if state != last:
                    last = state
                    yield state
                    continue
                await event.wait()
        finally:
            found.unlisten(event)

    def image_users(self, image_id: str) -> Sequence[ImageUser]:
        """The containers that were made from an image."""
        return [
            ImageUser(one.id, one.record.short_name, one.record.is_alive)
            for one in self._containers.values()
            if one.record.image_id == image_id
        ]

    # Inside

    def _shown(self, container: Container) -> ContainerInspect:
        return inspection.inspect(
            container,
            self._launcher.folder(container.id),
            self._runtime.bundle(container.id),
            self._config.data_root / "volumes",
            self.execs.of(container),
        )

    def _find(self, name: str) -> Container:
        found = self._containers.get(name)
        if found is None:
            found = self._containers.get(self._names.get(name if name.startswith("/") else f"/{name}", ""))
        if found is not None:
            return found
        matches = [one for one in self._containers if one.startswith(name)] if _HEX.fullmatch(name) else []
        if len(matches) > 1:
            raise errors.Invalid(f"multiple IDs found with provided prefix: {name}")
        if not matches:
            raise errors.NotFound(f"No such container: {name}")
        return self._containers[matches[0]]

    def _forget(self, container: Container) -> None:
        self._containers.pop(container.id, None)
        self._names.pop(container.record.name, None)

    def _image_id(self, name: str) -> str:
        try:
            return self._images.resolve(name)
        except errors.NotFound:
            return ""

    def _volume_users(self, volume: str) -> Sequence[str]:
        return [
            one.id
            for one in self._containers.values()
            if not one.record.removes_volumes
            and any(mount.type == "volume" and mount.source == volume for mount in one.record.mounts)
        ]
