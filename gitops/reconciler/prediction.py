"""What will happen to the tasks of a plan: the swarm's own pure functions, run on the snapshot before anything is sent.

Exact for our own swarm, where all goes well and tasks of a service take alike; elsewhere it tells counts, and what
can't be placed at all. Only services that change are followed: the others cost no more than the room that they take.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed

from msgspec.structs import replace

from gitops.objects.base import Version
from gitops.objects.node import Node
from gitops.objects.service import Endpoint, JobStatus, Service, ServiceSpec
from gitops.objects.task import Task
from gitops.reconciler import lostnodes, pulls
from gitops.reconciler.forecast import Forecast, NodeForecast, Refusal, ServiceForecast, Slot
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Unplaced
from gitops.swarm.scheduling import filters, forecast, modes, refusals
from gitops.swarm.scheduling.model import AT_ONCE, NEW, Pace
from gitops.swarm.scheduling.nodes import ClusterState, NodeState
from gitops.swarm.scheduling.slots import Place
from gitops.swarm.scheduling.tasks import is_runnable


@dataclass(frozen=True, slots=True)
class Prediction:
    """What no node could hold in the end, and the whole schedule."""

    unplaced: tuple[Unplaced, ...]
    forecast: Forecast


def predict(
    specs: Mapping[str, ServiceSpec],
    removed: Collection[str],
    live: Live,
    first: Collection[str] = (),
    supply: pulls.Supply = pulls.NOTHING,
    pace: Pace = AT_ONCE,
) -> Prediction:
    """Follow what the plan does: `specs` are sent under their engine names, in their order.

    The services `removed` go when all that is there; those of them that are `first`, before. `supply` says which nodes
    have which images.
    """
    if not specs and not removed:
        return Prediction((), Forecast())
    services = _services(specs, live)
    gone = [live.services[name] for name in sorted(removed) if name in live.services]
    tasks = _tasks(live)
    early = [service.id for service in gone if service.spec.name in first]
    others = live.services.values()

    def run(first: Sequence[str]) -> forecast.Outcome:
        return forecast.run(services, [service.id for service in gone], live.nodes, tasks, others, first, pace)

    outcome = run(early)
    names = {node.id: _hostname(node) for node in live.nodes}
    told, unplaced = {}, []
    for service in services:
        course = outcome.courses[service.id]
        found = _told(service, _wanted(service.spec, live.nodes), course, names, outcome.state)
        told[service.spec.name] = _with_pulls(found, service, outcome, names, supply)
        if course.waiting:
            unplaced.append((service.id, _unplaced(service, course, outcome.state)))
    for service in gone:
        told[service.spec.name] = _told(service, 0, outcome.courses[service.id], names, outcome.state)
    if unplaced and len(early) < len(gone):
        courses = run([service.id for service in gone]).courses
        unplaced = [(key, item if courses[key].waiting else _with_way_out(item)) for key, item in unplaced]
    lost = lostnodes.find(outcome, tasks, {service.id: service for service in services})
    return Prediction(
        tuple(sorted((item for _, item in unplaced), key=lambda item: item.service)),
        Forecast(dict(sorted(told.items())), tuple(_node(state) for state in outcome.state), tuple(lost)),
    )


# What is sent


def _services(specs: Mapping[str, ServiceSpec], live: Live) -> list[Service]:
    """The services as they will be stored, in the order in which they are sent."""
    versions = (item.spec_version.index for items in (live.services.values(), live.tasks) for item in items)
    version = Version(max(versions, default=0) + 1)
    resolve = _resolver(live)
    found = (_declared(live.services.get(name), resolve(spec), version) for name, spec in specs.items())
    return [service for service in found if service is not None]


def _declared(former: Service | None, spec: ServiceSpec, version: Version) -> Service | None:
    """A service with a new spec; None where that would change its mode, which no swarm does and a plan refuses."""
    if former is None:
        return Service(id=f"~{spec.name}", spec=spec, spec_version=version, job_status=JobStatus())
    if modes.mode_of(former.spec.mode) != modes.mode_of(spec.mode):
        return None
    return replace(
        former,
        spec=spec,
        spec_version=version,
        previous_spec=former.spec,
        previous_spec_version=former.spec_version,
        update_status=None,
        job_status=JobStatus(job_iteration=Version(modes.iteration(former) + 1)),
    )


def _wanted(spec: ServiceSpec, nodes: Iterable[Node]) -> int:
    """How many tasks a service is to have; of a job, how many are to run to their end."""
    if modes.is_by_node(spec.mode):
        return len(modes.eligible(spec, nodes))
    return modes.total_completions(spec.mode) if modes.is_job(spec.mode) else modes.replicas(spec)


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
    """All tasks in the order of their creation.

    An engine that doesn't show their endpoints, nor that they are meant for one node, has their services'.
    """
    endpoints = {service.id: Endpoint(spec=service.spec.endpoint_spec) for service in live.services.values()}
    by_node = {service.id for service in live.services.values() if modes.is_by_node(service.spec.mode)}
    tasks = [
        replace(
            task,
            endpoint=task.endpoint or endpoints.get(task.service_id),
            is_by_node=task.is_by_node or task.service_id in by_node,
        )
        for task in live.tasks
    ]
    return sorted(tasks, key=lambda task: task.created_at)


# What is told


def _told(
    service: Service, wanted: int, course: forecast.Course, names: Mapping[str, str], state: ClusterState
) -> ServiceForecast:
    def places(found: Iterable[Place]) -> tuple[Slot, ...]:
        return tuple(names.get(place, place) if isinstance(place, str) else place for place in found)

    return ServiceForecast(
        engine_name=service.spec.name,
        mode=modes.mode_of(service.spec.mode),
        wanted=wanted,
        before=_by_name(course.before, names),
        after=_by_name(course.after, names),
        restarted=places(course.restarted),
        created=places(course.created),
        removed=places(course.removed),
        batches=tuple(places(batch) for batch in course.batches),
        order=course.order,
        min_healthy=course.min_healthy,
        has_outage=course.healthy_before > 0 and wanted > 0 and course.min_healthy == 0,
        best_case_s=round(course.seconds, 1),
        completed=course.completed,
        blocked=_blocked(service, wanted, course, state),
    )


def _with_pulls(
    told: ServiceForecast,
    service: Service,
    outcome: forecast.Outcome,
    names: Mapping[str, str],
    supply: pulls.Supply,
) -> ServiceForecast:
    container = service.spec.task_template.container_spec
    made = [task for task in outcome.tasks if task.service_id == service.id and task.id.startswith(NEW)]
    nodes = dict.fromkeys(task.node_id for task in made if task.node_id and is_runnable(task))
    found = pulls.needed(container.image if container else "", sorted(nodes, key=lambda it: names.get(it, it)), supply)
    return changed(
        told,
        pulls={names.get(node_id, node_id): size for node_id, size in found.lacking.items()},
        pulls_unknown=tuple(names.get(node_id, node_id) for node_id in found.unknown),
    )


def _by_name(counts: Mapping[str, int], names: Mapping[str, str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for node_id, count in counts.items():
        name = names.get(node_id, node_id)
        found[name] = found.get(name, 0) + count
    return dict(sorted(found.items()))


def _blocked(service: Service, wanted: int, course: forecast.Course, state: ClusterState) -> str:
    """Why an update never ends, or a job is never complete."""
    is_incomplete = modes.is_job(service.spec.mode) and course.completed < wanted
    if not course.is_updating and not is_incomplete:
        return ""
    if not course.waiting:
        if is_incomplete:
            return f"no more than {course.completed} of its {wanted} tasks are run to their end"
        return "the update waits for tasks that don't start"
    task = course.waiting[0]
    reasons = "; ".join(refusal.text for refusal in refusals.explain(task, _choice(course, state)))
    beside = " beside the task that it replaces" if course.order == "start-first" else ""
    if task.is_by_node:
        node = state.get(task.node_id)
        name = _hostname(node.node) if node else task.node_id
        return f"node {name} can't take its task{beside}: {reasons or 'it is gone'}"
    return f"slot {task.slot} finds no node{beside}: {reasons or 'there is no node'}"


def _unplaced(service: Service, course: forecast.Course, state: ClusterState) -> Unplaced:
    task, nodes = course.waiting[0], _choice(course, state)
    return Unplaced(
        service.spec.name,
        len(course.waiting),
        filters.explain(filters.pipeline(task), nodes),
        refusals.explain(task, nodes),
    )


def _with_way_out(item: Unplaced) -> Unplaced:
    text = "there is room once what the plan removes is gone, which goes last: remove it by an apply of its own first"
    return changed(item, refusals=(*item.refusals, Refusal("removal", 0, text)))


def _choice(course: forecast.Course, state: ClusterState) -> list[NodeState]:
    """The nodes that tasks which wait could go to: all, or those that they are meant for."""
    meant = {task.node_id for task in course.waiting if task.node_id}
    return [item for item in state if not meant or item.node.id in meant]


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
