"""Slots of replicated services: which are filled, which are free, and whom a scale-down takes.

Slot numbers start at 1. A slot holds its history and, for a moment of an update, two live tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState

Place = int | str
"""Where a service has its tasks, one after the other: the number of a slot, or the id of a node (modes by node)."""
Slots = dict[int, list[Task]]
"""Tasks by slot number, in the order of the numbers."""


def sort_key(task: Task) -> tuple[str, str, str]:
    """Orders tasks by the time of their observed status, then of their creation, then by id; the newest is last.

    The times are of one format with nine digits, so that text compares as time does.
    """
    return task.status.timestamp, task.created_at, task.id


def by_slot(tasks: Iterable[Task]) -> Slots:
    """The tasks of a service by slot, each slot's oldest first."""
    slots: Slots = {}
    for task in sorted(tasks, key=sort_key):
        slots.setdefault(task.slot, []).append(task)
    return dict(sorted(slots.items()))


@dataclass(frozen=True, slots=True)
class Occupancy:
    """A service's slots: those that count, and those whose tasks go and whose numbers are free."""

    occupied: Slots
    """The tasks that take part in updates: the ones meant to run, or the last one where it isn't restarted."""
    dead: Slots


def occupancy(service: Service, tasks: Iterable[Task], should_restart: Callable[[Task], bool]) -> Occupancy:
    """Divide the slots of `service`; `should_restart` says what the restart policy makes of a stopped task."""
    occupied: Slots = {}
    dead: Slots = {}
    is_rolling_back = service.update_status is not None and service.update_status.state == "rollback_started"
    for number, slot in by_slot(tasks).items():
        kept = [task for task in slot if task.desired_state.rank <= TaskState.RUNNING.rank]
        if not kept and not is_rolling_back and not should_restart(slot[-1]):
            kept = slot[-1:]
        if kept:
            occupied[number] = kept
        else:
            dead[number] = slot
    return Occupancy(occupied, dead)


def keep_order(occupied: Mapping[int, Sequence[Task]]) -> list[int]:
    """Slot numbers, the ones to keep first; a scale-down takes from the end.

    Running before not running. Then slots of one placed task by the copies that their node holds before them, so that
    what is left is even; slots that are not placed yet, or are in the middle of an update, go first. Then by number.
    """
    copies: Counter[str] = Counter()
    weights: dict[int, float] = {}
    ordered = sorted(occupied, key=lambda number: (not _is_running(occupied[number]), number))
    for number in ordered:
        tasks = occupied[number]
        if len(tasks) == 1 and tasks[0].node_id:
            weights[number] = copies[tasks[0].node_id]
            copies[tasks[0].node_id] += 1
        else:
            weights[number] = float("inf")
    return sorted(ordered, key=weights.__getitem__)


def _is_running(tasks: Iterable[Task]) -> bool:
    return any(task.status.state is TaskState.RUNNING for task in tasks)


def free_numbers(taken: Iterable[int], count: int, first: int = 1) -> list[int]:
    """The `count` lowest numbers from `first` on that are not taken."""
    used = set(taken)

    def numbers() -> Iterator[int]:
        number = first
        while True:
            if number not in used:
                yield number
            number += 1

    source = numbers()
    return [next(source) for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Scale:
    """What brings a service to its number of replicas."""

    keep: list[int]
    """Occupied slots that stay, in the order in which an update takes them."""
    create: list[int]
    """Numbers of slots that need a first task."""
    remove: list[int]
    """Occupied slots to take away."""


def scale(occupied: Mapping[int, Sequence[Task]], replicas: int) -> Scale:
    """Compare the occupied slots with the wanted number; slots that stay aren't touched."""
    missing = replicas - len(occupied)
    if missing >= 0:
        return Scale(list(occupied), free_numbers(occupied, missing), [])
    ordered = keep_order(occupied)
    return Scale(ordered[:replicas], [], ordered[replicas:])
