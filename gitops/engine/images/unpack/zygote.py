"""The zygote: a small process, forked before the daemon has threads or an event loop, that forks a worker for each job.

It reads nothing of a layer. It starts workers, kills one when the daemon hangs up its socket, reaps them and tells how
they ended; when the daemon goes, its end of the control socket closes, and zygote and workers go too. As a program it
takes the number of its control socket's descriptor: so it is started in the place of one that was killed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import struct
import sys
import traceback
from dataclasses import dataclass

from gitops.engine.images.unpack import messages, worker

_FAILED = 70


@dataclass(slots=True)
class _Job:
    pid: int
    connection: socket.socket
    """Our copy of the worker's end: readable when the daemon hangs up."""
    death: int
    """A pipe whose other end only the worker holds: readable when it has ended."""


def main(control: socket.socket) -> None:
    """Serve orders until the daemon closes its end; never returns."""
    status = _FAILED
    try:
        _settle(control)
        _Zygote(control).serve()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _settle(control: socket.socket) -> None:
    signal.set_wakeup_fd(-1)
    # A signal to the daemon's group is the daemon's to handle; we end when it does.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    worker.die_with_parent()
    worker.close_all_but({control.fileno()})
    gc.freeze()


class _Zygote:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ, None)

    def serve(self) -> None:
        """Until the daemon hangs up."""
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    if not self._order():
                        self._end()
                        return
                elif key.fd == key.data.death:
                    self._reap(key.data)
                else:
                    self._hung_up(key.data)

    def _order(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, messages.MAX_MESSAGE + 1, 1)
        if not data:
            return False
        self._fork(data, socket.socket(fileno=descriptors[0]))
        return True

    def _fork(self, data: bytes, connection: socket.socket) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
        except OSError as error:
            _tell(connection, messages.EXIT + f"can't fork: {error.strerror}".encode())
            connection.close()
            os.close(reader)
            os.close(writer)
            return
        if pid == 0:
            _work(data, connection, writer)
        os.close(writer)
        job = _Job(pid, connection, reader)
        self._selector.register(reader, selectors.EVENT_READ, job)
        self._selector.register(connection, selectors.EVENT_READ, job)

    def _hung_up(self, job: _Job) -> None:
        """The daemon doesn't want the job any more; the worker is not reaped yet, so the pid is its own."""
        if job.connection.fileno() < 0:
            return  # the worker ended in this very round, and was reaped before its connection's turn came
        self._selector.unregister(job.connection)
        os.kill(job.pid, signal.SIGKILL)

    def _reap(self, job: _Job) -> None:
        self._selector.unregister(job.death)
        os.close(job.death)
        _, status = os.waitpid(job.pid, 0)
        with contextlib.suppress(KeyError):
            self._selector.unregister(job.connection)
        _tell(job.connection, messages.EXIT + struct.pack("i", os.waitstatus_to_exitcode(status)))
        job.connection.close()

    def _end(self) -> None:
        jobs = {key.data.pid for key in self._selector.get_map().values() if key.data is not None}
        for pid in jobs:
            os.kill(pid, signal.SIGKILL)
        for pid in jobs:
            os.waitpid(pid, 0)


def _tell(connection: socket.socket, message: bytes) -> None:
    # The daemon may have gone, or the job with it.
    with contextlib.suppress(OSError):
        connection.sendall(message)


def _work(data: bytes, connection: socket.socket, death: int) -> None:
    status = _FAILED
    try:
        worker.die_with_parent()
        worker.close_all_but({connection.fileno(), death})
        status = worker.run(messages.decode_order(data), connection)
    except BrokenPipeError:
        # Nobody waits for the result any more.
        status = 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
