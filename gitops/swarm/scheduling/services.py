"""One pass over a service: it becomes tasks, in the way of its mode.

The restart supervisor replaces what died, free slots are filled or surplus ones removed, and the updater moves dirty
slots on. For a global service nodes stand in the place of slots. A job isn't updated: each declaration of it begins a
new iteration, and the tasks of former ones go. All of it follows from the board that is handed in, and is
written to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import bynode, jobs, modes, replicated, slots
from gitops.swarm.scheduling.board import Board, Glance, Ids, Time
from gitops.swarm.scheduling.restarts import RestartSupervisor
from gitops.swarm.scheduling.slots import Place
from gitops.swarm.scheduling.tasks import advance, by_slot, fill
from gitops.swarm.scheduling.updates import Rollout, Updater

Outcome = tuple[Rollout | None, float | None]
"""A service's rollout after a pass, and the seconds until the next one is due."""


class ServicePass:
    """Brings services to the tasks that their modes ask for, all of their present spec."""

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
        mode = service.spec.mode
        for task in tx.tasks_of_service(service_id):
            if not modes.is_of_iteration(service, task):
                advance(tx, task, TaskState.REMOVE)
        if modes.is_by_node(mode):
            bynode.clear(tx, service)
        restart_wait = self._restarts.tend(tx, service)
        kept = self._fill_nodes(tx, service) if modes.is_by_node(mode) else self._fill_slots(tx, service)
        if modes.is_job(mode):
            return None, restart_wait
        update, update_wait = self._updater.step(tx, service, kept, former)
        waits = [wait for wait in (restart_wait, update_wait) if wait is not None]
        return update, min(waits, default=None)

    def _fill_nodes(self, tx: Board, service: Service) -> dict[Place, list[Task]]:
        """A task on each node that lacks one; returns what stands for each node, new tasks left out."""
        kept = bynode.standing(tx, service)
        for node_id, former in bynode.free_nodes(tx, service):
            kept.pop(node_id, None)
            self._fill(tx, service, node_id, former)
        return kept

    def _fill_slots(self, tx: Board, service: Service) -> dict[Place, list[Task]]:
        """Fill free slots or remove surplus ones; returns the slots that stay, new ones left out."""
        all_tasks = by_slot(tx.tasks_of_service(service.id))
        if modes.is_job(service.spec.mode):
            for number in jobs.missing(service.spec.mode, jobs.slot_states(service, all_tasks)):
                self._fill(tx, service, number, all_tasks.get(number, []))
            return {}
        occupied = replicated.occupied_slots(service, all_tasks)
        plan = slots.scale(occupied, modes.replicas(service.spec))
        for number in plan.create:
            self._fill(tx, service, number, all_tasks.get(number, []))
        staying = {*plan.keep, *plan.create}
        for number, tasks in all_tasks.items():
            if number not in staying:
                for task in tasks:
                    advance(tx, task, TaskState.REMOVE)
        return {number: occupied[number] for number in plan.keep}

    def _fill(self, tx: Board, service: Service, place: Place, former: Sequence[Task]) -> None:
        fill(tx, service, place, former, self._ids(), self._clock.now_ns())
