"""Parses texts in a child process while this one imports what checking them needs.

Reading YAML takes as long as importing pydantic and building the models: side by side both are there at once. The child
gives plain data, which is all that a correct manifest is needed for; a text with anything wrong in it is left to the
parent, which parses it again and finds the places. So is everything where a second processor or a second process is
not to be had: what comes out is the same.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import pickle
import struct
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import Any

Built = tuple[int, int, Any]
"""A document: line and column where it begins, from 1, and its value."""

_WORTH_IT = 50_000
"""Characters; fewer are parsed in less time than a child takes to start."""
_LENGTH = struct.Struct("=q")


class Ahead:
    """What a child parses; this one parses nothing."""

    def take(self, digest: str) -> list[Built] | None:
        """The documents of the text of this digest; None where its reader has to parse it."""
        return None


class _Child(Ahead):
    """A child at work. It writes values into a file in memory, and their lengths, in order, into a pipe."""

    def __init__(self, process_id: int, digests: list[str], lengths: int, values: int) -> None:
        self.process_id = process_id
        self._waiting = digests[::-1]
        self._lengths = lengths
        self._values = values
        self._offset = 0
        self._spans: dict[str, tuple[int, int]] = {}

    def take(self, digest: str) -> list[Built] | None:
        while digest not in self._spans and self._waiting:
            self._next()
        offset, length = self._spans.get(digest, (0, 0))
        return _decoded(os.pread(self._values, length, offset)) if length else None

    def _next(self) -> None:
        data = os.read(self._lengths, _LENGTH.size)
        if len(data) < _LENGTH.size:  # it died; a pipe never cuts so few bytes
            self._waiting.clear()
            return
        (length,) = _LENGTH.unpack(data)
        self._spans[self._waiting.pop()] = self._offset, length
        self._offset += length


@contextlib.contextmanager
def parsing(texts: Mapping[str, str], with_places: Collection[str] = ()) -> Iterator[Ahead]:
    """Parse these texts, by their digests, in a child, if that is worth it. It ends with the context.

    Of the texts `with_places` each value is a pair, with the places of its entries (`construct.entry_places`).
    """
    if sum(map(len, texts.values())) < _WORTH_IT or not _may_fork():
        yield Ahead()
        return
    lengths, lengths_in = os.pipe()
    values = os.memfd_create("gitops-manifests")
    process_id = os.fork()
    if process_id == 0:
        with contextlib.suppress(BaseException):
            os.close(lengths)
            _work(texts, with_places, lengths_in, values)
        os._exit(0)
    os.close(lengths_in)
    try:
        yield _Child(process_id, list(texts), lengths, values)
    finally:
        # Closed first: a child that goes on gets an error, and ends.
        os.close(lengths)
        os.close(values)
        os.waitpid(process_id, 0)


def _may_fork() -> bool:
    """Whether there is another processor, and no thread that a child would lack."""
    is_alone = threading.active_count() == 1 and threading.current_thread() is threading.main_thread()
    return is_alone and len(os.sched_getaffinity(0)) > 1


# In the child


def _work(texts: Mapping[str, str], with_places: Collection[str], lengths: int, values: int) -> None:
    from gitops.manifests.text import construct, graph

    for digest, text in texts.items():
        data = b""
        with contextlib.suppress(graph.TextProblem, ValueError, RecursionError):
            built = []
            for root in graph.compose(text):
                builder = construct.Builder()
                value = builder.build(root)
                if builder.problems:
                    raise ValueError("the parent is to find the place")
                if digest in with_places:
                    value = value, construct.entry_places(root)
                built.append((root.start_mark.line + 1, root.start_mark.column + 1, value))
            data = _encoded(built)
        os.write(values, data)
        os.write(lengths, _LENGTH.pack(len(data)))


def _encoded(built: list[Built]) -> bytes:
    try:
        return b"m" + marshal.dumps(built)
    except ValueError:  # numbers that keep their spelling are no plain ones
        return b"p" + pickle.dumps(built, protocol=pickle.HIGHEST_PROTOCOL)


def _decoded(data: bytes) -> list[Built]:
    found: list[Built] = marshal.loads(data[1:]) if data[:1] == b"m" else pickle.loads(data[1:])
    return found
