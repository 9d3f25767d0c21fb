"""A container's own streams: attach, over a taken connection or a web socket, and the size of its terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import WSMsgType, web

from gitops import errors
from gitops.api import answers, detaching, hijack, requests
from gitops.api.context import engine_of, stream
from gitops.engine.containers import ContainerService
from gitops.engine.containers.streams import Attachment

_SETTLE_S = 0.01
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@stream
async def attach(request: web.Request) -> web.StreamResponse:
    """What was written before (`logs`), then (`stream`) what comes, and the client's input."""
    containers = engine_of(request).containers
    name = request.match_info["container"]
    config = containers.get(name).config
    keys = detaching.parse(request.query.get("detachKeys", ""))
    attachment = _attachment(request, containers, name)
    try:
        async with hijack.Connection(request, hijack.content_type(is_terminal=config.tty)) as connection:
            if requests.switch(request, "logs"):
                await _replay(request, connection, containers, is_terminal=config.tty)
            if attachment is not None:
                await hijack.converse(
                    connection,
                    attachment,
                    is_terminal=config.tty,
                    has_input=requests.switch(request, "stdin") and config.open_stdin,
                    keys=keys,
                )
        return connection.answer
    finally:
        if attachment is not None:
            attachment.leave()


def _attachment(request: web.Request, containers: ContainerService, name: str) -> Attachment | None:
    """None where the client wants nothing but what was written before."""
    if not requests.switch(request, "stream"):
        return None
    return containers.attaching.attach(
        name, stdout=requests.switch(request, "stdout"), stderr=requests.switch(request, "stderr")
    )


async def _replay(
    request: web.Request, connection: hijack.Connection, containers: ContainerService, *, is_terminal: bool
) -> None:
    # Some clients read the headers through a buffer that they throw away then: what came together with them is lost.
    await asyncio.sleep(_SETTLE_S)
    records = containers.logs(
        request.match_info["container"],
        stdout=requests.switch(request, "stdout"),
        stderr=requests.switch(request, "stderr"),
    )
    async for record in records:
        await connection.write(hijack.encode([(record.stream, record.data)], is_terminal=is_terminal))


@stream
async def attach_by_websocket(request: web.Request) -> web.StreamResponse:
    """The same in a web socket: output as binary messages without frames, input as messages of any kind."""
    containers = engine_of(request).containers
    name = request.match_info["container"]
    config = containers.get(name).config
    attachment = _attachment(request, containers, name)
    if attachment is None:
        raise errors.Invalid("attaching by web socket needs stream=1")
    socket = web.WebSocketResponse()
    has_input = requests.switch(request, "stdin") and config.open_stdin
    receiving = None
    try:
        await socket.prepare(request)
        request[answers.STREAM] = socket
        receiving = asyncio.create_task(_receive(socket, attachment, has_input=has_input))
        while pieces := await attachment.outlet.take():
            await socket.send_bytes(hijack.encode(pieces, is_terminal=True))
        await socket.close()
        return socket
    finally:
        if receiving is not None:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
        attachment.leave()


async def _receive(socket: web.WebSocketResponse, attachment: Attachment, *, has_input: bool) -> None:
    # Read in any case: the client's pings and its farewell come this way.
    async for message in socket:
        if has_input and message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            data = message.data.encode() if isinstance(message.data, str) else message.data
            has_input = await attachment.write(data)
    if has_input:
        await attachment.close_input()
    attachment.outlet.end()


async def resize(request: web.Request) -> web.Response:
    """`h` and `w` in characters."""
    height, width = size(request)
    engine_of(request).containers.attaching.resize(request.match_info["container"], height, width)
    return answers.empty(200)


def size(request: web.Request) -> tuple[int, int]:
    """Height and width of the query.

    Raises:
        errors.Invalid: they aren't there, or can't be.
    """
    height, width = requests.number(request, "h"), requests.number(request, "w")
    if height is None or width is None or not 0 <= height < 65536 or not 0 <= width < 65536:
        raise errors.Invalid("invalid size of a terminal: h and w are wanted, between 0 and 65535")
    return height, width


ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/containers/{container}/attach", attach),
    ("GET", "/containers/{container}/attach/ws", attach_by_websocket),
    ("POST", "/containers/{container}/resize", resize),
]
