"""A swarm as a model: the board and the clock of a forecast, and nodes whose tasks always do as they are told.

Objects and time are held in memory, changes are counted, nothing is written anywhere. Time goes from one event to the
next. Nodes need no time worth speaking of, but for a health check, whose first result has to be waited for: what a
forecast says of durations is what must pass at the least.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from gitops.objects import base, defaults
from gitops.objects.node import Node
from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import restart, rollout
from gitops.swarm.scheduling.board import T
from gitops.swarm.scheduling.nodes import ClusterState, holds_node
from gitops.swarm.scheduling.placement import place
from gitops.swarm.scheduling.tasks import is_runnable, is_waiting

NEW = "~"
"""What the ids of tasks begin with that a model makes."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long tasks take, in nanoseconds: until they are ready, run, have stopped; and how long those of jobs run.

    By default next to nothing, and all alike: what a task holds that stops is not free yet when its successor is
    placed, but when the next batch is.
    """

    prepare_ns: int = base.MILLISECOND
    start_ns: int = base.MILLISECOND
    stop_ns: int = base.MILLISECOND
    run_ns: int = base.MILLISECOND


AT_ONCE = Pace()


class Model:
    """Services, tasks and nodes at one moment; implements `board.Board` and `board.Time`."""

    def __init__(self, nodes: Iterable[Node], tasks: Iterable[Task], now_ns: int = 0, pace: Pace = AT_ONCE) -> None:
        """`tasks` in the order of their creation, history included."""
        self.elapsed_ns = 0
        self.touched: dict[str, None] = {}
        """Services that were changed, or a task of which was, since somebody emptied this."""
        self.reasons: dict[str, str] = {}
        """Waiting tasks, by id, and why they wait."""
        self._start_ns = now_ns
        self._pace = pace
        self._services: dict[str, Service] = {}
        self._nodes = {node.id: node for node in nodes}
        self._tasks = {task.id: task for task in tasks}
        self._by_service: dict[str, dict[str, None]] = {}
        for task in self._tasks.values():
            self._by_service.setdefault(task.service_id, {})[task.id] = None
        self._events: list[tuple[int, int, str, TaskState]] = []
        self._moving: dict[str, None] = {}
        self._still: ClusterState | None = None
        self._count = 0
        self._version = 0

    # The board

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self._version

    def get(self, kind: type[T], object_id: str, /) -> T | None:
        """The object with this id."""
        found: Service | Task | Node | None
        if kind is Task:
            found = self._tasks.get(object_id)
        else:
            found = self._nodes.get(object_id) if kind is Node else self._services.get(object_id)
        return found if isinstance(found, kind) else None

    def all(self, kind: type[T], /) -> list[T]:
        """All objects of a kind."""
        found: Iterable[Service | Task | Node]
        if kind is Task:
            found = self._tasks.values()
        else:
            found = self._nodes.values() if kind is Node else self._services.values()
        return [item for item in found if isinstance(item, kind)]

    def tasks_of_service(self, service_id: str, /) -> list[Task]:
        """The tasks of a service in the order of their creation, history included."""
        return [self._tasks[task_id] for task_id in self._by_service.get(service_id, ())]

    def create(self, item: T, /) -> T:
        """Put a new service or task into the model; a task waits for a node at once."""
        if isinstance(item, Task):
            status = replace(item.status, state=TaskState.PENDING)
            item = replace(item, created_at=base.format_time(self.now_ns()), status=status)
            self._by_service.setdefault(item.service_id, {})[item.id] = None
        return self.update(item)

    def update(self, item: T, /) -> T:
        """Replace an object."""
        self._version += 1
        if isinstance(item, Task):
            self._tasks[item.id] = item
            if not _is_plainly_going_on(item):
                self.touched[item.service_id] = None
            self._follow(item)
        elif isinstance(item, Service):
            self._services[item.id] = item
            self.touched[item.id] = None
        return item

    def remove(self, service_id: str) -> None:
        """Take a service away; its tasks stay until somebody tells them to go."""
        self._services.pop(service_id, None)
        self.touched[service_id] = None

    def make_id(self) -> str:
        """A new task's id; in the order of ids, those that are made later come later."""
        self._count += 1
        return f"{NEW}{self._count:08}"

    # The clock

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return self._start_ns + self.elapsed_ns

    def monotonic(self) -> float:
        """Seconds since the model's start."""
        return self.elapsed_ns / base.SECOND

    # The scheduler

    def is_restless(self, service: Service) -> bool:
        """Whether something of a service goes on: a task on its way or off its node, an update that isn't over."""
        if rollout.state_of(service) in (rollout.UPDATING, rollout.ROLLBACK_STARTED):
            return True
        return any(
            _is_on_its_way(task) or (is_runnable(task) and restart.is_dead(task, self._nodes.get(task.node_id)))
            for task in self.tasks_of_service(service.id)
        )

    def settle(self, services: Iterable[str]) -> None:
        """Take the tasks of `services`, and all that is on its way somewhere, as what moves; the rest stands still."""
        moving = set(services)
        self._moving = {
            task.id: None for task in self._tasks.values() if task.service_id in moving or _is_on_its_way(task)
        }
        still = (task for task in self._tasks.values() if task.id not in self._moving)
        self._still = ClusterState.build(self._nodes.values(), still)
        for task in list(self.moving()):
            # What waits for an address gets one at once: forecasts leave the allocator out.
            self._set(task, TaskState.PENDING) if task.status.state is TaskState.NEW else self._follow(task)

    def moving(self) -> Iterator[Task]:
        """The tasks that may change."""
        return (self._tasks[task_id] for task_id in self._moving)

    def state(self) -> ClusterState:
        """What each node holds now."""
        assert self._still is not None, "the model was settled"
        state = self._still.copy()
        for task in self.moving():
            node = state.get(task.node_id)
            if node is not None and holds_node(task):
                node.charge(task)
        return state

    def schedule(self) -> None:
        """Give waiting tasks a node as the scheduler does."""
        self.reasons = {}
        waiting = [task for task in self.moving() if is_waiting(task)]
        if not waiting:
            return
        wanted = [task for task in waiting if task.status.state is TaskState.PENDING and is_runnable(task)]
        outcome = place(self.state(), wanted)
        self.reasons = outcome.reasons
        for task in waiting:
            if not is_runnable(task):
                self._set(task, TaskState.SHUTDOWN)
            elif (node_id := outcome.assignments.get(task.id)) is not None:
                self._set(replace(task, node_id=node_id), TaskState.ASSIGNED)

    # The nodes

    def next_event(self) -> int | None:
        """When, in nanoseconds since the start, a node says something next."""
        return self._events[0][0] if self._events else None

    def hear(self) -> None:
        """Take what nodes say at this moment."""
        while self._events and self._events[0][0] <= self.elapsed_ns:
            _, _, task_id, state = heapq.heappop(self._events)
            task = self._tasks[task_id]
            is_stopping = task.desired_state.rank > TaskState.COMPLETE.rank
            if (
                holds_node(task)
                and task.status.state.rank < state.rank
                and is_stopping == (state is TaskState.SHUTDOWN)
            ):
                self._set(task, state)

    def _set(self, task: Task, state: TaskState) -> None:
        now = base.format_time(self.now_ns())
        self.update(replace(task, status=replace(task.status, state=state, timestamp=now, applied_at=now)))

    def _follow(self, task: Task) -> None:
        """Have the task's node say in time what comes next."""
        self._moving[task.id] = None
        node = self._nodes.get(task.node_id)
        if node is None or node.status.state == "down" or not holds_node(task):
            return
        if (target := _target(task)) is not None:
            self._count += 1
            heapq.heappush(
                self._events, (self.elapsed_ns + self._duration_ns(task, target), self._count, task.id, target)
            )

    def _duration_ns(self, task: Task, target: TaskState) -> int:
        if target is TaskState.SHUTDOWN:
            return self._pace.stop_ns
        if target is not TaskState.RUNNING:
            return self._pace.run_ns if target is TaskState.COMPLETE else self._pace.prepare_ns
        return self._pace.start_ns + first_check_ns(task)


def _is_stopping(task: Task) -> bool:
    return task.desired_state.rank > TaskState.COMPLETE.rank


def _is_plainly_going_on(task: Task) -> bool:
    """Whether a task is a job's that comes nearer to its end: long jobs make many, and nothing follows from that."""
    return task.desired_state is TaskState.COMPLETE and not task.status.state.is_terminal


def _is_on_its_way(task: Task) -> bool:
    """Whether a task waits for something, or its node is to do something with it."""
    if task.status.state.rank <= TaskState.PENDING.rank:
        return is_runnable(task)
    return holds_node(task) and _target(task) is not None


def _target(task: Task) -> TaskState | None:
    """The state that a task on a node comes to next; None where it stays as it is."""
    if _is_stopping(task):
        return TaskState.SHUTDOWN
    if task.status.state.rank < TaskState.READY.rank:
        return TaskState.READY
    if task.desired_state is TaskState.READY or task.status.state is TaskState.RUNNING:
        return TaskState.COMPLETE if task.desired_state is TaskState.COMPLETE else None
    return TaskState.RUNNING


def first_check_ns(task: Task) -> int:
    """Nanoseconds from a task's start to the first result of its health check, 0 where it has none."""
    check = task.spec.container_spec.healthcheck if task.spec.container_spec else None
    if check is None or not check.test or check.test[0] == "NONE":
        return 0
    if check.start_period:
        return check.start_interval or defaults.HEALTH_START_INTERVAL
    return check.interval or defaults.HEALTH_INTERVAL
