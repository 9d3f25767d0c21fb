"""What a change of a service does to the tasks that run, in a few words for the plan. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gitops.objects import defaults
from gitops.objects.service import Service, ServiceSpec
from gitops.reconciler import pinning
from gitops.reconciler.diff import FieldChange
from gitops.swarm.scheduling import modes

_HARMLESS = (
    "deploy.replicas", "deploy.update_config", "deploy.rollback_config", "deploy.labels", "deploy.deadline",
    "deploy.min_available", "depends_on",
)  # fmt: skip
"""Fields whose change leaves the tasks that run alone."""


def creation(spec: ServiceSpec) -> str:
    """`app:v1, 3 tasks`; `app:v1, a task on each node that fits`."""
    container = spec.task_template.container_spec
    image = f"{pinning.bare(container.image)}, " if container and container.image else ""
    return f"{image}{_made(spec)}"


def update(changes: Iterable[FieldChange], live: Service, spec: ServiceSpec) -> str:
    """`3 tasks replaced, 1 at a time`, or that none is; a job runs anew, whatever changed."""
    if modes.is_job(spec.mode):
        return f"runs anew: {_made(spec)}"
    paths = [change.path for change in changes]
    if all(path.startswith(_HARMLESS) for path in paths):
        return "no task is restarted"
    if all(path.startswith((*_HARMLESS, "deploy.placement")) for path in paths):
        return "tasks move where their node doesn't fit any more"
    config = defaults.update_config(spec.update_config)
    first = ", the new ones first" if config.order == "start-first" else ""
    if modes.is_by_node(spec.mode):
        pace = f"{config.parallelism} at a time" if config.parallelism else "all at once"
        return f"the task of each node replaced, {pace}{first}"
    count = modes.replicas(spec)
    pace = f"{config.parallelism} at a time" if config.parallelism and config.parallelism < count else "all at once"
    return f"{_tasks(count)} replaced, {pace}{first}" if modes.replicas(live.spec) and count else _tasks(count)


def _made(spec: ServiceSpec) -> str:
    """What a service of this spec consists of, by its mode."""
    if spec.mode.global_job is not None:
        return "a task run once on each node that fits"
    if modes.is_by_node(spec.mode):
        return "a task on each node that fits"
    if not modes.is_job(spec.mode):
        return _tasks(modes.replicas(spec))
    count, at_once = modes.total_completions(spec.mode), modes.max_concurrent(spec.mode)
    return f"{_tasks(count)} run to the end" + (f", {at_once} at a time" if at_once < count else "")


def _tasks(count: int) -> str:
    return f"{count} task{'' if count == 1 else 's'}"
