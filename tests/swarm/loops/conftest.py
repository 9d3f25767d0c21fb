"""A store, a clock that moves when told, and nodes that do as they are told: what every loop is tested in."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from gitops.objects import base
from gitops.objects.base import Version
from gitops.objects.node import Cluster, Node, NodeDescription, NodeSpec, NodeStatus
from gitops.objects.service import (
    ContainerSpec,
    JobStatus,
    Placement,
    Replicated,
    RestartPolicy,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
    UpdateStatus,
)
from gitops.objects.task import Task, TaskState
from gitops.simulation.clock import VirtualClock
from gitops.swarm.clock import IdSource
from gitops.swarm.manager.loop import StoreLoop
from gitops.swarm.manager.orchestrator import Orchestrator
from gitops.swarm.scheduling import modes
from gitops.swarm.scheduling.tasks import is_runnable
from gitops.swarm.store.memory import MemoryStore
from gitops.swarm.store.protocol import Change, View


class Nodes(StoreLoop):
    """Allocator, scheduler and agents in one: every task gets a node and does what its desired state says.

    Tasks of an image in `broken` fail instead of running; those in `stubborn` (by id) ignore that they are to stop.
    """

    broken: set[str]
    stubborn: set[str]
    broken_state = TaskState.FAILED
    step_s = 0.05
    node_id = "n1"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.broken = set()
        self.stubborn = set()
        self.is_paused = False

    def resync(self, view: View) -> None:
        pass

    def notice(self, change: Change) -> None:
        pass

    async def act(self) -> None:
        await self.clock.sleep(self.step_s)
        if not self.is_paused:
            await self.store.update(
                lambda tx: [tx.update(new) for old in tx.all(Task) if (new := self._next(old)) != old]
            )

    def _next(self, task: Task) -> Task:
        state = task.status.state
        if state.is_terminal or (not is_runnable(task) and task.id in self.stubborn):
            return task
        node = self.store.view().get(Node, task.node_id) if task.node_id else None
        if task.node_id and (node is None or node.status.state == "down"):
            return task
        if not is_runnable(task):
            return self._at(task, TaskState.SHUTDOWN)
        image = task.spec.container_spec.image if task.spec.container_spec else ""
        if task.desired_state in (TaskState.RUNNING, TaskState.COMPLETE) and image in self.broken:
            return self._at(task, self.broken_state)
        target = TaskState.READY if task.desired_state is TaskState.READY else TaskState.RUNNING
        return self._at(task, target) if state.rank < target.rank else task

    def _at(self, task: Task, state: TaskState) -> Task:
        now = base.format_time(self.clock.now_ns())
        status = replace(task.status, state=state, timestamp=now, applied_at=now)
        return replace(task, status=status, node_id=task.node_id or self.node_id)


@dataclass
class World:
    """All that a test of loops needs at hand."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    loops: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.ids = IdSource(random.Random(11))
        self.nodes = Nodes(self.store, self.clock, self.rng)
        self.history: list[Task] = []

    def start(self, loop: Any) -> None:
        """Run a loop in the background."""
        self.loops[id(loop)] = asyncio.ensure_future(loop.run())

    async def stop(self, loop: Any) -> None:
        """Cancel a loop and wait for its end."""
        task = self.loops.pop(id(loop))
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def close(self) -> None:
        """Stop all loops; one that ended by itself with an error fails the test."""
        for task in self.loops.values():
            if not task.done():
                task.cancel()
        if self.loops:
            await asyncio.wait(self.loops.values())
        for task in self.loops.values():
            if not task.cancelled():
                task.result()

    def orchestrator(self) -> Orchestrator:
        """A running orchestrator."""
        loop = Orchestrator(self.store, self.clock, self.rng, self.ids)
        self.start(loop)
        return loop

    async def node(self, node_id: str = "n1", **spec: Any) -> Node:
        """A node that is ready."""
        node = Node(
            id=node_id,
            spec=NodeSpec(name=node_id, **spec),
            description=NodeDescription(hostname=node_id),
            status=NodeStatus(state="ready"),
        )
        return await self.store.update(lambda tx: tx.create(node))

    async def change_node(self, node_id: str, change: Callable[[Node], Node]) -> None:
        """Change a node."""
        await self.store.update(lambda tx: tx.update(change(tx.get(Node, node_id) or Node())))

    async def service(self, spec: ServiceSpec | None = None, **fields: Any) -> Service:
        """A new service, as the control API makes it."""
        made = Service(id=self.ids(), spec=spec or spec_of(**fields), spec_version=Version(index=1))
        if modes.is_job(made.spec.mode):
            made = replace(made, job_status=JobStatus())
        return await self.store.update(lambda tx: tx.create(made))

    async def update(self, service: Service, spec: ServiceSpec | None = None, **fields: Any) -> Service:
        """A new spec, as the control API takes it."""

        def change(tx: Any) -> Service:
            stored = tx.get(Service, service.id)
            return tx.update(
                replace(
                    stored,
                    spec=spec or spec_of(**fields),
                    spec_version=Version(index=stored.version.index),
                    previous_spec=stored.spec,
                    previous_spec_version=stored.spec_version,
                    update_status=None,
                    job_status=JobStatus(job_iteration=Version(modes.iteration(stored) + 1))
                    if stored.job_status
                    else None,
                )
            )

        return await self.store.update(change)

    async def roll_back(self, service: Service) -> Service:
        """A rollback by hand, as the control API does it."""

        def change(tx: Any) -> Service:
            stored = tx.get(Service, service.id)
            return tx.update(
                replace(
                    stored,
                    spec=stored.previous_spec,
                    previous_spec=stored.spec,
                    spec_version=Version(index=stored.version.index),
                    update_status=UpdateStatus(state="rollback_started", message="manually requested rollback"),
                )
            )

        return await self.store.update(change)

    async def cluster(self, history: int = 5) -> Cluster:
        """The cluster object with a limit of history."""
        from gitops.objects.node import ClusterSpec, Orchestration

        spec = ClusterSpec(orchestration=Orchestration(task_history_retention_limit=history))
        return await self.store.update(lambda tx: tx.create(Cluster(id="default", spec=spec)))

    def get(self, service: Service) -> Service:
        """The service as it is stored now."""
        stored = self.store.view().get(Service, service.id)
        assert stored is not None
        return stored

    def status(self, service: Service) -> str:
        """The state of its update, or ""."""
        update_status = self.get(service).update_status
        return update_status.state if update_status else ""

    def tasks(self, service: Service, *, slot: int | None = None, runnable: bool = True) -> list[Task]:
        """Its tasks: the wanted ones, or all."""
        tasks = self.store.view().tasks_of_service(service.id)
        return [t for t in tasks if slot in (None, t.slot) and (is_runnable(t) or not runnable)]

    def running(self, service: Service) -> list[Task]:
        """The tasks that are wanted and run."""
        return [task for task in self.tasks(service) if task.status.state is TaskState.RUNNING]

    def images(self, service: Service) -> list[str]:
        """The images of the wanted tasks, by slot."""
        tasks = sorted(self.tasks(service), key=lambda task: task.slot)
        return [task.spec.container_spec.image for task in tasks if task.spec.container_spec]

    async def set_state(self, task: Task, state: TaskState, **changes: Any) -> Task:
        """Report a state, as a node does."""
        now = base.format_time(self.clock.now_ns())

        def change(tx: Any) -> Task:
            stored = tx.get(Task, task.id)
            status = replace(stored.status, state=state, timestamp=now, applied_at=now)
            return tx.update(replace(stored, status=status, **changes))

        return await self.store.update(change)


def spec_of(
    name: str = "web",
    image: str = "app:v1",
    replicas: int | None = 1,
    restart: RestartPolicy | None = None,
    update: UpdateConfig | None = None,
    rollback: UpdateConfig | None = None,
    constraints: list[str] | None = None,
    force: int = 0,
    labels: dict[str, str] | None = None,
    mode: ServiceMode | None = None,
    **more: Any,
) -> ServiceSpec:
    """A service's spec, in few words."""
    return ServiceSpec(
        name=name,
        labels=labels or {},
        task_template=TaskSpec(
            container_spec=ContainerSpec(image=image),
            restart_policy=restart,
            placement=Placement(constraints=constraints or [], **more) if constraints or more else None,
            force_update=force,
        ),
        mode=mode or (ServiceMode(replicated=Replicated(replicas=replicas)) if replicas is not None else ServiceMode()),
        update_config=update,
        rollback_config=rollback,
    )


World.spec = staticmethod(spec_of)  # type: ignore[attr-defined]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A world with one node, `n1`, that does as it is told once `world.nodes` is started."""
    made = World()
    await made.node("n1")
    yield made
    await made.close()
