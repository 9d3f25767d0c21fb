"""One pass over a replicated service: services become tasks.

The restart supervisor replaces what died, free slots are filled or surplus ones removed, and the updater moves dirty
slots on. All of it follows from the board that is handed in, and is written to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import rollout, slots
from gitops.swarm.scheduling.board import Board, Glance, Ids, Time
from gitops.swarm.scheduling.restarts import RestartSupervisor, should_restart
from gitops.swarm.scheduling.tasks import advance, by_slot, may_hold_container, new_task
from gitops.swarm.scheduling.updates import Rollout, Updater

Outcome = tuple[Rollout | None, float | None]
"""A service's rollout after a pass, and the seconds until the next one is due."""


class ReplicatedPass:
    """Brings replicated services to their number of tasks, all of their present spec."""

    def __init__(self, clock: Time, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids
        self._restarts = RestartSupervisor(clock, ids)
        self._updater = Updater(clock, ids)

    def forget(self, view: Glance) -> None:
        """Let go of what is remembered of tasks that are over."""
        self._restarts.forget(view)

    def reconcile(self, tx: Board, service_id: str, former: Rollout | None) -> Outcome:
        """Do what is due for a service; `former` is its rollout after the last pass. May be run again."""
        service = tx.get(Service, service_id)
        if service is None:
            for task in tx.tasks_of_service(service_id):
                advance(tx, task, TaskState.REMOVE)
            return None, None
        if not is_replicated(service):
            return None, None
        restart_wait = self._restarts.tend(tx, service)
        kept = self._scale(tx, service)
        update, update_wait = self._updater.step(tx, service, kept, former)
        waits = [wait for wait in (restart_wait, update_wait) if wait is not None]
        return update, min(waits, default=None)

    def _scale(self, tx: Board, service: Service) -> dict[int, list[Task]]:
        """Fill free slots or remove surplus ones; returns the slots that stay, new ones left out."""
        all_tasks = by_slot(tx.tasks_of_service(service.id))
        occupied = occupied_slots(service, all_tasks)
        plan = slots.scale(occupied, replicas(service))
        for number in plan.create:
            self._fill(tx, service, number, all_tasks.get(number, []))
        staying = {*plan.keep, *plan.create}
        for number, tasks in all_tasks.items():
            if number not in staying:
                for task in tasks:
                    advance(tx, task, TaskState.REMOVE)
        return {number: occupied[number] for number in plan.keep}

    def _fill(self, tx: Board, service: Service, number: int, former: list[Task]) -> None:
        """A new task in a free slot; where the former one still stops, it waits for that."""
        must_wait = any(may_hold_container(tx, task) for task in former)
        desired = TaskState.READY if must_wait else TaskState.RUNNING
        tx.create(new_task(service, number, self._ids(), desired, self._clock.now_ns()))


def occupied_slots(service: Service, all_tasks: Mapping[int, Sequence[Task]]) -> slots.Slots:
    """The slots that count, each with the tasks that stand for it; `all_tasks` are the service's by slot."""

    def is_free(last: Task) -> bool:
        if last.desired_state is TaskState.REMOVE:
            return True
        if rollout.is_rolling_back(service) and last.spec_version != service.spec_version:
            # The spec that is rolled back to gets another chance in every slot, once.
            return True
        return should_restart(last, all_tasks[last.slot])

    tasks = (task for tasks in all_tasks.values() for task in tasks)
    return slots.occupancy(replace(service, update_status=None), tasks, is_free).occupied


def is_replicated(service: Service) -> bool:
    """Whether the service runs a number of tasks without end; no mode at all means so too."""
    mode = service.spec.mode
    return mode.global_ is None and mode.replicated_job is None and mode.global_job is None


def replicas(service: Service) -> int:
    """How many tasks a replicated service asks for."""
    replicated = service.spec.mode.replicated
    return 1 if replicated is None or replicated.replicas is None else replicated.replicas
