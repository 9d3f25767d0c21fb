"""Making tasks, moving their desired state, and the questions about them that several passes ask."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from gitops.objects import base
from gitops.objects.node import Node
from gitops.objects.service import Endpoint, Service
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.swarm.scheduling.board import Board, Glance


def new_task(service: Service, slot: int, task_id: str, desired: TaskState, now_ns: int) -> Task:
    """A task of `service` as it is declared now; its spec is frozen from here on."""
    return Task(
        id=task_id,
        name=f"{service.spec.name}.{slot}.{task_id}",
        spec=service.spec.task_template,
        spec_version=service.spec_version,
        service_id=service.id,
        service_name=service.spec.name,
        service_labels=service.spec.labels,
        slot=slot,
        endpoint=Endpoint(spec=service.spec.endpoint_spec),
        status=TaskStatus(timestamp=base.format_time(now_ns), state=TaskState.NEW, message="created"),
        desired_state=desired,
    )


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


def is_runnable(task: Task) -> bool:
    """Whether the task is wanted: its desired state is RUNNING or on the way to it."""
    return task.desired_state.rank <= TaskState.RUNNING.rank


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
    return task.status.state is TaskState.PENDING or (task.status.state is TaskState.NEW and not is_wanted(task))


def is_wanted(task: Task) -> bool:
    """Whether the task is meant to run, or to run to its end."""
    return task.desired_state.rank <= TaskState.COMPLETE.rank
