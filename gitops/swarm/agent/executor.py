"""What runs tasks on a node: the seam between the agent and an engine. Containers are one executor of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gitops.objects.assignment import Endpoints
from gitops.objects.image import AuthConfig
from gitops.objects.network import NetworkObject
from gitops.objects.node import NodeDescription
from gitops.objects.secret import Config, Secret
from gitops.objects.task import ContainerStatus, PortStatus, Task


class TaskExited(Exception):
    """The task's process ended by itself with a code other than 0, or became unhealthy."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What a task refers to, by id; held in memory only."""

    secrets: Mapping[str, Secret] = field(default_factory=dict)
    configs: Mapping[str, Config] = field(default_factory=dict)
    networks: Mapping[str, NetworkObject] = field(default_factory=dict)
    node: NodeDescription | None = None
    credentials: AuthConfig | None = None
    """What the registry of the task's image wants."""


class Controller(Protocol):
    """One task's life on a node. Every call is idempotent: an agent that comes back calls it again.

    Errors: `errors.GitopsError` with `is_temporary` is tried again without a change of state; any other before
    `start` makes the task REJECTED, from `start` on FAILED.
    """

    async def prepare(self) -> None:
        """Pull, create networks and volumes, create the container. Returns when it could be started."""
        ...

    async def start(self) -> None:
        """Start, and wait until it is healthy where there is a health check."""
        ...

    async def wait(self) -> None:
        """Return when it exited with 0.

        Raises:
            TaskExited: it ended otherwise, or became unhealthy.
        """
        ...

    async def shutdown(self) -> None:
        """Stop signal, grace period, kill. Returns when it no longer runs."""
        ...

    async def remove(self) -> None:
        """Take away all that `prepare` made; a task that runs is killed first."""
        ...

    async def container_status(self) -> ContainerStatus | None:
        """The container's id, pid and exit code, where there is one."""
        ...

    async def port_status(self) -> PortStatus | None:
        """Host-mode ports."""
        ...


class Executor(Protocol):
    """A way to run tasks."""

    async def describe(self) -> NodeDescription:
        """What this node has; read again every 20 s."""
        ...

    def controller(self, task: Task, dependencies: Dependencies) -> Controller:
        """The controller of a task; adopts what a former run of the agent left for the same task id."""
        ...

    async def apply_endpoints(self, endpoints: Endpoints) -> None:
        """Make names and published ports lead where `endpoints` says; the whole set, replacing the former one."""
        ...

    async def retain(self, task_ids: set[str], network_ids: set[str]) -> None:
        """Remove what belongs to tasks and swarm networks that are not named: leftovers of a crash."""
        ...
