"""What is sent back: JSON objects, empty answers, and streams that are flushed item by item."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gitops.objects import base

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
STREAM = web.RequestKey("stream", web.StreamResponse)
"""The stream that was begun for a request: from then on errors can't become answers of their own."""
_STREAM_CODES = {"stdin": 0, "stdout": 1, "stderr": 2, "error": 3}


def json(value: Any, status: int = 200) -> web.Response:
    """An object or list as JSON."""
    return web.Response(body=base.to_json(value) + b"\n", status=status, content_type="application/json")


def empty(status: int = 204) -> web.Response:
    """No content; 200 and 201 have an empty body."""
    return web.Response(status=status)


def error(status: int, message: str) -> web.Response:
    """An error as every client of the API knows it."""
    return json({"message": message}, status)


def line(value: Any) -> bytes:
    """An object as a line of JSON."""
    return base.to_json(value) + b"\n"


def frame(stream: str, data: bytes) -> bytes:
    """A piece of output in a multiplexed stream."""
    return bytes((_STREAM_CODES[stream], 0, 0, 0)) + len(data).to_bytes(4, "big") + data


async def open_stream(request: web.Request, content_type: str) -> web.StreamResponse:
    """Send the headers at once, since clients wait for them before they go on; the caller writes."""
    response = web.StreamResponse(headers={"Content-Type": content_type})
    response.enable_chunked_encoding()
    await response.prepare(request)
    request[STREAM] = response
    return response
