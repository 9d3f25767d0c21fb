"""What will happen to the tasks of a plan: the swarm's own pure functions, run on the snapshot before anything is sent.

Exact for our own swarm, where all goes well and tasks of a service take alike; elsewhere it tells counts, and what
can't be placed at all. Only services that change are followed: the others cost no more than the room that they take.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from gitops.objects.base import Version
from gitops.objects.node import Node
from gitops.objects.service import Endpoint, Service, ServiceSpec
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.reconciler.forecast import Forecast, LostNode, NodeForecast, ServiceForecast
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Unplaced
from gitops.swarm.scheduling import filters, forecast, modes, placement, refusals
from gitops.swarm.scheduling.nodes import ClusterState, NodeState, holds_node
from gitops.swarm.scheduling.tasks import is_runnable


@dataclass(frozen=True, slots=True)
class Prediction:
    """What no node could hold in the end, and the whole schedule."""

    unplaced: tuple[Unplaced, ...]
    forecast: Forecast


def predict(specs: Mapping[str, ServiceSpec], removed: Collection[str], live: Live) -> Prediction:
    """Follow what the plan does: `specs` are sent under their engine names, the services `removed` go.

    The order of `specs` is that in which new services are made.
    """
    if not specs and not removed:
        return Prediction((), Forecast())
    services = [service for service in _services(specs, live) if modes.mode_of(service.spec.mode) == modes.REPLICATED]
    gone = [live.services[name] for name in sorted(removed) if name in live.services]
    tasks = _tasks(live)
    outcome = forecast.run(services, [service.id for service in gone], live.nodes, tasks)
    names = {node.id: _hostname(node) for node in live.nodes}
    told, unplaced = {}, []
    for service in services:
        course = outcome.courses[service.id]
        told[service.spec.name] = _told(service.spec.name, modes.replicas(service.spec), course, names, outcome.state)
        if course.waiting:
            unplaced.append(_unplaced(service, course, outcome.state))
    for service in gone:
        told[service.spec.name] = _told(service.spec.name, 0, outcome.courses[service.id], names, outcome.state)
    lost = _lost(outcome, tasks, {service.id: service for service in services})
    return Prediction(
        tuple(sorted(unplaced, key=lambda item: item.service)),
        Forecast(dict(sorted(told.items())), tuple(_node(state) for state in outcome.state), tuple(lost)),
    )


# What is sent


def _services(specs: Mapping[str, ServiceSpec], live: Live) -> list[Service]:
    """The services as they will be stored: those that are there in the order of their creation, then the new ones."""
    versions = (item.spec_version.index for items in (live.services.values(), live.tasks) for item in items)
    version = Version(max(versions, default=0) + 1)
    resolve = _resolver(live)
    known = sorted((live.services[name] for name in specs if name in live.services), key=lambda it: it.created_at)
    changed = [
        replace(
            service,
            spec=resolve(specs[service.spec.name]),
            spec_version=version,
            previous_spec=service.spec,
            previous_spec_version=service.spec_version,
            update_status=None,
        )
        for service in known
    ]
    made = [
        Service(id=f"~{name}", spec=resolve(spec), spec_version=version)
        for name, spec in specs.items()
        if name not in live.services
    ]
    return changed + made


def _resolver(live: Live) -> Callable[[ServiceSpec], ServiceSpec]:
    """Puts ids in the place of names, as the engine does with what it is sent."""
    networks = {network.name: network.id for network in live.networks.values()}
    secrets = {name: item.id for name, item in live.secrets.items()}
    configs = {name: item.id for name, item in live.configs.items()}

    def resolve(spec: ServiceSpec) -> ServiceSpec:
        template = spec.task_template
        joined = [replace(item, target=networks.get(item.target, item.target)) for item in template.networks]
        container = template.container_spec
        if container is not None:
            container = replace(
                container,
                secrets=[
                    replace(it, secret_id=it.secret_id or secrets.get(it.secret_name, "")) for it in container.secrets
                ],
                configs=[
                    replace(it, config_id=it.config_id or configs.get(it.config_name, "")) for it in container.configs
                ],
            )
        return replace(spec, task_template=replace(template, networks=joined, container_spec=container))

    return resolve


def _tasks(live: Live) -> list[Task]:
    """All tasks in the order of their creation; an engine that doesn't show their endpoints has their services'."""
    endpoints = {service.id: Endpoint(spec=service.spec.endpoint_spec) for service in live.services.values()}
    tasks = [
        task if task.endpoint is not None else replace(task, endpoint=endpoints.get(task.service_id))
        for task in live.tasks
    ]
    return sorted(tasks, key=lambda task: task.created_at)


# What is told


def _told(
    name: str, wanted: int, course: forecast.Course, names: Mapping[str, str], state: ClusterState
) -> ServiceForecast:
    return ServiceForecast(
        engine_name=name,
        wanted=wanted,
        before=_by_name(course.before, names),
        after=_by_name(course.after, names),
        restarted=tuple(sorted({slot for batch in course.batches for slot in batch})),
        created=tuple(course.created),
        removed=tuple(course.removed),
        batches=tuple(tuple(batch) for batch in course.batches),
        order=course.order,
        min_healthy=course.min_healthy,
        has_outage=course.healthy_before > 0 and wanted > 0 and course.min_healthy == 0,
        best_case_s=round(course.seconds, 1),
        blocked=_blocked(course, state),
    )


def _by_name(counts: Mapping[str, int], names: Mapping[str, str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for node_id, count in counts.items():
        name = names.get(node_id, node_id)
        found[name] = found.get(name, 0) + count
    return dict(sorted(found.items()))


def _blocked(course: forecast.Course, state: ClusterState) -> str:
    """Why an update never ends."""
    if not course.is_updating:
        return ""
    if not course.waiting:
        return "the update waits for tasks that don't start"
    task = course.waiting[0]
    reasons = "; ".join(refusal.text for refusal in refusals.explain(task, state))
    beside = " beside the task that it replaces" if course.order == "start-first" else ""
    return f"slot {task.slot} finds no node{beside}: {reasons or 'there is no node'}"


def _unplaced(service: Service, course: forecast.Course, state: ClusterState) -> Unplaced:
    task = course.waiting[0]
    return Unplaced(
        service.spec.name,
        len(course.waiting),
        filters.explain(filters.pipeline(task), state),
        refusals.explain(task, state),
    )


def _node(state: NodeState) -> NodeForecast:
    resources = state.node.description.resources
    return NodeForecast(
        hostname=_hostname(state.node),
        tasks=state.total,
        nano_cpus=resources.nano_cpus,
        nano_cpus_left=state.nano_cpus,
        memory_bytes=resources.memory_bytes,
        memory_bytes_left=state.memory_bytes,
    )


def _hostname(node: Node) -> str:
    return node.description.hostname or node.id


# What if a node were lost


def _lost(outcome: forecast.Outcome, tasks: Sequence[Task], services: Mapping[str, Service]) -> Iterator[LostNode]:
    """The nodes whose tasks the others couldn't all take, by the services that are followed.

    The tasks of all services look for a place, in the order of their creation. A global service wants no more tasks
    than there are nodes.
    """
    moved = {task.id: task for task in outcome.tasks}
    final = [
        *(moved.get(task.id, task) for task in tasks),
        *(task for task in outcome.tasks if task.id.startswith("~")),
    ]
    on_node: dict[str, list[Task]] = {}
    for task in final:
        if holds_node(task) and is_runnable(task):
            on_node.setdefault(task.node_id, []).append(task)
    for state in outcome.state if len(outcome.state) > 1 else ():
        homeless = [_waiting(task) for task in on_node.get(state.node.id, ())]
        if not any(task.service_id in services for task in homeless):
            continue
        left = outcome.state.without(state.node.id)
        reasons = placement.place(left, homeless).reasons
        for service_id, service in services.items():
            missing = [task for task in homeless if task.service_id == service_id and task.id in reasons]
            if missing:
                yield LostNode(_hostname(state.node), service.spec.name, len(missing), reasons[missing[0].id])


def _waiting(task: Task) -> Task:
    return replace(task, node_id="", status=TaskStatus(state=TaskState.PENDING))
