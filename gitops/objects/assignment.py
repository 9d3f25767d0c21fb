"""What a manager tells a node: its tasks, what they depend on, and the endpoints that names and ports lead to.

Networking data is a projection of the task table and travels with the assignments, versioned, so that a node can be
compared with what it should hold. The messages are the wire format of dispatcher and agent.
"""

from __future__ import annotations

import msgspec

from gitops.objects.base import Full
from gitops.objects.network import NetworkObject
from gitops.objects.secret import Config, Secret
from gitops.objects.service import Credentials
from gitops.objects.task import Task, TaskAddress, TaskStatus


class PortBackends(Full, frozen=True):
    """A published port (ingress mode) and the running, healthy tasks behind it."""

    service_id: str = msgspec.field(name="ServiceID", default="")
    protocol: str = "tcp"
    published_port: int = 0
    target_port: int = 0
    backends: list[TaskAddress] = msgspec.field(default_factory=list)


class NetworkNames(Full, frozen=True):
    """The names that resolve on a network, lower case, each with its addresses (no prefix length)."""

    network_id: str = msgspec.field(name="NetworkID", default="")
    names: dict[str, list[str]] = msgspec.field(default_factory=dict)


class Endpoints(Full, frozen=True):
    """All that names and ports lead to, at one version of the store."""

    version: int = 0
    ports: list[PortBackends] = msgspec.field(default_factory=list)
    networks: list[NetworkNames] = msgspec.field(default_factory=list)


class Assignments(Full, frozen=True):
    """One message of a node's assignment stream.

    `is_complete`: the lists are all that the node should have, anything else goes. Otherwise `tasks`, `secrets`,
    `configs` and `networks` are added or replaced and `removed_*` taken away. `credentials`, by task id, are for tasks
    that may still have to pull their image. `sequence` grows by one a message.
    """

    sequence: int = 0
    is_complete: bool = False
    tasks: list[Task] = msgspec.field(default_factory=list)
    secrets: list[Secret] = msgspec.field(default_factory=list)
    configs: list[Config] = msgspec.field(default_factory=list)
    networks: list[NetworkObject] = msgspec.field(default_factory=list)
    removed_tasks: list[str] = msgspec.field(default_factory=list)
    removed_secrets: list[str] = msgspec.field(default_factory=list)
    removed_configs: list[str] = msgspec.field(default_factory=list)
    removed_networks: list[str] = msgspec.field(default_factory=list)
    credentials: dict[str, Credentials] = msgspec.field(default_factory=dict)
    endpoints: Endpoints | None = None


class TaskStatusReport(Full, frozen=True):
    """A node's word on one of its tasks."""

    task_id: str = msgspec.field(name="TaskID", default="")
    status: TaskStatus = msgspec.field(default_factory=TaskStatus)
