"""An executor whose containers are records: what agents drive where nothing real should run.

A `Behaviour` says how long each step of a task takes and how it ends. The records belong to the executor, not to the
agent, as containers belong to a host: a new agent on the same executor finds them. `kill` and `take_away` are what
happens behind an agent's back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gitops import errors
from gitops.objects.assignment import Endpoints
from gitops.objects.node import NodeDescription
from gitops.objects.service import Platform, Resources
from gitops.objects.task import ContainerStatus, PortStatus, Task
from gitops.swarm.agent.executor import Dependencies, TaskExited
from gitops.swarm.clock import Clock
from gitops.swarm.waiting import within

CAPACITY = Resources(nano_cpus=64_000_000_000, memory_bytes=256 << 30)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a task's container behaves; times in seconds."""

    prepare_s: float = 0.1
    start_s: float = 0.1
    stop_s: float = 0.1
    prepare_error: Exception | None = None
    start_error: Exception | None = None
    exits_after_s: float | None = None
    """After its start it ends by itself, with `exit_code`; None: it runs until stopped."""
    exit_code: int = 0


@dataclass(slots=True)
class FakeContainer:
    """A container of a task: created, running or ended."""

    task: Task
    behaviour: Behaviour
    state: str = "created"
    exit_code: int = 0
    exits_at: float | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, exit_code: int) -> None:
        """It no longer runs."""
        self.state = "exited"
        self.exit_code = exit_code
        self.changed.set()


class FakeExecutor:
    """A host of fake containers."""

    def __init__(
        self,
        clock: Clock,
        hostname: str = "node",
        *,
        behave: Callable[[Task], Behaviour] = lambda task: Behaviour(),
        resources: Resources = CAPACITY,
    ) -> None:
        self.clock = clock
        self.behave = behave
        self.containers: dict[str, FakeContainer] = {}
        self.endpoints: list[Endpoints] = []
        self.calls: list[tuple[str, str]] = []
        """What was asked for, in order: the controller's method and the task's id."""
        self.dependencies: dict[str, Dependencies] = {}
        self.retained: list[tuple[set[str], set[str]]] = []
        self.endpoints_error: Exception | None = None
        self.description = NodeDescription(
            hostname=hostname, platform=Platform(architecture="x86_64", os="linux"), resources=resources
        )

    async def describe(self) -> NodeDescription:
        """What the host has."""
        return self.description

    def controller(self, task: Task, dependencies: Dependencies) -> FakeController:
        """The controller of a task."""
        self.dependencies[task.id] = dependencies
        return FakeController(self, task)

    async def apply_endpoints(self, endpoints: Endpoints) -> None:
        """Note where names and ports lead."""
        if self.endpoints_error is not None:
            raise self.endpoints_error
        self.endpoints.append(endpoints)
        self.calls.append(("endpoints", ""))

    async def retain(self, task_ids: set[str], network_ids: set[str]) -> None:
        """Forget the containers of other tasks."""
        self.retained.append((set(task_ids), set(network_ids)))
        for task_id in [key for key in self.containers if key not in task_ids]:
            self.take_away(task_id)

    def running(self) -> list[Task]:
        """The tasks whose containers run now."""
        self._let_time_end_them()
        return [container.task for container in self.containers.values() if container.state == "running"]

    def kill(self, task_id: str, exit_code: int = 137) -> None:
        """End a container behind the agent's back."""
        self.containers[task_id].end(exit_code)

    def take_away(self, task_id: str) -> None:
        """Remove a container behind the agent's back."""
        container = self.containers.pop(task_id)
        container.end(137)
        container.state = "removed"

    def _let_time_end_them(self) -> None:
        for container in self.containers.values():
            ends = container.exits_at if container.state == "running" else None
            if ends is not None and ends <= self.clock.monotonic():
                container.end(container.behaviour.exit_code)


class FakeController:
    """One fake container's controller."""

    def __init__(self, executor: FakeExecutor, task: Task) -> None:
        self._executor = executor
        self._task = task

    async def prepare(self) -> None:
        """Make the record."""
        self._note("prepare")
        behaviour = self._executor.behave(self._task)
        await self._executor.clock.sleep(behaviour.prepare_s)
        if behaviour.prepare_error is not None:
            raise behaviour.prepare_error
        self._executor.containers.setdefault(self._task.id, FakeContainer(self._task, behaviour))

    async def start(self) -> None:
        """Let it run."""
        self._note("start")
        container = self._container()
        await self._executor.clock.sleep(container.behaviour.start_s)
        if container.behaviour.start_error is not None:
            raise container.behaviour.start_error
        if container.state == "created":
            container.state = "running"
            if (lifetime := container.behaviour.exits_after_s) is not None:
                container.exits_at = self._executor.clock.monotonic() + lifetime

    async def wait(self) -> None:
        """Return when it ended."""
        self._note("wait")
        container = self._container()
        clock = self._executor.clock
        while container.state == "running":
            left = None if container.exits_at is None else max(0.0, container.exits_at - clock.monotonic())
            if not await within(clock, left, container.changed.wait()) and container.state == "running":
                container.end(container.behaviour.exit_code)
        if container.state == "removed":
            raise TaskExited("the container was removed", container.exit_code)
        if container.exit_code:
            raise TaskExited(f"task: non-zero exit ({container.exit_code})", container.exit_code)

    async def shutdown(self) -> None:
        """End it."""
        self._note("shutdown")
        container = self._executor.containers.get(self._task.id)
        if container is not None and container.state != "exited":
            await self._executor.clock.sleep(container.behaviour.stop_s)
            container.end(143)

    async def remove(self) -> None:
        """Forget it."""
        self._note("remove")
        container = self._executor.containers.pop(self._task.id, None)
        if container is not None:
            container.end(137)

    async def container_status(self) -> ContainerStatus | None:
        """The record's id and exit code."""
        container = self._executor.containers.get(self._task.id)
        if container is None:
            return None
        return ContainerStatus(container_id=f"c-{self._task.id}", exit_code=container.exit_code)

    async def port_status(self) -> PortStatus | None:
        """Fake containers have no ports."""
        return None

    def _note(self, call: str) -> None:
        self._executor.calls.append((call, self._task.id))

    def _container(self) -> FakeContainer:
        container = self._executor.containers.get(self._task.id)
        if container is None:
            raise errors.NotFound(f"No such container: c-{self._task.id}")
        return container
