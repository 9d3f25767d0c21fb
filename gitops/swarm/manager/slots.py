"""A replicated service's slots: which are occupied, which are free, and which go first when it is scaled down. Pure.

A slot is a number from 1 on. It is occupied while one of its tasks is wanted, and also when its last task ended and
the restart policy leaves it at that: such a slot isn't filled again, but it takes part in updates. All tasks of a slot
that isn't occupied are history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.manager.restart import should_restart
from gitops.swarm.manager.tasks import is_runnable


def occupants(service: Service, tasks: Sequence[Task]) -> list[Task]:
    """The tasks that stand for a slot; none when it is free. `tasks` are all of the slot, in the order of creation."""
    runnable = [task for task in tasks if is_runnable(task)]
    if runnable or not tasks:
        return runnable
    last = tasks[-1]
    if last.desired_state is TaskState.REMOVE or should_restart(last, tasks):
        return []
    is_rollback = service.update_status is not None and service.update_status.state == "rollback_started"
    if is_rollback and last.spec_version != service.spec_version:
        # The rolled-back spec gets another chance in every slot, once.
        return []
    return [last]


def free_numbers(occupied: Mapping[int, object]) -> Iterator[int]:
    """The slot numbers that are free, lowest first."""
    number = 0
    while True:
        number += 1
        if number not in occupied:
            yield number


def keep_order(slots: Mapping[int, Sequence[Task]]) -> list[int]:
    """The slots in the order in which they are worth keeping.

    Each slot counts as the nth copy on its node, running ones counted first; what is kept leaves the nodes balanced.
    A slot without a node, or with several tasks, goes before all others.
    """
    copies: dict[str, int] = {}
    ranks: dict[int, tuple[bool, int]] = {}
    for number in sorted(slots, key=lambda number: (not _runs(slots[number]), number)):
        tasks = slots[number]
        node_id = tasks[0].node_id if len(tasks) == 1 else ""
        if node_id:
            copies[node_id] = copies.get(node_id, 0) + 1
        ranks[number] = (not node_id, copies.get(node_id, 0))
    return sorted(ranks, key=lambda number: (*ranks[number], not _runs(slots[number]), number))


def _runs(tasks: Sequence[Task]) -> bool:
    return any(task.status.state is TaskState.RUNNING for task in tasks)
