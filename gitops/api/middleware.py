"""What holds for every answer: headers, the API's version, errors, one line in the log.

The log never holds a body, a header or a query: these carry secrets.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import platform
import time
from collections.abc import Coroutine
from typing import Any

from aiohttp import http_exceptions, web

import gitops
from gitops import config, errors
from gitops.api import answers, requests, statuses
from gitops.api.context import SWARM, Handler, is_stream

log = logging.getLogger("gitops.api")
access = logging.getLogger("gitops.api.access")

_QUIET = frozenset({"GET", "HEAD"})
_BODY_S = 60.0
"""For all of a JSON body, of 8 MB at most."""


def headers() -> dict[str, str]:
    """Sent with every answer, errors included: clients negotiate by them."""
    return {
        "Api-Version": config.API_VERSION,
        "Docker-Experimental": "false",
        "Ostype": "linux",
        "Server": f"Docker/{gitops.__version__} ({platform.system().lower()})",
    }


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal handler: runs just before an answer's head is sent, whatever made it."""
    response.headers.update(headers())


def swarm_header(app: web.Application) -> str:
    """The node's place in a swarm, as the CLI wants it in `_ping`."""
    node = app[SWARM]
    return "active/manager" if node.state == "active" else node.state


class Actions:
    """Requests that must run to their end although their client has gone; the server waits for them at its end."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, web.StreamResponse]) -> web.StreamResponse:
        """The result of `work`; being cancelled leaves it running."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def close(self, timeout_s: float) -> None:
        """Wait for what runs; after `timeout_s` it is cancelled."""
        if not self._running:
            return
        _, late = await asyncio.wait(self._running, timeout=timeout_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


ACTIONS: web.AppKey[Actions] = web.AppKey("actions")


@web.middleware
async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log the request, check the version, run the handler, turn errors into answers."""
    started = time.monotonic()
    try:
        response = await _handled(request, handler)
    except asyncio.CancelledError:
        _log(request, "gone", started)
        raise
    _log(request, response.status, started)
    return response


async def _handled(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        _check_caller(request)
        _check_version(request.match_info.get("version", ""))
        if is_stream(request.match_info.handler):
            return await _streamed(request, handler)
        await _receive(request)
        return await request.app[ACTIONS].run(_quiet(request, handler))
    except errors.GitopsError as error:
        return _refused(request, error)
    except web.HTTPException as error:
        return _http_error(error)
    except ConnectionError:
        # The client went away in the middle of a stream: nobody is left to be told.
        raise asyncio.CancelledError from None
    except Exception as error:
        return _failed(request, error)


async def _receive(request: web.Request) -> None:
    """Wait for the JSON body before the action begins: here a client that is slow, or leaves, holds nobody up."""
    if not request.can_read_body or request.content_type not in requests.JSON_TYPES:
        return
    try:
        async with asyncio.timeout(_BODY_S):
            await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason=f"the request's body did not come within {_BODY_S:.0f} s") from None


class Terse(logging.Filter):
    """What is no HTTP gets one line without a word of it: no traceback, and nothing that may be a secret."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, http_exceptions.HttpProcessingError):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "a request can't be read: %s", (type(error).__name__,)
            record.exc_info = record.exc_text = None
        return True


async def _streamed(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (errors.GitopsError, OSError, ValueError, RuntimeError, LookupError, TypeError) as error:
        begun: web.StreamResponse | None = request.get(answers.STREAM)
        if begun is None or isinstance(error, ConnectionError):
            raise
        # The head is sent: all that is left is to break the stream off, which clients take for a failure.
        log.warning("%s %s broke off: %s", request.method, request.path, error, exc_info=not _is_ours(error))
        if request.transport is not None:
            request.transport.abort()
        return begun


def _is_ours(error: BaseException) -> bool:
    return isinstance(error, errors.GitopsError)


async def _quiet(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors inside the shielded task become answers there: once its client is gone nobody would fetch them."""
    try:
        return await handler(request)
    except errors.GitopsError as error:
        return _refused(request, error)
    except web.HTTPException as error:
        return _http_error(error)
    except Exception as error:
        return _failed(request, error)


def _failed(request: web.Request, error: Exception) -> web.StreamResponse:
    if isinstance(error, RecursionError):
        # Nothing of ours nests so deep: it is what the client sent.
        return answers.error(400, "invalid JSON: it is nested too deeply")
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return answers.error(500, f"{type(error).__name__}: {error}")


def _refused(request: web.Request, error: errors.GitopsError) -> web.StreamResponse:
    status = statuses.status_of(error)
    # Writers that come second read again and retry: that is how the API works, not a failure.
    if status == 500 and not isinstance(error, errors.OutOfSequence):
        log.warning("%s %s: %s", request.method, request.path, error)
    return answers.error(status, statuses.message_of(error))


def _http_error(error: web.HTTPException) -> web.Response:
    if error.status in (404, 405):
        return answers.error(404, "page not found")
    if error.status == 413:
        return answers.error(413, "the request's body is too large")
    return answers.error(error.status, error.reason)


def _check_caller(request: web.Request) -> None:
    """Keep web pages from a port without TLS, which any page's browser on this host can reach.

    Browsers send `Origin` with all that changes something; what they read they ask for under the page's own name, which
    its owner may point to loopback.
    """
    address = request.transport.get_extra_info("sockname") if request.transport is not None else None
    if not isinstance(address, tuple):
        return  # a unix socket, also the one that TLS ends in
    if "Origin" in request.headers:
        raise errors.Denied("requests of web pages are refused on a port without TLS")
    if ipaddress.ip_address(address[0]).is_loopback and not _is_local(request.host):
        raise errors.Denied(f"{request.host[:100]!r} is refused as a name of this host on a port without TLS")


def _is_local(host: str) -> bool:
    name = host.rpartition("]")[0].strip("[") if host.startswith("[") else host.partition(":")[0]
    if name.lower() in ("", "localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_version(text: str) -> None:
    if not text:
        return
    asked = _numbers(text)
    if asked > _numbers(config.API_VERSION):
        raise errors.Invalid(f"client version {text} is too new. Maximum supported API version is {config.API_VERSION}")
    if asked < _numbers(config.MIN_API_VERSION):
        raise errors.Invalid(
            f"client version {text} is too old. Minimum supported API version is {config.MIN_API_VERSION}, "
            "please upgrade your client to a newer version"
        )


def _numbers(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _log(request: web.Request, status: int | str, started: float) -> None:
    level = logging.DEBUG if request.method in _QUIET and isinstance(status, int) and status < 500 else logging.INFO
    access.log(
        level, "%s %s status=%s ms=%.1f", request.method, request.path, status, (time.monotonic() - started) * 1000
    )
