"""From a caller's credentials to an Authorization header: basic, bearer tokens (anonymous or not), identity tokens.

One `Authorizer` serves one repository of one registry during one call. It learns from the registry's challenge, keeps
the token for its life and no longer, and shows credentials to the registry's host and to its token service only.
No secret appears in a message or a repr.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any
from urllib.parse import urlencode

from yarl import URL

from gitops import errors
from gitops.engine.registry import challenge as challenges
from gitops.engine.registry import endpoint, transport
from gitops.objects import image

_LIFE_S = 60.0
"""Of a token that doesn't say, by the token specification."""
_MARGIN_S = 5.0
_LIMIT = 1 << 20


class Authorizer:
    """Makes the Authorization header of requests to one repository."""

    def __init__(
        self, wire: transport.Transport, origin: endpoint.Endpoint, scope: str, auth: image.AuthConfig | None
    ) -> None:
        self._wire = wire
        self._origin = origin
        self._scope = scope
        self._auth = auth or image.AuthConfig()
        self._header: str | None = f"Bearer {self._auth.registrytoken}" if self._auth.registrytoken else None
        self._expires = float("inf")
        self._challenge: challenges.Challenge | None = None
        self._lock = asyncio.Lock()

    @property
    def has_credentials(self) -> bool:
        """Whether the caller gave any."""
        return bool(self._auth.username or self._auth.identitytoken or self._auth.registrytoken)

    async def header(self) -> str | None:
        """The header for a request now; renewed where it is about to end. None before the first challenge."""
        async with self._lock:
            if self._challenge is not None and time.monotonic() > self._expires - _MARGIN_S:
                await self._answer(self._challenge)
            return self._header

    async def answer(self, refused: str | None, headers: list[str]) -> None:
        """Make a new header after a 401 that came with the WWW-Authenticate `headers`, sent with `refused`.

        Raises:
            errors.Denied: nothing that we have will do.
            errors.Unavailable: the token service doesn't answer.
        """
        async with self._lock:
            if self._header != refused:
                return  # another request of the same pull was faster
            if self._auth.registrytoken:
                raise errors.Denied("unauthorized: the registry token was refused")
            found = challenges.choose(headers)
            if found is None:
                raise errors.Denied("unauthorized: the registry asks for no kind of authentication that is known")
            await self._answer(found)

    async def _answer(self, found: challenges.Challenge) -> None:
        if found.scheme == "basic":
            if not self._auth.username:
                raise errors.Denied("no basic auth credentials")
            basic = self._basic()
            if self._header == basic:
                raise errors.Denied("unauthorized: incorrect username or password")
            self._header = basic
            return
        self._challenge = found
        token, life_s = await self._token(found)
        self._header, self._expires = f"Bearer {token}", time.monotonic() + life_s

    def _basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self._auth.username}:{self._auth.password}".encode()).decode()

    async def _token(self, found: challenges.Challenge) -> tuple[str, float]:
        realm = self._realm(found.parameters.get("realm", ""))
        # A push begins with requests for which a registry asks less than it will in the end.
        asked = "" if self._scope.endswith(",push") else found.parameters.get("scope", "")
        fields = {"service": found.parameters.get("service", ""), "scope": asked or self._scope}
        fields = {name: value for name, value in fields.items() if value}

        async def ask() -> transport.Answer:
            origin = endpoint.Endpoint(realm.origin(), self._trust(realm))
            if self._auth.identitytoken:
                return await self._exchange_identity(origin, realm, fields)
            headers = {"Authorization": self._basic()} if self._auth.username else {}
            return await self._wire.follow("GET", origin, realm.update_query(fields), headers, limit=_LIMIT)

        answer = await self._wire.retrying(ask)
        if answer.status != 200:
            raise errors.Denied(_refusal(answer, realm))
        return _read_token(answer, realm)

    async def _exchange_identity(
        self, origin: endpoint.Endpoint, realm: URL, fields: dict[str, str]
    ) -> transport.Answer:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._auth.identitytoken,
            "client_id": "gitops",
            **fields,
        }
        return await self._wire.post(origin, realm, urlencode(form).encode(), limit=_LIMIT)

    def _realm(self, text: str) -> URL:
        try:
            realm = URL(text)
        except ValueError as error:
            raise errors.Denied("the registry names a token service that is no address") from error
        plain = self._origin.url.scheme == "http" or self._origin.trust.is_insecure
        if realm.host is None or realm.scheme not in (("http", "https") if plain else ("https",)):
            raise errors.Denied("the registry names a token service that isn't reached by https: no token is asked for")
        return realm

    def _trust(self, realm: URL) -> endpoint.Trust:
        if realm.origin() == self._origin.url.origin():
            return self._origin.trust
        return self._wire.trust_in(realm)


def _refusal(answer: transport.Answer, realm: URL) -> str:
    if answer.status in (401, 403):
        return "unauthorized: incorrect username or password"
    return f"the token service {realm.authority} answered {answer.status}"


def _read_token(answer: transport.Answer, realm: URL) -> tuple[str, float]:
    try:
        document: Any = json.loads(answer.body)
        token = document.get("token") or document.get("access_token")
        life_s = float(document.get("expires_in") or _LIFE_S)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise errors.Denied(f"the token service {realm.authority} sent no token that can be read") from error
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise errors.Denied(f"the token service {realm.authority} sent no token")
    return token, max(life_s, _MARGIN_S)
