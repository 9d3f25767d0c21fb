"""Output of containers on the wire: frames or raw bytes, with times and details where they are asked for."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from aiohttp import web

from gitops import errors
from gitops.api import answers, requests
from gitops.engine.containers.boundary import LogRecord
from gitops.objects import base


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What a client asked for."""

    stdout: bool
    stderr: bool
    follow: bool
    timestamps: bool
    details: bool
    since_ns: int
    until_ns: int
    tail: int | None
    """None for all."""


def parse(request: web.Request) -> LogQuery:
    """The query of a request for logs.

    Raises:
        errors.Invalid: no stream is chosen, or a value isn't one.
    """
    query = LogQuery(
        stdout=requests.switch(request, "stdout"),
        stderr=requests.switch(request, "stderr"),
        follow=requests.switch(request, "follow"),
        timestamps=requests.switch(request, "timestamps"),
        details=requests.switch(request, "details"),
        since_ns=requests.moment(request.query.get("since", ""), "since"),
        until_ns=requests.moment(request.query.get("until", ""), "until"),
        tail=_tail(request.query.get("tail", "")),
    )
    if not query.stdout and not query.stderr:
        raise errors.Invalid("Bad parameters: you must choose at least one stream")
    return query


def _tail(text: str) -> int | None:
    """Docker takes what is no number, and negative ones, for "all"."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


@dataclass(slots=True)
class Writer:
    """Puts records into the form of a stream. A line that came in pieces gets its prefix once."""

    query: LogQuery
    is_terminal: bool
    details: Mapping[str, str] = field(default_factory=dict)
    _unfinished: set[str] = field(default_factory=set)

    def encode(self, record: LogRecord) -> bytes:
        """The record's bytes on the wire."""
        data = record.data
        if record.stream not in self._unfinished:
            data = self._prefix(record) + data
        if record.data.endswith(b"\n"):
            self._unfinished.discard(record.stream)
        else:
            self._unfinished.add(record.stream)
        return data if self.is_terminal else answers.frame(record.stream, data)

    def _prefix(self, record: LogRecord) -> bytes:
        text = f"{base.format_time(record.time_ns)} " if self.query.timestamps else ""
        if self.query.details:
            pairs = (f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in sorted(self.details.items()))
            text += ",".join(pairs) + " "
        return text.encode()


async def send(request: web.Request, is_terminal: bool, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
    """Stream encoded pieces; an error after the head comes as a frame that the CLI reports."""
    response = await answers.open_stream(request, answers.RAW if is_terminal else answers.MULTIPLEXED)
    try:
        async for piece in pieces:
            await response.write(piece)
    except errors.GitopsError as error:
        if not is_terminal:
            await response.write(answers.frame("error", f"{error}\n".encode()))
    await response.write_eof()
    return response
