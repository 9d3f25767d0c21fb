"""Which node takes which task: SwarmKit's spreading, made deterministic.

Tasks of one service and spec version are placed together. A node is better than another on which the service failed
five times or more lately; then one with fewer tasks of the service; then one with fewer tasks; then the smaller id.
Spread preferences build a tree: each task goes down the branch that holds the fewest tasks of the service and still
has room, so that label values are even before nodes are.

The input is left as it is: the same call says what a change would do before anything is changed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gitops.objects.service import Placement
from gitops.objects.task import Task
from gitops.swarm.scheduling import constraints, filters
from gitops.swarm.scheduling.failures import THRESHOLD
from gitops.swarm.scheduling.nodes import ClusterState, NodeState

Rank = tuple[int, int, int, str]
"""What nodes are ordered by, the best first: bad failures, tasks of the service, tasks, id."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided."""

    assignments: dict[str, str] = field(default_factory=dict)
    """Task id to node id."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Task id to why no node takes it, in Docker's words."""


def place(state: ClusterState, tasks: Iterable[Task]) -> Outcome:
    """Find a node for each of `tasks` that wait for one.

    A task that has a node already (its orchestrator chose it) is only tried there, before all others.
    """
    working = state.copy()
    outcome = Outcome()
    groups: dict[tuple[str, int, str], list[Task]] = {}
    for task in tasks:
        if task.node_id:
            _fit(working, task, outcome)
        else:
            groups.setdefault(_group(task), []).append(task)
    for group in groups.values():
        _place_group(working, group, outcome)
    return outcome


def _group(task: Task) -> tuple[str, int, str]:
    version = task.spec_version.index
    return task.service_id, version, "" if version else task.id


def _fit(state: ClusterState, task: Task, outcome: Outcome) -> None:
    """Try the one node that the task is meant for."""
    node = state.get(task.node_id)
    found = filters.pipeline(task)
    if node is None or filters.first_failing(found, node) is not None:
        outcome.reasons[task.id] = filters.explain(found, [] if node is None else [node])
        return
    node.charge(task)
    outcome.assignments[task.id] = task.node_id


def _place_group(state: ClusterState, group: Sequence[Task], outcome: Outcome) -> None:
    sample = group[0]
    found = filters.pipeline(sample)
    tree = _tree(state, sample, found)
    reason: str | None = None
    for task in group:
        node = tree.take(task) if tree.best() is not None else None
        if node is not None:
            outcome.assignments[task.id] = node.node.id
            continue
        reason = reason or filters.explain(found, state)
        outcome.reasons[task.id] = reason


class _Leaf:
    """Nodes that are alike to all preferences, the best first."""

    def __init__(self, state: ClusterState, sample: Task, found: Sequence[filters.Filter]) -> None:
        self.count = 0
        self._state = state
        self._sample = sample
        self._static = [item for item in found if item.is_static]
        self._dynamic = [item for item in found if not item.is_static]
        self._heap: list[tuple[Rank, NodeState]] = []

    def add(self, node: NodeState) -> None:
        """Count what the node holds, and take it in if it may hold more."""
        self.count += node.services.get(self._sample.service_id, 0)
        if filters.first_failing(self._static, node) is None:
            heapq.heappush(self._heap, (self._rank(node), node))

    def best(self) -> Rank | None:
        """The rank of the node that is next; None when none has room."""
        # Within one group room only shrinks: a node that is full goes for good.
        while self._heap and filters.first_failing(self._dynamic, self._heap[0][1]) is not None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, task: Task) -> NodeState:
        """Put `task` on the node that is next."""
        node = self._heap[0][1]
        node.charge(task)
        self.count += 1
        heapq.heapreplace(self._heap, (self._rank(node), node))
        return node

    def _rank(self, node: NodeState) -> Rank:
        failures = self._state.failures(node.node.id, self._sample)
        return (
            failures if failures >= THRESHOLD else 0,
            node.services.get(self._sample.service_id, 0),
            node.total,
            node.node.id,
        )


class _Branch:
    """The values of one preference, each with the nodes that have it."""

    def __init__(self) -> None:
        self.count = 0
        self.children: dict[str, _Branch | _Leaf] = {}

    def best(self) -> Rank | None:
        """The best rank below; None when there is no room."""
        return min((rank for child in self.children.values() if (rank := child.best()) is not None), default=None)

    def take(self, task: Task) -> NodeState:
        """Put `task` where the fewest of its service are and room is left."""
        choices = [
            (child.count, rank, value) for value, child in self.children.items() if (rank := child.best()) is not None
        ]
        self.count += 1
        return self.children[min(choices)[2]].take(task)


def _tree(state: ClusterState, sample: Task, found: Sequence[filters.Filter]) -> _Branch | _Leaf:
    descriptors = [
        preference.spread.spread_descriptor
        for preference in (sample.spec.placement or Placement()).preferences
        if preference.spread is not None
    ]
    if not descriptors:
        leaf = _Leaf(state, sample, found)
        for node in state:
            leaf.add(node)
        return leaf
    root = _Branch()
    for node in state:
        values = [value for text in descriptors if (value := constraints.label_of(text, node.node)) is not None]
        _descend(root, values, state, sample, found).add(node)
    _count(root)
    return root


def _descend(
    root: _Branch, values: Sequence[str], state: ClusterState, sample: Task, found: Sequence[filters.Filter]
) -> _Leaf:
    """The leaf for a node with these label values, made where it is missing."""
    branch = root
    *inner, last = values or [""]
    for value in inner:
        child = branch.children.setdefault(value, _Branch())
        assert isinstance(child, _Branch)
        branch = child
    leaf = branch.children.setdefault(last, _Leaf(state, sample, found))
    assert isinstance(leaf, _Leaf)
    return leaf


def _count(vertex: _Branch | _Leaf) -> int:
    if isinstance(vertex, _Branch):
        vertex.count = sum(_count(child) for child in vertex.children.values())
    return vertex.count
