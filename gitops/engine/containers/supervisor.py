"""The life of containers: start, end, restart, health, pause, removal.

Promises: a change is stored before anybody hears of it; a container's ports, addresses and mounts are free again when
its end is told. Leaves the steps of a start to the launcher, what a person may ask for to the service.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from gitops import errors
from gitops.engine import mountinfo
from gitops.engine.containers import health, ooms, prober, processes, record, restarts, rotation, signals
from gitops.engine.containers.background import Tasks
from gitops.engine.containers.container import Container
from gitops.engine.containers.exits import Exits
from gitops.engine.containers.injected import InjectedFiles
from gitops.engine.containers.launcher import Launched, Launcher
from gitops.engine.containers.ooms import Ooms
from gitops.engine.containers.record import ContainerRecord, Run
from gitops.engine.containers.runtime import Runtime
from gitops.engine.database import Database
from gitops.engine.events import EventBus
from gitops.engine.volumes import VolumeService
from gitops.objects import base

T = TypeVar("T")

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0
_KILL_TIMEOUT_S = 30.0
_UNKNOWN_EXIT = 137


class Supervisor:
    """Changes the state of containers, and notices when it changes."""

    def __init__(
        self,
        database: Database,
        events: EventBus,
        runtime: Runtime,
        launcher: Launcher,
        files: InjectedFiles,
        volumes: VolumeService,
        find: Callable[[str], Container],
        forget: Callable[[Container], None],
    ) -> None:
        self._database = database
        self._events = events
        self._runtime = runtime
        self._launcher = launcher
        self._files = files
        self._volumes = volumes
        self._find = find
        self._forget = forget
        self._exits = Exits(runtime.exits)
        self._ooms = Ooms(self._ran_out_of_memory)
        self._operations = Tasks()
        self._watchers = Tasks()
        self._rng = random.Random()
        self._is_shutting_down = False

    def start_watching(self, containers: Mapping[str, Container]) -> None:
        """Listen for ends and keep logs within their size."""
        self._exits.start()
        self._ooms.start()
        self._watchers.spawn(rotation.rotate_for_ever(containers, self._runtime, self._launcher), "log rotation")

    async def close(self) -> None:
        """Let begun operations finish, stop watching; the containers live on."""
        await self._watchers.close()
        await self._operations.drain(_KILL_TIMEOUT_S)
        await self._operations.close()
        # An operation may have begun to watch something.
        await self._watchers.close()
        self._exits.close()
        self._ooms.close()

    async def operate(self, container: Container, work: Coroutine[Any, Any, T], verb: str) -> T:
        """Run `work` to its end, even if whoever asked for it goes away half-way."""
        return await self._operations.finish(work, f"{verb} {container.id[:12]}")

    # Storing and telling

    def save(self, container: Container, **changes: object) -> None:
        """Store changes of the record, then show them."""
        changed = record.replace(container.record, **changes)
        record.store(self._database, changed)
        container.record = changed
        container.notify()

    def tell(self, container: Container, action: str, **attributes: str) -> None:
        """Publish an event about the container."""
        config = container.record.config
        self._events.publish(
            "container",
            action,
            container.id,
            {**(config.labels or {}), "image": config.image, "name": container.record.short_name, **attributes},
        )

    # Start

    async def start(self, container: Container, *, is_manual: bool = True) -> bool:
        """Start it; False when it runs already.

        Raises:
            errors.Conflict: it is paused or being removed. errors.GitopsError: it can't be started.
        """
        async with container.lock:
            now = container.record
            if container.is_gone or container.is_removing or now.status == record.REMOVING:
                raise errors.Conflict("container is marked for removal and cannot be started")
            if now.status == record.PAUSED:
                raise errors.Conflict("cannot start a paused container, try unpause instead")
            if now.status == record.RUNNING:
                return False
            if not is_manual and now.status != record.RESTARTING:
                return False  # somebody stopped it, while the lock was waited for
            if is_manual:
                container.cancel("restart")
                container.restart_pause_s = 0.0
            await self._start(container, restart_count=0 if is_manual else now.restart_count)
            return True

    async def _start(self, container: Container, restart_count: int) -> None:
        now = container.record
        try:
            launched = await self._launcher.launch(now, lambda name: self._find(name).record)
            running = self._running(now, launched, restart_count)
            # Stored before the process runs: there is never one that isn't known with all its ports and addresses.
            await self._store_start(running)
            container.streams.start(self._runtime.bundle(container.id))
            await self._launcher.let_go(running)
        except errors.GitopsError as error:
            self._start_failed(container, error)
            raise
        except OSError as error:
            failure = errors.RuntimeFailure(f"can't start the container {now.short_name}: {error}")
            self._start_failed(container, failure)
            raise failure from error
        container.record = running
        container.verdict = health.Verdict()
        container.notify()
        self.tell(container, "start")
        self.arm(container, launched.run)

    async def _store_start(self, running: ContainerRecord) -> None:
        try:
            record.store(self._database, running)
        except errors.GitopsError:
            await self._launcher.take_down(running)
            raise

    def _running(self, now: ContainerRecord, launched: Launched, restart_count: int) -> ContainerRecord:
        probe = health.probe_of(now.config.healthcheck)
        return record.replace(
            now,
            status=record.RUNNING,
            came_from=now.status,
            run=launched.run,
            attached=launched.attached,
            sandbox=launched.sandbox,
            gateway_address=launched.gateway_address,
            ports=launched.ports,
            exit_code=0,
            error="",
            oom_killed=False,
            started_ns=time.time_ns(),
            finished_ns=0,
            restart_count=restart_count,
            was_stopped=False,
            is_filled=True,
            health=health.STARTING if probe else "",
        )

    def _start_failed(self, container: Container, error: errors.GitopsError) -> None:
        status = record.CREATED if container.record.started_ns == 0 else record.EXITED
        code = getattr(error, "exit_status", 128)
        self.save(container, status=status, exit_code=code, error=str(error), attached={}, ports={})
        container.exits += 1
        container.streams.fail()
        container.notify()
        if container.record.host_config.auto_remove:
            self._operations.spawn(self._remove_itself(container), f"remove {container.id[:12]}")

    def arm(self, container: Container, run: Run) -> None:
        """Watch a container that runs."""
        container.close_process()
        container.process = processes.open_process(run.pid, run.start_ticks or None)
        if container.record.host_config.memory:
            self._ooms.watch(self._runtime.bundle(container.id))
        container.tasks["watch"] = self._watchers.spawn(self._watch(container), f"watch {container.id[:12]}")
        probe = health.probe_of(container.record.config.healthcheck)
        if probe is not None:
            work = prober.probe_for_ever(container, probe, self._runtime, self._launcher, self._judged)
            container.tasks["health"] = self._watchers.spawn(work, f"health {container.id[:12]}")

    def _ran_out_of_memory(self, id: str) -> None:
        container = self._find(id)
        # While its end or its pause is being handled nothing else may write the row: its end tells of this, too.
        if container.record.is_alive and not container.record.oom_killed and not container.lock.locked():
            self.save(container, oom_killed=True)
            self.tell(container, "oom")

    # End

    async def _watch(self, container: Container) -> None:
        if container.process is not None:
            await processes.readable(container.process)
        container.streams.hurry()
        code = await self._exits.word_of(container.id, self._runtime.bundle(container.id) / "conmon.pid")
        # The handling is an operation: a daemon that is closing finishes it.
        await self.operate(container, self.ended(container, code), "end of")

    async def ended(self, container: Container, code: int | None) -> None:
        """Store the end of a run, take down what it left, and start again where the policy says so."""
        async with container.lock:
            if not container.record.is_alive:
                return
            changes = self._end_of_run(container, code)
            after = record.replace(container.record, **changes)
            # Stored first, so that a crash in the middle doesn't lose the code; shown last, so that who hears of the
            # end finds the ports and names free.
            self._store_end(after)
            container.cancel("health")
            container.close_process()
            await self._launcher.take_down(after)
            ran_ns = after.finished_ns - after.started_ns
            container.exits += 1
            was_told = container.record.oom_killed
            container.record = after
            container.notify()
            if after.oom_killed and not was_told:
                self.tell(container, "oom")
            self.tell(container, "die", exitCode=str(after.exit_code), execDuration=str(max(0, ran_ns) // base.SECOND))
        if after.status == record.RESTARTING:
            container.restart_pause_s = restarts.pause_s(container.restart_pause_s, ran_ns)
            self.restart_later(container)
        elif after.host_config.auto_remove and not (container.is_removing or container.is_restarting):
            self._operations.spawn(self._remove_itself(container), f"remove {container.id[:12]}")

    def _store_end(self, after: ContainerRecord) -> None:
        try:
            record.store(self._database, after)
        except errors.GitopsError as error:
            # The process is gone, whatever the disk says: who waits for the end must hear of it.
            logger.error("container %s ended with %d: %s", after.short_name, after.exit_code, error)

    def _end_of_run(self, container: Container, code: int | None) -> dict[str, object]:
        bundle = self._runtime.bundle(container.id)
        was_oom = (
            container.record.oom_killed or ooms.happened(bundle) or self._launcher.groups.oom_kills(container.id) > 0
        )
        changes: dict[str, object] = {
            "exit_code": _UNKNOWN_EXIT if code is None else code,
            "error": "the exit code is unknown: nobody was left to see the process end" if code is None else "",
            "oom_killed": was_oom,
            "finished_ns": time.time_ns(),
            "attached": {},
            "sandbox": "",
            "gateway_address": "",
            "ports": {},
            "status": record.EXITED,
        }
        after = record.replace(container.record, **changes)
        if not container.is_removing and not self._is_shutting_down and restarts.after_exit(after):
            changes["status"] = record.RESTARTING
            changes["restart_count"] = after.restart_count + 1
        return changes

    def restart_later(self, container: Container) -> None:
        """Start it again after its pause."""
        pause_s = container.restart_pause_s * self._rng.uniform(1.0, 1.1)
        work = self._restart_after(container, pause_s)
        container.tasks["restart"] = self._watchers.spawn(work, f"restart {container.id[:12]}")

    async def _restart_after(self, container: Container, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        if container.record.status != record.RESTARTING:
            return
        try:
            await self.operate(container, self.start(container, is_manual=False), "restart")
        except errors.GitopsError as error:
            logger.warning("container %s: can't be restarted: %s", container.record.short_name, error)

    # Signals

    async def kill(self, container: Container, text: str) -> None:
        """Send a signal to the first process.

        Raises:
            errors.Conflict: it doesn't run. errors.Invalid: no such signal.
        """
        number = signals.parse(text or "KILL")
        if not container.record.is_alive or container.process is None:
            raise errors.Conflict(f"Cannot kill container: {container.id}: container {container.id} is not running")
        stop = signals.parse(container.record.config.stop_signal or "TERM")
        if number in (stop, signal.SIGKILL) and not container.record.was_stopped:
            self.save(container, was_stopped=True)
        await self._signal(container, number)
        self.tell(container, "kill", signal=str(number))

    async def _signal(self, container: Container, number: int) -> None:
        if container.process is None or not processes.send(container.process, number):
            return
        stop = signals.parse(container.record.config.stop_signal or "TERM")
        if container.record.status == record.PAUSED and number in (stop, signal.SIGKILL):
            # A frozen process takes no signal, not even SIGKILL on version 1.
            try:
                await self.unpause(container)
            except errors.RuntimeFailure:
                if container.record.status == record.PAUSED:
                    raise

    def begin_shutdown(self) -> None:
        """From now on, nothing is started again after its end; the next start of the engine does that."""
        self._is_shutting_down = True

    async def stop(
        self, container: Container, timeout_s: float | None, text: str | None, *, is_manual: bool = True
    ) -> bool:
        """Signal, wait, SIGKILL; False when it doesn't run. A negative time waits for ever.

        What is stopped by hand (`is_manual`) is not started again by its restart policy.
        """
        async with container.lock:
            if container.record.status == record.RESTARTING:
                container.cancel("restart")
                self.save(container, status=record.EXITED, was_stopped=is_manual)
                return True
            if not container.record.is_alive:
                return False
            number = signals.parse(text or container.record.config.stop_signal or "TERM")
            self.save(container, was_stopped=is_manual)
        if timeout_s is None:
            given = container.record.config.stop_timeout
            timeout_s = STOP_TIMEOUT_S if given is None else float(given)
        exits = container.exits
        await self._signal(container, number)
        self.tell(container, "kill", signal=str(number))
        if not await self._wait_for_exit(container, exits, None if timeout_s < 0 else timeout_s):
            await self._kill_now(container, exits)
        self.tell(container, "stop")
        return True

    async def restart(self, container: Container, timeout_s: float | None, text: str | None) -> None:
        """Stop and start."""
        container.is_restarting = True
        try:
            await self.stop(container, timeout_s, text)
        finally:
            container.is_restarting = False
        await self.start(container)
        self.tell(container, "restart")

    async def _kill_now(self, container: Container, exits: int) -> None:
        await self._signal(container, signal.SIGKILL)
        self.tell(container, "kill", signal=str(int(signal.SIGKILL)))
        if not await self._wait_for_exit(container, exits, _KILL_TIMEOUT_S):
            raise errors.RuntimeFailure(
                f"cannot stop container: {container.id}: it didn't end {_KILL_TIMEOUT_S:g} s after SIGKILL: "
                "a process may hang in the kernel, on a dead network file system say"
            )

    async def _wait_for_exit(self, container: Container, exits: int, timeout_s: float | None) -> bool:
        event = container.listen()
        try:
            async with asyncio.timeout(timeout_s):
                while container.exits == exits and container.record.is_alive:
                    event.clear()
                    await event.wait()
        except TimeoutError:
            return False
        finally:
            container.unlisten(event)
        return True

    # Pause

    async def pause(self, container: Container) -> None:
        """Freeze it.

        Raises:
            errors.Conflict: it doesn't run, or is paused already.
        """
        async with container.lock:
            if container.record.status == record.PAUSED:
                raise errors.Conflict(f"Container {container.id} is already paused")
            if container.record.status != record.RUNNING:
                raise errors.Conflict(f"Container {container.id} is not running")
            await self._freeze(container, frozen=True)
            self.save(container, status=record.PAUSED)
            self.tell(container, "pause")

    async def unpause(self, container: Container) -> None:
        """Let it run again.

        Raises:
            errors.RuntimeFailure: it isn't paused.
        """
        async with container.lock:
            if container.record.status != record.PAUSED:
                raise errors.RuntimeFailure(f"Container {container.id} is not paused")
            await self._freeze(container, frozen=False)
            self.save(container, status=record.RUNNING)
            self.tell(container, "unpause")

    async def _freeze(self, container: Container, *, frozen: bool) -> None:
        def work() -> None:
            self._launcher.groups.freeze(container.id, frozen=frozen)

        try:
            await self._launcher.in_thread(work)
        except OSError as error:
            verb = "pause" if frozen else "unpause"
            raise errors.RuntimeFailure(f"cannot {verb} container {container.id}: {error}") from error

    # Removal

    async def remove(self, container: Container, *, force: bool, volumes: bool) -> None:
        """Take it away with all it has.

        Raises:
            errors.Conflict: it runs and `force` isn't given, or is being removed already.
        """
        if container.is_removing:
            raise errors.Conflict(f"removal of container {container.record.short_name} is already in progress")
        self._check_removal(container, force=force)
        container.is_removing = True
        try:
            await self._remove(container, force=force, volumes=volumes)
        finally:
            container.is_removing = False

    def _check_removal(self, container: Container, *, force: bool) -> None:
        if force or not (container.record.is_alive or container.record.status == record.RESTARTING):
            return
        if container.record.status == record.PAUSED:
            reason = "container is paused and must be unpaused first"
        else:
            reason = f"container is {container.record.status}: stop the container before removing or force remove"
        raise errors.Conflict(f'cannot remove container "{container.record.name}": {reason}')

    async def _remove(self, container: Container, *, force: bool, volumes: bool) -> None:
        container.cancel("restart")
        exits = container.exits
        if container.record.is_alive:
            await self._kill_now(container, exits)
        async with container.lock:
            # It may have been started while the lock was waited for.
            self._check_removal(container, force=force)
            for task in ("watch", "health", "restart"):
                container.cancel(task)
            container.close_process()
            # With all that a later start needs to finish it.
            self.save(container, status=record.REMOVING, removes_volumes=volumes)
            await self._launcher.take_down(container.record)
            if volumes:
                await self._remove_volumes(container)
            await self._launcher.in_thread(self._files.remove, container.id)
            await self._launcher.in_thread(mountinfo.remove_tree, self._launcher.folder(container.id))
            record.forget(self._database, container.record)
            self._forget(container)
            container.is_gone = True
            container.streams.fail()
            self.tell(container, "destroy")
            container.notify()

    async def _remove_volumes(self, container: Container) -> None:
        for mount in container.record.mounts:
            if mount.type == "volume" and mount.is_anonymous:
                try:
                    await self._volumes.remove(mount.source, force=True)
                except errors.Conflict as error:
                    logger.info("container %s: %s", container.record.short_name, error)

    async def _remove_itself(self, container: Container) -> None:
        if not container.is_removing and not container.is_gone:
            await self.remove(container, force=True, volumes=True)

    # Health

    def _judged(self, container: Container, verdict: health.Verdict) -> None:
        container.verdict = verdict
        if verdict.status != container.record.health:
            self.save(container, health=verdict.status)
            self.tell(container, f"health_status: {verdict.status}")
        else:
            container.notify()
