"""What a plan says of the schedule: which node gets what, what restarts, what is left. Values only.

`gitops.reconciler.prediction` makes them; the command line prints them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gitops.swarm.scheduling import modes
from gitops.swarm.scheduling.refusals import Refusal

__all__ = ["Forecast", "LostNode", "NodeForecast", "Refusal", "ServiceForecast", "Slot"]

Slot = int | str
"""A replica's number; of a service that has its tasks by node, the node's hostname."""


@dataclass(frozen=True, slots=True)
class ServiceForecast:
    """What happens to one service that is created, updated or deleted.

    `mode` is one of `modes.MODES`. `wanted` tasks are to run in the end; of a job, to have run to their end. `before`
    and `after` count tasks by the hostnames of nodes, of a job those that have run or will. `restarted` are slots whose
    running task is replaced, `created` and `removed` slots that come and go. `batches` are the slots of the update in
    the order in which they are taken; with several hands at work a batch is what goes on at a time when all tasks take
    alike. Of a job they are the rounds in which its tasks run. `order` is `stop-first` or `start-first`, "" where
    nothing is updated. `min_healthy` is the least number of tasks that run and are meant to, from now until all is
    done; a job's don't count. `best_case_s` counts what must be waited for (delays, monitor times, the first health
    check), and takes tasks to start, to stop and, of jobs, to run in no time. `completed` tasks of a job run to their
    end. `blocked` says why the way doesn't end, "" where it does. `pulls` are the nodes that get a task and lack the
    image, with the bytes to pull where that is known; `pulls_unknown` those of which it isn't known what they have.
    """

    engine_name: str
    wanted: int
    mode: str = modes.REPLICATED
    before: Mapping[str, int] = field(default_factory=dict)
    after: Mapping[str, int] = field(default_factory=dict)
    restarted: tuple[Slot, ...] = ()
    created: tuple[Slot, ...] = ()
    removed: tuple[Slot, ...] = ()
    batches: tuple[tuple[Slot, ...], ...] = ()
    order: str = ""
    min_healthy: int = 0
    has_outage: bool = False
    best_case_s: float = 0.0
    completed: int = 0
    blocked: str = ""
    pulls: Mapping[str, int | None] = field(default_factory=dict)
    pulls_unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeForecast:
    """What a node holds once all is done: its tasks, and what is left of what it has (nano CPUs, bytes)."""

    hostname: str
    tasks: int
    nano_cpus: int
    nano_cpus_left: int
    memory_bytes: int
    memory_bytes_left: int


@dataclass(frozen=True, slots=True)
class LostNode:
    """If the node `hostname` were lost, `service` would lack so many of its tasks, and why."""

    hostname: str
    service: str
    missing: int
    reason: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """The schedule of a plan: its changed services by engine name, all nodes, and which node's loss would be felt.

    `lost` is empty, too, where there is only one node.
    """

    services: Mapping[str, ServiceForecast] = field(default_factory=dict)
    nodes: tuple[NodeForecast, ...] = ()
    lost: tuple[LostNode, ...] = ()
