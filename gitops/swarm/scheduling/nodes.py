"""What each node holds at one moment, as the scheduler counts it.

A task counts as active on its node until it is told to stop; what it reserves, and its host ports, are free only when
it did stop. Tasks that were never placed hold nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from gitops.objects.node import Node
from gitops.objects.service import PortConfig, Resources
from gitops.objects.task import Task, TaskState

FailureKey = tuple[str, str, int]
"""A node's id, a service's id, an index of a spec version."""


@dataclass(slots=True)
class NodeState:
    """A node and what is left of it."""

    node: Node
    nano_cpus: int
    memory_bytes: int
    total: int = 0
    """Active tasks."""
    services: dict[str, int] = field(default_factory=dict)
    """Active tasks by service."""
    ports: set[tuple[str, int]] = field(default_factory=set)
    """Host ports in use: protocol and number."""

    def copy(self) -> NodeState:
        """One that can be charged without an effect on this one."""
        return NodeState(self.node, self.nano_cpus, self.memory_bytes, self.total, dict(self.services), set(self.ports))

    def charge(self, task: Task) -> None:
        """Count a task that was placed here."""
        if task.desired_state.rank <= TaskState.COMPLETE.rank:
            self.total += 1
            self.services[task.service_id] = self.services.get(task.service_id, 0) + 1
        wanted = reservations(task)
        self.nano_cpus -= wanted.nano_cpus
        self.memory_bytes -= wanted.memory_bytes
        self.ports.update((port.protocol, port.published_port) for port in host_ports(task))


class ClusterState:
    """All nodes in the order of their ids, and the failures that were seen on them lately."""

    def __init__(self, nodes: Mapping[str, NodeState], failures: Mapping[FailureKey, int]) -> None:
        self._nodes = dict(sorted(nodes.items()))
        self._failures = failures

    @classmethod
    def build(
        cls, nodes: Iterable[Node], tasks: Iterable[Task], failures: Mapping[FailureKey, int] | None = None
    ) -> Self:
        """The state that these nodes and all tasks (history included) make; `failures` as `FailureLog.counts` says."""
        states = {
            node.id: NodeState(node, node.description.resources.nano_cpus, node.description.resources.memory_bytes)
            for node in nodes
        }
        for task in tasks:
            if (state := states.get(task.node_id)) is not None and holds_node(task):
                state.charge(task)
        return cls(states, failures or {})

    def __iter__(self) -> Iterator[NodeState]:
        return iter(self._nodes.values())

    def get(self, node_id: str) -> NodeState | None:
        """The state of one node."""
        return self._nodes.get(node_id)

    def copy(self) -> ClusterState:
        """One that can be charged without an effect on this one."""
        return ClusterState({key: state.copy() for key, state in self._nodes.items()}, self._failures)

    def without(self, node_id: str) -> ClusterState:
        """The same without one node."""
        return ClusterState({key: state for key, state in self._nodes.items() if key != node_id}, self._failures)

    def __len__(self) -> int:
        return len(self._nodes)

    def failures(self, node_id: str, task: Task) -> int:
        """Recent failures of this task's service, at its spec version, on a node."""
        return self._failures.get((node_id, task.service_id, task.spec_version.index), 0)


def holds_node(task: Task) -> bool:
    """Placed and not stopped: the node's resources are the task's."""
    return TaskState.ASSIGNED.rank <= task.status.state.rank <= TaskState.RUNNING.rank


def reservations(task: Task) -> Resources:
    """What the task reserves."""
    resources = task.spec.resources
    return (resources.reservations if resources else None) or Resources()


def host_ports(task: Task) -> list[PortConfig]:
    """The ports that the task takes on its node; those that the node chooses are left out."""
    endpoint = task.endpoint
    if endpoint is None:
        return []
    ports = endpoint.ports or (endpoint.spec.ports if endpoint.spec else [])
    return [port for port in ports if port.publish_mode == "host" and port.published_port]
