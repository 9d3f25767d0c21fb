"""The networks that every host has of its own: a service that joins one means it by an id of the swarm's.

A listing shows only the host's own `host` and `bridge`, with ids that a service can't name; the swarm's are found by
asking for them.
"""

from __future__ import annotations

import asyncio

from gitops import client as clients
from gitops import errors
from gitops.objects.network import NetworkResource

NAMES = ("bridge", "host")


async def networks(client: clients.EngineClient) -> list[NetworkResource]:
    """All networks of the engine, those of every host as the swarm knows them.

    Raises:
        errors.Unavailable: the engine can't be reached.
    """
    found, own = await asyncio.gather(client.networks(), asyncio.gather(*(_of_swarm(client, name) for name in NAMES)))
    known = {item.name: item for item in own if item is not None}
    return [known.get(item.name, item) for item in found]


async def _of_swarm(client: clients.EngineClient, name: str) -> NetworkResource | None:
    try:
        return await client.network(name, scope="swarm")
    except errors.NotFound:
        return None
