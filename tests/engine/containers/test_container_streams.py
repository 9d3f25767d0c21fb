"""The streams of a container's runs, against a stand-in for conmon's socket; and its word about memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gitops.engine.containers.ooms import Ooms
from gitops.engine.containers.streams import Attachment, Streams


class Conmon:
    """The socket `attach` of a bundle, and the one client that it has."""

    def __init__(self, bundle: Path) -> None:
        bundle.mkdir()
        self.bundle = bundle
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(bundle / "attach"))
        self._listener.listen()
        self._listener.settimeout(10)

    def accept(self) -> socket.socket:
        client, _ = self._listener.accept()
        client.settimeout(10)
        return client

    def has_client(self) -> bool:
        self._listener.setblocking(False)
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self._listener.close()


def attach(streams: Streams, bundle: Path | None, *, ends_input: bool = False) -> Attachment:
    return streams.attach(bundle, stdout=True, stderr=True, ends_input=ends_input, on_detach=lambda: None)


def run(tmp_path: Path, work: Callable[[Conmon, Streams], Awaitable[None]]) -> None:
    conmon = Conmon(tmp_path / "bundle")

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await work(conmon, Streams())

    try:
        asyncio.run(bounded())
    finally:
        conmon.close()


async def all_of(attachment: Attachment) -> list[tuple[str, bytes]]:
    found = []
    while pieces := await attachment.outlet.take():
        found += pieces
    return found


def test_who_came_before_the_start_gets_the_output_from_its_first_byte(tmp_path: Path) -> None:
    async def work(conmon: Conmon, streams: Streams) -> None:
        early = attach(streams, None)
        streams.start(conmon.bundle)
        with conmon.accept() as client:
            late = attach(streams, conmon.bundle)
            assert not conmon.has_client(), "one connection serves all"
            client.send(b"\x02out")
            client.send(b"\x03err")
        assert await all_of(early) == [("stdout", b"out"), ("stderr", b"err")]
        assert await all_of(late) == [("stdout", b"out"), ("stderr", b"err")]
        early.leave()
        late.leave()

    run(tmp_path, work)


def test_input_waits_for_the_start_and_its_end_is_passed_on_where_it_is_the_only_one(tmp_path: Path) -> None:
    async def work(conmon: Conmon, streams: Streams) -> None:
        only, other = attach(streams, None, ends_input=True), attach(streams, None)
        writing = asyncio.create_task(only.write(b"x" * 20000))
        await asyncio.sleep(0)
        assert not writing.done()
        streams.start(conmon.bundle)
        with conmon.accept() as client:
            await writing
            got = b""
            while len(got) < 20000:
                got += client.recv(65536)
            await other.close_input()
            assert await other.write(b"more") and client.recv(65536) == b"more"
            await only.close_input()
            assert client.recv(65536) == b""
        only.leave()
        other.leave()

    run(tmp_path, work)


def test_the_connection_lives_as_long_as_there_are_clients(tmp_path: Path) -> None:
    async def work(conmon: Conmon, streams: Streams) -> None:
        streams.start(conmon.bundle)
        assert not conmon.has_client(), "without a client nobody has to read"
        first, second = attach(streams, conmon.bundle), attach(streams, conmon.bundle)
        with conmon.accept() as client:
            first.leave()
            client.send(b"\x02still")
            assert await second.outlet.take() == [("stdout", b"still")]
            second.leave()
            assert client.recv(10) == b""
        third = attach(streams, conmon.bundle)
        with conmon.accept() as client:
            client.send(b"\x02again")
            assert await third.outlet.take() == [("stdout", b"again")]
            third.leave()

    run(tmp_path, work)


def test_a_start_that_fails_and_a_run_that_is_gone_end_the_streams(tmp_path: Path) -> None:
    async def work(conmon: Conmon, streams: Streams) -> None:
        waiting = attach(streams, None)
        streams.fail()
        assert await all_of(waiting) == []
        assert not await waiting.write(b"nobody")
        waiting.leave()
        conmon.close()
        late = attach(streams, conmon.bundle)
        assert await all_of(late) == []
        late.leave()

    run(tmp_path, work)


def test_want_of_memory_is_told_once_for_each_bundle(tmp_path: Path) -> None:
    async def work() -> None:
        told: list[str] = []
        ooms = Ooms(told.append)
        ooms.start()
        for name in ("before", "while", "never"):
            (tmp_path / name).mkdir()
        (tmp_path / "before" / "oom").touch()
        for name in ("before", "while", "never"):
            ooms.watch(tmp_path / name)
        assert told == ["before"]
        (tmp_path / "while" / "other").touch()
        (tmp_path / "while" / "oom").touch()
        async with asyncio.timeout(10):
            while len(told) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        (tmp_path / "never").rmdir()
        await asyncio.sleep(0.01)
        ooms.close()
        assert told == ["before", "while"]

    asyncio.run(work())


def test_a_bundle_that_is_not_there_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        ooms = Ooms(lambda name: None)
        ooms.start()
        ooms.watch(tmp_path / "gone")
        ooms.close()

    asyncio.run(work())
    assert "can't be watched" in caplog.text
