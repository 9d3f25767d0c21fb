"""The engine as an object with typed calls."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from gitops.client import endpoint
from gitops.client.containers import ContainerCalls
from gitops.client.hosts import HostCalls
from gitops.client.images import ImageCalls
from gitops.client.swarm import SwarmCalls
from gitops.client.transport import Transport


class EngineClient(HostCalls, ImageCalls, ContainerCalls, SwarmCalls):
    """All calls on one engine. An async context manager: entering it connects and settles on an API version.

    Every call raises errors of `gitops.errors` only: NotFound, Conflict, OutOfSequence, Invalid, Denied, Unavailable,
    NotInSwarm, Unsupported, RuntimeFailure.
    """

    @property
    def host(self) -> str:
        """The endpoint, as it was given."""
        return self._transport.endpoint.host

    def keep_listings(self) -> None:
        """From now on keep the last answer of each listing: for who asks again and again and compares identities."""
        self._transport.keep_listings()

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()


def connect(host: str | None = None) -> EngineClient:
    """A client of the engine on `host` (see `endpoint.resolve`), else on GITOPS_HOST, else of the built-in one.

    Raises:
        errors.Invalid, errors.NotFound, errors.Unsupported: not an address that can be used.
    """
    return EngineClient(Transport(endpoint.resolve(host)))
