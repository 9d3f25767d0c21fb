"""What will happen to services that are created, changed or removed: the loops' own passes, run on a model.

Tasks start and stop as they are told, and all of them alike, so that an update goes on in batches. What the answer
can't know is how long tasks take and whether they fail; where all goes well it is what the loops will do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gitops.objects import base
from gitops.objects.node import Node
from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import modes, restart
from gitops.swarm.scheduling.model import AT_ONCE, Model, Pace
from gitops.swarm.scheduling.nodes import ClusterState
from gitops.swarm.scheduling.services import ServicePass
from gitops.swarm.scheduling.slots import Place
from gitops.swarm.scheduling.tasks import is_runnable, place_of
from gitops.swarm.scheduling.updates import Rollout

MAX_MOMENTS = 1_000_000
"""Moments after which a model that doesn't come to rest is a defect."""


@dataclass(slots=True)
class Course:
    """What happens to one service; tasks are counted by node id."""

    service_id: str
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    created: list[Place] = field(default_factory=list)
    """Slots (of services with a task on each node: nodes) that come …"""
    removed: list[Place] = field(default_factory=list)
    """… and that go."""
    restarted: list[Place] = field(default_factory=list)
    """Slots whose task is replaced, or of a job: is told to go before its end, and made anew."""
    batches: list[list[Place]] = field(default_factory=list)
    """The slots that an update takes, in its order; a batch is what its workers take for the n-th time. Of a job the
    slots that run, in rounds: what is begun for the n-th time when as many run at once as may."""
    order: str = ""
    """What comes first in a slot that is updated: stop-first or start-first."""
    healthy_before: int = 0
    min_healthy: int = 0
    """The least number of tasks that run, and are meant to, from the beginning to the end."""
    seconds: float = 0.0
    """Until all is done, with tasks that start and stop in no time."""
    is_updating: bool = False
    """At the end an update is still under way: it waits for something that doesn't come."""
    waiting: list[Task] = field(default_factory=list)
    """Tasks for which there is no node at the end."""
    completed: int = 0
    """Slots of a job's present iteration that have run to their end, at the end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The courses of all services in question by id, what nodes hold at the end, and the tasks that may have moved."""

    courses: Mapping[str, Course]
    state: ClusterState
    tasks: Sequence[Task]


def run(
    services: Sequence[Service],
    removed: Sequence[str],
    nodes: Iterable[Node],
    tasks: Iterable[Task],
    others: Iterable[Service] = (),
    first: Collection[str] = (),
    pace: Pace = AT_ONCE,
) -> Outcome:
    """Follow `services`, as they will be stored, and those `removed` (ids), until nothing is left to be done.

    Services are looked at in the given order. What is removed goes when all others are there, as an apply has it, and
    stays where they don't come to be; only the ones `first` go at once. `tasks` are all that there are, in the order of
    their creation, history included. Of the `others`, all services as they are stored now, those that are in the middle
    of something go on with it; the rest stay as they are.
    """
    found = list(tasks)
    now_ns = max((base.parse_time(task.status.timestamp) for task in found if task.status.timestamp), default=0)
    return _Run(Model(nodes, found, now_ns, pace), services, removed, others).run(first)


def is_healthy(task: Task) -> bool:
    """Whether a task counts: it runs, and is meant to."""
    return task.status.state is TaskState.RUNNING and task.desired_state is TaskState.RUNNING


def _in_order(place: Place) -> tuple[int, str]:
    return (0, place) if isinstance(place, str) else (place, "")


class _Run:
    """One run of a model."""

    def __init__(
        self, model: Model, services: Sequence[Service], removed: Sequence[str], others: Iterable[Service]
    ) -> None:
        self._model = model
        self._pass = ServicePass(model, model.make_id)
        self._services = services
        self._removed = removed
        ids = [service.id for service in services] + list(removed)
        self._courses = {service_id: Course(service_id) for service_id in ids}
        named = {service.id for service in services}
        self._others = [
            service
            for service in others
            if service.id in removed or (service.id not in named and model.is_restless(service))
        ]
        self._followed = {*ids, *(service.id for service in self._others)}
        self._rollouts: dict[str, Rollout] = {}
        self._due: dict[str, int] = {}
        self._rounds: dict[str, dict[int, int]] = {}
        """How many slots each worker of a service's update took."""
        self._hands: dict[str, list[list[str]]] = {}
        """The tasks that each hand of a job took, one after the other; `_ended` says when each was over."""
        self._ended: dict[str, int] = {}
        self._begun: dict[str, set[Place]] = {}

    def run(self, first: Collection[str]) -> Outcome:
        model = self._model
        former = {service_id: self._live_places(service_id) for service_id in self._courses}
        for service_id, course in self._courses.items():
            course.before = self._by_node(service_id)
            course.healthy_before = course.min_healthy = self._healthy(service_id)
        model.settle(self._followed)
        for service in (*self._services, *self._others):
            model.update(service)
        for service_id in first:
            model.remove(service_id)
        self._to_the_end()
        if all(self._is_there(service) for service in self._services):
            for service_id in self._removed:
                model.remove(service_id)
            self._to_the_end()
        for service_id, course in self._courses.items():
            self._sum_up(course, former[service_id])
        return Outcome(self._courses, model.state(), list(model.moving()))

    def _is_there(self, service: Service) -> bool:
        """Whether nothing of a service waits for what doesn't come: all have a node, its update is over."""
        tasks = self._model.tasks_of_service(service.id)
        return service.id not in self._rollouts and not any(task.id in self._model.reasons for task in tasks)

    def _sum_up(self, course: Course, former: set[Place]) -> None:
        model, service_id = self._model, course.service_id
        tasks = model.tasks_of_service(service_id)
        places, taken = self._places(service_id), {place for batch in course.batches for place in batch}
        course.created = sorted(places - former, key=_in_order)
        course.removed = sorted(former - places, key=_in_order)
        course.restarted = sorted(taken & former, key=_in_order)
        course.after = self._by_node(service_id)
        course.is_updating = service_id in self._rollouts
        course.waiting = [task for task in tasks if task.id in model.reasons]
        course.completed = len({place_of(task) for task in tasks if is_runnable(task) and restart.is_done(task)})

    def _to_the_end(self) -> None:
        for _ in range(MAX_MOMENTS):
            self._moment()
            upcoming = [due for due in (*self._due.values(), self._model.next_event()) if due is not None]
            if not upcoming:
                return
            self._model.elapsed_ns = max(self._model.elapsed_ns, min(upcoming))
        raise RuntimeError(f"the model of {', '.join(self._courses)} does not come to rest")

    def _moment(self) -> None:
        """All that happens at this moment: nodes report, services are passed over, tasks are placed."""
        self._model.hear()
        while touched := self._touched():
            for service_id in touched:
                self._pass_over(service_id)
            self._model.schedule()

    def _touched(self) -> list[str]:
        now = self._model.elapsed_ns
        touched, self._model.touched = self._model.touched, {}
        touched.update((service_id, None) for service_id, due in self._due.items() if due <= now)
        return [service_id for service_id in touched if service_id in self._followed]

    def _pass_over(self, service_id: str) -> None:
        model, course = self._model, self._courses.get(service_id) or Course(service_id)
        course.min_healthy = min(course.min_healthy, self._healthy(service_id))
        self._due.pop(service_id, None)
        course.seconds = model.monotonic()
        known = {task.id for task in model.tasks_of_service(service_id)}
        former = self._rollouts.pop(service_id, None)
        update, wait = self._pass.reconcile(model, service_id, former)
        course.min_healthy = min(course.min_healthy, self._healthy(service_id))
        if update is not None:
            self._rollouts[service_id] = update
            self._note_batches(course, update, former)
        service = model.get(Service, service_id)
        if service is not None and modes.is_job(service.spec.mode):
            self._note_rounds(course, known)
        if wait is not None:
            self._due[service_id] = model.elapsed_ns + max(1, round(wait * base.SECOND))

    def _note_batches(self, course: Course, update: Rollout, former: Rollout | None) -> None:
        """Note the slots that the update's workers took in this pass."""
        known = former.made if former is not None and former.spec == update.spec else {}
        rounds = self._rounds.setdefault(course.service_id, {})
        for index, worker in enumerate(update.workers):
            if worker.slot is None or worker.task_id in known:
                continue
            rounds[index] = rounds.get(index, 0) + 1
            if rounds[index] > len(course.batches):
                course.batches.append([])
            course.batches[rounds[index] - 1].append(worker.slot)
            course.order = update.order

    def _note_rounds(self, course: Course, known: set[str]) -> None:
        """Note the slots of a job that were begun in this pass: by the hand that is free the longest, or one more."""
        hands, begun = self._hands.setdefault(course.service_id, []), self._begun.setdefault(course.service_id, set())
        for hand in hands:
            if hand[-1] not in self._ended and self._has_ended(hand[-1]):
                self._ended[hand[-1]] = self._model.elapsed_ns
        for task in self._model.tasks_of_service(course.service_id):
            if task.id in known or place_of(task) in begun:
                continue
            begun.add(place_of(task))
            free = [hand for hand in hands if hand[-1] in self._ended]
            hand = min(free, key=lambda hand: (self._ended[hand[-1]], len(hand)), default=[])
            if not hand:
                hands.append(hand)
            hand.append(task.id)
            if len(hand) > len(course.batches):
                course.batches.append([])
            course.batches[len(hand) - 1].append(place_of(task))

    def _has_ended(self, task_id: str) -> bool:
        task = self._model.get(Task, task_id)
        return task is None or task.status.state.is_terminal

    def _live_places(self, service_id: str) -> set[Place]:
        """Where something runs, or is to: what of a job has run to its end is over."""
        tasks = self._model.tasks_of_service(service_id)
        return {place_of(task) for task in tasks if is_runnable(task) and not restart.is_done(task)}

    def _places(self, service_id: str) -> set[Place]:
        return {place_of(task) for task in self._model.tasks_of_service(service_id) if is_runnable(task)}

    def _by_node(self, service_id: str) -> dict[str, int]:
        tasks = self._model.tasks_of_service(service_id)
        placed = (task for task in tasks if is_runnable(task) and task.status.state.rank >= TaskState.ASSIGNED.rank)
        return dict(Counter(task.node_id for task in placed if task.node_id))

    def _healthy(self, service_id: str) -> int:
        return sum(is_healthy(task) for task in self._model.tasks_of_service(service_id))
