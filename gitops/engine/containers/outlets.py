"""Output of a process on its way to clients: each gets all of it, in order, and holds a bounded amount at most.

Who doesn't read holds the process up, as with Docker: a client that is slow gets all the same. Only when the process
has ended is what the kernel still holds taken without regard to that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LIMIT = 2**20
"""Bytes that a client may lag behind."""
_BATCH = 32
"""Reads in a row, before others get their turn."""

Piece = tuple[str, bytes]
"""A stream, stdout or stderr, and what came out of it."""


class Outlet:
    """What one client gets; made by `Outlets.add`."""

    def __init__(self, wanted: frozenset[str], on_room: Callable[[], None]) -> None:
        self._wanted = wanted
        self._on_room = on_room
        self._pieces: list[Piece] = []
        self._size = 0
        self._is_ended = False
        self._wake = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether the client should take something before more comes."""
        return self._size >= LIMIT

    def put(self, stream: str, data: bytes) -> None:
        """Queue a piece, if the client wants that stream."""
        if stream in self._wanted:
            self._pieces.append((stream, data))
            self._size += len(data)
            self._wake.set()

    def end(self) -> None:
        """Nothing comes any more."""
        self._is_ended = True
        self._wake.set()

    async def take(self) -> list[Piece]:
        """All that came since the last call, and something at least; an empty list at the end."""
        while not self._pieces and not self._is_ended:
            self._wake.clear()
            await self._wake.wait()
        pieces, was_full = self._pieces, self.is_full
        self._pieces, self._size = [], 0
        if was_full:
            self._on_room()
        return pieces


class Outlets:
    """The clients of one process."""

    def __init__(self) -> None:
        self._outlets: set[Outlet] = set()
        self._is_ended = False
        self._on_room: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        return bool(self._outlets)

    @property
    def is_full(self) -> bool:
        """Whether one of them lags behind as far as it may."""
        return any(outlet.is_full for outlet in self._outlets)

    def on_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever a client that lagged behind took something, or left."""
        self._on_room.append(callback)

    def add(self, *, stdout: bool = True, stderr: bool = True) -> Outlet:
        """One more client, from now on."""
        wanted = frozenset(["stdout"] * stdout + ["stderr"] * stderr)
        outlet = Outlet(wanted, self._make_room)
        if self._is_ended:
            outlet.end()
        else:
            self._outlets.add(outlet)
        return outlet

    def remove(self, outlet: Outlet) -> None:
        """The client left."""
        self._outlets.discard(outlet)
        outlet.end()
        self._make_room()

    def put(self, stream: str, data: bytes) -> None:
        """Give all of them a piece."""
        for outlet in self._outlets:
            outlet.put(stream, data)

    def end(self) -> None:
        """Tell all of them that nothing comes any more."""
        self._is_ended = True
        for outlet in self._outlets:
            outlet.end()

    def _make_room(self) -> None:
        for callback in self._on_room:
            callback()


class Tap:
    """Reads a descriptor whenever there is something, and pauses while the clients lag behind."""

    def __init__(
        self,
        descriptor: int,
        receive: Callable[[], bytes],
        deliver: Callable[[bytes], None],
        outlets: Outlets,
        on_end: Callable[[], None],
    ) -> None:
        """`receive` reads `descriptor`, which doesn't block; b"" and errors are its end. The descriptor is lent."""
        self.is_over = False
        """Nothing comes any more; `on_end` was called."""
        self._descriptor = descriptor
        self._receive = receive
        self._deliver = deliver
        self._outlets = outlets
        self._on_end = on_end
        self._is_reading = False
        self._is_hurried = False
        outlets.on_room(self._resume)
        self._resume()

    def hurry(self) -> None:
        """Wait for no client any more: the process has ended, and what the kernel holds is little."""
        self._is_hurried = True
        self._resume()

    def stop(self) -> None:
        """Read no more; twice does no harm."""
        self._pause()
        if not self.is_over:
            self.is_over = True
            self._on_end()

    def _resume(self) -> None:
        if not self._is_reading and not self.is_over and (self._is_hurried or not self._outlets.is_full):
            asyncio.get_running_loop().add_reader(self._descriptor, self._read)
            self._is_reading = True

    def _pause(self) -> None:
        if self._is_reading:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._is_reading = False

    def _read(self) -> None:
        for _ in range(_BATCH):
            try:
                data = self._receive()
            except BlockingIOError:
                return
            except OSError:
                # EIO: the last process has closed the terminal. ECONNRESET: input was left that nobody read.
                data = b""
            if not data:
                self.stop()
                return
            self._deliver(data)
            if self._outlets.is_full and not self._is_hurried:
                self._pause()
                return


class Feed:
    """Writes to a descriptor that doesn't block, as fast as it is read at the other end."""

    def __init__(self, descriptor: int, send: Callable[[memoryview], int], piece: int) -> None:
        """`send` takes `piece` bytes at most at a time, and says how many it took. The descriptor is lent."""
        self._descriptor = descriptor
        self._send = send
        self._piece = piece
        self._is_closed = False
        self._waiting: asyncio.Event | None = None

    async def write(self, data: bytes) -> bool:
        """Write all of it, one caller at a time; False when nobody reads any more."""
        rest = memoryview(data)
        while rest and not self._is_closed:
            try:
                rest = rest[self._send(rest[: self._piece]) :]
            except BlockingIOError:
                await self._room()
            except OSError:
                return False
        return not rest

    async def _room(self) -> None:
        self._waiting = asyncio.Event()
        asyncio.get_running_loop().add_writer(self._descriptor, self._waiting.set)
        try:
            await self._waiting.wait()
        finally:
            self._rest()

    def _rest(self) -> None:
        if self._waiting is not None:
            asyncio.get_running_loop().remove_writer(self._descriptor)
            self._waiting.set()
            self._waiting = None

    def close(self) -> None:
        """Write no more: the descriptor is about to be closed."""
        self._is_closed = True
        self._rest()
