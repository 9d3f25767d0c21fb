"""A person's end of a container's streams: raw terminal, sizes, signals, input and output as they come."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from gitops import errors

if TYPE_CHECKING:
    from gitops.client.streams import RawStream

Resize = Callable[[int, int], Awaitable[None]]
Signal = Callable[[str], Awaitable[None]]
_BLOCK = 1 << 16
_TRIES = 10
_PAUSE_S = 0.02
"""Times the turn, between two tries, as the docker CLI does."""
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def check(is_terminal: bool, has_input: bool) -> None:
    """Whether a terminal can be had.

    Raises:
        errors.Invalid: standard input isn't one.
    """
    if is_terminal and has_input and not sys.stdin.isatty():
        raise errors.Invalid("the input device is not a TTY")


def size() -> tuple[int, int]:
    """Height and width of this terminal, in characters; 24 and 80 where there is none."""
    try:
        found = os.get_terminal_size(0)
    except OSError:
        return 24, 80
    return found.lines, found.columns


async def converse(stream: RawStream, *, is_terminal: bool, has_input: bool) -> None:
    """Carry input and output until the other side ends; from the terminal nothing is understood here."""
    with _raw(is_terminal and has_input and sys.stdin.isatty()):
        typing = asyncio.create_task(_send(stream)) if has_input else None
        try:
            await _show(stream, is_terminal=is_terminal)
        finally:
            if typing is not None:
                typing.cancel()
                await asyncio.gather(typing, return_exceptions=True)


async def _show(stream: RawStream, *, is_terminal: bool) -> None:
    from gitops.client import containers

    if is_terminal:
        async for data in stream.chunks():
            await _write(1, data)
        return
    async for frame in containers.frames(stream.chunks()):
        await _write(1 if frame.stream == "stdout" else 2, frame.data)


async def _write(descriptor: int, data: bytes) -> None:
    def write() -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    await asyncio.to_thread(write)


async def _send(stream: RawStream) -> None:
    """Standard input to its end; read in a thread of its own, which may stay in its last read when all else ends."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes] = asyncio.Queue(maxsize=4)

    def read() -> None:
        with contextlib.suppress(OSError, RuntimeError):
            while True:
                data = os.read(0, _BLOCK)
                if loop.is_closed():
                    return
                asyncio.run_coroutine_threadsafe(pieces.put(data), loop).result()
                if not data:
                    return

    threading.Thread(target=read, daemon=True).start()
    with contextlib.suppress(OSError):
        while data := await pieces.get():
            await stream.write(data)
        await stream.end_input()


@contextlib.contextmanager
def _raw(is_wanted: bool) -> Iterator[None]:
    if not is_wanted:
        yield
        return
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0, termios.TCSADRAIN)  # what was typed before is meant for the container
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextlib.asynccontextmanager
async def followed(resize: Resize | None, pass_on: Signal | None) -> AsyncIterator[None]:
    """Tell `resize` the terminal's size, now and when it changes, and `pass_on` the signals that come."""
    loop, handled = asyncio.get_running_loop(), []
    work: set[asyncio.Task[None]] = set()

    def begin(call: Callable[[], Awaitable[None]]) -> None:
        async def quietly() -> None:
            # Just started, it may not be ready for it; or it has ended meanwhile, which the stream's end tells.
            for turn in range(1, _TRIES + 1):
                try:
                    return await call()
                except errors.GitopsError:
                    await asyncio.sleep(turn * _PAUSE_S)

        task = loop.create_task(quietly())
        work.add(task)
        task.add_done_callback(work.discard)

    if resize is not None:
        fit = resize
        begin(lambda: fit(*size()))
        loop.add_signal_handler(signal.SIGWINCH, lambda: begin(lambda: fit(*size())))
        handled.append(signal.SIGWINCH)
    if pass_on is not None:
        tell = pass_on
        for number in _PASSED_ON:
            loop.add_signal_handler(number, lambda name: begin(lambda: tell(name)), number.name.removeprefix("SIG"))
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
        for task in list(work):
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
