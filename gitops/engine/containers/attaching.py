"""Attaching to containers: who may, what is told of it, and the size of their terminals."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from gitops import errors
from gitops.engine.containers import record
from gitops.engine.containers.container import Container
from gitops.engine.containers.runtime import Runtime
from gitops.engine.containers.streams import Attachment

Tell = Callable[..., None]
"""`Supervisor.tell`: a container, an action, attributes."""


class Attaching:
    """The calls that are about a container's own streams; containers are named as in `ContainerService`."""

    def __init__(self, runtime: Runtime, find: Callable[[str], Container], tell: Tell) -> None:
        self._runtime = runtime
        self._find = find
        self._tell = tell

    def attach(self, name: str, *, stdout: bool, stderr: bool) -> Attachment:
        """A client of the container's streams: of this run, or, where it doesn't run, of the next one.

        Raises:
            errors.Conflict: it is paused, or about to be restarted.
        """
        container = self._find(name)
        now = container.record
        if now.status == record.PAUSED:
            raise errors.Conflict(f"container {name} is paused, unpause the container before attach")
        if now.status == record.RESTARTING:
            raise errors.Conflict(f"container {name} is restarting, wait until the container is running")
        attachment = container.streams.attach(
            self._runtime.bundle(container.id) if now.is_alive else None,
            stdout=stdout,
            stderr=stderr,
            ends_input=now.config.stdin_once and not now.config.tty,
            on_detach=lambda: self._tell(container, "detach"),
        )
        self._tell(container, "attach")
        return attachment

    def resize(self, name: str, height: int, width: int) -> None:
        """Give the terminal another size, in characters.

        Raises:
            errors.Conflict: it doesn't run.
        """
        container = self._find(name)
        if not container.record.is_alive:
            raise errors.Conflict(f"container {container.id} is not running")
        try:
            control = os.open(self._runtime.bundle(container.id) / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENXIO):
                raise errors.Conflict(f"container {container.id} is not running") from error
            raise errors.RuntimeFailure(
                f"the terminal of container {container.id} can't be reached: {error}"
            ) from error
        try:
            os.write(control, f"1 {height} {width}\n".encode())
        finally:
            os.close(control)
        self._tell(container, "resize", height=str(height), width=str(width))
