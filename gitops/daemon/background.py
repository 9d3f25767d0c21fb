"""A daemon seen from outside: start it in the background, stop it, ask how it is. Small imports: commands wait."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitops import errors
from gitops.config import EngineConfig
from gitops.daemon import commandline, ownership
from gitops.daemon.main import STOP_ALL_MARKER

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 120.0
"""Of a stop that ends containers too; each has its own grace period."""
_LOG = "engine.log"
_DATABASE = "engine.db"
_LOG_LIMIT = 10 * 2**20
_TAIL_LINES = 15
_POLL_S = 0.05


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, without an HTTP library to import."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("engine", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True, slots=True)
class Status:
    """How an engine is. Without a process all the rest is empty."""

    pid: int | None = None
    hosts: tuple[str, ...] = ()
    version: str = ""
    swarm: str = ""
    containers: int = 0
    running: int = 0
    images: int = 0
    problem: str = ""
    """Why it doesn't answer although it runs."""

    @property
    def is_running(self) -> bool:
        """It runs and answers."""
        return self.pid is not None and not self.problem


def log_path(config: EngineConfig) -> Path:
    """Where a daemon in the background writes."""
    return config.run_root / _LOG


def start(config: EngineConfig, *, log_level: str = "info") -> tuple[Status, bool]:
    """Start the daemon in the background, unless it runs; returns when it answers, and whether it is new.

    Raises:
        errors.Denied: not root. errors.RuntimeFailure: it ended, with the end of its log; or it doesn't answer in time.
    """
    if os.geteuid() != 0:
        raise errors.Denied("the engine needs root: run this as root")
    found = status(config)
    if found.is_running:
        return found, False
    config.run_root.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = log_path(config)
    _rotate(path)
    # As Docker's log in the journal: for root and, by its hand, others. It names images, containers and clients' calls.
    with open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o640)) as output:
        offset = output.tell()
        process = subprocess.Popen(
            commandline.words(config, log_level),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A session of its own: neither the terminal's signals nor its end reach the daemon and its containers.
            start_new_session=True,
            cwd="/",
        )
    return _await_answer(config, process, path, offset), True


def _await_answer(config: EngineConfig, process: subprocess.Popen[bytes], path: Path, offset: int) -> Status:
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        code = process.poll()
        if code is not None:
            raise errors.RuntimeFailure(f"the engine did not start (exit code {code}):\n{_tail(path, offset)}")
        found = status(config)
        if found.is_running:
            return found
        time.sleep(_POLL_S)
    raise errors.RuntimeFailure(
        f"the engine does not answer after {START_TIMEOUT_S:.0f} s, and goes on trying; its log is {path}:\n"
        f"{_tail(path, offset)}"
    )


def _rotate(path: Path) -> None:
    """Keep one former log, so that it can't fill a tmpfs."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_LIMIT:
            path.replace(path.with_suffix(".log.1"))


def _tail(path: Path, offset: int) -> str:
    with path.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode("utf-8", "replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:])


def stop(config: EngineConfig, *, containers: bool = False) -> Status | None:
    """End the daemon and wait for it; returns how it was before, or None where it didn't run.

    With `containers` it stops them first, and takes their networks out of the kernel.

    Raises:
        errors.Denied: not ours to signal. errors.RuntimeFailure: it doesn't end.
    """
    identity = ownership.running(config.run_root)
    if identity is None:
        return None
    before = status(config)
    marker = config.run_root / STOP_ALL_MARKER
    try:
        # The descriptor is bound to this process: a later one of the same id can't get the signal.
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    try:
        if not ownership.is_alive(identity):
            return None
        if containers:
            marker.touch(mode=0o600)
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        ready, _, _ = select.select([descriptor], [], [], STOP_TIMEOUT_S)
    except ProcessLookupError:
        return None
    except PermissionError as error:
        raise errors.Denied(f"may not stop the engine (pid {identity.pid}): run this as root") from error
    finally:
        os.close(descriptor)
    if not ready:
        raise errors.RuntimeFailure(
            f"the engine (pid {identity.pid}) did not end within {STOP_TIMEOUT_S:.0f} s: look at {log_path(config)}"
        )
    return before


def check_purgeable(config: EngineConfig) -> None:
    """See that the data root is an engine's: a path that was mistyped must not be emptied.

    Raises:
        errors.Refused: it holds something, and no engine's database.
    """
    root = config.data_root
    if root.is_dir() and any(root.iterdir()) and not (root / _DATABASE).is_file():
        raise errors.Refused(f"{root} is not removed: it holds no {_DATABASE}, so it isn't an engine's data root")


def purge(config: EngineConfig) -> None:
    """Remove the roots of an engine that has ended, with images, volumes and the swarm's state.

    Raises:
        errors.Conflict: one of them is in use, by this engine or another. errors.Refused: it isn't an engine's.
        errors.RuntimeFailure: something could not be removed.
    """
    check_purgeable(config)
    roots = (config.data_root, config.run_root)
    with contextlib.ExitStack() as stack:
        # Held until all is gone: the two roots that were named need not be those of one engine.
        for root in roots:
            if root.is_dir():
                stack.enter_context(contextlib.closing(ownership.Lock(root)))
        _remove(roots)


def _remove(roots: tuple[Path, ...]) -> None:
    for mount in sorted(_mounts_below(roots), key=len, reverse=True):
        done = subprocess.run(["umount", mount], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise errors.RuntimeFailure(f"{mount} can't be unmounted, so nothing was removed: {done.stderr.strip()}")
    for root in roots:
        try:
            shutil.rmtree(root)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise errors.RuntimeFailure(f"{root} could not be removed: {error}") from error


def _mounts_below(roots: tuple[Path, ...]) -> list[str]:
    prefixes = tuple(f"{root.resolve()}/" for root in roots)
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        if point.startswith(prefixes):
            found.append(point)
    return found


def status(config: EngineConfig, *, timeout_s: float = 5.0) -> Status:
    """How the engine of these roots is."""
    identity = ownership.running(config.run_root)
    if identity is None:
        return Status()
    hosts = tuple(identity.hosts)
    socket_path = next((Path(host.removeprefix("unix://")) for host in hosts if host.startswith("unix://")), None)
    if socket_path is None:
        return Status(pid=identity.pid, hosts=hosts, problem="it listens on no unix socket")
    try:
        version = _get(socket_path, "/version", timeout_s)
        info = _get(socket_path, "/info", timeout_s)
    except PermissionError:
        return Status(pid=identity.pid, hosts=hosts, problem=f"may not open {socket_path}: run this as root")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Status(pid=identity.pid, hosts=hosts, problem=f"it does not answer on {socket_path}: {error}")
    return Status(
        pid=identity.pid,
        hosts=hosts,
        version=str(version.get("Version", "")),
        swarm=str(info.get("Swarm", {}).get("LocalNodeState", "")),
        containers=int(info.get("Containers", 0)),
        running=int(info.get("ContainersRunning", 0)),
        images=int(info.get("Images", 0)),
    )


def _get(path: Path, target: str, timeout_s: float) -> dict[str, Any]:
    connection = _UnixConnection(path, timeout_s)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise http.client.HTTPException(f"status {answer.status}")
    parsed = json.loads(body)
    if not isinstance(parsed, dict):
        raise ValueError("an object was expected")
    return parsed
