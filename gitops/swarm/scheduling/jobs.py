"""What a replicated job does next: which slots get a first task. Pure.

Slots are numbered from 0 on, one a completion. A slot belongs to the job's iteration as long as a task of it does; a
task that fails is replaced in its slot by the restart policy. A slot whose last task failed and isn't replaced has
failed for good: it takes the place of a completion that won't come, so that a job that fails ends.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence

from gitops.objects.service import Service, ServiceMode
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import modes, slots
from gitops.swarm.scheduling.restarts import should_restart


class SlotState(enum.Enum):
    """Where a slot, or a node's place, of a job stands."""

    ACTIVE = "active"
    COMPLETE = "complete"
    FAILED = "failed"
    FREE = "free"


def state_of(tasks: Sequence[Task], may_follow: Callable[[Task, Sequence[Task]], bool]) -> SlotState:
    """The state of one slot, or of one node's place, by its tasks of the present iteration, the oldest first.

    `may_follow` says whether another task may come after the last one, of all that are given.
    """
    if any(task.status.state is TaskState.COMPLETE for task in tasks):
        return SlotState.COMPLETE
    if any(task.desired_state.rank <= TaskState.COMPLETE.rank for task in tasks):
        return SlotState.ACTIVE
    left = [task for task in tasks if task.desired_state is not TaskState.REMOVE]
    if not left or may_follow(left[-1], tasks):
        return SlotState.FREE
    return SlotState.FAILED


def slot_states(service: Service, all_tasks: Mapping[int, Sequence[Task]]) -> dict[int, SlotState]:
    """Where each slot of a replicated job stands in its present iteration."""
    states = {}
    for number, tasks in all_tasks.items():
        current = [task for task in tasks if modes.is_of_iteration(service, task)]
        states[number] = state_of(current, should_restart)
    return states


def missing(mode: ServiceMode, states: Mapping[int, SlotState]) -> list[int]:
    """The slots that get a first task now: never more than may run at a time, nor than completions are missing."""
    counts = [state for state in states.values() if state is not SlotState.FREE]
    active = sum(state is SlotState.ACTIVE for state in counts)
    room = min(modes.max_concurrent(mode) - active, modes.total_completions(mode) - len(counts))
    taken: Iterable[int] = (number for number, state in states.items() if state is not SlotState.FREE)
    return slots.free_numbers(taken, max(0, room), first=0)
