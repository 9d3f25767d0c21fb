"""Making tasks, moving their desired state, and the questions about them that several passes ask."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from gitops.objects import base
from gitops.objects.base import Version
from gitops.objects.node import Node
from gitops.objects.service import Endpoint, Service
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.swarm.scheduling import modes
from gitops.swarm.scheduling.board import Board, Glance
from gitops.swarm.scheduling.slots import Place


def new_task(service: Service, place: Place, task_id: str, desired: TaskState, now_ns: int) -> Task:
    """A task of `service` as it is declared now, in a slot or on a node; its spec is frozen from here on."""
    return Task(
        id=task_id,
        name=f"{service.spec.name}.{place}.{task_id}",
        spec=service.spec.task_template,
        spec_version=service.spec_version,
        service_id=service.id,
        service_name=service.spec.name,
        service_labels=service.spec.labels,
        slot=0 if isinstance(place, str) else place,
        node_id=place if isinstance(place, str) else "",
        is_by_node=isinstance(place, str),
        job_iteration=Version(modes.iteration(service)) if modes.is_job(service.spec.mode) else None,
        endpoint=Endpoint(spec=service.spec.endpoint_spec),
        status=TaskStatus(timestamp=base.format_time(now_ns), state=TaskState.NEW, message="created"),
        desired_state=desired,
    )


def fill(tx: Board, service: Service, place: Place, former: Iterable[Task], task_id: str, now_ns: int) -> Task:
    """Make the task of a free place; where a `former` one may still run, it waits for that one's end."""
    must_wait = any(may_hold_container(tx, task) for task in former)
    desired = TaskState.READY if must_wait else modes.goal(service.spec.mode)
    return tx.create(new_task(service, place, task_id, desired, now_ns))


def advance(board: Board, task: Task, desired: TaskState) -> Task:
    """Move a task's desired state forward; one that is there or beyond stays as it is."""
    stored = board.get(Task, task.id)
    if stored is None or stored.desired_state.rank >= desired.rank:
        return stored or task
    return board.update(replace(stored, desired_state=desired))


def by_slot(tasks: Iterable[Task]) -> dict[int, list[Task]]:
    """Tasks by slot number, ascending; in a slot in the given order, which is that of creation."""
    slots: dict[int, list[Task]] = {}
    for task in tasks:
        slots.setdefault(task.slot, []).append(task)
    return dict(sorted(slots.items()))


def by_place(tasks: Iterable[Task]) -> dict[str, list[Task]]:
    """Tasks of a service by slot or node, ascending; in a place in the given order, which is that of creation."""
    places: dict[str, list[Task]] = {}
    for task in tasks:
        places.setdefault(task.place, []).append(task)
    return dict(sorted(places.items(), key=lambda item: (item[1][0].slot, item[0])))


def place_of(task: Task) -> Place:
    """The slot, or the node, that the task's successor is for."""
    return task.node_id if task.is_by_node else task.slot


def is_runnable(task: Task) -> bool:
    """Whether the task is wanted: its desired state is RUNNING, COMPLETE or on the way there."""
    return task.desired_state.rank <= TaskState.COMPLETE.rank


def may_hold_container(view: Glance, task: Task) -> bool:
    """Whether something of the task may still run: it was given to a node, which is there and didn't say it ended."""
    if task.status.state.is_terminal or task.status.state.rank < TaskState.ASSIGNED.rank:
        return False
    node = view.get(Node, task.node_id)
    return node is not None and node.status.state != "down"


def node_of(view: Glance, task: Task) -> Node | None:
    """The task's node."""
    return view.get(Node, task.node_id) if task.node_id else None


def is_waiting(task: Task) -> bool:
    """Whether the task can be placed, or is about to be allocated what it needs, or was given up before that.

    New tasks are the allocator's; the scheduler only takes those that nobody wants any more.
    """
    return task.status.state is TaskState.PENDING or (task.status.state is TaskState.NEW and not is_runnable(task))
