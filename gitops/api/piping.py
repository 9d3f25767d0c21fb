"""Archives to clients: what a thread writes into a pipe is sent on at the client's pace."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import BinaryIO

from aiohttp import web

from gitops.api import answers

_TAR = "application/x-tar"
_PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class Source:
    """The reading end of a pipe."""

    reader: asyncio.StreamReader
    transport: asyncio.ReadTransport


def pipe() -> tuple[int, BinaryIO]:
    """The reading end of a pipe, and the writing end as a file."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    return reader, os.fdopen(writer, "wb", _PIECE)


@asynccontextmanager
async def reading(descriptor: int) -> AsyncIterator[Source]:
    """The pipe, read in the event loop until the block ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_PIECE)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    with closing(transport):
        yield Source(reader, transport)


async def send(
    request: web.Request,
    source: Source,
    done: Future[None] | asyncio.Future[None],
    headers: dict[str, str] | None = None,
) -> web.StreamResponse:
    """Send a tar that is whole when `done` is; where that fails, the connection is broken off."""
    try:
        response = web.StreamResponse(headers={"Content-Type": _TAR, **(headers or {})})
        response.enable_chunked_encoding()
        await response.prepare(request)
        request[answers.STREAM] = response
        while piece := await source.reader.read(_PIECE):
            await response.write(piece)
    finally:
        # Before the writer is waited for: it ends when nobody reads.
        source.transport.close()
    # Without its end the archive must not look whole.
    await (done if isinstance(done, asyncio.Future) else asyncio.wrap_future(done))
    await response.write_eof()
    return response
