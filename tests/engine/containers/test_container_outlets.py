"""Output on its way to clients: order, backpressure, ends; input as fast as it is read."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from gitops.engine.containers.outlets import LIMIT, Feed, Outlet, Outlets, Tap


async def all_of(outlet: Outlet) -> bytes:
    data = b""
    while pieces := await outlet.take():
        data += b"".join(piece for _, piece in pieces)
    return data


async def until(condition: Callable[[], bool]) -> None:
    """The loop's turns; the limit of `in_pipe` holds."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def tap_of(descriptor: int, outlets: Outlets) -> Tap:
    os.set_blocking(descriptor, False)

    def deliver(data: bytes) -> None:
        outlets.put("stdout", data)

    return Tap(descriptor, lambda: os.read(descriptor, 65536), deliver, outlets, outlets.end)


def in_pipe(work: Callable[[int, int], object]) -> None:
    reader, writer = os.pipe()

    async def run() -> None:
        async with asyncio.timeout(30):
            await work(reader, writer)  # type: ignore[misc]

    try:
        asyncio.run(run())
    finally:
        os.close(reader)


def test_each_client_gets_the_streams_that_it_wants_in_order() -> None:
    async def run() -> None:
        outlets = Outlets()
        both, errors_only = outlets.add(), outlets.add(stdout=False)
        for number in range(3):
            outlets.put("stdout", b"o%d" % number)
            outlets.put("stderr", b"e%d" % number)
        outlets.end()
        assert await both.take() == [
            *(("stdout", b"o0"), ("stderr", b"e0"), ("stdout", b"o1")),
            *(("stderr", b"e1"), ("stdout", b"o2"), ("stderr", b"e2")),
        ]
        assert await both.take() == []
        assert await all_of(errors_only) == b"e0e1e2"
        assert await outlets.add().take() == [], "who comes after the end gets the end"

    asyncio.run(run())


def test_a_client_that_lags_behind_stops_the_reading_and_loses_nothing() -> None:
    async def work(reader: int, writer: int) -> None:
        outlets = Outlets()
        slow = outlets.add()
        tap_of(reader, outlets)
        data = os.urandom(4 * LIMIT)
        writing = asyncio.create_task(asyncio.to_thread(write_all, writer, data))
        await until(lambda: slow.is_full)
        await asyncio.sleep(0.02)
        assert not writing.done(), "the pipe is full, and nobody empties it"
        assert await all_of(slow) == data
        await writing

    in_pipe(work)


def write_all(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def test_a_client_that_leaves_makes_room_for_the_others() -> None:
    async def work(reader: int, writer: int) -> None:
        outlets = Outlets()
        gone, stays = outlets.add(), outlets.add()
        tap_of(reader, outlets)
        data = os.urandom(3 * LIMIT)
        writing = asyncio.create_task(asyncio.to_thread(write_all, writer, data))
        reading = asyncio.create_task(all_of(stays))
        await until(lambda: gone.is_full)
        outlets.remove(gone)
        assert await reading == data
        await writing

    in_pipe(work)


def test_after_the_end_of_the_process_nobody_is_waited_for() -> None:
    async def work(reader: int, writer: int) -> None:
        outlets = Outlets()
        slow = outlets.add()
        tap = tap_of(reader, outlets)
        slow.put("stdout", b"x" * LIMIT)
        os.write(writer, b"last words")
        os.close(writer)
        tap.hurry()
        await until(lambda: tap.is_over)
        assert (await all_of(slow)).endswith(b"last words")

    in_pipe(work)


def test_input_waits_for_its_reader_and_ends_with_it() -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        feed = Feed(ours.fileno(), ours.send, 4096)
        data = os.urandom(2**20)
        writing = asyncio.create_task(feed.write(data))
        await asyncio.sleep(0.02)
        assert not writing.done()
        got = await asyncio.to_thread(receive, theirs, len(data))
        assert await writing and got == data
        theirs.close()
        assert not await feed.write(b"too late")
        ours.close()

    asyncio.run(run())


def receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(65536)
    return data


def test_closing_the_input_frees_who_waits_to_write() -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        feed = Feed(ours.fileno(), ours.send, 4096)
        writing = asyncio.create_task(feed.write(bytes(2**22)))
        await asyncio.sleep(0.02)
        feed.close()
        assert not await writing
        ours.close()
        theirs.close()

    asyncio.run(run())
