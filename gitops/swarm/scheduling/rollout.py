"""What a rolling update does next, as decisions: the loop that carries them out waits, writes and asks again.

The texts and states of `UpdateStatus` are Docker's. A rollback goes one revision back and is never itself rolled
back: where it fails it pauses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from msgspec.structs import replace

from gitops import errors
from gitops.objects import base, defaults
from gitops.objects.base import Version
from gitops.objects.node import Node
from gitops.objects.service import Service, UpdateConfig, UpdateStatus
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import dirtiness
from gitops.swarm.scheduling.slots import Place

AnyPlace = TypeVar("AnyPlace", bound=Place)

UPDATING = "updating"
PAUSED = "paused"
COMPLETED = "completed"
ROLLBACK_STARTED = "rollback_started"
ROLLBACK_PAUSED = "rollback_paused"
ROLLBACK_COMPLETED = "rollback_completed"


def state_of(service: Service) -> str:
    """The state of the service's update, "" when there is none."""
    return service.update_status.state if service.update_status else ""


def is_paused(service: Service) -> bool:
    """Whether nothing is to be updated until the user says more."""
    return state_of(service) in (PAUSED, ROLLBACK_PAUSED)


def is_rolling_back(service: Service) -> bool:
    """Whether the running update is a rollback."""
    return state_of(service) == ROLLBACK_STARTED


def config_of(service: Service) -> UpdateConfig:
    """The settings that hold for the running update or rollback, with defaults."""
    spec = service.spec
    return defaults.update_config(spec.rollback_config if is_rolling_back(service) else spec.update_config)


def dirty_slots(
    service: Service,
    slots: Mapping[AnyPlace, Sequence[Task]],
    order: Sequence[AnyPlace],
    node_of: Callable[[str], Node | None],
) -> list[AnyPlace]:
    """The slots that differ from the service's spec, in the given order."""
    return [number for number in order if dirtiness.is_slot_dirty(service, slots[number], node_of)]


@dataclass(frozen=True, slots=True)
class Step:
    """What brings a slot to the service's spec.

    `keep`: `task` runs the spec, the others stop. `promote`: so does `task`, once it is told to run. `replace`: a new
    task is needed, `stop` are the ones that it replaces.
    """

    action: Literal["keep", "promote", "replace"]
    task: Task | None
    stop: tuple[Task, ...]


def step(service: Service, tasks: Sequence[Task], node_of: Callable[[str], Node | None]) -> Step:
    """The next step in a slot; `tasks` are the ones of the slot that count (see `slots.occupancy`)."""
    clean = [
        task
        for task in tasks
        if task.desired_state.rank <= TaskState.RUNNING.rank
        and not task.status.state.is_terminal
        and not dirtiness.is_dirty(service, task, node_of(task.node_id) if task.node_id else None)
    ]
    running = [task for task in clean if task.desired_state is TaskState.RUNNING]
    chosen = next(iter((*running, *clean)), None)
    stop = tuple(task for task in tasks if task is not chosen and task.desired_state.rank <= TaskState.RUNNING.rank)
    if chosen is None:
        return Step("replace", None, stop)
    return Step("keep" if running else "promote", chosen, stop)


Verdict = Literal["go on", "pause", "rollback"]


def judge(service: Service, failures: int, slots: int) -> Verdict:
    """What `failures` of the update's tasks, of `slots` dirty slots, mean."""
    config = config_of(service)
    if config.failure_action == "continue" or failures == 0:
        return "go on"
    if failures / max(slots, 1) <= config.max_failure_ratio:
        return "go on"
    if config.failure_action == "rollback" and not is_rolling_back(service):
        return "rollback"
    return "pause"


def started(service: Service, now_ns: int) -> Service:
    """The service with a fresh update under way."""
    status = UpdateStatus(state=UPDATING, started_at=base.format_time(now_ns), message="update in progress")
    return replace(service, update_status=status)


def completed(service: Service, now_ns: int) -> Service:
    """The service with its update, or rollback, done."""
    back = is_rolling_back(service)
    return _with_status(
        service,
        state=ROLLBACK_COMPLETED if back else COMPLETED,
        completed_at=base.format_time(now_ns),
        message="rollback completed" if back else "update completed",
    )


def paused(service: Service, task_id: str) -> Service:
    """The service with its update, or rollback, stopped by the failure of a task."""
    back = is_rolling_back(service)
    word = "rollback" if back else "update"
    return _with_status(
        service,
        state=ROLLBACK_PAUSED if back else PAUSED,
        message=f"{word} paused due to failure or early termination of task {task_id}",
    )


def rolled_back(service: Service, task_id: str, now_ns: int, version: int) -> Service:
    """The service with its previous spec again, after the failure of a task.

    `version` is the one that the write will have.

    Raises:
        errors.Conflict: there is no previous spec.
    """
    message = f"update rolled back due to failure or early termination of task {task_id}"
    return replace(
        _with_previous(service, message, now_ns, version),
        previous_spec=None,
        previous_spec_version=None,
        previous_credentials=None,
    )


def rolled_back_by_hand(service: Service, now_ns: int, version: int) -> Service:
    """The service with its spec and its previous spec exchanged; `version` is the one that the write will have.

    Raises:
        errors.Conflict: there is no previous spec.
    """
    back = _with_previous(service, "manually requested rollback", now_ns, version)
    return replace(
        back,
        previous_spec=service.spec,
        previous_spec_version=service.spec_version,
        previous_credentials=service.credentials,
    )


def _with_previous(service: Service, message: str, now_ns: int, version: int) -> Service:
    if service.previous_spec is None:
        raise errors.Conflict(f"service {service.id} does not have a previous spec")
    status = UpdateStatus(state=ROLLBACK_STARTED, started_at=base.format_time(now_ns), message=message)
    return replace(
        service,
        spec=service.previous_spec,
        spec_version=Version(version),
        credentials=service.previous_credentials,
        update_status=status,
    )


def _with_status(service: Service, **fields: str) -> Service:
    return replace(service, update_status=replace(service.update_status or UpdateStatus(), **fields))
