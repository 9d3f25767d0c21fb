"""Reading logs: lines, pieces, rotation, the last lines, following."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops.engine.containers import logs
from gitops.engine.containers.boundary import LogRecord
from gitops.objects import base


def line(number: int, text: bytes, stream: str = "stdout", tag: str = "F") -> bytes:
    return f"2026-01-01T00:00:{number:02d}.000000001+00:00 {stream} {tag} ".encode() + text + b"\n"


def at(number: int) -> int:
    return base.parse_time(f"2026-01-01T00:00:{number:02d}.000000001Z")


async def read(folder: Path, query: logs.Query) -> list[bytes]:
    return [entry.data async for entry in logs.read(folder, query, lambda: True, asyncio.Event())]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (line(1, b"a b "), LogRecord("stdout", at(1), b"a b \n")),
        (line(1, b"", "stderr"), LogRecord("stderr", at(1), b"\n")),
        (line(1, b"x\r", tag="P"), LogRecord("stdout", at(1), b"x\r")),
        (line(1, b"\0\xff"), LogRecord("stdout", at(1), b"\0\xff\n")),
        (b"rubbish\n", None),
        (b"2026-13-01T00:00:00.0+00:00 stdout F x\n", None),
        (b"2026-01-01T00:00:00.0+00:00 stdin F x\n", None),
        (b"\n", None),
    ],
)
def test_a_line_of_the_file_is_a_record_or_nothing(raw: bytes, expected: LogRecord | None) -> None:
    assert logs.parse(raw.removesuffix(b"\n")) == expected


@given(st.binary(max_size=200))
def test_no_bytes_can_break_the_parser(data: bytes) -> None:
    logs.parse(data)


async def test_files_are_read_oldest_first(tmp_path: Path) -> None:
    (tmp_path / "ctr.log.10").write_bytes(line(0, b"z"))
    (tmp_path / "ctr.log.2").write_bytes(line(1, b"a"))
    (tmp_path / "ctr.log.1").write_bytes(line(2, b"b"))
    (tmp_path / "ctr.log").write_bytes(line(3, b"c"))
    (tmp_path / "ctr.log.tmp").write_bytes(line(4, b"no"))
    assert await read(tmp_path, logs.Query()) == [b"z\n", b"a\n", b"b\n", b"c\n"]


async def test_streams_and_times_select(tmp_path: Path) -> None:
    (tmp_path / "ctr.log").write_bytes(b"".join(line(n, b"%d" % n, "stderr" if n % 2 else "stdout") for n in range(8)))
    assert await read(tmp_path, logs.Query(stderr=False)) == [b"0\n", b"2\n", b"4\n", b"6\n"]
    assert await read(tmp_path, logs.Query(since_ns=at(5), until_ns=at(6))) == [b"5\n", b"6\n"]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (1, [b"open"]),
        (2, [b"c\n", b"open"]),
        (3, [b"b1", b"b2\n", b"c\n", b"open"]),
        (4, [b"a\n", b"b1", b"b2\n", b"c\n", b"open"]),
        (99, [b"a\n", b"b1", b"b2\n", b"c\n", b"open"]),
    ],
)
async def test_the_last_lines_are_whole_lines(tmp_path: Path, count: int, expected: list[bytes]) -> None:
    (tmp_path / "ctr.log.1").write_bytes(line(1, b"a") + line(2, b"b1", tag="P"))
    (tmp_path / "ctr.log").write_bytes(line(3, b"b2") + line(4, b"c") + line(5, b"open", tag="P"))
    assert await read(tmp_path, logs.Query(tail=count)) == expected


@given(st.lists(st.binary(max_size=40).filter(lambda text: b"\n" not in text), max_size=40), st.integers(0, 45))
def test_the_last_n_lines_are_the_end_of_all_lines(texts: list[bytes], count: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ctr.log").write_bytes(b"".join(line(n % 60, text) for n, text in enumerate(texts)))
        reader = logs.LogReader(Path(folder))
        with contextlib.closing(reader):
            found = [entry.data for entry in reader.skip(count, logs.Query())]
            assert list(reader.batches()) == []
    assert found == [text + b"\n" for text in texts][len(texts) - count if count < len(texts) else 0 :]


async def test_following_crosses_a_rotation_and_ends_with_the_container(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    path.write_bytes(line(1, b"old") + line(2, b"last"))
    wake, is_over = asyncio.Event(), [False]
    found: list[bytes] = []
    seen = asyncio.Queue[bytes]()

    async def follow() -> None:
        async for entry in logs.read(tmp_path, logs.Query(tail=1, follow=True), lambda: is_over[0], wake):
            found.append(entry.data)
            seen.put_nowait(entry.data)

    task = asyncio.create_task(follow())
    assert await seen.get() == b"last\n"
    with path.open("ab") as writer:
        writer.write(line(3, b"one"))
        writer.flush()
        assert await seen.get() == b"one\n"
        logs.rotate(tmp_path, 3)
        writer.write(line(4, b"two"))
        writer.flush()
        path.write_bytes(line(5, b"three"))
    assert [await seen.get(), await seen.get()] == [b"two\n", b"three\n"]
    with path.open("ab") as writer:
        writer.write(line(6, b"end"))
    is_over[0] = True
    wake.set()
    await task
    assert found == [b"last\n", b"one\n", b"two\n", b"three\n", b"end\n"]


async def test_following_ends_at_the_time_that_was_given(tmp_path: Path) -> None:
    (tmp_path / "ctr.log").write_bytes(line(1, b"a"))
    query = logs.Query(follow=True, until_ns=at(30))
    assert [entry.data async for entry in logs.read(tmp_path, query, lambda: False, asyncio.Event())] == [b"a\n"]


def test_rotation_keeps_as_many_files_as_asked(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / "ctr.log").write_text(str(number))
        logs.rotate(tmp_path, 3)
    assert {path.name: path.read_text() for path in logs.files(tmp_path)} == {"ctr.log.1": "5", "ctr.log.2": "4"}


def test_only_the_beginning_of_a_line_is_stamped() -> None:
    begun: dict[str, bool] = {}
    entries = [LogRecord("stdout", 1, b"a"), LogRecord("stderr", 2, b"e\n"), LogRecord("stdout", 3, b"b\n")]
    stamp = "1970-01-01T00:00:00.00000000"
    assert [entry.data.decode() for entry in logs.stamp(entries, begun)] == [f"{stamp}1Z a", f"{stamp}2Z e\n", "b\n"]
