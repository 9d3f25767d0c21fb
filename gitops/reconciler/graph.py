"""What waits for what in an apply: a graph over the steps of a plan. Pure.

An edge says which object must have come how far before another is sent: what a service needs is made, what it depends
on has started, is healthy or has completed, and whoever holds a port that it takes has been sent without it. Edges to
what the plan doesn't touch aren't there: such things hold already. The graph has no circle: the manifests' own are
refused when they are loaded, and a port that would close one is given up by its holder before its turn (`released`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gitops.manifests import Desired, DesiredSet, extensions
from gitops.objects.service import Service, ServiceSpec
from gitops.reconciler import ports
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Plan, Step

Key = tuple[str, str]
"""Kind and engine name."""


class Condition(enum.StrEnum):
    """How far an object has come."""

    SENT = "sent"
    STARTED = "started"
    HEALTHY = "healthy"
    COMPLETED = "completed_successfully"
    DONE = "done"
    """Made, or removed; a service: converged."""


@dataclass(frozen=True, slots=True)
class Edge:
    """What must hold of another object before; where it isn't required, that object's failure is no obstacle."""

    key: Key
    condition: Condition
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class Graph:
    """Who takes part, and what each of them waits for.

    `released`: for a service that takes ports from one that can't be sent before it, those ports by their holder.
    """

    steps: tuple[Step, ...]
    edges: Mapping[Key, tuple[Edge, ...]]
    released: Mapping[Key, Mapping[str, frozenset[ports.Port]]]


def changes(plan: Plan, desired: DesiredSet, live: Live) -> Graph:
    """All that is made or changed, services that only have to be there, and removals that must come first."""
    early = early_removals(plan, desired, live)
    steps = [step for step in plan.steps if step.action is not Action.DELETE and _takes_part(step)] + early
    items = {item.key: item for item in desired.objects}
    edges = _Edges({step.key for step in steps})
    for step in steps:
        if step.action not in (Action.DELETE, Action.NONE):
            _add_needs(edges, items[step.key])
    for step in early:
        for other in steps:
            if other.action is not Action.DELETE and _is_in_the_way(step, [other], items, live):
                edges.add(other.key, Edge(step.key, Condition.DONE))
    released = _hand_over(edges, steps, items, live)
    return Graph(tuple(steps), edges.frozen(), released)


def removals(plan: Plan, desired: DesiredSet, live: Live) -> Graph:
    """What goes when all else is there: a service after those that depend on it, other things after their users."""
    early = {step.key for step in early_removals(plan, desired, live)}
    steps = [step for step in plan.steps if step.action is Action.DELETE and step.key not in early]
    edges = _Edges({step.key for step in steps})
    # An image has names of several forms, by digest among them: it waits for all services that go.
    images = [step.key for step in steps if step.kind == "Image"]
    for step in steps:
        if step.kind == "Service":
            service = live.services[step.engine_name]
            for key in (*_depends_on(service), *_uses(service, live), *images):
                edges.add(key, Edge(step.key, Condition.DONE))
    return Graph(tuple(steps), edges.frozen(), {})


def _depends_on(service: Service) -> list[Key]:
    return [("Service", item.engine_name) for item in extensions.depends_on(service.spec.labels) or ()]


def _uses(service: Service, live: Live) -> list[Key]:
    """What must outlive a service's tasks."""
    template = service.spec.task_template
    networks = live.names.networks
    found = [("Network", networks.get(use.target, use.target)) for use in template.networks]
    if template.container_spec is not None:
        container = template.container_spec
        found += [("Secret", use.secret_name) for use in container.secrets]
        found += [("Config", use.config_name) for use in container.configs]
        found += [("Volume", mount.source) for mount in container.mounts if mount.source]
    return found


def early_removals(plan: Plan, desired: DesiredSet, live: Live) -> list[Step]:
    """Services that go first, since what comes takes their port or replaces their network."""
    items = {item.key: item for item in desired.objects}
    networks = plan.of("Network", Action.REPLACE)
    takers: dict[tuple[str, int], list[Step]] = {}
    for step in plan.of("Service", Action.CREATE, Action.UPDATE):
        for port in ports.published(spec_of(items[step.key])):
            takers.setdefault((port.protocol, port.number), []).append(step)
    found = []
    for step in plan.of("Service", Action.DELETE):
        held = ports.held(live.services[step.engine_name])
        near = [taker for port in held for taker in takers.get((port.protocol, port.number), ())]
        if _is_in_the_way(step, near + networks, items, live):
            found.append(step)
    return found


def _is_in_the_way(removal: Step, coming: Iterable[Step], items: Mapping[Key, Desired], live: Live) -> bool:
    service = live.services[removal.engine_name]
    held = ports.held(service)
    used = {use.target for use in service.spec.task_template.networks}
    for step in coming:
        if step.kind == "Service" and step.action is not Action.NONE:
            wanted = ports.published(spec_of(items[step.key]))
            if any(port.collides(other) for port in held for other in wanted):
                return True
        elif step.kind == "Network" and step.action is Action.REPLACE:
            network = live.networks[step.engine_name]
            if not used.isdisjoint((network.name, network.id)):
                return True
    return False


def _takes_part(step: Step) -> bool:
    return step.action is not Action.NONE or step.kind == "Service"


def _add_needs(edges: _Edges, item: Desired) -> None:
    for key in item.needs:
        # A service that is needed only has to exist; what else holds of it is said by `depends_on`.
        edges.add(item.key, Edge(key, Condition.SENT if key[0] == "Service" else Condition.DONE))
    for dependency in item.depends_on:
        key = ("Service", dependency.engine_name)
        edges.add(item.key, Edge(key, Condition(dependency.condition), dependency.required))


def _hand_over(
    edges: _Edges, steps: Iterable[Step], items: Mapping[Key, Desired], live: Live
) -> dict[Key, dict[str, frozenset[ports.Port]]]:
    """Who takes a port waits until its holder is sent without it; a holder that waits for the taker gives it up."""
    sent = [step for step in steps if step.kind == "Service" and step.action in (Action.CREATE, Action.UPDATE)]
    wanted = {step.engine_name: spec_of(items[step.key]) for step in sent}
    released: dict[Key, dict[str, frozenset[ports.Port]]] = {}
    for taker, holder, taken in ports.hand_overs(wanted, live.services):
        key, other = ("Service", taker), ("Service", holder)
        if edges.leads(other, key):
            released.setdefault(key, {})[holder] = taken
        else:
            edges.add(key, Edge(other, Condition.SENT))
    return released


class _Edges:
    """Edges between members, without circles."""

    def __init__(self, members: set[Key]) -> None:
        self._members = members
        self._edges: dict[Key, list[Edge]] = {key: [] for key in members}

    def add(self, key: Key, edge: Edge) -> None:
        """`key` waits for `edge`; nothing where one of them takes no part, or where it would close a circle."""
        if {key, edge.key} <= self._members and edge not in self._edges[key] and not self.leads(edge.key, key):
            self._edges[key].append(edge)

    def leads(self, start: Key, end: Key) -> bool:
        """Whether `start` waits for `end`, however far behind it."""
        seen, stack = {start}, [start]
        while stack:
            key = stack.pop()
            if key == end:
                return True
            more = {edge.key for edge in self._edges[key]} - seen
            seen |= more
            stack += more
        return False

    def frozen(self) -> dict[Key, tuple[Edge, ...]]:
        return {key: tuple(edges) for key, edges in self._edges.items() if edges}


def spec_of(item: Desired) -> ServiceSpec:
    """A service's spec."""
    assert isinstance(item.spec, ServiceSpec)
    return item.spec
