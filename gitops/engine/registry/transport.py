"""HTTP as registries need it: bodies with a limit, redirects by hand, retries, nothing kept between hosts.

Promises: `Authorization` goes to the origin that it was made for and to no other; a redirect never leads from https to
http, to a link-local address, or from elsewhere to this machine; bodies are as sent, byte for byte, so that they can be
hashed. Connection errors, 429 and 5xx are tried again with back-off. Blobs that are pulled don't pass here: workers
fetch them.
"""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from gitops import errors
from gitops.engine.registry import endpoint

Body = bytes | AsyncIterator[bytes]

REDIRECTS = 10
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=30, sock_connect=15, sock_read=60)
_AGENT = "gitops"
_REDIRECT = frozenset({301, 302, 303, 307, 308})
_AGAIN = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how fast a request is tried again; the pauses double, with jitter."""

    attempts: int = 5
    base_s: float = 0.4
    longest_s: float = 30.0
    """A registry that asks for a longer pause than this gets an error, not a wait."""

    def pause_s(self, failures: int) -> float:
        """The pause after so many failures (1, 2, …), in seconds."""
        return float(min(self.longest_s, self.base_s * 2 ** (failures - 1)) * random.uniform(0.5, 1.0))


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that was read to its end (or to its headers, where no body was wanted)."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    url: URL
    """Where it came from, after redirects."""
    trust: endpoint.Trust


class Again(errors.Unavailable):
    """A failure that another try may mend: no connection, or an answer that says so."""

    def __init__(self, message: str, *, is_answer: bool = False, after_s: float | None = None) -> None:
        """`after_s` is the pause that the registry asked for, in seconds."""
        super().__init__(message)
        self.is_answer = is_answer
        self.after_s = after_s


class TLSFailed(errors.Unavailable):
    """The peer speaks no TLS, or shows a certificate that isn't trusted."""


class Transport:
    """One pool of connections for all registries. Belongs to one event loop."""

    def __init__(self, *, find_trust: Callable[[URL], endpoint.Trust], retry: Retry | None = None) -> None:
        """`find_trust` says how far another host than the registry's, met by redirect, is trusted."""
        self.retry = retry or Retry()
        self.trust_in = find_trust
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[endpoint.Trust, ssl.SSLContext] = {}

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def follow(
        self, method: str, origin: endpoint.Endpoint, url: URL, headers: Mapping[str, str], *, limit: int
    ) -> Answer:
        """One request and its redirects; a body of at most `limit` bytes, 0 for none wanted.

        Raises:
            Again: worth another try.
            TLSFailed: see there.
            errors.Invalid: a redirect that isn't followed, a body that is too long.
        """
        trust, sent = origin.trust, dict(headers)
        for _ in range(REDIRECTS + 1):
            answer = await self._exchange(method, url, sent, trust, limit)
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECT or not location:
                return answer
            target = _join(url, location)
            await self.check_redirect(url, target, origin)
            if target.origin() != url.origin():
                sent = {name: value for name, value in sent.items() if name.lower() not in ("authorization", "cookie")}
                trust = self.trust_in(target)
            url = target
        raise errors.Invalid(f"{origin.url.authority} answered with more than {REDIRECTS} redirects")

    async def post(self, origin: endpoint.Endpoint, url: URL, form: bytes, *, limit: int) -> Answer:
        """Send a form; no redirect is followed. Raises as `follow` does."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self._exchange("POST", url, headers, origin.trust, limit, form)

    async def send(
        self, method: str, url: URL, headers: Mapping[str, str], trust: endpoint.Trust, body: Body, *, limit: int
    ) -> Answer:
        """Send a body of which `headers` say the length; no redirect is followed. Raises as `follow` does."""
        return await self._exchange(method, url, headers, trust, limit, body)

    async def retrying(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """`call`, again after `Again`, until it succeeds or the attempts are used up; then its last error."""
        failures = 0
        while True:
            try:
                return await call()
            except Again as error:
                failures += 1
                pause = self.retry.pause_s(failures) if error.after_s is None else error.after_s
                if failures >= self.retry.attempts or pause > self.retry.longest_s:
                    raise
            await asyncio.sleep(pause)

    async def _exchange(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        trust: endpoint.Trust,
        limit: int,
        data: Body | None = None,
    ) -> Answer:
        where = url.authority
        try:
            async with self._open().request(
                method, url, headers=headers, data=data, allow_redirects=False, ssl=self._context(trust)
            ) as response:
                if response.status in _AGAIN:
                    raise Again(_busy(where, response), is_answer=True, after_s=_pause_asked(response.headers))
                body = await _read(response, limit) if limit and method != "HEAD" else b""
                return Answer(response.status, response.headers, body, url, trust)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise TLSFailed(f"no trusted TLS with {where}: {_reason(error)}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Again(f"{where}: {_reason(error)}") from error

    async def check_redirect(self, source: URL, target: URL, origin: endpoint.Endpoint) -> None:
        """See that the answer from `source` may send us on to `target`.

        Raises:
            errors.Invalid: it may not.
        """
        if target.scheme not in ("http", "https") or not target.host:
            raise errors.Invalid(f"{source.authority} redirects to what is no HTTP address")
        if source.scheme == "https" and target.scheme == "http":
            raise errors.Invalid(f"{source.authority} redirects from https to http ({target.authority}): not followed")
        at_home = endpoint.is_loopback(origin.url.host or "")
        for address in await _addresses(target):
            if address.is_link_local or (address.is_loopback and not at_home):
                raise errors.Invalid(f"{source.authority} redirects to {target.authority} ({address}): not followed")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=_TIMEOUT,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"},
            )
        return self._session

    def _context(self, trust: endpoint.Trust) -> ssl.SSLContext:
        if trust not in self._contexts:
            self._contexts[trust] = trust.context()
        return self._contexts[trust]


def _join(url: URL, location: str) -> URL:
    # Signed addresses must arrive as they were signed: no decoding and encoding again.
    try:
        return url.join(URL(location, encoded=True))
    except ValueError as error:
        raise errors.Invalid(f"{url.authority} redirects to what is no address") from error


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            response.close()
            raise errors.Invalid(f"{response.url.authority} sent more than the {limit} bytes that are allowed here")
    return b"".join(pieces)


async def _addresses(url: URL) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Again(f"{url.authority}: {error.strerror or error}") from error
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _busy(where: str, response: aiohttp.ClientResponse) -> str:
    text = f"{where} answered {response.status}"
    if response.status == 429:
        limit, left = (response.headers.get(f"ratelimit-{name}", "") for name in ("limit", "remaining"))
        text += " (too many requests" + (f", limit {limit[:50]}" if limit else "")
        text += (f", remaining {left[:50]}" if left else "") + ")"
    return text


def _pause_asked(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header: a number or a date."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _reason(error: BaseException) -> str:
    """What went wrong below, in few words; never an address with a query, which may be a signed one."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error)
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer was cut off"
    return str(error) or type(error).__name__
