"""Why nodes can't take a task, in detail: which constraint, how much memory is short, which port is taken.

The reasons are those of `filters`, in their order; Docker's words for them, which say less, are `filters.explain`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gitops.objects import base
from gitops.objects.service import Placement
from gitops.objects.task import Task
from gitops.swarm.scheduling import constraints, filters
from gitops.swarm.scheduling.nodes import NodeState, host_ports, reservations

CPU = "cpu"
MEMORY = "memory"
_UNITS = ((30, "GiB"), (20, "MiB"), (10, "KiB"))


@dataclass(frozen=True, slots=True)
class Refusal:
    """What keeps a task from some nodes: the dimension (a stable word), how many nodes, and a sentence for people.

    `constraint node.labels.disk==ssd refuses 4 nodes`; `memory exhausted on 2 nodes: 1.5 GiB short`.
    """

    dimension: str
    nodes: int
    text: str


def explain(task: Task, states: Iterable[NodeState]) -> tuple[Refusal, ...]:
    """The refusals of `task` on the nodes that can't take it, the most frequent first."""
    found = filters.pipeline(task)
    groups: dict[tuple[str, str], list[NodeState]] = {}
    for state in states:
        failing = filters.first_failing(found, state)
        if failing is not None:
            groups.setdefault(_key(failing.dimension, task, state), []).append(state)
    refusals = [Refusal(key[0], len(nodes), _text(key, task, nodes)) for key, nodes in groups.items()]
    return tuple(sorted(refusals, key=lambda refusal: (-refusal.nodes, refusal.text)))


def _key(dimension: str, task: Task, state: NodeState) -> tuple[str, str]:
    """The dimension, finer where one filter looks at several, and what exactly isn't met."""
    if dimension == "resources":
        wanted = reservations(task)
        is_cpu = bool(wanted.nano_cpus) and state.nano_cpus < wanted.nano_cpus
        return (CPU if is_cpu else MEMORY), ""
    if dimension == "node":
        status, availability = state.node.status.state, state.node.spec.availability
        return dimension, status if status != "ready" else availability
    if dimension == "constraint":
        texts = (task.spec.placement or Placement()).constraints
        return dimension, next((text for text in texts if not constraints.satisfies([text], state.node)), "")
    return dimension, ""


def _text(key: tuple[str, str], task: Task, states: Sequence[NodeState]) -> str:
    dimension, detail = key
    nodes = f"{len(states)} node{'' if len(states) == 1 else 's'}"
    wanted = reservations(task)
    if dimension == CPU:
        short = min(wanted.nano_cpus - state.nano_cpus for state in states)
        return f"CPUs exhausted on {nodes}: {short / base.SECOND:.3g} short"
    if dimension == MEMORY:
        return f"memory exhausted on {nodes}: {_size(min(wanted.memory_bytes - s.memory_bytes for s in states))} short"
    if dimension == "constraint":
        return f"constraint {' '.join(detail.split())} refuses {nodes}"
    if dimension == "node":
        return f"{nodes} can't be used: {detail}"
    if dimension == "port":
        ports = ", ".join(f"{port.published_port}/{port.protocol}" for port in host_ports(task))
        return f"host port {ports} is in use on {nodes}"
    if dimension == "max-replicas":
        limit = (task.spec.placement or Placement()).max_replicas
        return f"no more than {limit} task{'' if limit == 1 else 's'} a node: reached on {nodes}"
    return f"{dimension} missing on {nodes}" if dimension == "plugin" else f"{nodes} can't run the image's platform"


def _size(count: int) -> str:
    for power, name in _UNITS:
        if count >= 1 << power:
            return f"{count / (1 << power):.3g} {name}"
    return f"{count} bytes"
