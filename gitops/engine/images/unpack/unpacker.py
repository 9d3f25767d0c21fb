"""The daemon's side: orders layers from the zygote and waits for them, as many at a time as it is asked.

How many run together is the caller's choice. A cancelled job's worker is dead when the cancellation returns, so that
its directory can be cleared. A zygote that was killed is replaced at the next order; the new one is executed rather
than forked, since the daemon has threads by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from gitops import errors
from gitops.engine.images.unpack import messages, zygote
from gitops.engine.images.unpack.job import LayerJob, LayerProgress, LayerResult

log = logging.getLogger(__name__)

_STALL_S = 300.0
"""Without a word for so long, a worker is taken for stuck; its own network timeouts are shorter."""


class Unpacker:
    """Layers to directories, each by a process of its own."""

    def __init__(self, *, stall_s: float = _STALL_S) -> None:
        self._stall_s = stall_s
        self._control: socket.socket | None = None
        self._pid = 0

    def start(self) -> None:
        """Fork the zygote. To be called before the process has threads or an event loop.

        Raises:
            errors.RuntimeFailure: it is running already, or the kernel refuses to fork.
        """
        if self._control is not None:
            raise errors.RuntimeFailure("the unpacker is running already")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            self._pid = os.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            raise errors.RuntimeFailure(f"can't fork the unpacker's helper: {error.strerror}") from error
        if self._pid == 0:
            zygote.main(theirs)
        theirs.close()
        self._control = ours

    async def unpack(self, job: LayerJob, on_progress: Callable[[LayerProgress], None]) -> LayerResult:
        """Fetch, verify and write one layer into `job.target`; the blob is then at `job.blob_path`.

        On an error the target's content is worthless. After a broken download the part file stays for the next try;
        after `errors.Invalid` it is gone.

        Raises:
            errors.Invalid: bad content, a wrong digest, a limit, a worker that died.
            errors.Unavailable: the network or the server, this time (`fetching.FetchFailed` has the answer), or a
                worker that somebody killed.
            errors.Denied, errors.NotFound: the server refuses, or has no such blob.
            errors.Unsupported: a compression that images may not have.
            errors.RuntimeFailure: the disk refused, or the unpacker is closed.
        """
        return await self._run(messages.Order(job), on_progress)

    async def redo(
        self, job: LayerJob, lower: Sequence[Path], on_progress: Callable[[LayerProgress], None]
    ) -> LayerResult:
        """As `unpack`, with the finished layers below in view, nearest first: paths follow their symlinks."""
        return await self._run(messages.Order(job, list(lower)), on_progress)

    async def close(self) -> None:
        """End the zygote and with it every worker. Idempotent."""
        control, self._control = self._control, None
        if control is None:
            return
        control.close()
        await asyncio.to_thread(_reap, self._pid)

    async def _run(self, order: messages.Order, on_progress: Callable[[LayerProgress], None]) -> LayerResult:
        job = order.job
        connection = self._order(order)
        try:
            result = await self._answers(connection, on_progress)
        except BaseException as error:
            await asyncio.shield(_hang_up(connection))
            # What an earlier try has kept may be to blame.
            if isinstance(error, errors.Invalid) and job.part_path is not None:
                job.part_path.unlink(missing_ok=True)
            raise
        finally:
            connection.close()
        if job.blob_path is not None and job.part_path is not None:
            job.part_path.rename(job.blob_path)
        return result

    def _order(self, order: messages.Order) -> socket.socket:
        """Send the order with a socket for its answers; returns the other end."""
        if self._control is None:
            raise errors.RuntimeFailure("the unpacker is not running")
        data = messages.encode_order(order)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            try:
                socket.send_fds(self._control, [data], [theirs.fileno()])
            except OSError:
                socket.send_fds(self._replace(), [data], [theirs.fileno()])
        except OSError as error:
            ours.close()
            raise _zygote_died() from error
        finally:
            theirs.close()
        ours.setblocking(False)
        return ours

    def _replace(self) -> socket.socket:
        """A zygote in the place of one that died. Its workers died with it."""
        log.warning("the unpacker's helper process %d has died: starting another", self._pid)
        if self._control is not None:
            self._control.close()
        _reap(self._pid)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._pid = _execute(theirs)
        return self._control

    async def _answers(self, connection: socket.socket, on_progress: Callable[[LayerProgress], None]) -> LayerResult:
        pieces = bytearray()
        failure: errors.GitopsError | None = None
        is_done = False
        while True:
            kind, data = await self._message(connection)
            if kind == messages.PROGRESS:
                on_progress(msgspec.msgpack.decode(data, type=LayerProgress))
            elif kind == messages.PIECE:
                pieces += data
                if len(pieces) > messages.RESULT_LIMIT:
                    raise errors.Invalid("the layer has too many deletions and implied directories")
            elif kind == messages.DONE:
                is_done = True
            elif kind == messages.ERROR:
                failure = messages.to_error(msgspec.msgpack.decode(data, type=messages.Failure))
            elif failure is not None:
                raise failure
            elif not is_done:
                raise _worker_died(data)
            else:
                return msgspec.msgpack.decode(pieces, type=LayerResult)

    async def _message(self, connection: socket.socket) -> tuple[bytes, bytes]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._stall_s):
                data = await loop.sock_recv(connection, messages.MAX_MESSAGE)
        except TimeoutError as error:
            raise errors.Unavailable(f"no progress on a layer for {self._stall_s:.0f} s: given up") from error
        except OSError as error:
            raise _zygote_died() from error
        if not data:
            raise _zygote_died()
        return data[:1], data[1:]


async def _hang_up(connection: socket.socket) -> None:
    """Have the worker killed, and wait until it is."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while await loop.sock_recv(connection, messages.MAX_MESSAGE):
            continue


def _worker_died(data: bytes) -> errors.GitopsError:
    if len(data) != struct.calcsize("i"):
        return errors.Unavailable(f"can't start a worker for the layer: {data[:200].decode(errors='replace')}")
    code = struct.unpack("i", data)[0]
    if code == -signal.SIGKILL:
        return errors.Unavailable("the layer's worker was killed, perhaps for want of memory; try again")
    how = f"by signal {-code}" if code < 0 else f"with status {code}"
    return errors.Invalid(f"the layer's worker died {how}: the layer is refused")


def _zygote_died() -> errors.GitopsError:
    return errors.Unavailable("the unpacker's helper process has died, perhaps for want of memory; try again")


def _execute(control: socket.socket) -> int:
    """Start a zygote as a program of its own, with a clean memory; its pid."""
    command = [sys.executable, "-P", "-m", zygote.__name__, str(control.fileno())]
    # -P: what lies in the working directory is no code of ours.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[control.fileno()])
    # It is reaped by its pid, as one that was forked.
    process.returncode = 0
    return process.pid


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
