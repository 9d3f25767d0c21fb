"""Global services and global jobs: a task on each node that fits, in place of slots.

A node that is gone takes its tasks' objects with it; one that is down, drained, or doesn't fit any more has its task
stopped, and gets a new one when that is over. A paused node keeps what it has: nothing is added or updated there.

A pass over a service uses it before and after the restart supervisor.
"""

from __future__ import annotations

from collections.abc import Sequence

from gitops.objects.node import Node
from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import jobs, modes, restart, rollout
from gitops.swarm.scheduling.board import Board, Glance
from gitops.swarm.scheduling.restarts import should_restart
from gitops.swarm.scheduling.slots import Place
from gitops.swarm.scheduling.tasks import advance, by_place, is_runnable, node_of

_ENDED = (TaskState.COMPLETE, TaskState.FAILED, TaskState.REJECTED)


def clear(tx: Board, service: Service) -> None:
    """Tell the tasks to go whose node is not the service's any more."""
    for task in tx.tasks_of_service(service.id):
        node = node_of(tx, task)
        if node is None:
            advance(tx, task, TaskState.REMOVE)
        elif (modes.is_lost(node) or not modes.fits(service.spec, node)) and _is_alive(task):
            advance(tx, task, TaskState.SHUTDOWN)


def free_nodes(view: Glance, service: Service) -> list[tuple[str, list[Task]]]:
    """The nodes that get a task now, each with its former tasks."""
    places = by_place(view.tasks_of_service(service.id))
    return [
        (node.id, places.get(node.id, []))
        for node in view.all(Node)
        if modes.takes_tasks(node) and modes.fits(service.spec, node) and _is_free(service, places.get(node.id, []))
    ]


def standing(view: Glance, service: Service) -> dict[Place, list[Task]]:
    """The tasks that stand for each node that an update goes through, in the order of the nodes' ids."""
    found: dict[Place, list[Task]] = {}
    for node_id, tasks in by_place(view.tasks_of_service(service.id)).items():
        node = view.get(Node, node_id)
        if node is None or not modes.takes_tasks(node) or not modes.fits(service.spec, node):
            continue
        found[node_id] = [task for task in tasks if is_runnable(task)] or tasks[-1:]
    return found


def _is_free(service: Service, tasks: Sequence[Task]) -> bool:
    """Whether a node may get a task: none is there that is wanted, or that ended for good."""
    if modes.is_job(service.spec.mode):
        current = [task for task in tasks if modes.is_of_iteration(service, task)]
        return jobs.state_of(current, _may_follow) is jobs.SlotState.FREE
    if any(is_runnable(task) for task in tasks):
        return False
    if not tasks or tasks[-1].desired_state is TaskState.REMOVE:
        return True
    if rollout.is_rolling_back(service) and tasks[-1].spec_version != service.spec_version:
        return True
    return _may_follow(tasks[-1], tasks)


def _may_follow(last: Task, tasks: Sequence[Task]) -> bool:
    """Whether another task may follow the last one: that was stopped by what happened to its node, or is restarted."""
    return last.status.state not in _ENDED or should_restart(last, tasks)


def _is_alive(task: Task) -> bool:
    return is_runnable(task) and not restart.is_done(task)
