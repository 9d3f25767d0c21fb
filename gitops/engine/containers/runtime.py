"""The OCI runtime and conmon: how a bundle becomes a process, and what their errors mean.

Each container has one conmon, which is no child of ours after it has started: it keeps the log and the exit code while
this daemon is away. crun is started from a read-only bind mount of itself (else it copies itself into memory each
time), and a container is let go by writing to its fifo instead of running `crun start`. Both have a fall-back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitops import errors
from gitops.engine import mountinfo
from gitops.engine.containers import processes, syscalls

logger = logging.getLogger(__name__)

_CREATE_TIMEOUT_S = 120.0
_CALL_TIMEOUT_S = 30.0
_CONMON_TIMEOUT_S = 3.0
_SYNC_LIMIT = 16384


_NOT_EXECUTABLE = re.compile(
    r"open executable: (Permission denied|Operation not permitted)|exec.*permission denied"
    r"|the path .* (exists but it is not executable|is not a regular file)"
)


class StartFailed(errors.RuntimeFailure):
    """The runtime couldn't start it; `exit_status` is what Docker's clients expect: 126, 127 or 128."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class BadCommand(errors.Invalid):
    """The container's command can't be run; `exit_status` is 126 or 127."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


_PREFIX = "failed to create task for container: OCI runtime create failed: "


def explain(text: str, prefix: str = _PREFIX) -> StartFailed | BadCommand:
    """An error of crun or runc in the words that Docker's clients look for; `prefix` says what failed."""
    message = _plain(text)
    missing = re.search(r"executable file [`\"']?(.*?)[`\"']? not found", message)
    if missing or "executable file not found" in message:
        name = missing[1] if missing else (re.search(r'exec: "(.*?)"', message) or ["", ""])[1]
        return BadCommand(f'{prefix}exec: "{name}": executable file not found in $PATH', 127)
    if _NOT_EXECUTABLE.search(message):
        return BadCommand(f"{prefix}open executable: permission denied", 126)
    if "exec" in message and re.search(r"stat .*: no such file", message):
        return BadCommand(f"{prefix}{message}", 127)
    if "OOM: the memory limit could be too low" in message:
        return StartFailed(f"{prefix}{message}; raise the memory limit", 128)
    return StartFailed(f"{prefix}{message or 'the OCI runtime ended without a word'}", 128)


def _plain(text: str) -> str:
    # runc: time="…" level=error msg="…"; crun: the bare text, in newer versions after a time stamp.
    logged = re.findall(r'msg="((?:[^"\\]|\\.)*)"', text)
    message = logged[-1].replace('\\"', '"') if logged else text
    return re.sub(r"^(runc create failed: |\d{4}-\d\d-\d\dT[\d:.]+Z: )", "", message.strip())


@dataclass(frozen=True, slots=True)
class Launch:
    """How conmon is to be run for one container."""

    container: str
    name: str
    bundle: Path
    log: Path | None
    """None keeps no log."""
    has_tty: bool = False
    has_stdin: bool = False
    stdin_once: bool = False


class Runtime:
    """crun, or runc where crun isn't there, under conmon; everything it needs lies below the run root."""

    def __init__(self, run_root: Path) -> None:
        self.run_root = run_root
        self.state = run_root / "state"
        self.exits = run_root / "exits"
        self.bundles = run_root / "bundles"
        self.consoles = run_root / "consoles"
        self._sockets = run_root / "socks"
        self._conmon = Path()
        self.path = Path()
        self.is_crun = True
        self.version = ""

    async def prepare(self) -> list[str]:
        """Find the programs, make the directories; what a person should know, as sentences.

        Raises:
            errors.RuntimeFailure: a program is missing.
        """
        for folder in (self.state, self.exits, self.bundles, self.consoles, self._sockets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self.consoles.iterdir():
            leftover.unlink()
        self._conmon = _find("conmon", "conmon")
        crun = shutil.which("crun")
        self.is_crun = crun is not None
        self.path = Path(crun) if crun else _find("runc", "crun")
        # Without a root of ours crun makes its own, even to tell its version.
        version = await processes.run([self.path, "--root", self.state, "--version"], timeout_s=_CALL_TIMEOUT_S)
        self.version = version.output.splitlines()[0] if version.output else self.path.name
        if not self.is_crun:
            return ["crun isn't installed: containers are started with runc, which takes longer"]
        self.path = await asyncio.to_thread(self._bind_read_only, self.path)
        return []

    def _bind_read_only(self, crun: Path) -> Path:
        target = self.run_root / "crun"
        try:
            if mountinfo.is_mount_point(target):
                if os.path.samefile(target, crun):
                    return target
                syscalls.unmount(target)  # the package was upgraded meanwhile
            target.touch(mode=0o700)
            syscalls.mount(str(crun), target, "", syscalls.MS_BIND)
            syscalls.mount("", target, "", syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY)
        except OSError:
            return crun  # 2 ms more for each call
        return target

    def release(self) -> None:
        """Undo the read-only bind mount; the next `prepare` makes it again."""
        target = self.run_root / "crun"
        while mountinfo.is_mount_point(target):
            syscalls.unmount(target)
        target.unlink(missing_ok=True)

    def bundle(self, container: str) -> Path:
        """Where the container's configuration, pid files and mounts are, while it runs."""
        return self.bundles / container

    async def create(self, launch: Launch) -> int:
        """Set the container up, ready to be let go; the pid of its first process.

        Raises:
            StartFailed, BadCommand: nothing runs; directories of cgroups may be left.
        """
        # The word about an earlier run, if that couldn't be taken down, must not be taken for one about this.
        (self.exits / launch.container).unlink(missing_ok=True)
        reader, writer = os.pipe()
        try:
            env = {"PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC", "_OCI_SYNCPIPE": str(writer)}
            call = asyncio.ensure_future(
                processes.run(
                    self._conmon_command(launch),
                    timeout_s=_CREATE_TIMEOUT_S,
                    env=env,
                    cwd=launch.bundle,
                    pass_fds=[writer],
                )
            )
            # The program is spawned at the task's first step; from then on the write end is only the child's.
            await asyncio.sleep(0)
            os.close(writer)
            writer = -1
            try:
                answer = await _read_line(reader)
                done = await call
            finally:
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
        finally:
            os.close(reader)
            if writer >= 0:
                os.close(writer)
        return _pid_of(answer, done)

    def _conmon_command(self, launch: Launch) -> list[str | Path]:
        container, bundle = launch.container, launch.bundle
        command: list[str | Path] = [self._conmon, "--api-version", "1", "-c", container, "-u", container]
        command += ["-n", launch.name, "-r", self.path, "-b", bundle, "-p", bundle / "pidfile"]
        command += ["-P", bundle / "conmon.pid", "--exit-dir", self.exits, "--persist-dir", bundle]
        command += ["--socket-dir-path", self._sockets, "--log-level", "error", "--no-sync-log"]
        command += ["-l", f"k8s-file:{launch.log}" if launch.log else "none"]
        if launch.has_tty:
            command.append("-t")
        if launch.has_stdin:
            command.append("-i")
            if launch.has_tty or not launch.stdin_once:
                command.append("--leave-stdin-open")
        return [*command, "--runtime-arg", f"--root={self.state}"]

    async def let_go(self, container: str) -> None:
        """Start the process of a container that was created.

        Raises:
            StartFailed: it died before.
        """
        fifo = self.state / container / "exec.fifo"
        if self.is_crun:
            try:
                descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                raise StartFailed(f"the container's first process ended before it was started: {error}", 128) from error
            try:
                # As crun does it itself: a container counts as created as long as the fifo is there.
                os.unlink(fifo)
                os.write(descriptor, b"\0")
            finally:
                os.close(descriptor)
            return
        done = await self.call("start", container)
        if done.code != 0:
            raise explain(done.output)

    def is_waiting(self, container: str) -> bool:
        """Whether it was created, and not let go."""
        return (self.state / container / "exec.fifo").exists()

    async def call(self, *words: str | Path) -> processes.Done:
        """Run the runtime's command line."""
        return await processes.run([self.path, f"--root={self.state}", *words], timeout_s=_CALL_TIMEOUT_S)

    def exec_command(
        self, container: str, process: Path, pid_file: Path, *, log: Path | None = None, console: Path | None = None
    ) -> list[str | Path]:
        """The command line that runs one more process in a container.

        Its own complaints go to `log`, if given; `console` is the socket that wants the process's terminal.
        """
        command: list[str | Path] = [self.path, f"--root={self.state}"]
        command += [f"--log={log}"] if log else []
        command += ["exec", "--process", process, "--pid-file", pid_file]
        command += ["--console-socket", console] if console else []
        return [*command, container]

    async def delete(self, container: str) -> None:
        """Forget the container, killing what runs of it. Twice does no harm."""
        if (self.state / container).exists():
            await self.call("delete", "-f", container)
        self.forget(container)

    async def await_conmon(self, container: str) -> None:
        """Wait until the conmon of a container that was killed has written its word, for a while at most.

        Written after `forget`, it would be taken for the end of the next run.
        """
        pid = processes.read_pid(self.bundle(container) / "conmon.pid")
        descriptor = processes.open_process(pid) if pid is not None and processes.has_word(pid, container) else None
        if descriptor is None:
            return
        try:
            await asyncio.wait_for(processes.readable(descriptor), _CONMON_TIMEOUT_S)
        except TimeoutError:
            logger.warning("container %s: its conmon (pid %d) does not end", container[:12], pid)
        finally:
            os.close(descriptor)

    def forget(self, container: str) -> None:
        """Remove what the runtime and conmon keep of a container whose processes have ended."""
        shutil.rmtree(self.state / container, ignore_errors=True)
        (self._sockets / container).unlink(missing_ok=True)
        (self.exits / container).unlink(missing_ok=True)

    def known(self) -> set[str]:
        """Every container that left a trace below the run root."""
        folders = (self.state, self.bundles, self.exits, self._sockets)
        names = {entry.name for folder in folders if folder.is_dir() for entry in os.scandir(folder)}
        return {name for name in names if not name.startswith(".")}  # crun keeps a cache beside its containers

    def compiled_seccomp(self, container: str) -> bytes | None:
        """The filter that crun compiled for a container that it has just created."""
        try:
            return (self.state / container / "seccomp.bpf").read_bytes()
        except OSError:
            return None


def _find(program: str, package: str) -> Path:
    found = shutil.which(program)
    if found is None:
        raise errors.RuntimeFailure(f"{program} is not installed: install the package {package}")
    return Path(found)


async def _read_line(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    data = b""
    async with asyncio.timeout(_CREATE_TIMEOUT_S):
        while b"\n" not in data and len(data) < _SYNC_LIMIT:
            await processes.readable(descriptor)
            piece = os.read(descriptor, _SYNC_LIMIT)
            if not piece:
                break
            data += piece
    return data.partition(b"\n")[0]


def _pid_of(answer: bytes, done: processes.Done) -> int:
    # conmon ends with 0 also when the runtime failed: only the answer counts, and its absence.
    try:
        reply: dict[str, Any] = json.loads(answer) if answer else {}
        pid = int(reply.get("data", reply.get("pid", -1)))
    except (ValueError, AttributeError, TypeError) as error:
        # The text is cut at 8 KB, and then it is no JSON any more.
        raise explain(answer.decode(errors="replace")) from error
    if pid <= 0:
        raise explain(str(reply.get("message") or done.output))
    return pid
