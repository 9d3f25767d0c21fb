"""Tasks: one attempt each, bound to one node at most, with states that only move forward."""

from __future__ import annotations

import enum

import msgspec

from gitops.objects.base import Full, Version, Wire, always
from gitops.objects.network import NetworkObject
from gitops.objects.service import Endpoint, PortConfig, TaskSpec


class TaskState(enum.StrEnum):
    """The states in their order; `rank` compares them (SwarmKit's numbers, whose gaps let new states in)."""

    NEW = "new"
    PENDING = "pending"
    ASSIGNED = "assigned"
    ACCEPTED = "accepted"
    PREPARING = "preparing"
    READY = "ready"
    STARTING = "starting"
    RUNNING = "running"
    COMPLETE = "complete"
    SHUTDOWN = "shutdown"
    FAILED = "failed"
    REJECTED = "rejected"
    REMOVE = "remove"
    ORPHANED = "orphaned"

    @property
    def rank(self) -> int:
        """The state's place in the order."""
        return _RANKS[self]

    @property
    def is_terminal(self) -> bool:
        """Past running: the attempt is over."""
        return self.rank > _RANKS[TaskState.RUNNING]


_RANKS = dict(zip(TaskState, (0, 64, 192, 256, 320, 384, 448, 512, 576, 640, 704, 768, 800, 832), strict=True))


class ContainerStatus(Full, frozen=True):
    """What the agent knows of a task's container; an exit code of 0 is said, too."""

    container_id: str = msgspec.field(name="ContainerID", default="")
    pid: int = msgspec.field(name="PID", default=0)
    exit_code: int = 0


class PortStatus(Wire, frozen=True):
    """Host-mode ports that the node picked."""

    ports: list[PortConfig] = []


class TaskStatus(Wire, frozen=True):
    """What is: observed by whoever owns the state at that point."""

    timestamp: str = ""
    state: TaskState = always(TaskState.NEW)
    message: str = ""
    err: str = ""
    container_status: ContainerStatus | None = None
    port_status: PortStatus | None = None
    applied_by: str = ""
    applied_at: str = ""


class NetworkAttachment(Wire, frozen=True):
    """A network that a task is on, with the addresses (CIDR) that the allocator gave."""

    network: NetworkObject
    addresses: list[str] = []
    aliases: list[str] = []


class Task(Wire, frozen=True):
    """One attempt to run a service's spec in a slot, or on a node.

    `spec_version`, `service_name` and `is_by_node` are the store's own. The last says that the task has its node from
    the beginning, and that in place of a slot: so have those of global services and jobs.
    """

    id: str = msgspec.field(name="ID", default="")
    version: Version = msgspec.field(default_factory=Version)
    created_at: str = ""
    updated_at: str = ""
    name: str = ""
    labels: dict[str, str] = {}
    spec: TaskSpec = msgspec.field(default_factory=TaskSpec)
    spec_version: Version = msgspec.field(default_factory=Version)
    service_id: str = msgspec.field(name="ServiceID", default="")
    service_name: str = ""
    service_labels: dict[str, str] = {}
    slot: int = 0
    node_id: str = msgspec.field(name="NodeID", default="")
    endpoint: Endpoint | None = None
    status: TaskStatus = msgspec.field(default_factory=TaskStatus)
    desired_state: TaskState = always(TaskState.RUNNING)
    networks_attachments: list[NetworkAttachment] = []
    job_iteration: Version | None = None
    is_by_node: bool = False

    @property
    def place(self) -> str:
        """What tells a task from others of its service beside it: the number of its slot, or its node's id."""
        return self.node_id if self.is_by_node else str(self.slot)


class TaskAddress(Full, frozen=True):
    """A task's address on a network, for names and published ports."""

    task_id: str = msgspec.field(name="TaskID", default="")
    node_id: str = msgspec.field(name="NodeID", default="")
    address: str = ""
