"""A store in memory, a control API over it, and a clock that moves when told."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from gitops.objects.node import Cluster
from gitops.objects.service import (
    ContainerSpec,
    EndpointSpec,
    NetworkAttachmentConfig,
    PortConfig,
    Replicated,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
)
from gitops.objects.task import Task, TaskState
from gitops.simulation.clock import VirtualClock
from gitops.swarm.clock import IdSource
from gitops.swarm.manager.allocation import Allocation
from gitops.swarm.manager.control import Control
from gitops.swarm.scheduling.tasks import new_task
from gitops.swarm.store.memory import MemoryStore


@dataclass
class Swarm:
    """What the tests work on."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    last: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.ids = IdSource(random.Random(7))
        self.control = Control(self.store, self.clock, self.ids)

    def spec(
        self,
        name: str = "web",
        *,
        image: str = "tu-demo:v1",
        replicas: int = 1,
        ports: tuple[PortConfig, ...] = (),
        networks: tuple[str, ...] = (),
        **fields: Any,
    ) -> ServiceSpec:
        """A small service's spec; further fields are those of its container."""
        return ServiceSpec(
            name=name,
            mode=ServiceMode(replicated=Replicated(replicas=replicas)),
            task_template=TaskSpec(
                container_spec=ContainerSpec(image=image, **fields),
                networks=[NetworkAttachmentConfig(target=target) for target in networks],
            ),
            endpoint_spec=EndpointSpec(ports=list(ports)) if ports else None,
        )

    async def open(self, **fields: Any) -> Cluster:
        """Make the cluster object."""
        return await self.store.update(lambda tx: tx.create(Cluster(id="cluster", **fields)))

    async def add_task(self, service: Service, slot: int = 1, **fields: Any) -> Task:
        """A new task of a service, as its orchestrator makes it."""
        task = new_task(service, slot, self.ids(), TaskState.RUNNING, self.clock.now_ns())
        return await self.store.update(lambda tx: tx.create(replace(task, **fields)))

    async def change(self, item: Any, **fields: Any) -> Any:
        """Set fields of the stored object."""

        def change(tx: Any) -> Any:
            return tx.update(replace(tx.get(type(item), item.id), **fields))

        return await self.store.update(change)

    async def set_state(self, task: Task, state: TaskState) -> Task:
        """Move a task's observed state."""
        stored = self.store.view().get(Task, task.id)
        assert stored is not None
        return await self.change(task, status=replace(stored.status, state=state))  # type: ignore[no-any-return]

    async def allocate(self) -> None:
        """One pass of the allocator."""
        await self.store.update(lambda tx: Allocation(tx, self.clock.now_ns(), self.last).run())


@pytest.fixture
def swarm() -> Swarm:
    return Swarm()
