"""What a change of a service does to the tasks that run, in a few words for the plan. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gitops.objects import defaults
from gitops.objects.service import Service, ServiceSpec
from gitops.reconciler import converge, pinning
from gitops.reconciler.diff import FieldChange

_HARMLESS = (
    "deploy.replicas", "deploy.update_config", "deploy.rollback_config", "deploy.labels", "deploy.deadline",
    "deploy.min_available", "depends_on",
)  # fmt: skip
"""Fields whose change leaves the tasks that run alone."""


def creation(spec: ServiceSpec) -> str:
    """`app:v1, 3 tasks`."""
    count = converge.replicas(Service(spec=spec))
    container = spec.task_template.container_spec
    image = f"{pinning.bare(container.image)}, " if container and container.image else ""
    return f"{image}{_tasks(count)}"


def update(changes: Iterable[FieldChange], live: Service, spec: ServiceSpec) -> str:
    """`3 tasks replaced, 1 at a time`, or that none is."""
    paths = [change.path for change in changes]
    count = converge.replicas(Service(spec=spec))
    if all(path.startswith(_HARMLESS) for path in paths):
        return "no task is restarted"
    if all(path.startswith((*_HARMLESS, "deploy.placement")) for path in paths):
        return "tasks move where their node doesn't fit any more"
    config = defaults.update_config(spec.update_config)
    pace = f"{config.parallelism} at a time" if config.parallelism and config.parallelism < count else "all at once"
    first = ", the new ones first" if config.order == "start-first" else ""
    return f"{_tasks(count)} replaced, {pace}{first}" if converge.replicas(live) and count else _tasks(count)


def _tasks(count: int) -> str:
    return f"{count} task{'' if count == 1 else 's'}"
