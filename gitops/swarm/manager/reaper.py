"""The task reaper: takes away the objects of tasks that are history.

A task that is to be removed goes as soon as nothing of it can run; so does one that belongs to no service. Of the
others a slot keeps its last few: the cluster's limit, or one more than the restart policy's attempts, which are
counted from them. What a decision still hangs on stays in any case: the last task of a slot, a task that nobody has
replaced yet, and what a waiting replacement waits for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gitops.objects.node import Cluster, Orchestration
from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.manager.loop import StoreLoop
from gitops.swarm.scheduling import restart, slots
from gitops.swarm.scheduling.tasks import by_place, is_runnable
from gitops.swarm.store.protocol import Change, Tx, View


class Reaper(StoreLoop):
    """Deletes task objects."""

    quiet_s = 0.25
    max_s = 0.25
    limit = 1000

    _everything = True
    _services: frozenset[str] = frozenset()

    def resync(self, view: View) -> None:
        """Everything is to be looked at."""
        self._everything = True

    def notice(self, change: Change) -> None:
        """A task that changed may be history; a service or the cluster may keep less of it."""
        item = change.object
        if isinstance(item, Task):
            self._services |= {item.service_id}
        elif isinstance(item, Service):
            self._services |= {item.id}
        elif isinstance(item, Cluster):
            self._everything = True

    async def act(self) -> None:
        """Delete what is history."""
        services = None if self._everything else self._services
        if services is None or services:
            await self.store.update(lambda tx: _reap(tx, services))
        self._everything, self._services = False, frozenset()


def _reap(tx: Tx, services: Iterable[str] | None) -> None:
    if services is None:
        services = dict.fromkeys(task.service_id for task in tx.all(Task))
    kept = history_limit(tx)
    for service_id in sorted(services):
        for task in victims(tx, service_id, kept):
            tx.delete(Task, task.id)


def history_limit(view: View) -> int:
    """How many tasks a slot keeps by the cluster's word, the present one included; negative: all."""
    clusters = view.all(Cluster)
    return (clusters[0].spec.orchestration if clusters else Orchestration()).task_history_retention_limit


def victims(view: View, service_id: str, kept: int) -> list[Task]:
    """The tasks of a service ("" for those of none) whose objects go."""
    if not service_id:
        return [task for task in view.all(Task) if not task.service_id and task.status.state.is_terminal]
    tasks = view.tasks_of_service(service_id)
    service = view.get(Service, service_id)
    gone = [task for task in tasks if is_removable(task)]
    if service is None:
        return gone
    kept = restart.retention(kept, service.spec.task_template.restart_policy)
    for slot in by_place(task for task in tasks if not is_removable(task)).values():
        gone.extend(surplus(slot, kept))
    return gone


def is_removable(task: Task) -> bool:
    """Whether a task is to leave no history, and nothing of it can run."""
    return task.desired_state is TaskState.REMOVE and _is_over(task)


def surplus(tasks: Sequence[Task], kept: int) -> list[Task]:
    """The oldest tasks of a slot beyond `kept` that nothing hangs on; `tasks` in the order of creation."""
    excess = len(tasks) - kept
    if kept < 0 or excess <= 0 or tasks[-1].desired_state is TaskState.READY:
        return []
    history = [task for task in tasks[:-1] if not is_runnable(task) and _is_over(task)]
    return sorted(history, key=slots.sort_key)[:excess]


def _is_over(task: Task) -> bool:
    """Whether a task ended, or was given up before it got a node."""
    never_placed = task.status.state.rank < TaskState.ASSIGNED.rank and not is_runnable(task)
    return task.status.state.is_terminal or never_placed
