"""What a service's mode asks for: which mode it is, how many tasks it wants, and which nodes are to have one. Pure.

    replicated      a number of tasks, for ever
    global          one task on each node that fits, for ever
    replicated-job  tasks that run to their end, a number of times in all, a few at a time
    global-job      a task that runs to its end once on each node that fits

Each declaration of a job is an iteration of its own: only the tasks of the present one count.
"""

from __future__ import annotations

from collections.abc import Iterable

from gitops.objects.node import Node
from gitops.objects.service import Placement, Service, ServiceMode, ServiceSpec
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import constraints

REPLICATED = "replicated"
GLOBAL = "global"
REPLICATED_JOB = "replicated-job"
GLOBAL_JOB = "global-job"
MODES = (REPLICATED, GLOBAL, REPLICATED_JOB, GLOBAL_JOB)


def mode_of(mode: ServiceMode) -> str:
    """The mode's word; no mode at all means replicated."""
    if mode.global_ is not None:
        return GLOBAL
    if mode.replicated_job is not None:
        return REPLICATED_JOB
    return GLOBAL_JOB if mode.global_job is not None else REPLICATED


def is_job(mode: ServiceMode) -> bool:
    """Whether the tasks are to end."""
    return mode.replicated_job is not None or mode.global_job is not None


def is_by_node(mode: ServiceMode) -> bool:
    """Whether each node that fits gets its own task."""
    return mode.global_ is not None or mode.global_job is not None


def goal(mode: ServiceMode) -> TaskState:
    """The state that a task of the service is wanted in, in the end."""
    return TaskState.COMPLETE if is_job(mode) else TaskState.RUNNING


def replicas(spec: ServiceSpec) -> int:
    """How many tasks a replicated service asks for."""
    replicated = spec.mode.replicated
    return 1 if replicated is None or replicated.replicas is None else replicated.replicas


def max_concurrent(mode: ServiceMode) -> int:
    """How many tasks of a replicated job may run at a time."""
    job = mode.replicated_job
    return 1 if job is None or job.max_concurrent is None else job.max_concurrent


def total_completions(mode: ServiceMode) -> int:
    """How many tasks of a replicated job must complete."""
    job = mode.replicated_job
    return max_concurrent(mode) if job is None or job.total_completions is None else job.total_completions


def iteration(service: Service) -> int:
    """The number of a job's present iteration."""
    return service.job_status.job_iteration.index if service.job_status else 0


def is_of_iteration(service: Service, task: Task) -> bool:
    """Whether a job's task belongs to its present iteration; the tasks of what is no job always do."""
    if not is_job(service.spec.mode):
        return True
    return task.job_iteration is not None and task.job_iteration.index == iteration(service)


def fits(spec: ServiceSpec, node: Node) -> bool:
    """Whether a node is one of those that a global service is for: it meets the constraints, and has the platform."""
    return constraints.is_placeable(spec.task_template.placement or Placement(), node)


def is_lost(node: Node | None) -> bool:
    """Whether a node's tasks have to go: it is gone, down or drained. Of an unknown node nothing is known."""
    return node is None or node.status.state == "down" or node.spec.availability == "drain"


def takes_tasks(node: Node) -> bool:
    """Whether a node may be given new tasks at this moment."""
    return node.status.state == "ready" and node.spec.availability == "active"


def eligible(spec: ServiceSpec, nodes: Iterable[Node]) -> list[Node]:
    """The nodes that are to have a task of a global service; one that isn't known to be down is expected back."""
    return [
        node
        for node in nodes
        if node.status.state != "down" and node.spec.availability == "active" and fits(spec, node)
    ]
