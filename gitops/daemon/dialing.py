"""The far end of an ssh connection: this process's input and output joined with an engine's socket.

Promises what the docker CLI's `system dial-stdio` does: the end of the input closes only that direction, so that
output that is under way still comes; the end of the engine's answer ends it. Small imports: it starts once for each
connection.
"""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

from gitops import errors

_BLOCK = 64 * 2**10
_STDIN, _STDOUT = 0, 1


def join(path: Path) -> None:
    """Carry bytes both ways between this process and the socket, until the engine ends the connection.

    Raises:
        errors.Denied: the socket refuses this user. errors.Unavailable: nobody answers.
    """
    with _connected(path) as sock:
        # A daemon thread: nothing of the input is worth waiting for once the engine has ended the connection.
        threading.Thread(target=_send, args=(sock,), daemon=True).start()
        try:
            while data := sock.recv(_BLOCK):
                _write(data)
        except (ConnectionError, BrokenPipeError):
            return


def _connected(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(str(path))
    except PermissionError as error:
        sock.close()
        raise errors.Denied(f"may not open {path}: join the group that owns the socket") from error
    except OSError as error:
        sock.close()
        raise errors.Unavailable(
            f"no engine answers on {path} ({error.strerror}): start one with `gitops engine start`"
        ) from error
    return sock


def _send(sock: socket.socket) -> None:
    try:
        while data := os.read(_STDIN, _BLOCK):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        # The connection is at its end: the other thread sees it too.
        return


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(_STDOUT, view) :]
