"""Network namespaces as files, made and entered by short-lived threads.

A thread that leaves its namespace never comes back: it ends. So nothing forks, and no other thread of the daemon is
ever in a wrong namespace. Sockets, netlink contexts and sysctls that `function` touches inside belong to the
namespace; sockets go on doing so afterwards, from any thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from gitops import errors

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MNT_DETACH = 2
# /proc/self is the main thread, wherever that is; this is the calling one.
_OWN = "/proc/thread-self/ns/net"
_SYSCTLS = Path("/proc/sys/net")
_libc = ctypes.CDLL(None, use_errno=True)


def create(path: Path, function: Callable[[], T]) -> T:
    """Make a namespace, keep it at `path`, and run `function` in it.

    Raises:
        errors.RuntimeFailure: no right, or the path can't be mounted on. Nothing is left behind.
    """

    def inside() -> T:
        _check(_libc.unshare(_CLONE_NEWNET), "make a network namespace")
        _check(_libc.mount(_OWN.encode(), bytes(path), None, _MS_BIND, None), f"keep the network namespace at {path}")
        return function()

    try:
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
    except OSError as error:
        raise errors.RuntimeFailure(f"can't make the network namespace {path}: {error.strerror}") from error
    try:
        return _in_thread(inside)
    except BaseException:
        remove(path)
        raise


def run(path: Path, function: Callable[[], T]) -> T:
    """Run `function` in the namespace at `path`; raises what it raises, errors.RuntimeFailure where there is none."""

    def inside() -> T:
        with open_file(path) as descriptor:
            _check(_libc.setns(descriptor, _CLONE_NEWNET), f"enter the network namespace {path}")
        return function()

    return _in_thread(inside)


def keep(path: Path, pid: int) -> None:
    """Keep the namespace of a process at `path`, as `create` does. Raises errors.RuntimeFailure."""
    try:
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise errors.RuntimeFailure(f"can't make the file {path}: {error.strerror}") from error
    source = f"/proc/{pid}/ns/net".encode()
    _check(_libc.mount(source, bytes(path), None, _MS_BIND, None), f"keep the network namespace at {path}")


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[int]:
    """A descriptor of the namespace at `path`. Raises errors.RuntimeFailure where it can't be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise errors.RuntimeFailure(f"can't open the network namespace {path}: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Unmount and delete; the kernel frees the namespace when nothing is left in it. Nothing there is no error."""
    while _libc.umount2(bytes(path), _MNT_DETACH) == 0:
        pass
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOENT):
        raise errors.RuntimeFailure(f"can't unmount the network namespace {path}: {os.strerror(code)}")
    path.unlink(missing_ok=True)


def is_namespace(path: Path) -> bool:
    """Whether a namespace is mounted at `path`: all of them are files of one file system of the kernel's."""
    try:
        return path.stat().st_dev == os.stat(_OWN).st_dev
    except FileNotFoundError:
        return False


def read_sysctl(name: str) -> str | None:
    """A value below net, such as `ipv4/ip_forward`, of the calling thread's namespace; None where there is no such."""
    try:
        return (_SYSCTLS / name).read_text().strip()
    except FileNotFoundError:
        return None


def write_sysctl(name: str, value: str) -> bool:
    """Set a value where it differs; False where the kernel has no such. Raises errors.RuntimeFailure where refused."""
    present = read_sysctl(name)
    if present is None:
        return False
    if present != value:
        try:
            (_SYSCTLS / name).write_text(value)
        except OSError as error:
            raise errors.RuntimeFailure(
                f"can't set the sysctl net.{name.replace('/', '.')} to {value}: {error.strerror}; "
                "/proc/sys must be writable"
            ) from error
    return True


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        hint = "; this needs root (CAP_SYS_ADMIN)" if code == errno.EPERM else ""
        raise errors.RuntimeFailure(f"can't {what}: {os.strerror(code)}{hint}")


def _in_thread(function: Callable[[], T]) -> T:
    result: list[T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            result.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=target, name="netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
