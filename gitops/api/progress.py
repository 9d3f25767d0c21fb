"""The stream of a pull or load: work that reports, and a client that reads at its own pace.

The first line decides between a plain error and one inside the stream. A client that goes away ends the work.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from aiohttp import web

from gitops import errors
from gitops.api import answers
from gitops.objects import base
from gitops.objects.image import ErrorDetail, Progress

log = logging.getLogger(__name__)

Report = Callable[[Progress], None]
Work = Callable[[Report], Awaitable[None]]
_BACKLOG = 512
"""Lines that may wait; above it, those that only count bytes are dropped, since the next one says it better."""


class _Lines:
    """A queue whose writer never waits."""

    def __init__(self) -> None:
        self._lines: deque[Progress] = deque()
        self._wake = asyncio.Event()

    def put(self, line: Progress) -> None:
        """Called by the work, in the event loop's thread."""
        if len(self._lines) >= _BACKLOG and line.progress_detail is not None:
            return
        self._lines.append(line)
        self._wake.set()

    def end(self, _: object = None) -> None:
        """Wake the reader for the last time."""
        self._wake.set()

    def take(self) -> bytes:
        """Everything that waits, as the bytes of the stream."""
        self._wake.clear()
        data = b"".join(base.to_json(line) + b"\r\n" for line in self._lines)
        self._lines.clear()
        return data

    async def wait(self) -> None:
        """Until there is something, or the end."""
        await self._wake.wait()


async def answer(request: web.Request, work: Work) -> web.StreamResponse:
    """Run `work` and stream what it reports."""
    lines = _Lines()
    task = asyncio.ensure_future(work(lines.put))
    task.add_done_callback(lines.end)
    response: web.StreamResponse | None = None
    try:
        while True:
            await lines.wait()
            data = lines.take()
            if response is None and (data or not task.done()):
                response = await answers.open_stream(request, "application/json")
            if data and response is not None:
                await response.write(data)
            if task.done():
                return await _finish(request, task, response, lines)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _finish(
    request: web.Request, task: asyncio.Future[None], response: web.StreamResponse | None, lines: _Lines
) -> web.StreamResponse:
    error = task.exception()
    if response is None:
        if error is not None:
            raise error
        response = await answers.open_stream(request, "application/json")
    await response.write(lines.take())
    if error is not None:
        await response.write(_in_band(error))
    await response.write_eof()
    return response


def _in_band(error: BaseException) -> bytes:
    if not isinstance(error, errors.GitopsError):
        log.error("a stream of progress broke", exc_info=error)
    text = str(error) or type(error).__name__
    return base.to_json(Progress(error_detail=ErrorDetail(text), error=text)) + b"\r\n"
