"""Archives of clients: kept in a file while they are worked on, since a client may be slow, and some are read twice."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from gitops import errors

_BLOCK = 2**20


@asynccontextmanager
async def spooled(request: web.Request, root: Path) -> AsyncIterator[Path]:
    """The request's body as a file in a directory of its own below `root`, gone afterwards.

    Raises:
        errors.Invalid: there is no body. errors.RuntimeFailure: it can't be kept.
    """
    await asyncio.to_thread(root.mkdir, mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as directory:
        path = Path(directory) / "archive.tar"
        await _receive(request, path)
        yield path


async def _receive(request: web.Request, path: Path) -> None:
    with path.open("wb") as file:
        async for block in request.content.iter_chunked(_BLOCK):
            try:
                await asyncio.to_thread(file.write, block)
            except OSError as error:
                raise errors.RuntimeFailure(f"the archive can't be kept in {path.parent}: {error.strerror}") from error
    if not path.stat().st_size:
        raise errors.Invalid("the archive is empty")
