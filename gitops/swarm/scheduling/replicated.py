"""Which slots of a replicated service count, the restart policy and a rollback considered. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import rollout, slots
from gitops.swarm.scheduling.restarts import should_restart


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
