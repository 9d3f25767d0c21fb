"""Reading a container's log: conmon's lines, rotated files, the last n lines, following.

A line of the file is `TIME STREAM F|P BYTES`: `F` ends a line of output, `P` is a piece that no newline has come for
(or one of 8 KB). Files are named as logrotate does: `ctr.log` is written to, `ctr.log.1` came before it.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gitops import errors
from gitops.engine.containers import syscalls
from gitops.engine.containers.boundary import LogRecord
from gitops.objects import base

T = TypeVar("T")

LOG_NAME = "ctr.log"
_LINE = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) (stdout|stderr) ([FP])(?::\S*)? (.*)", re.DOTALL
)
_BLOCK = 65536
_SNAPSHOT_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Query:
    """Which records are wanted; times in nanoseconds since the epoch, 0 for no bound; `tail` None for all."""

    stdout: bool = True
    stderr: bool = True
    since_ns: int = 0
    until_ns: int = 0
    tail: int | None = None
    follow: bool = False

    def wants(self, record: LogRecord) -> bool:
        """Whether the record's stream and time fit."""
        is_wanted = self.stdout if record.stream == "stdout" else self.stderr
        return is_wanted and record.time_ns >= self.since_ns and not self.is_past(record)

    def is_past(self, record: LogRecord) -> bool:
        """Whether it is later than all that is wanted."""
        return 0 < self.until_ns < record.time_ns


def parse(line: bytes) -> LogRecord | None:
    """One line of the file, without its newline; None for what is no record (a line cut by a crash, say)."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    try:
        time_ns = base.parse_time(match[1].decode())
    except errors.Invalid:
        return None
    end = b"\n" if match[3] == b"F" else b""
    return LogRecord(match[2].decode(), time_ns, match[4] + end)


def files(folder: Path) -> list[Path]:
    """The log's files, the oldest first."""
    numbered = [
        (int(path.name.rpartition(".")[2]), path)
        for path in folder.glob(f"{LOG_NAME}.*")
        if path.name.rpartition(".")[2].isdigit()
    ]
    current = folder / LOG_NAME
    return [path for _, path in sorted(numbered, reverse=True)] + ([current] if current.exists() else [])


def rotate(folder: Path, keep: int) -> None:
    """Make room for a new file, keeping `keep` in all; blocks. Whoever writes has to be told to open it afresh."""
    for path in files(folder)[::-1]:
        number = 0 if path.name == LOG_NAME else int(path.name.rpartition(".")[2])
        # The file that is written to goes last of all, and only by a rename: its last lines are still to come.
        if number and number >= keep - 1:
            path.unlink(missing_ok=True)
    for path in files(folder):
        number = 0 if path.name == LOG_NAME else int(path.name.rpartition(".")[2])
        path.rename(folder / f"{LOG_NAME}.{number + 1}")


class LogReader:
    """Reads a log's files forward, from wherever it stands, across rotations.

    It holds every file open that it has begun, so that a rotated file is read to its end, and a file's number can't be
    taken for that of another.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, _File] = {}

    def skip(self, count: int, query: Query) -> list[LogRecord]:
        """Go to the end; the records of the last `count` lines that `query` wants. Blocks."""
        listed = self._refresh()
        ends = [(file.descriptor, _line_end(file.descriptor)) for file in listed]
        records = _tail(ends, count, query)
        for file, (_, end) in zip(listed, ends, strict=True):
            os.lseek(file.descriptor, end, os.SEEK_SET)
        return records

    def batches(self) -> Iterator[list[LogRecord]]:
        """What is there and wasn't read yet, some records at a time."""
        listed = self._refresh()
        gone = [file for file in self._files.values() if file not in listed]
        for file in gone + listed:
            while (lines := file.lines()) is not None:
                yield [record for line in lines if (record := parse(line)) is not None]
        for file in gone:
            file.close()
            del self._files[file.inode]

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _refresh(self) -> list[_File]:
        # Opened by name while somebody may be renaming: right when the names still mean the same afterwards.
        for _ in range(_SNAPSHOT_ATTEMPTS):
            listed = []
            for path in files(self._folder):
                with suppress(FileNotFoundError):
                    listed.append(self._open(path))
            if [file.inode for file in listed] == _inodes(files(self._folder)):
                break
        return listed

    def _open(self, path: Path) -> _File:
        file = _File(path)
        if file.inode in self._files:
            file.close()
            return self._files[file.inode]
        self._files[file.inode] = file
        return file


class _File:
    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.inode = os.fstat(self.descriptor).st_ino
        self._rest = b""

    def lines(self) -> list[bytes] | None:
        """Some more whole lines; None at the end of the file."""
        data = os.read(self.descriptor, _BLOCK)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def close(self) -> None:
        os.close(self.descriptor)


def _inodes(paths: Sequence[Path]) -> list[int]:
    result = []
    for path in paths:
        with suppress(FileNotFoundError):
            result.append(path.stat().st_ino)
    return result


def _tail(ends: Sequence[tuple[int, int]], count: int, query: Query) -> list[LogRecord]:
    found: list[LogRecord] = []
    lines = 0
    seen: set[str] = set()
    for line in (line for descriptor, end in reversed(ends) for line in _backwards(descriptor, end)):
        record = parse(line)
        if record is None or not query.wants(record):
            continue
        # Going backwards, a record that ends a line begins another one; so does a piece after which none came.
        if record.data.endswith(b"\n") or record.stream not in seen:
            lines += 1
            if lines > count:
                break
        seen.add(record.stream)
        found.append(record)
    return found[::-1]


def _backwards(descriptor: int, end: int) -> Iterator[bytes]:
    rest = b""
    while end > 0:
        start = max(0, end - _BLOCK)
        first, *lines = (os.pread(descriptor, end - start, start) + rest).split(b"\n")
        yield from (line for line in reversed(lines) if line)
        rest, end = first, start
    if rest:
        yield rest


def _line_end(descriptor: int) -> int:
    """Where the last whole line ends."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - _BLOCK)
    return start + os.pread(descriptor, size - start, start).rfind(b"\n") + 1


async def read(
    folder: Path, query: Query, is_over: Callable[[], bool], wake: asyncio.Event
) -> AsyncIterator[LogRecord]:
    """The records that `query` wants; with `follow` until `is_over()`, which is asked again when `wake` is set."""
    reader = LogReader(folder)
    watch = syscalls.Inotify() if query.follow else None
    try:
        if watch is not None:
            watch.watch(folder, syscalls.IN_MODIFY | syscalls.IN_MOVED_TO | syscalls.IN_CREATE)
        if query.tail is not None:
            for record in await _to_its_end(asyncio.to_thread(reader.skip, query.tail, query)):
                yield record
        while True:
            was_over = is_over()
            for batch in reader.batches():
                for record in batch:
                    if query.wants(record):
                        yield record
                # A large log must not keep the loop for itself.
                await asyncio.sleep(0)
            if watch is None or was_over or not await _news(watch, wake, query.until_ns):
                return
    finally:
        reader.close()
        if watch is not None:
            watch.close()


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await a thread, and not leave it when cancelled: it reads descriptors that are closed afterwards."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    finally:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # the caller's, if it is still there; marked as seen


async def _news(watch: syscalls.Inotify, wake: asyncio.Event, until_ns: int) -> bool:
    """Wait for something new; False when the time `until_ns` has come."""
    loop = asyncio.get_running_loop()
    left_s = (until_ns - time.time_ns()) / base.SECOND if until_ns else None
    loop.add_reader(watch.fileno(), wake.set)
    try:
        async with asyncio.timeout(left_s):
            await wake.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(watch.fileno())
    wake.clear()
    for _ in watch.read():
        continue
    return True


def stamp(records: Sequence[LogRecord], begun: dict[str, bool]) -> list[LogRecord]:
    """`records` with the time before each line; `begun` remembers by stream whether a line is being continued."""
    stamped = []
    for record in records:
        data = record.data
        if not begun.get(record.stream):
            data = base.format_time(record.time_ns).encode() + b" " + data
        begun[record.stream] = not record.data.endswith(b"\n")
        stamped.append(LogRecord(record.stream, record.time_ns, data))
    return stamped
