"""What a node must fulfil to take a task, in SwarmKit's order; the first filter that fails explains the refusal.

Ready, Resource, Plugin, Constraint, Platform, HostPort, MaxReplicas. A filter that doesn't concern a task is left
out. Static filters say the same whatever else is placed; the others are asked again before every placement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gitops import errors
from gitops.objects.node import NodeDescription, PluginDescription
from gitops.objects.service import Placement
from gitops.objects.task import Task
from gitops.swarm.scheduling import constraints
from gitops.swarm.scheduling.nodes import NodeState, host_ports, reservations

NO_SUITABLE_NODE = "no suitable node"
PluginKey = tuple[str, str]
"""A plugin's type and name."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition for one task; `dimension` is a stable word for what it is about."""

    dimension: str
    one: str
    """What to say when it fails on one node."""
    many: str
    """What to say when it fails on `{}` nodes."""
    is_static: bool
    check: Callable[[NodeState], bool]

    def explain(self, count: int) -> str:
        """What keeps the task from `count` nodes."""
        return self.one if count == 1 else self.many.format(count)


def pipeline(task: Task) -> tuple[Filter, ...]:
    """The filters that concern `task`, in order."""
    return tuple(
        found
        for make in (_ready, _resources, _plugins, _constraints, _platform, _host_ports, _max_replicas)
        if (found := make(task)) is not None
    )


def first_failing(filters: Iterable[Filter], state: NodeState) -> Filter | None:
    """The filter that keeps the node from taking the task; None when nothing does."""
    return next((item for item in filters if not item.check(state)), None)


def explain(filters: Iterable[Filter], states: Iterable[NodeState]) -> str:
    """Why no node takes the task: the reasons with the number of nodes, the most frequent first."""
    filters = tuple(filters)
    counts: Counter[int] = Counter()
    for state in states:
        failing = first_failing(filters, state)
        if failing is not None:
            counts[filters.index(failing)] += 1
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    reasons = "; ".join(filters[index].explain(count) for index, count in ordered)
    return f"{NO_SUITABLE_NODE} ({reasons})" if reasons else NO_SUITABLE_NODE


def _ready(task: Task) -> Filter | None:
    return Filter(
        "node",
        "1 node not available for new tasks",
        "{} nodes not available for new tasks",
        True,
        lambda state: state.node.status.state == "ready" and state.node.spec.availability == "active",
    )


def _resources(task: Task) -> Filter | None:
    wanted = reservations(task)
    if not wanted.nano_cpus and not wanted.memory_bytes:
        return None
    return Filter(
        "resources",
        "insufficient resources on 1 node",
        "insufficient resources on {} nodes",
        False,
        lambda state: (
            (not wanted.nano_cpus or state.nano_cpus >= wanted.nano_cpus)
            and (not wanted.memory_bytes or state.memory_bytes >= wanted.memory_bytes)
        ),
    )


def _plugins(task: Task) -> Filter | None:
    wanted = set(_wanted_plugins(task))
    if not wanted:
        return None
    return Filter(
        "plugin",
        "missing plugin on 1 node",
        "missing plugin on {} nodes",
        True,
        # A node that names no plugins at all is one that doesn't tell.
        lambda state: not state.node.description.engine.plugins or wanted <= _plugins_of(state.node.description),
    )


def _plugins_of(description: NodeDescription) -> set[PluginKey]:
    return {_key(plugin) for plugin in description.engine.plugins}


def _key(plugin: PluginDescription) -> PluginKey:
    return plugin.type, plugin.name.removesuffix(":latest")


def _wanted_plugins(task: Task) -> Iterator[PluginKey]:
    container = task.spec.container_spec
    for mount in container.mounts if container else ():
        driver = mount.volume_options.driver_config if mount.volume_options else None
        if mount.type == "volume" and driver is not None and driver.name not in ("", "local"):
            yield "Volume", driver.name.removesuffix(":latest")
    for attachment in task.networks_attachments:
        state = attachment.network.driver_state
        if state is not None and state.name:
            yield "Network", state.name
    if (log := task.spec.log_driver) is not None and log.name not in ("", "none"):
        yield "Log", log.name


def _placement(task: Task) -> Placement:
    return task.spec.placement or Placement()


def _constraints(task: Task) -> Filter | None:
    texts = _placement(task).constraints
    if not texts:
        return None
    parsed: tuple[constraints.Constraint, ...] | None
    try:
        parsed = constraints.parse(texts)
    except errors.Invalid:
        # Refused when the service was made; in a store that somebody else filled it is met by no node.
        parsed = None
    return Filter(
        "constraint",
        "scheduling constraints not satisfied on 1 node",
        "scheduling constraints not satisfied on {} nodes",
        True,
        lambda state: parsed is not None and constraints.is_met(parsed, state.node),
    )


def _platform(task: Task) -> Filter | None:
    wanted = [
        (platform.os.lower(), constraints.architecture(platform.architecture))
        for platform in _placement(task).platforms
    ]
    if not wanted:
        return None

    def check(state: NodeState) -> bool:
        platform = state.node.description.platform
        system, machine = platform.os.lower(), constraints.architecture(platform.architecture)
        return any(os in ("", system) and arch in ("", machine) for os, arch in wanted)

    return Filter("platform", "unsupported platform on 1 node", "unsupported platform on {} nodes", True, check)


def _host_ports(task: Task) -> Filter | None:
    wanted = {(port.protocol, port.published_port) for port in host_ports(task)}
    if not wanted:
        return None
    return Filter(
        "port",
        "host-mode port already in use on 1 node",
        "host-mode port already in use on {} nodes",
        False,
        lambda state: wanted.isdisjoint(state.ports),
    )


def _max_replicas(task: Task) -> Filter | None:
    limit = _placement(task).max_replicas
    if not limit:
        return None
    return Filter(
        "max-replicas",
        "max replicas per node limit exceed",
        "max replicas per node limit exceed",
        False,
        lambda state: state.services.get(task.service_id, 0) < limit,
    )
