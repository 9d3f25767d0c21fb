"""The standard streams of a container's first process, for any number of clients at a time.

conmon offers them on a socket, and waits for every one that is connected: so there is one connection a run, which is
always read, and only while there are clients. A client that comes before the start gets the output from its first
byte: the connection is made between setting the process up and letting it go.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

from gitops.engine.containers.outlets import Feed, Outlet, Outlets, Tap

logger = logging.getLogger(__name__)

_PACKET = 16384
"""More than conmon puts into one packet of output."""
_INPUT = 8192
"""What conmon takes of a packet of input; it drops what is beyond 32 KB."""
_NAMES = {2: "stdout", 3: "stderr"}


class Session:
    """The streams of one run: the one that is there, or the next one."""

    def __init__(self) -> None:
        self.outlets = Outlets()
        self._socket: socket.socket | None = None
        self._tap: Tap | None = None
        self._feed: Feed | None = None
        self._is_settled = asyncio.Event()
        """It is connected, or never will be."""

    @property
    def is_connected(self) -> bool:
        """Whether input can be written."""
        return self._feed is not None

    def connect(self, bundle: Path) -> None:
        """Take the streams up; where there is nobody to give them, they are at their end."""
        self._is_settled.set()
        try:
            self._socket = connection = _connect(bundle)
        except OSError as error:
            logger.warning("the streams of container %s can't be reached: %s", bundle.name[:12], error)
            self.outlets.end()
            return
        descriptor = connection.fileno()
        self._tap = Tap(descriptor, lambda: connection.recv(_PACKET), self._deliver, self.outlets, self.outlets.end)
        self._feed = Feed(descriptor, connection.send, _INPUT)

    def _deliver(self, packet: bytes) -> None:
        self.outlets.put(_NAMES.get(packet[0], "stdout"), packet[1:])

    async def write(self, data: bytes) -> bool:
        """Write to the process's input; False when it takes none."""
        await self._is_settled.wait()
        return self._feed is not None and await self._feed.write(data)

    async def close_input(self) -> None:
        """The end of the input, for good."""
        await self._is_settled.wait()
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                logger.debug("input of a container that has ended is closed")

    def hurry(self) -> None:
        """The process has ended: take what is left, whoever lags behind."""
        if self._tap is not None:
            self._tap.hurry()

    def close(self) -> None:
        """Give the connection back, and tell the clients that it is over."""
        if self._tap is not None:
            self._tap.stop()
        if self._feed is not None:
            self._feed.close()
        if self._socket is not None:
            self._socket.close()
        self._socket = self._tap = self._feed = None
        self._is_settled.set()
        self.outlets.end()


class Streams:
    """What a container has of them: the run that is there, and the next one, for which clients may wait."""

    def __init__(self) -> None:
        self._next = Session()
        self._current: Session | None = None

    def attach(
        self, bundle: Path | None, *, stdout: bool, stderr: bool, ends_input: bool, on_detach: Callable[[], None]
    ) -> Attachment:
        """One more client: of the run in `bundle`, or, without one, of the next run."""
        if bundle is None:
            session = self._next
        elif self._current is None:
            session = self._current = Session()
        else:
            session = self._current
        attachment = Attachment(
            self, session, session.outlets.add(stdout=stdout, stderr=stderr), ends_input=ends_input, on_detach=on_detach
        )
        if bundle is not None and not session.is_connected:
            session.connect(bundle)
        return attachment

    def start(self, bundle: Path) -> None:
        """A run was set up, and not let go yet: whoever waits for it gets its streams."""
        session, self._next = self._next, Session()
        # An earlier run's clients keep their session until they have read all of it.
        self._current = session if session.outlets else None
        if session.outlets:
            session.connect(bundle)

    def hurry(self) -> None:
        """The process has ended."""
        if self._current is not None:
            self._current.hurry()

    def fail(self) -> None:
        """The next run doesn't come: a start failed, or the container is being removed."""
        self._next.close()
        self._next = Session()

    def leave(self, session: Session, outlet: Outlet) -> None:
        """A client left. conmon's socket is given back with the last one, and with it a StdinOnce container's input."""
        session.outlets.remove(outlet)
        if session.outlets or session is self._next:
            return
        session.close()
        if session is self._current:
            self._current = None


class Attachment:
    """One client's streams."""

    def __init__(
        self, streams: Streams, session: Session, outlet: Outlet, *, ends_input: bool, on_detach: Callable[[], None]
    ) -> None:
        self.outlet = outlet
        self.detached = on_detach
        """To be called when the client leaves a terminal while its process goes on."""
        self._ends_input = ends_input
        self._streams = streams
        self._session = session

    async def write(self, data: bytes) -> bool:
        """Input for the process, once it was started; False when it takes none."""
        return await self._session.write(data)

    async def close_input(self) -> None:
        """No more input comes from this client: the end of all input, where the container is made so (StdinOnce)."""
        if self._ends_input:
            await self._session.close_input()

    def leave(self) -> None:
        """The client has gone."""
        self._streams.leave(self._session, self.outlet)


def _connect(bundle: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    # By descriptor: the address of a socket may have 107 bytes only.
    folder = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{folder}/attach")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(folder)
    return connection
