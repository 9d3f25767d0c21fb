"""One layer in one process: fetch, verify, uncompress and write in a single loop, locked into the layer's directory.

No queue stands between the stages: a slow disk stops the reading, and TCP the server. Memory is constant and limited.
The process needs nothing but its sources and the directory; before the first byte of a layer is parsed it has closed
all else, changed its root and given up every capability that writing a layer doesn't take.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import resource
import signal
import socket
import struct
import time

import msgspec

from gitops import errors
from gitops.engine.images.unpack import fetching, messages
from gitops.engine.images.unpack.job import LayerJob, LayerProgress, LayerResult
from gitops.engine.images.unpack.lowerview import LowerView
from gitops.engine.images.unpack.tree import TreeWriter
from gitops.oci import compression
from gitops.oci.tarstream import TarReader

_MEMORY = 512 << 20
_PROGRESS_EVERY_S = 0.1
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522
_KEPT_CAPABILITIES = (0, 1, 3, 4, 21, 27, 31)
"""CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SYS_ADMIN (for trusted attributes), MKNOD, SETFCAP."""


def run(order: messages.Order, connection: socket.socket) -> int:
    """Do the job and tell of it on `connection`; the exit status."""
    try:
        result = _unpack(order, connection)
    except errors.GitopsError as error:
        failure = messages.to_failure(error)
    except MemoryError:
        failure = messages.Failure("Invalid", f"the layer needs more than {_MEMORY >> 20} MiB of memory")
    except RecursionError:
        failure = messages.Failure("Invalid", "the layer is nested too deeply")
    except OSError as error:
        failure = _disk_failure(error)
    else:
        messages.send_result(connection, result)
        return 0
    connection.sendall(messages.ERROR + msgspec.msgpack.encode(failure))
    return 1


def _disk_failure(error: OSError) -> messages.Failure:
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EMLINK):
        return messages.Failure("Invalid", f"an entry that the file system can't hold: {error.strerror}")
    return messages.Failure("RuntimeFailure", f"can't write the layer: {error.strerror or error}")


def _unpack(order: messages.Order, connection: socket.socket) -> LayerResult:
    job = order.job
    _limit(job)
    blob = fetching.open_blob(job)
    lower = LowerView.open(order.lower) if order.lower is not None else None
    _lock_in(job)
    progress = _Progress(connection, blob)
    tree = TreeWriter(job.limits, lower)
    diff_id = _write_tree(blob, tree, job, progress)
    progress.tell(tree)
    if job.digest is not None and blob.digest() != job.digest:
        raise errors.Invalid(f"the blob's digest is {blob.digest()}, {job.digest} is wanted")
    if job.diff_id is not None and diff_id != job.diff_id:
        raise errors.Invalid(f"the layer's diff id is {diff_id}, the image says {job.diff_id}")
    tree.complete()
    return LayerResult(
        digest=blob.digest(),
        diff_id=diff_id,
        size=blob.size,
        unpacked_bytes=tree.unpacked_bytes,
        disk_bytes=tree.disk_bytes,
        members=tree.members,
        has_root=tree.has_root,
        opaque=sorted(tree.opaque),
        fresh=sorted(tree.fresh),
        whiteouts=list(tree.whiteouts),
        implied=list(tree.implied),
        links=tree.links,
        is_redone=lower is not None,
    )


def _write_tree(blob: fetching.Blob, tree: TreeWriter, job: LayerJob, progress: _Progress) -> str:
    """Read all of the blob into the tree; the diff id."""
    digest = hashlib.sha256()
    decoder = compression.decoder(blob.read)

    def read_chunk() -> bytes:
        chunk = decoder.read_chunk()
        digest.update(chunk)
        progress.tick(tree)
        return chunk

    reader = TarReader(read_chunk, job.limits)
    for member in reader:
        tree.add(member, reader.data())
    blob.drain()
    return f"sha256:{digest.hexdigest()}"


class _Progress:
    def __init__(self, connection: socket.socket, blob: fetching.Blob) -> None:
        self._connection = connection
        self._blob = blob
        self._next = 0.0

    def tick(self, tree: TreeWriter) -> None:
        """Tell, but not too often."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_EVERY_S
            self.tell(tree)

    def tell(self, tree: TreeWriter) -> None:
        """Tell how far we are."""
        now = LayerProgress(self._blob.size, tree.unpacked_bytes, tree.members, self._blob.resumed)
        self._connection.sendall(messages.PROGRESS + msgspec.msgpack.encode(now))


# Confinement


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, and end it if that has happened already."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def close_all_but(kept: set[int]) -> None:
    """Close every descriptor that was inherited, but for the standard ones and `kept`."""
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor not in kept:
            try:
                os.close(descriptor)
            except OSError as error:
                # The listing's own.
                if error.errno != errno.EBADF:
                    raise


def _limit(job: LayerJob) -> None:
    with open("/proc/self/statm", "rb") as file:
        inherited = int(file.read().split()[0]) * resource.getpagesize()
    _set_limit(resource.RLIMIT_AS, inherited + _MEMORY)
    _set_limit(resource.RLIMIT_FSIZE, max(job.limits.file_bytes, job.size or job.limits.layer_bytes))
    _set_limit(resource.RLIMIT_CORE, 0)
    _set_limit(resource.RLIMIT_NOFILE, 512)
    # A file beyond its limit is an error to tell of, not a death.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _set_limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _lock_in(job: LayerJob) -> None:
    try:
        os.chdir(job.target)
    except OSError as error:
        raise errors.RuntimeFailure(f"can't enter {job.target}: {error.strerror}") from error
    if os.listdir("."):
        raise errors.RuntimeFailure(f"{job.target} is not empty")
    os.chroot(".")
    os.umask(0)
    _drop_capabilities()


def _drop_capabilities() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    current = ctypes.create_string_buffer(24)
    _check(libc.capget(header, current), "capget")
    # The first 32 capabilities are in the first three words: effective, permitted, inheritable.
    wanted = sum(1 << number for number in _KEPT_CAPABILITIES) & struct.unpack_from("I", current, 4)[0]
    data = struct.pack("6I", wanted, wanted, 0, 0, 0, 0)
    _check(libc.capset(header, data), "capset")


def _check(result: int, what: str) -> None:
    if result != 0:
        raise errors.RuntimeFailure(f"{what} failed: {os.strerror(ctypes.get_errno())}")
