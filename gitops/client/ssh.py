"""An engine behind ssh: each connection is a program `ssh` whose other end talks to the engine's socket.

Promises: the system's ssh does the work, so its configuration, keys and agent count; nobody is asked for a password,
since it has no terminal; what it says when it fails can be told. The connections share one login where the server lets
them. On the other host `gitops system dial-stdio` joins the connection with the socket, else the docker CLI's command
of that name: a host needs only one of the two.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gitops import errors

# A user or host that begins with a dash would be an option to ssh.
_ADDRESS = re.compile(
    r"ssh://(?:(?P<user>[^\s@/:?#-][^\s@/:?#]*)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s\[\]@/:?#-][^\s\[\]@/:?#]*)"
    r"(?::(?P<port>\d{1,5}))?(?P<path>/[^\s?#]*)?",
    re.ASCII,
)
# A path of a socket has 107 bytes at most, and ssh lengthens that of its own: a long TMPDIR would not do.
_PLACE = "/tmp"
_LAST_WORDS_S = 3.0
"""How long a process that broke a connection may take to end."""
_KEPT_LINES = 3
_BACKLOG = 128
# One line of POSIX shell; no "!" in it, for the sake of csh. Without a path, our engine comes before Docker's.
_REMOTE = (
    's=$1; if [ -z "$s" ]; then for f in /run/gitops/engine.sock /var/run/docker.sock; do '
    'if [ -S "$f" ]; then s=$f; break; fi; done; fi; '
    'if command -v gitops >/dev/null 2>&1; then exec gitops system dial-stdio ${s:+--host "unix://$s"}; fi; '
    'if command -v docker >/dev/null 2>&1; then exec docker ${s:+--host "unix://$s"} system dial-stdio; fi; '
    'echo "neither gitops nor docker is on the PATH of that host" >&2; exit 127'
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to go, in ssh's words; `host` may be a name of the user's ssh configuration."""

    host: str
    user: str = ""
    port: int | None = None
    socket: str = ""
    """The engine's socket there; empty for our engine's, else Docker's."""


def parse(text: str) -> Target:
    """The target of `ssh://[USER@]HOST[:PORT][/SOCKET]`.

    Raises:
        errors.Invalid: not such an address.
    """
    if ":" in text.removeprefix("ssh://").rpartition("@")[0]:
        raise errors.Invalid("an engine address can't hold a password: let ssh use a key or an agent")
    match = _ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match["port"] or 22) < 65536:
        raise errors.Invalid(f"invalid engine address {text!r}: ssh://user@host:port/path/of/socket is wanted")
    return Target(
        host=match["host"].strip("[]"),
        user=match["user"] or "",
        port=int(match["port"]) if match["port"] else None,
        socket=(match["path"] or "").removesuffix("/"),
    )


def command(target: Target, control: Path) -> list[str]:
    """The command line of one connection; `control` is the socket by which later ones share the first one's login."""
    return [
        *("ssh", "-T", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=30"),
        *("-o", "ControlMaster=auto", "-o", f"ControlPath={control}", "-o", "ControlPersist=no"),
        *(("-l", target.user) if target.user else ()),
        *(("-p", str(target.port)) if target.port else ()),
        *("--", target.host),
        f"sh -c {shlex.quote(_REMOTE)} gitops {shlex.quote(target.socket)}",
    ]


class Tunnel:
    """A unix socket on this host whose connections go to the engine there. Opened and closed by its owner."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._directory: Path | None = None
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._carriers: set[asyncio.Task[None]] = set()
        self._words = ""

    def open(self) -> Path:
        """Listen; the socket's path. Only this user can reach it."""
        self._directory = Path(tempfile.mkdtemp(prefix="gitops-ssh-", dir=_PLACE))
        path = self._directory / "engine"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(_BACKLOG)
        self._socket.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(self._socket), name="ssh connections")
        return path

    async def close(self) -> None:
        """End all connections, and wait for their processes; twice does no harm."""
        tasks = [task for task in (self._accepting, *self._carriers) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def failure(self) -> str:
        """Why a connection broke, in ssh's words or the other host's."""
        if not self._words and self._carriers:
            await asyncio.wait(self._carriers, timeout=_LAST_WORDS_S, return_when=asyncio.FIRST_COMPLETED)
        return self._words or "the connection was closed"

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listening)
            task = asyncio.create_task(self._carry(connection), name="ssh connection")
            self._carriers.add(task)
            task.add_done_callback(self._carriers.discard)

    async def _carry(self, connection: socket.socket) -> None:
        """Be one connection: ssh reads and writes the socket itself."""
        with connection:
            connection.setblocking(True)
            try:
                process = await asyncio.create_subprocess_exec(
                    *command(self._target, self._control),
                    stdin=connection.fileno(),
                    stdout=connection.fileno(),
                    stderr=asyncio.subprocess.PIPE,
                    # Without a terminal it can't ask, and the terminal's Ctrl-C leaves it to us to end in order.
                    start_new_session=True,
                )
            except OSError as error:
                self._words = f"the program ssh can't be run: {error.strerror}"
                return
        assert process.stderr is not None
        try:
            said = _last_lines(await process.stderr.read())
            if await process.wait() != 0:
                self._words = said or f"ssh ended with {process.returncode}"
        finally:
            if process.returncode is None:
                # With what it started: a ProxyCommand, or the shell of one.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                await process.wait()

    @property
    def _control(self) -> Path:
        assert self._directory is not None
        return self._directory / "login"


def _last_lines(output: bytes) -> str:
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return "; ".join(lines[-_KEPT_LINES:])
