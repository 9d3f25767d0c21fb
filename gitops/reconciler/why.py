"""Why a service is not as it should be: the chain from what is desired to what can be reached, and where it breaks.

`walk` judges what was read (pure). `read` reads it: service and tasks, the stack's record and last revision, and
where this engine runs the container the log of its health checks.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gitops import client as clients
from gitops import errors
from gitops.manifests import canonical
from gitops.objects import labels
from gitops.objects.container import HealthResult
from gitops.objects.node import Node
from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.reconciler import converge, diff, live
from gitops.reconciler.converge import Progress, Verdict
from gitops.reconciler.record import Outcome, Record

LINKS = ("desired", "planned", "scheduled", "pulled", "running", "healthy", "reachable")
FORMAT_VERSION = "1.0"
_PAUSED = ("paused", "rollback_paused")
_PULLING = (TaskState.ASSIGNED, TaskState.ACCEPTED, TaskState.PREPARING)
_UNPLACED = (TaskState.NEW, TaskState.PENDING)
_IMAGE_WORDS = ("no such image", "manifest unknown", "pull access", "pulling", "image not known", "can't be pulled")
_PROBES = 3
_OUTPUT_LIMIT = 300


class State(enum.StrEnum):
    """Of a link: fine, not there yet, broken, or not reached since one before it is broken."""

    OK = "ok"
    WAITING = "waiting"
    BROKEN = "broken"
    OPEN = "not reached"


@dataclass(frozen=True, slots=True)
class Link:
    """A link of the chain; `evidence` is what its state is concluded from."""

    name: str
    state: State
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to judge. `applied` is the canonical form that was applied last, where that is known."""

    name: str
    service: Service | None
    progress: Progress | None
    current: Sequence[Task] = ()
    nodes: Mapping[str, Node] = field(default_factory=dict)
    record: Record | None = None
    applied: Mapping[str, Any] | None = None
    form: Mapping[str, Any] | None = None
    probes: Sequence[HealthResult] = ()


@dataclass(frozen=True, slots=True)
class Why:
    """The chain of a service."""

    service: str
    links: tuple[Link, ...]

    @property
    def broken(self) -> Link | None:
        """The first link that isn't fine; None when all is well."""
        return next((link for link in self.links if link.state is not State.OK), None)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = self.broken
        return {
            "format_version": FORMAT_VERSION,
            "service": self.service,
            "broken": found.name if found else None,
            "links": [asdict(link) | {"state": str(link.state)} for link in self.links],
        }


def walk(seen: Seen) -> Why:
    """Judge link by link; what comes after the first that isn't fine is open."""
    links: list[Link] = []
    for name in LINKS:
        if links and links[-1].state is not State.OK:
            links += [Link(left, State.OPEN) for left in LINKS[len(links) :]]
            break
        links.append(_CHECKS[name](seen))
    return Why(seen.name, tuple(links))


def _desired(seen: Seen) -> Link:
    if seen.service is None:
        if seen.applied is not None:
            return Link("desired", State.BROKEN, "it was applied, and somebody removed it since: apply again")
        return Link("desired", State.BROKEN, "no such service on this engine")
    found = seen.record
    if found is None or not found.revision:
        return Link("desired", State.OK, "the service exists; no apply of gitops is on record for it")
    commit = f", commit {found.commit}" if found.commit else ""
    return Link("desired", State.OK, f"applied from {found.source}{commit}, {found.outcome or 'not ended'}")


def _planned(seen: Seen) -> Link:
    assert seen.progress is not None
    found, progress = seen.record, seen.progress
    if progress.update in _PAUSED or progress.verdict is Verdict.ROLLED_BACK:
        return Link("planned", State.BROKEN, progress.reason)
    notes = []
    if found and found.held:
        # It holds back the whole stack; a service that works, or that breaks further on, isn't broken here.
        notes.append(f"revision {found.held} of its stack is held (gitops resume {found.stack}): {found.message}")
    if found and found.suspended:
        notes.append("watch is suspended")
    if found and found.outcome is Outcome.APPLYING:
        notes.append("an apply goes on")
    if seen.applied is not None and seen.form is not None and (changes := diff.fields(seen.form, seen.applied)):
        notes.append(f"changed by somebody since it was applied: {', '.join(change.path for change in changes[:5])}")
    return Link("planned", State.OK, "; ".join(notes) or "as it was applied last")


def _scheduled(seen: Seen) -> Link:
    assert seen.progress is not None
    wanted = [task for task in seen.current if _is_wanted(task)]
    unplaced = [task for task in wanted if task.status.state in _UNPLACED]
    if unplaced:
        said = next((task.status.err for task in unplaced if task.status.err), "")
        text = f"{len(unplaced)} of {seen.progress.desired} tasks have no node"
        return Link("scheduled", State.BROKEN if said else State.WAITING, f"{text}: {said}" if said else text)
    places = Counter(_hostname(task, seen.nodes) for task in wanted if task.node_id)
    text = ", ".join(f"{name} {count}" for name, count in sorted(places.items()))
    return Link("scheduled", State.OK, text or "no task is wanted" if not seen.progress.desired else text)


def _pulled(seen: Seen) -> Link:
    if _is_there(seen):
        return Link("pulled", State.OK, _image(seen))
    failed = _last_failure(seen)
    if failed is not None and _failure_of(failed) == "pulled":
        return Link("pulled", State.BROKEN, f"{_image(seen)} on {_hostname(failed, seen.nodes)}: {failed.status.err}")
    waiting = [task for task in seen.current if _is_wanted(task) and task.status.state in _PULLING]
    if waiting and failed is None:
        return Link("pulled", State.WAITING, f"{_image(seen)}: {len(waiting)} tasks are being prepared")
    return Link("pulled", State.OK, _image(seen))


def _running(seen: Seen) -> Link:
    assert seen.progress is not None
    progress = seen.progress
    if _is_there(seen):
        return Link("running", State.OK, progress.counts)
    failed = _last_failure(seen)
    if failed is not None and _failure_of(failed) == "running":
        count = sum(_failure_of(task) == "running" for task in seen.current if _has_failed(task))
        text = f"{progress.counts}; {count} attempt{'' if count == 1 else 's'} failed, the last one"
        return Link("running", State.BROKEN, f"{text} in slot {failed.slot}: {failed.status.err}{_exit_code(failed)}")
    starting = [task for task in seen.current if _is_wanted(task) and task.status.state is TaskState.STARTING]
    if starting or (failed is not None and _failure_of(failed) == "healthy"):
        return Link("running", State.OK, f"{progress.counts}, {len(starting)} starting")
    state = State.BROKEN if progress.verdict is Verdict.FAILED else State.WAITING
    return Link("running", state, progress.summary)


def _healthy(seen: Seen) -> Link:
    assert seen.progress is not None
    if _is_there(seen):
        return Link("healthy", State.OK, "its health checks pass" if _has_check(seen) else "it has no health check")
    failed = _last_failure(seen)
    probes = "".join(f"; check ended with {item.exit_code}: {item.output.strip()}" for item in seen.probes[-_PROBES:])
    probes = probes[:_OUTPUT_LIMIT]
    if failed is not None and _failure_of(failed) == "healthy":
        return Link("healthy", State.BROKEN, f"slot {failed.slot}: {failed.status.err}{probes}")
    return Link("healthy", State.WAITING, f"{seen.progress.summary}: waiting for its health check{probes}")


def _reachable(seen: Seen) -> Link:
    assert seen.service is not None and seen.progress is not None
    spec, endpoint = seen.service.spec, seen.service.endpoint
    if not seen.progress.desired and seen.progress.verdict is Verdict.CONVERGED:
        return Link("reachable", State.OK, "no task is wanted, so nothing answers")
    wanted = spec.endpoint_spec.ports if spec.endpoint_spec else []
    bound = {(port.target_port, port.protocol) for port in endpoint.ports if port.published_port}
    missing = [
        port for port in wanted if port.publish_mode != "host" and (port.target_port, port.protocol) not in bound
    ]
    if missing:
        names = ", ".join(f"{port.target_port}/{port.protocol}" for port in missing)
        return Link("reachable", State.BROKEN, f"no published port is assigned for {names}")
    parts = [f"port {port.published_port}->{port.target_port}/{port.protocol}" for port in endpoint.ports]
    parts += [f"address {vip.addr}" for vip in endpoint.virtual_ips if vip.addr]
    return Link("reachable", State.OK, ", ".join(parts) or "by its name in its networks")


_CHECKS = {
    "desired": _desired,
    "planned": _planned,
    "scheduled": _scheduled,
    "pulled": _pulled,
    "running": _running,
    "healthy": _healthy,
    "reachable": _reachable,
}


def _is_there(seen: Seen) -> bool:
    return seen.progress is not None and seen.progress.verdict is Verdict.CONVERGED


def _is_wanted(task: Task) -> bool:
    return task.desired_state.rank <= TaskState.RUNNING.rank and not task.status.state.is_terminal


def _has_failed(task: Task) -> bool:
    return task.status.state in (TaskState.FAILED, TaskState.REJECTED)


def _last_failure(seen: Seen) -> Task | None:
    return max(filter(_has_failed, seen.current), key=lambda task: task.status.timestamp, default=None)


def _failure_of(task: Task) -> str:
    """The link that a failed task broke at."""
    text = task.status.err.lower()
    if any(word in text for word in _IMAGE_WORDS):
        return "pulled"
    return "healthy" if "unhealthy" in text else "running"


def _exit_code(task: Task) -> str:
    code = task.status.container_status.exit_code if task.status.container_status else 0
    return f" (exit code {code})" if code and str(code) not in task.status.err else ""


def _has_check(seen: Seen) -> bool:
    container = seen.service.spec.task_template.container_spec if seen.service else None
    test = container.healthcheck.test if container and container.healthcheck else []
    return bool(test) and test != ["NONE"]


def _image(seen: Seen) -> str:
    container = seen.service.spec.task_template.container_spec if seen.service else None
    return container.image if container else ""


def _hostname(task: Task, nodes: Mapping[str, Node]) -> str:
    node = nodes.get(task.node_id)
    return node.description.hostname if node and node.description and node.description.hostname else task.node_id


async def read(client: clients.EngineClient, name: str) -> Seen:
    """Read what there is to judge of a service, by its name on the engine, or in its stack where only one has it.

    Raises:
        errors.NotFound: there is none, and none was applied. errors.Invalid: several have that name.
    """
    seen = await live.read(client, ())
    full = _full_name(name, seen)
    service = seen.services.get(full)
    stack = service.spec.labels.get(labels.STACK, "") if service else ""
    applied, stack = _applied(seen, full, stack if service else None)
    if service is None:
        return Seen(full, None, None, record=seen.records.get(stack), applied=applied)
    fresh = {task.id for task in await client.tasks({"_up-to-date": ["true"], "service": [service.id]})}
    mine = [task for task in seen.tasks if task.service_id == service.id]
    current = [task for task in mine if task.id in fresh]
    nodes = {node.id: node for node in seen.nodes}
    progress = converge.evaluate(service, current, [task for task in mine if task.id not in fresh], nodes)
    form = canonical.service(service.spec, seen.names)
    is_ours = labels.KIND in service.spec.labels
    record = seen.records.get(stack) if is_ours else None
    probes = await _probes(client, current)
    return Seen(full, service, progress, current, nodes, record, applied if is_ours else None, form, probes)


def _full_name(name: str, seen: live.Live) -> str:
    applied = {key[1] for found in seen.revisions.values() for item in found[:1] for key in item.objects}
    if name in seen.services or name in applied:
        return name
    short = sorted(full for full, service in seen.services.items() if service.spec.labels.get(labels.NAME) == name)
    if len(short) > 1:
        raise errors.Invalid(f"several services are called {name!r}: say which of {', '.join(short)}")
    if not short:
        known = ", ".join(sorted(seen.services)[:10]) or "none"
        raise errors.NotFound(f"no service {name!r} on this engine; services: {known}")
    return short[0]


def _applied(seen: live.Live, name: str, stack: str | None) -> tuple[Mapping[str, Any] | None, str]:
    """The form of a service in the last healthy revision that has it, and its stack."""
    for owner, found in seen.revisions.items():
        if stack is not None and owner != stack:
            continue
        last = next((item for item in found if item.head.is_healthy), None)
        if last is not None and (item := last.objects.get(("Service", name))):
            return item.canonical, owner
    return None, stack or ""


async def _probes(client: clients.EngineClient, current: Sequence[Task]) -> Sequence[HealthResult]:
    """The health checks of the last container that isn't known to be healthy; none where it isn't on this engine."""
    doubtful = [task for task in current if _has_failed(task) or task.status.state is TaskState.STARTING]
    last = max(doubtful, key=lambda task: task.status.timestamp, default=None)
    if last is None or last.status.container_status is None or not last.status.container_status.container_id:
        return ()
    try:
        container = await client.container(last.status.container_status.container_id)
    except errors.NotFound:
        return ()
    return container.state.health.log if container.state.health else ()
