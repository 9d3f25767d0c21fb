"""Where the API can be reached: sockets that are bound, for the server to answer on.

Promises: a stale unix socket is replaced, a live one never; unix sockets are root's and the group's, mode 0660, from
their first moment; TCP is for clients with a certificate of the operator's authority, and without TLS only on loopback,
unless the operator says otherwise: whoever can connect is root on this host.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from gitops import errors
from gitops.api import tls
from gitops.config import TlsConfig

BACKLOG = 1024
_TLS_PORT = 2376
_PLAIN_PORT = 2375


class UnixListener:
    """A bound unix socket that its owner can hand over."""

    def __init__(self, path: Path, group: str) -> None:
        """Bind the socket at `path`.

        Raises:
            errors.Conflict: somebody listens there. errors.RuntimeFailure: the path can't be used.
        """
        self.path = path
        self.group = group
        _clear_stale(path)
        self.socket = _bind(path, _group_id(group))
        status = path.stat()
        self._identity = (status.st_dev, status.st_ino)

    def __str__(self) -> str:
        return f"unix://{self.path}"

    @property
    def is_lost(self) -> bool:
        """Whether somebody deleted the socket's file, so that nobody can connect any more."""
        return not self.path.is_symlink() and not self.path.exists()

    def close(self) -> None:
        """Take the socket away, unless another one has its place meanwhile."""
        self.socket.close()
        with contextlib.suppress(FileNotFoundError):
            status = self.path.stat()
            if (status.st_dev, status.st_ino) == self._identity:
                self.path.unlink()


class TcpListener:
    """A bound TCP port; `tls` is None where it is for plain connections."""

    def __init__(self, address: tuple[str, int], family: int, context: ssl.SSLContext | None) -> None:
        """Bind the port.

        Raises:
            errors.Conflict: somebody listens there. errors.RuntimeFailure: it can't be bound.
        """
        self.tls = context
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(address)
            self.socket.listen(BACKLOG)
            self.socket.setblocking(False)
        except OSError as error:
            self.socket.close()
            place = _shown(*address)
            if error.errno != errno.EADDRINUSE:
                raise errors.RuntimeFailure(f"can't listen on {place}: {error.strerror or error}") from error
            raise errors.Conflict(f"another program listens on {place}: give this engine another --host") from error
        self.port: int = self.socket.getsockname()[1]
        self._name = _shown(address[0], self.port)

    def __str__(self) -> str:
        return self._name

    def close(self) -> None:
        """Free the port."""
        self.socket.close()


Listener = UnixListener | TcpListener


def bind(
    hosts: Iterable[str], group: str, files: TlsConfig | None = None, *, allow_plain_tcp: bool = False
) -> list[Listener]:
    """Bind every endpoint; all or none.

    Raises:
        errors.Invalid, errors.Unsupported: no endpoint, or a file of `files` that can't be used. errors.Refused: TCP
            for everybody. errors.Conflict: one is in use.
    """
    bound: list[Listener] = []
    context = tls.context(files) if files is not None else None
    try:
        for host in hosts:
            bound.append(_listener(host, group, context, allow_plain_tcp))
    except BaseException:
        for listener in bound:
            listener.close()
        raise
    return bound


def _listener(host: str, group: str, context: ssl.SSLContext | None, allow_plain_tcp: bool) -> Listener:
    scheme, _, rest = host.partition("://")
    if scheme == "tcp":
        return _tcp(host, context, allow_plain_tcp)
    if scheme != "unix":
        raise errors.Unsupported(f"can't listen on {host!r}: only unix://PATH and tcp://ADDRESS:PORT are supported")
    if not rest.startswith("/"):
        raise errors.Invalid(f"can't listen on {host!r}: an absolute path is wanted, as in unix:///run/x.sock")
    return UnixListener(Path(rest), group)


def _tcp(host: str, context: ssl.SSLContext | None, allow_plain_tcp: bool) -> TcpListener:
    parts = urlsplit(host)
    try:
        port = parts.port
        if not parts.hostname or parts.path not in ("", "/") or parts.username or parts.query or parts.fragment:
            raise ValueError("tcp://ADDRESS:PORT is wanted")
        usual = _PLAIN_PORT if context is None else _TLS_PORT
        found = socket.getaddrinfo(parts.hostname, usual if port is None else port, type=socket.SOCK_STREAM)
    except (ValueError, OSError) as error:
        raise errors.Invalid(f"can't listen on {host!r}: {getattr(error, 'strerror', None) or error}") from error
    family, _, _, _, address = found[0]
    name, number = str(address[0]), int(address[1])
    if context is None and not allow_plain_tcp and not ipaddress.ip_address(name.partition("%")[0]).is_loopback:
        raise errors.Refused(
            f"{host} is not listened on without TLS, since whoever reaches it would be root here: give --tlsverify, "
            "--tlscacert, --tlscert and --tlskey, or say --allow-plain-tcp"
        )
    return TcpListener((name, number), family, context)


def _shown(name: str, port: int) -> str:
    return f"tcp://[{name}]:{port}" if ":" in name else f"tcp://{name}:{port}"


def _clear_stale(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_socket():
        raise errors.Conflict(f"{path} is there and is no socket: choose another place to listen, or remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise errors.RuntimeFailure(f"can't tell whether {path} is in use: {error.strerror}") from error
    raise errors.Conflict(f"another program listens on {path}: stop it, or give this engine another --host")


def _bind(path: Path, group_id: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Made before the mask is narrowed: a directory without its x bits lets nobody of the group through.
    former = os.umask(0o022)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # The mode is right from the start: between bind and chmod anybody could connect.
        os.umask(0o117)
        sock.bind(str(path))
        os.chown(path, -1, group_id)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise errors.RuntimeFailure(f"can't listen on {path}: {error.strerror or error}") from error
    finally:
        os.umask(former)
    return sock


def _group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return 0
