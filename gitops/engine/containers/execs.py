"""Exec: more processes in a container that runs, made by one call and run by another, each once.

Kept in memory only, as with Docker: an engine that starts anew knows none, though what they ran goes on. An exec ends
with its container. Those that ended can be looked at for some minutes.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from gitops import errors
from gitops.engine.containers import capabilities, record, runtime, spec, users
from gitops.engine.containers.background import Tasks
from gitops.engine.containers.container import Container
from gitops.engine.containers.execution import Execution, NotStarted, Plan
from gitops.engine.containers.launcher import Launcher
from gitops.engine.containers.outlets import Outlet, Outlets
from gitops.engine.containers.record import ContainerRecord
from gitops.engine.containers.runtime import Runtime
from gitops.objects.execution import ExecCreate, ExecInspect, ProcessConfig

logger = logging.getLogger(__name__)

Tell = Callable[..., None]
"""`Supervisor.tell`: a container, an action, attributes."""
_KEPT_S = 300.0
_ERROR_PREFIX = "OCI runtime exec failed: exec failed: unable to start container process: "
_CANNOT_RUN = 126
_NOT_FOUND = 127


class Exec:
    """One exec. While it runs, a client has its streams."""

    def __init__(self, id: str, container: Container, request: ExecCreate) -> None:
        self.id = id
        self.container = container
        self.request = request
        self.outlets = Outlets()
        self.execution: Execution | None = None
        self.is_running = False
        self.exit_code: int | None = None
        self.ended_at = 0.0
        """Of the monotonic clock."""

    def shown(self) -> ExecInspect:
        """As the API shows it."""
        request = self.request
        command = request.cmd or []
        return ExecInspect(
            id=self.id,
            running=self.is_running,
            exit_code=self.exit_code,
            process_config=ProcessConfig(
                tty=request.tty,
                entrypoint=command[0],
                arguments=command[1:],
                privileged=request.privileged,
                user=request.user,
            ),
            open_stdin=request.attach_stdin,
            open_stderr=request.attach_stderr,
            open_stdout=request.attach_stdout,
            can_remove=self.exit_code is not None,
            container_id=self.container.id,
            detach_keys=request.detach_keys,
            pid=self.execution.pid if self.execution else 0,
        )


class ExecClient:
    """The streams of an exec, for the client that starts it."""

    def __init__(self, one: Exec, tell: Tell) -> None:
        self._tell = tell
        self.outlet: Outlet = one.outlets.add(stdout=one.request.attach_stdout, stderr=one.request.attach_stderr)
        self._exec = one

    async def write(self, data: bytes) -> bool:
        """Input; False when it takes none."""
        execution = self._exec.execution
        return execution is not None and await execution.write(data)

    async def close_input(self) -> None:
        """The end of the input."""
        if self._exec.execution is not None:
            self._exec.execution.close_input()

    def detached(self) -> None:
        """The client left it by the keys for that."""
        self._tell(self._exec.container, "exec_detach", execID=self._exec.id)

    def leave(self) -> None:
        """The client has gone; the process stays."""
        self._exec.outlets.remove(self.outlet)


class Execs:
    """The execs of one engine's containers, which are named as in `ContainerService`."""

    def __init__(self, runtime: Runtime, launcher: Launcher, find: Callable[[str], Container], tell: Tell) -> None:
        self._runtime = runtime
        self._launcher = launcher
        self._find = find
        self._tell = tell
        self._execs: dict[str, Exec] = {}
        self._running = Tasks()

    async def close(self) -> None:
        """Let go of all: the processes go on, without anybody at their streams."""
        await self._running.close()

    def create(self, name: str, request: ExecCreate) -> str:
        """Note what is to be run; its id.

        Raises:
            errors.Conflict: the container doesn't run. errors.Invalid: nothing is to be run.
        """
        container = self._find(name)
        self._check(container)
        if not request.cmd or not request.cmd[0]:
            raise errors.Invalid("No exec command specified")
        if any("\0" in text for text in (*request.cmd, *(request.env or ()), request.working_dir, request.user)):
            raise errors.Invalid("a NUL byte in the exec's command, environment, directory or user")
        if request.working_dir and not request.working_dir.startswith("/"):
            raise errors.Invalid(f"the working directory '{request.working_dir}' is invalid: a path from / is wanted")
        self._forget_old()
        one = Exec(secrets.token_hex(32), container, request)
        self._execs[one.id] = one
        self._tell(container, f"exec_create: {' '.join(request.cmd)}", execID=one.id)
        return one.id

    def get(self, id: str) -> Exec:
        """The exec `id`.

        Raises:
            errors.NotFound: there is none, or not any more.
        """
        found = self._execs.get(id)
        if found is None or found.container.is_gone:
            raise errors.NotFound(f"No such exec instance: {id}")
        return found

    def of(self, container: Container) -> list[str]:
        """The ids of what runs in a container."""
        return [one.id for one in self._execs.values() if one.container is container and one.is_running]

    def check_start(self, id: str) -> Exec:
        """The exec, if it can be started.

        Raises:
            errors.Conflict: it runs or ran already, or its container doesn't run any more.
        """
        one = self.get(id)
        if one.exit_code is not None:
            raise errors.Conflict(f"Error: Exec command {id} has already run")
        if one.is_running:
            raise errors.Conflict(f"Error: Exec command {id} is already running")
        self._check(one.container)
        return one

    def client(self, id: str) -> ExecClient:
        """Its streams, for the client that is about to start it."""
        return ExecClient(self.check_start(id), self._tell)

    async def start(self, id: str, console_size: list[int] | None = None, *, is_detached: bool = False) -> None:
        """Run it; returns when it runs. Detached, its streams are /dev/null.

        Raises:
            errors.Conflict: as `check_start`. errors.Invalid, errors.RuntimeFailure: it can't be run; `exit_status` is
                126 or 127, and stays as its exit code.
        """
        one = self.check_start(id)
        one.is_running = True
        try:
            await self._running.finish(self._start(one, console_size, is_detached=is_detached), f"exec {id[:12]}")
        except errors.GitopsError as error:
            one.is_running, one.exit_code = False, getattr(error, "exit_status", _CANNOT_RUN)
            one.ended_at = time.monotonic()
            one.outlets.end()
            raise

    async def _start(self, one: Exec, console_size: list[int] | None, *, is_detached: bool) -> None:
        container, request = one.container, one.request
        folder = self._runtime.bundle(container.id) / "execs" / one.id
        process = await self._launcher.in_thread(self._process, container.record, request, console_size)
        try:
            folder.mkdir(mode=0o700, parents=True)
            (folder / "process.json").write_text(json.dumps(process))
            plan = self._plan(container.id, folder, request, is_detached=is_detached)
            one.execution = Execution(plan, one.outlets)
            async with self._launcher.slots:
                await one.execution.start()
        except NotStarted as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise self._explained(container, str(error)) from error
        except OSError as error:
            raise errors.RuntimeFailure(f"can't run a process in container {container.id}: {error}") from error
        self._tell(container, f"exec_start: {' '.join(request.cmd or ())}", execID=one.id)
        self._running.spawn(self._watch(one, folder), f"exec {one.id[:12]}")

    def _plan(self, container: str, folder: Path, request: ExecCreate, *, is_detached: bool) -> Plan:
        console = self._runtime.consoles / secrets.token_hex(8)
        command = self._runtime.exec_command(
            container,
            folder / "process.json",
            folder / "pid",
            log=folder / "log",
            console=console if request.tty else None,
        )
        return Plan(
            command,
            folder,
            console,
            has_terminal=request.tty,
            stdin=request.attach_stdin and not is_detached,
            stdout=request.attach_stdout and not is_detached,
            stderr=request.attach_stderr and not is_detached,
        )

    def _process(self, now: ContainerRecord, request: ExecCreate, console_size: list[int] | None) -> dict[str, Any]:
        """Blocks: the user is looked up in the container's files."""
        bundle = self._runtime.bundle(now.id)
        try:
            base: dict[str, Any] = json.loads((bundle / "config.json").read_bytes())["process"]
            identity = users.resolve(
                bundle / "rootfs", request.user or now.config.user, now.host_config.group_add or ()
            )
        except OSError as error:
            raise errors.Conflict(f"container {now.id} is not running") from error
        return process(now, base, request, identity, console_size, capabilities.held())

    async def _watch(self, one: Exec, folder: Path) -> None:
        assert one.execution is not None
        code = await one.execution.wait()
        one.is_running, one.exit_code, one.ended_at = False, code, time.monotonic()
        if not one.container.is_gone:
            self._tell(one.container, "exec_die", execID=one.id, exitCode=str(code))
        await one.execution.finish()
        shutil.rmtree(folder, ignore_errors=True)

    def resize(self, id: str, height: int, width: int) -> None:
        """Give its terminal another size, in characters.

        Raises:
            errors.Conflict: it doesn't run.
        """
        one = self.get(id)
        if not one.is_running or one.execution is None:
            raise errors.Conflict(f"exec {id} is not running")
        one.execution.resize(height, width)

    def _check(self, container: Container) -> None:
        status = container.record.status
        if status == record.PAUSED:
            raise errors.Conflict(f"Container {container.id} is paused, unpause the container before exec")
        if status == record.RESTARTING:
            raise errors.Conflict(f"Container {container.id} is restarting, wait until the container is running")
        if status != record.RUNNING:
            raise errors.Conflict(f"container {container.id} is not running")

    def _explained(self, container: Container, text: str) -> errors.GitopsError:
        if not container.record.is_alive or "is not running" in text:
            return errors.Conflict(f"container {container.id} is not running")
        error = runtime.explain(text, _ERROR_PREFIX)
        if isinstance(error, runtime.StartFailed):
            error.exit_status = _NOT_FOUND if re.search("no such file", text, re.IGNORECASE) else _CANNOT_RUN
        return error

    def _forget_old(self) -> None:
        limit = time.monotonic() - _KEPT_S
        for one in list(self._execs.values()):
            is_old = one.exit_code is not None and one.ended_at < limit
            is_void = one.container.is_gone or (one.exit_code is None and not one.container.record.is_alive)
            if not one.is_running and (is_old or is_void):
                del self._execs[one.id]


def process(
    now: ContainerRecord,
    base: dict[str, Any],
    request: ExecCreate,
    identity: users.Identity,
    console_size: list[int] | None,
    held: tuple[str, ...],
) -> dict[str, Any]:
    """The runtime's `process` of an exec: the container's own (`base`) with what was asked for. Pure.

    Its limits, no-new-privileges and, without `privileged`, its capabilities are the container's; its seccomp filter is
    in any case.
    """
    config = msgspec.structs.replace(now.config, tty=request.tty, env=[*(now.config.env or ()), *(request.env or ())])
    result = {
        **base,
        "args": list(request.cmd or ()),
        "env": spec.environment(record.replace(now, config=config), identity),
        "cwd": request.working_dir or base["cwd"],
        "terminal": request.tty,
        "user": spec.user(identity),
    }
    result.pop("consoleSize", None)
    if request.tty:
        result["consoleSize"] = spec.console_size(console_size or request.console_size)
    if request.privileged:
        caps = capabilities.effective((), (), privileged=True, held=held)
        result["capabilities"] = {"bounding": caps, "effective": caps, "permitted": caps}
    return result
