"""The constraint enforcer: tasks whose node doesn't fit them any more are rejected, so that they are replaced.

A node is looked at when its labels, its description or its availability changed, and on full passes. Rejected is what
meets neither the service's present placement nor the task's own: constraints that were relaxed evict nobody, and what
a tightened one makes out of place is the updater's, which replaces it at the update's pace. Where a node has
become too small for what its tasks reserve, the youngest go until the rest fits. Only active nodes are looked at: a
paused one keeps its tasks, and a drained one's are the orchestrator's.

It writes the observed state REJECTED.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from gitops.objects import base
from gitops.objects.node import Node
from gitops.objects.service import Placement, Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.manager.loop import StoreLoop
from gitops.swarm.scheduling import constraints
from gitops.swarm.scheduling.nodes import holds_node, reservations
from gitops.swarm.scheduling.tasks import is_runnable
from gitops.swarm.store.protocol import Change, Tx, View


class Enforcer(StoreLoop):
    """Rejects tasks whose node stopped qualifying."""

    _dirty: frozenset[str] = frozenset()

    def resync(self, view: View) -> None:
        """Every node."""
        self._dirty = frozenset(node.id for node in view.all(Node))

    def notice(self, change: Change) -> None:
        """Nodes that became something else."""
        node, old = change.object, change.old
        if not isinstance(node, Node) or change.action == "delete":
            return
        if not isinstance(old, Node) or (node.spec, node.description) != (old.spec, old.description):
            self._dirty |= {node.id}

    async def act(self) -> None:
        """Look at the nodes that changed."""
        for node_id in sorted(self._dirty):
            await self.store.update(lambda tx, node_id=node_id: self._enforce(tx, node_id))  # type: ignore[misc]
        self._dirty = frozenset()

    def _enforce(self, tx: Tx, node_id: str) -> None:
        node = tx.get(Node, node_id)
        if node is None or node.spec.availability != "active":
            return
        now = base.format_time(self.clock.now_ns())
        for task, reason in misfits(tx, node):
            status = replace(
                task.status,
                timestamp=now,
                state=TaskState.REJECTED,
                message="task rejected by constraint enforcer",
                err=reason,
            )
            tx.update(replace(task, status=status))


def misfits(view: View, node: Node) -> Iterator[tuple[Task, str]]:
    """The tasks that the node can't keep, each with the reason."""
    resources = node.description.resources
    cpus, memory = resources.nano_cpus, resources.memory_bytes
    for task in view.tasks_of_node(node.id):
        service = view.get(Service, task.service_id)
        if service is None or not holds_node(task) or not is_runnable(task):
            continue
        placement = service.spec.task_template.placement or Placement()
        own = task.spec.placement or Placement()
        if not any(constraints.satisfies(texts, node) for texts in (placement.constraints, own.constraints)):
            yield task, "assigned node no longer meets constraints"
            continue
        wanted = reservations(task)
        if wanted.nano_cpus > cpus or wanted.memory_bytes > memory:
            yield task, "assigned node no longer has the resources that the task reserves"
            continue
        cpus -= wanted.nano_cpus
        memory -= wanted.memory_bytes
