"""Nodes: a user sets labels, availability and role; all else is the dispatcher's."""

from __future__ import annotations

from msgspec.structs import replace

from gitops import errors
from gitops.objects import base
from gitops.objects.base import Version
from gitops.objects.node import Node, NodeSpec
from gitops.objects.task import TaskState
from gitops.swarm.manager import refusals, validation
from gitops.swarm.manager.control import filters as filtering
from gitops.swarm.manager.control.base import ControlBase, find
from gitops.swarm.manager.control.filters import Filters
from gitops.swarm.store.protocol import Tx

KEYS = ("id", "label", "node.label", "membership", "name", "role")


class NodeControl(ControlBase):
    """Update, remove, find and list nodes."""

    async def update_node(self, reference: str, version: int, spec: NodeSpec) -> Node:
        """Set what a user may say of a node.

        Raises:
            errors.NotFound: no such node.
            errors.OutOfSequence: it was changed since `version`.
            errors.Invalid: the spec is wrong, or the last manager would be demoted.
            errors.Unsupported: a change of role to manager.
        """
        refusals.check(validation.node(spec))

        def change(tx: Tx) -> Node:
            node = find(tx, Node, reference)
            if spec.role != node.spec.role:
                _check_role(tx, node, spec.role)
            return tx.update(replace(node, version=Version(version), spec=spec))

        return await self._store.update(change)

    async def remove_node(self, reference: str, *, force: bool = False) -> None:
        """Take a worker that is down (or, with `force`, any worker) out of the swarm; its tasks are orphaned.

        Raises:
            errors.NotFound: no such node.
            errors.Invalid: it is a manager, or isn't down.
        """

        def change(tx: Tx) -> None:
            node = find(tx, Node, reference)
            if node.spec.role == "manager":
                raise refusals.precondition(
                    f"node {node.id} is a cluster manager and is a member of the raft cluster. "
                    "It must be demoted to worker before removal"
                )
            if node.status.state != "down" and not force:
                raise refusals.precondition(f"node {node.id} is not down and can't be removed")
            self._orphan(tx, node.id)
            tx.delete(Node, node.id)

        await self._store.update(change)

    def node(self, reference: str) -> Node:
        """The node with this id, hostname or beginning of an id.

        Raises:
            errors.NotFound, errors.Invalid: none, or several.
        """
        return find(self._store.view(), Node, reference)

    def nodes(self, filters: Filters | None = None) -> list[Node]:
        """The nodes that match (`id`, `label` of the engine, `node.label`, `membership`, `name`, `role`).

        Raises:
            errors.Invalid: an unknown filter, or value of one.
        """
        wanted = filtering.check_keys(filters, KEYS)
        filtering.check_values(wanted, "role", ("manager", "worker"))
        filtering.check_values(wanted, "membership", ("accepted", "pending"))
        return [node for node in self._store.view().all(Node) if _matches(node, wanted)]

    def _orphan(self, tx: Tx, node_id: str) -> None:
        now = base.format_time(self._clock.now_ns())
        for task in tx.tasks_of_node(node_id):
            if task.status.state.is_terminal:
                continue
            status = replace(
                task.status, state=TaskState.ORPHANED, timestamp=now, message="node removed from the swarm"
            )
            tx.update(replace(task, status=status))


def _check_role(tx: Tx, node: Node, role: str) -> None:
    if role == "manager":
        raise errors.Unsupported(f"node {node.id} can't be promoted: this version has one manager")
    if sum(other.spec.role == "manager" for other in tx.all(Node)) == 1:
        raise refusals.precondition("attempting to demote the last manager of the swarm")


def _matches(node: Node, filters: Filters) -> bool:
    return (
        filtering.has_prefix(filters, "id", node.id)
        and filtering.has_prefix(filters, "name", node.description.hostname)
        and filtering.has_labels(filters, "label", node.description.engine.labels)
        and filtering.has_labels(filters, "node.label", node.spec.labels)
        and filtering.one_of(filters, "role", lambda role: role == node.spec.role)
        and filtering.one_of(filters, "membership", lambda text: text == "accepted")
    )
