"""What the scheduler would say to a plan: its own pure functions, run on a snapshot before anything is changed.

Exact for our own swarm, whose nodes report what the scheduler needs; elsewhere it tells what can't be placed at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from gitops.objects.node import Node
from gitops.objects.service import Endpoint, Service, ServiceSpec
from gitops.objects.task import Task, TaskState
from gitops.reconciler.plan import Unplaced
from gitops.swarm.scheduling import nodes as states
from gitops.swarm.scheduling import placement


def predict(
    specs: Mapping[str, ServiceSpec],
    removed: Iterable[str],
    live: Mapping[str, Service],
    nodes: Iterable[Node],
    tasks: Iterable[Task],
) -> tuple[Unplaced, ...]:
    """The services some of whose tasks no node could hold once all of `specs` (changed services by name) is applied.

    The tasks of changed and removed services are taken off first: an update replaces them slot by slot.
    """
    gone = {live[name].id for name in {*specs, *removed} if name in live}
    staying = [task for task in tasks if task.service_id not in gone]
    wanted = [task for name, spec in specs.items() for task in _tasks(name, spec)]
    outcome = placement.place(states.ClusterState.build(nodes, staying), wanted)
    counts = Counter(task_id.partition("/")[0] for task_id in outcome.reasons)
    reasons = {task_id.partition("/")[0]: reason for task_id, reason in outcome.reasons.items()}
    return tuple(Unplaced(name, counts[name], reasons[name]) for name in sorted(counts))


def _tasks(name: str, spec: ServiceSpec) -> list[Task]:
    replicated = spec.mode.replicated
    count = 1 if replicated is None or replicated.replicas is None else replicated.replicas
    endpoint = Endpoint(spec=spec.endpoint_spec) if spec.endpoint_spec else None
    return [
        Task(
            id=f"{name}/{slot}",
            spec=spec.task_template,
            service_id=name,
            service_name=name,
            slot=slot,
            endpoint=endpoint,
            desired_state=TaskState.RUNNING,
        )
        for slot in range(1, count + 1)
    ]
