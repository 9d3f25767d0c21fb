"""One engine, reached over HTTP: connection, version negotiation, requests, streams.

Promises: every failure is an error of `errors`; a message names the endpoint, and never a header or a body that was
sent. Leaves to the calls: paths and objects.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import yarl

from gitops import config, errors
from gitops.client import answers, ssh, streams, tlsfiles
from gitops.client.endpoint import Endpoint
from gitops.objects import base, system
from gitops.objects.image import AuthConfig

T = TypeVar("T")
Query = Mapping[str, str | int | bool | None]
Filters = Mapping[str, Sequence[str]]

OLDEST_API = (1, 40)
"""Configs, `status=true` and start-first rollouts are all there from here on."""
_CONNECT_S = 30.0
_CALL = aiohttp.ClientTimeout(total=120, sock_connect=10)
_LONG = aiohttp.ClientTimeout(total=None, sock_connect=10)
_STREAM_LINE_LIMIT = 4 * 2**20
_AUTH_HEADER = "X-Registry-Auth"
_ALERT = re.compile(r"\bSSL: \w*ALERT\w*\] (?:tlsv\d+ )?(?:sslv3 )?alert ([a-z]+(?: [a-z]+)*)")


class Transport:
    """Sends requests to one engine; opened and closed by its owner."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None
        self._tunnel: ssh.Tunnel | None = None
        self._tunnel_path: Path | None = None
        self._prefix = ""
        self._listings: dict[str, answers.Listing[Any]] | None = None

    def keep_listings(self) -> None:
        """From now on keep the last answer of each listing, so that objects that are the same are made once."""
        self._listings = {}

    async def open(self) -> system.Ping:
        """Connect and settle on a version of the API.

        Raises:
            errors.Unavailable: nobody answers there. errors.Denied: the socket refuses this user.
            errors.Unsupported: the engine is too old.
        """
        self._session = aiohttp.ClientSession(
            connector=self._connector(), timeout=_CALL, headers={"User-Agent": "gitops-client"}, auto_decompress=False
        )
        try:
            ping = await self.ping()
            self._prefix = f"/v{_negotiated(ping.api_version, self.endpoint.host)}"
        except BaseException:
            await self.close()
            raise
        return ping

    def _connector(self) -> aiohttp.BaseConnector:
        if self.endpoint.remote is not None:
            self._tunnel = ssh.Tunnel(self.endpoint.remote)
            self._tunnel_path = self._tunnel.open()
            return aiohttp.UnixConnector(path=str(self._tunnel_path), limit=0)
        if self.endpoint.socket is not None:
            return aiohttp.UnixConnector(path=str(self.endpoint.socket), limit=0)
        return aiohttp.TCPConnector(
            ssl=tlsfiles.context(self.endpoint.tls) if self.endpoint.tls is not None else True, limit=0
        )

    async def close(self) -> None:
        """Close all connections; twice does no harm."""
        session, self._session = self._session, None
        tunnel, self._tunnel = self._tunnel, None
        if session is not None:
            await session.close()
        if tunnel is not None:
            await tunnel.close()

    async def ping(self) -> system.Ping:
        """Ask whether the engine is there, and what it speaks."""
        async with self._answer("GET", "/_ping", prefix="") as response:
            await response.read()
            return system.Ping(
                api_version=response.headers.get("Api-Version", ""),
                os_type=response.headers.get("Ostype", ""),
                swarm=response.headers.get("Swarm", ""),
            )

    async def call(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        query: Query | None = None,
        body: Any = None,
        auth: AuthConfig | None = None,
    ) -> T:
        """A request whose answer is one object."""
        async with self._answer(method, path, query=query, body=body, auth=auth) as response:
            return answers.decode(await response.read(), kind)

    async def read(self, method: str, path: str, *, query: Query | None = None) -> bytes:
        """A request whose answer the caller reads himself."""
        async with self._answer(method, path, query=query) as response:
            return await response.read()

    async def listing(
        self, path: str, decode_all: Callable[[bytes], list[T]], *, filters: Filters | None = None
    ) -> list[T]:
        """A request whose answer is a list of objects, of the swarm or the host, that may be asked for again."""
        query = {"filters": filters_of(filters)}
        body = await self.read("GET", path, query=query)
        if self._listings is None or filters:
            return answers.readable(decode_all, body)
        return self._listings.setdefault(path, answers.Listing()).read(body, decode_all)

    async def act(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        auth: AuthConfig | None = None,
        is_long: bool = False,
    ) -> int:
        """A request whose answer has no content that matters; the status (204, 304, …)."""
        async with self._answer(method, path, query=query, body=body, auth=auth, is_long=is_long) as response:
            await response.read()
            return response.status

    async def lines(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        data: Any = None,
        auth: AuthConfig | None = None,
    ) -> AsyncIterator[bytes]:
        """The lines of a streamed answer, without the empty ones."""
        async with self._answer(method, path, query=query, body=body, data=data, auth=auth, is_long=True) as response:
            pending = b""
            async for chunk in response.content.iter_any():
                *complete, pending = (pending + chunk).split(b"\n")
                if len(pending) > _STREAM_LINE_LIMIT:
                    raise errors.RuntimeFailure(f"{self.endpoint.host} sends a line of over {_STREAM_LINE_LIMIT} bytes")
                for line in complete:
                    if line.strip():
                        yield line
            if pending.strip():
                yield pending

    async def chunks(self, method: str, path: str, *, query: Query | None = None) -> AsyncIterator[bytes]:
        """The bytes of a streamed answer as they come."""
        async with self._answer(method, path, query=query, is_long=True) as response:
            async for chunk in response.content.iter_any():
                yield chunk

    @contextlib.asynccontextmanager
    async def hijack(
        self, method: str, path: str, *, query: Query | None = None, body: Any = None
    ) -> AsyncIterator[streams.RawStream]:
        """A request that the engine answers by handing over the connection, closed at the end of the block.

        Raises, before the block: as every call.
        """
        url = yarl.URL(self.endpoint.base_url + self._prefix + path, encoded=True).with_query(_query(query or {}))
        data = b"" if body is None else base.to_json(body)
        lines = [
            f"{method} {url.raw_path_qs} HTTP/1.1",
            f"Host: {url.raw_authority}",
            "User-Agent: gitops-client",
            "Connection: Upgrade",
            "Upgrade: tcp",
            *(["Content-Type: application/json"] if data else []),
            f"Content-Length: {len(data)}",
        ]
        head = "".join(f"{line}\r\n" for line in lines) + "\r\n"
        async with self._chained():
            stream = await self._connected()
            try:
                await stream.request(head.encode(), data)
            except (OSError, ValueError) as error:
                await stream.close()
                raise ConnectionError(str(error)) from error
            except BaseException:
                await stream.close()
                raise
        try:
            yield stream
        finally:
            await stream.close()

    async def _connected(self) -> streams.RawStream:
        """A connection of its own, past aiohttp.

        Raises:
            ConnectionError: nobody answers.
        """
        path = self._tunnel_path or self.endpoint.socket
        try:
            async with asyncio.timeout(_CONNECT_S):
                if path is not None:
                    return await streams.to_socket(path)
                url = yarl.URL(self.endpoint.base_url)
                context = tlsfiles.context(self.endpoint.tls) if self.endpoint.tls is not None else None
                return await streams.to_port(url.host or "", url.port or 0, context)
        except OSError as error:
            raise ConnectionError(str(error) or type(error).__name__) from error

    @contextlib.asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        *,
        prefix: str | None = None,
        query: Query | None = None,
        body: Any = None,
        data: Any = None,
        auth: AuthConfig | None = None,
        is_long: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise errors.Unavailable(f"the connection to {self.endpoint.host} is closed")
        headers = {} if auth is None else {_AUTH_HEADER: _encoded(auth)}
        if body is not None:
            # A file object, since aiohttp warns of large bodies in bytes: configs may have a megabyte.
            data = io.BytesIO(base.to_json(body))
            headers["Content-Type"] = "application/json"
        elif data is not None:
            headers["Content-Type"] = "application/x-tar"
        url = yarl.URL(self.endpoint.base_url + (self._prefix if prefix is None else prefix) + path, encoded=True)
        async with (
            self._chained(),
            self._session.request(
                method,
                url.with_query(_query(query)) if query else url,
                data=data,
                headers=headers,
                timeout=_LONG if is_long else _CALL,
                allow_redirects=False,
            ) as response,
        ):
            if response.status >= 400:
                raise answers.error_of(response.status, await response.read())
            yield response

    @contextlib.asynccontextmanager
    async def _chained(self) -> AsyncIterator[None]:
        host = self.endpoint.host
        try:
            yield
        except aiohttp.ClientConnectorCertificateError as error:
            raise errors.Denied(
                f"the certificate of {host} can't be trusted ({_untrusted(error.certificate_error)}): the address must "
                "be a name in it, and its authority the one in ca.pem"
            ) from error
        except aiohttp.ClientConnectorSSLError as error:
            raise errors.Unavailable(f"{host} does not take part in TLS: {_reason(error)}") from error
        except aiohttp.ClientConnectorError as error:
            cause = error.os_error
            if isinstance(cause, PermissionError):
                raise errors.Denied(
                    f"may not open {host}: run as root, or join the group that owns the socket"
                ) from error
            raise errors.Unavailable(
                f"no engine answers on {host} ({_reason(cause)}): start one with `gitops engine start`, "
                "or name another with --host or GITOPS_HOST"
            ) from error
        except TimeoutError as error:
            raise errors.Unavailable(f"the engine on {host} does not answer in time") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise await self._broken(error) from error

    async def _broken(self, error: Exception) -> errors.GitopsError:
        """What an end of the connection in the middle of a request stands for."""
        host = self.endpoint.host
        if self._tunnel is not None:
            words = await self._tunnel.failure()
            kind = errors.Denied if "Permission denied" in words else errors.Unavailable
            return kind(f"the engine on {host} can't be reached: {words}")
        alert = _ALERT.search(str(error))
        if alert is not None:
            # TLS 1.3 tells a client only after the handshake that its certificate won't do.
            return errors.Denied(
                f"the engine on {host} refuses this client's certificate ({alert[1]}): "
                "it must be of the authority that the engine trusts, and valid today"
            )
        hint = ""
        if self.endpoint.tls is not None and not self._prefix:
            # Servers that close without reading on may destroy the alert that says so.
            hint = "; it may refuse this client's certificate"
        elif self.endpoint.tls is None and self.endpoint.socket is None:
            hint = "; if it wants TLS, name your certificate's directory by GITOPS_CERT_PATH"
        return errors.Unavailable(f"the connection to the engine on {host} broke: {_reason(error)}{hint}")


def path_of(*parts: str) -> str:
    """A path of the API; names keep their slashes and colons, as the docker CLI sends them."""
    return "/" + "/".join(quote(part, safe="/:@") for part in parts)


def filters_of(filters: Filters | None) -> str | None:
    """Filters as the query has them, or None."""
    return json.dumps({key: list(values) for key, values in filters.items()}) if filters else None


def _query(query: Query) -> dict[str, str]:
    return {
        key: ("1" if value is True else str(value))
        for key, value in query.items()
        if value is not None and value is not False
    }


def _encoded(auth: AuthConfig) -> str:
    filled = {key: value for key, value in base.to_builtins(auth).items() if value}
    return base64.urlsafe_b64encode(json.dumps(filled).encode()).decode()


def _negotiated(theirs: str, host: str) -> str:
    try:
        major, minor = (int(part) for part in theirs.split("."))
    except ValueError:
        raise errors.Unsupported(f"what answers on {host} names no version of the Engine API") from None
    if (major, minor) < OLDEST_API:
        raise errors.Unsupported(
            f"the engine on {host} speaks version {theirs} of the Engine API; "
            f"{OLDEST_API[0]}.{OLDEST_API[1]} or later is needed"
        )
    ours = tuple(int(part) for part in config.API_VERSION.split("."))
    return theirs if (major, minor) < ours else config.API_VERSION


def _untrusted(error: Exception) -> str:
    return getattr(error, "verify_message", "") or str(error)


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientPayloadError):
        return "it ended in the middle of an answer"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
