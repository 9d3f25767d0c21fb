"""What if a node were lost: which services would lack tasks, since the other nodes couldn't take them. Pure.

Asked of the state that a plan leads to, and of the services that it changes; where there is one node only, of none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from gitops.objects.service import Service, ServiceMode
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.reconciler.forecast import LostNode
from gitops.swarm.scheduling import forecast, modes, placement
from gitops.swarm.scheduling.model import NEW
from gitops.swarm.scheduling.nodes import holds_node
from gitops.swarm.scheduling.tasks import is_runnable, new_task


def find(outcome: forecast.Outcome, tasks: Iterable[Task], services: Mapping[str, Service]) -> Iterator[LostNode]:
    """The nodes without which one of `services` (by id) would lack tasks; `tasks` are all that there were before.

    The tasks of all services look for a place on the others, in the order of their creation. A service by node wants
    no more tasks than there are nodes; a job needs to find a place for one task at a time.
    """
    moved = {task.id: task for task in outcome.tasks}
    final = [
        *(moved.get(task.id, task) for task in tasks),
        *(task for task in outcome.tasks if task.id.startswith(NEW)),
    ]
    on_node: dict[str, list[Task]] = {}
    for task in final:
        if holds_node(task) and is_runnable(task) and not task.is_by_node:
            on_node.setdefault(task.node_id, []).append(task)
    jobs = [
        _sample(service)
        for service in services.values()
        if _is_shared_job(service.spec.mode) and not outcome.courses[service.id].waiting
    ]
    for state in outcome.state if len(outcome.state) > 1 else ():
        homeless = [_waiting(task) for task in on_node.get(state.node.id, ())]
        if not jobs and not any(task.service_id in services for task in homeless):
            continue
        left = outcome.state.without(state.node.id)
        reasons = placement.place(left, [*homeless, *jobs]).reasons
        for service_id, service in services.items():
            missing = [task for task in (*homeless, *jobs) if task.service_id == service_id and task.id in reasons]
            if missing:
                count = modes.total_completions(service.spec.mode) if missing[0] in jobs else len(missing)
                yield LostNode(
                    state.node.description.hostname or state.node.id, service.spec.name, count, reasons[missing[0].id]
                )


def _is_shared_job(mode: ServiceMode) -> bool:
    """Whether a mode is that of a job whose tasks may run anywhere."""
    return mode.replicated_job is not None and modes.total_completions(mode) > 0 and modes.max_concurrent(mode) > 0


def _sample(service: Service) -> Task:
    """A task of a job, as it looks for a node."""
    task = new_task(service, 0, f"{NEW}{service.id}", TaskState.COMPLETE, 0)
    return _waiting(task)


def _waiting(task: Task) -> Task:
    return replace(task, node_id="", status=TaskStatus(state=TaskState.PENDING))
