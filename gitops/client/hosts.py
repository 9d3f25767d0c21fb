"""Calls on the engine itself, its volumes and its networks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from gitops.client import answers
from gitops.client.transport import Filters, Transport, filters_of, path_of
from gitops.objects import system
from gitops.objects.container import Event, Volume, VolumeCreate
from gitops.objects.network import NetworkCreate, NetworkResource


class _Volumes(msgspec.Struct, frozen=True, rename="pascal"):
    volumes: list[Volume] | None = None


class _NetworkCreated(msgspec.Struct, frozen=True, rename="pascal"):
    id: str = ""
    warning: str = ""


class HostCalls:
    """System, volumes, networks."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def ping(self) -> system.Ping:
        """What answers, and its place in a swarm."""
        return await self._transport.ping()

    async def version(self) -> system.EngineVersion:
        """The engine's versions."""
        return await self._transport.call("GET", "/version", system.EngineVersion)

    async def info(self) -> system.SystemInfo:
        """The engine's state."""
        return await self._transport.call("GET", "/info", system.SystemInfo)

    async def events(
        self, filters: Filters | None = None, *, since: str | None = None, until: str | None = None
    ) -> AsyncIterator[Event]:
        """Events from now on, or from `since` (seconds since the epoch, fractions allowed) to `until`."""
        query = {"filters": filters_of(filters), "since": since, "until": until}
        async for line in self._transport.lines("GET", "/events", query=query):
            yield answers.decode(line, Event)

    async def volumes(self, filters: Filters | None = None) -> list[Volume]:
        """Volumes by name."""
        answer = await self._transport.call("GET", "/volumes", _Volumes, query={"filters": filters_of(filters)})
        return answer.volumes or []

    async def volume(self, name: str) -> Volume:
        """A volume."""
        return await self._transport.call("GET", path_of("volumes", name), Volume)

    async def create_volume(self, body: VolumeCreate) -> Volume:
        """Make a volume; the one of that name where it is there."""
        return await self._transport.call("POST", "/volumes/create", Volume, body=body)

    async def remove_volume(self, name: str, *, force: bool = False) -> None:
        """Remove a volume with its data."""
        await self._transport.act("DELETE", path_of("volumes", name), query={"force": force})

    async def networks(self, filters: Filters | None = None) -> list[NetworkResource]:
        """Networks of the host and of the swarm."""
        return await self._transport.listing("/networks", answers.decoder(list[NetworkResource]), filters=filters)

    async def network(self, name_or_id: str, *, scope: str | None = None) -> NetworkResource:
        """A network; `scope` local or swarm where a name could be either's."""
        return await self._transport.call(
            "GET", path_of("networks", name_or_id), NetworkResource, query={"scope": scope}
        )

    async def create_network(self, body: NetworkCreate) -> str:
        """Make a network; its id."""
        return (await self._transport.call("POST", "/networks/create", _NetworkCreated, body=body)).id

    async def remove_network(self, name_or_id: str) -> None:
        """Remove a network that nothing uses."""
        await self._transport.act("DELETE", path_of("networks", name_or_id))
