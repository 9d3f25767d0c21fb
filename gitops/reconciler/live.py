"""A picture of the live state: all that the swarm holds, and the images that were asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gitops import client as clients
from gitops import errors
from gitops.manifests import canonical
from gitops.objects import labels
from gitops.objects.container import Volume
from gitops.objects.image import ImageInspect
from gitops.objects.network import NetworkResource
from gitops.objects.node import Node
from gitops.objects.secret import Config, Secret
from gitops.objects.service import Service
from gitops.objects.task import Task
from gitops.reconciler import claiming, groups, predefined, pulls, record, revisions, targets


@dataclass(frozen=True, slots=True)
class Live:
    """Everything by engine name; images by the reference that was asked for."""

    services: Mapping[str, Service] = field(default_factory=dict)
    networks: Mapping[str, NetworkResource] = field(default_factory=dict)
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    configs: Mapping[str, Config] = field(default_factory=dict)
    images: Mapping[str, ImageInspect] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    tasks: tuple[Task, ...] = ()
    records: Mapping[str, record.Record] = field(default_factory=dict)
    revisions: Mapping[str, list[revisions.Revision]] = field(default_factory=dict)
    """By stack, newest first."""
    target: targets.Target = field(default_factory=targets.Target)
    supply: pulls.Supply = field(default_factory=pulls.Supply)

    @property
    def names(self) -> canonical.Names:
        """Ids to names, for canonical forms."""
        return canonical.Names(
            networks={network.id: network.name for network in self.networks.values()},
            secrets={secret.id: name for name, secret in self.secrets.items()},
            configs={config.id: name for name, config in self.configs.items()},
        )

    def owner(self, found: Mapping[str, str] | None) -> tuple[str, str, str] | None:
        """Stack, kind and name of an object of ours, by its labels; None for an object of somebody else."""
        if not found or labels.KIND not in found or labels.NAME not in found:
            return None
        return found.get(labels.STACK, ""), found[labels.KIND], found[labels.NAME]


async def read(client: clients.EngineClient, names: Iterable[str]) -> Live:
    """Read it all, and the images called `names`, in a few calls at a time.

    Raises:
        errors.NotInSwarm: the engine is in no swarm.
        errors.Unavailable: it can't be reached.
    """
    async with groups.group() as group:
        services = group.create_task(client.services())
        networks = group.create_task(predefined.networks(client))
        volumes = group.create_task(client.volumes())
        secrets = group.create_task(client.secrets())
        configs = group.create_task(client.configs())
        nodes = group.create_task(client.nodes())
        tasks = group.create_task(client.tasks())
        found = group.create_task(images(client, names))
        target = group.create_task(targets.look(client))
        supply = group.create_task(pulls.look(client))
    records = [record.parse(item) for item in configs.result() if item.spec.labels.get(labels.KIND) == "record"]
    seen = Live(
        services={item.spec.name: item for item in services.result()},
        networks={item.name: item for item in networks.result()},
        volumes={item.name: item for item in volumes.result()},
        secrets={item.spec.name: item for item in secrets.result()},
        configs={item.spec.name: item for item in configs.result()},
        images=found.result(),
        nodes=tuple(nodes.result()),
        tasks=tuple(tasks.result()),
        records={item.stack: item for item in records},
        revisions=revisions.parse(configs.result()),
        target=target.result(),
        supply=supply.result(),
    )
    return claiming.claimed(seen)


async def images(client: clients.EngineClient, names: Iterable[str]) -> dict[str, ImageInspect]:
    """The images that the engine has under these names."""
    wanted = sorted(set(names))
    found = await asyncio.gather(*(_image(client, name) for name in wanted))
    return {name: image for name, image in zip(wanted, found, strict=True) if image is not None}


async def _image(client: clients.EngineClient, name: str) -> ImageInspect | None:
    try:
        return await client.image(name)
    except errors.NotFound:
        return None
