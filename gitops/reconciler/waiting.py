"""Follows services until they have converged or are known not to, and says on the way where each of them stands.

`Looks` asks the engine for everything at once, as long as anybody waits, however many do; `follow` judges one service
look by look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from gitops import client as clients
from gitops import errors
from gitops.objects import defaults
from gitops.objects.base import SECOND
from gitops.objects.node import Node
from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.reconciler import converge, groups
from gitops.reconciler.converge import Progress, Verdict
from gitops.reconciler.graph import Condition
from gitops.swarm.scheduling import modes

POLL_S = 0.25
"""Between two looks: short beside the second that a person notices, long beside the milliseconds that a look costs."""

_PATIENCE_S = 3.0
"""How long a bad verdict must hold, in seconds: loops that have just started, or have not seen an update yet, leave a
service without a task or without a node for a moment."""

_SILENCE_S = 15.0
"""How long an engine may not answer, in seconds, before a wait ends with that: a restart of it takes a few."""


@dataclass(frozen=True, slots=True)
class Update:
    """A line of progress.

    `state` is started, progress, sent (a service that rolls from now on), waits (for another object), that of a service
    on its way, or an end: done, kept, failed, blocked.
    """

    kind: str
    name: str
    state: str
    text: str
    progress: Progress | None = None


Report = Callable[[Update], None]
Guard = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Look:
    """All services and tasks at a moment; `fresh` are the ids of tasks of their service's present spec."""

    services: Mapping[str, Service]
    tasks: Mapping[str, tuple[Task, ...]]
    fresh: frozenset[str]
    nodes: Mapping[str, Node]

    def progress(self, name: str, forgiven: Collection[str], seen: Iterable[Task] = ()) -> Progress:
        """Where a service stands; `seen` are tasks that failed before: the swarm keeps a few of a slot only.

        Raises:
            errors.NotFound: it is not there.
        """
        service = self._service(name)
        mine = self.tasks.get(service.id, ())
        current = [task for task in mine if task.id in self.fresh]
        former = [task for task in mine if task.id not in self.fresh]
        there = {task.id for task in mine}
        current += [task for task in seen if task.id not in there]
        return converge.evaluate(service, current, former, self.nodes, forgiven)

    def failures(self, name: str) -> list[Task]:
        """A service's tasks of its present spec that have failed."""
        mine = self.tasks.get(self._service(name).id, ())
        return [task for task in mine if task.id in self.fresh and task.status.state is TaskState.FAILED]

    def ended(self, name: str) -> frozenset[str]:
        """The ids of a service's tasks that have ended."""
        service = self._service(name)
        return frozenset(task.id for task in self.tasks.get(service.id, ()) if task.status.state.is_terminal)

    def running(self, name: str) -> frozenset[str]:
        """The ids of a service's running tasks of its present spec."""
        mine = self.tasks.get(self._service(name).id, ())
        return frozenset(task.id for task in mine if task.id in self.fresh and task.status.state is TaskState.RUNNING)

    def monitor_s(self, name: str) -> float:
        """How long a service must stay converged, in seconds: its update's monitor time."""
        return monitor_s(self._service(name))

    def reached(self, name: str, progress: Progress) -> set[Condition]:
        """What others may wait for that holds of a service, apart from its end.

        A task with a health check runs once that has passed; of one without, only time can tell.
        """
        service = self._service(name)
        current = [task for task in self.tasks.get(service.id, ()) if task.id in self.fresh]
        mode = service.spec.mode
        is_job = mode.replicated_job is not None or mode.global_job is not None
        found = set()
        if progress.verdict in (Verdict.CONVERGED, Verdict.ROLLED_BACK):
            found.add(Condition.STARTED)
            if is_job:
                found.add(Condition.COMPLETED)
            if is_job or _has_check(service):
                found.add(Condition.HEALTHY)
        if progress.desired and _slots(current, _has_started) >= progress.desired:
            found.add(Condition.STARTED)
        if progress.desired and not is_job and _slots(current, _has_completed) >= progress.desired:
            found |= {Condition.STARTED, Condition.COMPLETED}
        return found

    def _service(self, name: str) -> Service:
        service = self.services.get(name)
        if service is None:
            raise errors.NotFound(f"service {name} was removed while it was waited for: run it again")
        return service


def _has_check(service: Service) -> bool:
    container = service.spec.task_template.container_spec
    check = container.healthcheck if container else None
    return check is not None and bool(check.test) and check.test[0] != "NONE"


def _slots(tasks: Iterable[Task], holds: Callable[[Task], bool]) -> int:
    """In how many slots, or on how many nodes of a global service, something holds of a task."""
    return len({(task.slot, "" if task.slot else task.node_id) for task in tasks if holds(task)})


def _has_started(task: Task) -> bool:
    return TaskState.STARTING.rank <= task.status.state.rank <= TaskState.COMPLETE.rank


def _has_completed(task: Task) -> bool:
    return task.status.state is TaskState.COMPLETE


@dataclass(slots=True)
class _Coming:
    """A look that is yet to begin, and its end."""

    is_there: asyncio.Event = field(default_factory=asyncio.Event)
    look: Look | None = None
    error: errors.GitopsError | None = None


class Looks:
    """Looks at the engine as long as anybody asks for the next one; `run` is to be somebody's task."""

    def __init__(self, client: clients.EngineClient, guard: Guard | None = None) -> None:
        self._client = client
        self._guard = guard
        self._coming = _Coming()
        self._asked = asyncio.Event()

    async def next(self) -> Look:
        """A look that begins after this call.

        Raises:
            errors.Unavailable: the engine has not answered for a while.
            whatever the guard raises.
        """
        coming = self._coming
        self._asked.set()
        await coming.is_there.wait()
        if coming.error is not None:
            raise coming.error
        assert coming.look is not None
        return coming.look

    async def run(self) -> None:
        """Look, until it is cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._asked.wait()
            coming, self._coming = self._coming, _Coming()
            self._asked.clear()
            begin = clock()
            try:
                coming.look = await self._look_patiently()
            except errors.GitopsError as error:
                coming.error = error
            coming.is_there.set()
            # Looking at thousands of tasks takes its time: the engine has more to do than to answer us.
            await asyncio.sleep(max(POLL_S, clock() - begin))

    async def _look_patiently(self) -> Look:
        """A look; an engine that does not answer is asked again for a while, in which it may restart."""
        clock = asyncio.get_running_loop().time
        end = clock() + _SILENCE_S
        while True:
            try:
                if self._guard:
                    await self._guard()
                return await self._look()
            except errors.Unavailable as error:
                if not error.is_temporary or clock() > end:
                    raise
            await asyncio.sleep(POLL_S)

    async def _look(self) -> Look:
        async with groups.group() as group:
            services = group.create_task(self._client.services())
            nodes = group.create_task(self._client.nodes())
            tasks = group.create_task(self._client.tasks())
            current = group.create_task(self._client.tasks({"_up-to-date": ["true"]}))
        by_service: dict[str, list[Task]] = {}
        for task in tasks.result():
            by_service.setdefault(task.service_id, []).append(task)
        return Look(
            {service.spec.name: service for service in services.result()},
            {key: tuple(found) for key, found in by_service.items()},
            frozenset(task.id for task in current.result()),
            {node.id: node for node in nodes.result()},
        )


@dataclass(frozen=True, slots=True)
class Followed:
    """A service to wait for: `is_changed` was sent by us and must stay converged for its monitor time."""

    name: str
    is_changed: bool
    timeout_s: float


async def follow(
    looks: Looks, service: Followed, report: Report, reached: Callable[[Condition], None] = lambda _: None
) -> None:
    """Return when a service has converged; `reached` is told what holds of it on the way.

    What failed before is not held against it: its cause may be gone.

    Raises:
        errors.RolloutFailed: it failed, was paused or rolled back, or is not there within its time.
        errors.Unschedulable: some of its tasks have no node.
        errors.NotFound: it was removed meanwhile.
        errors.Unavailable: the engine has not answered for a while.
    """
    await _Follow(looks, service, report, reached).run()


class _Follow:
    def __init__(self, looks: Looks, service: Followed, report: Report, reached: Callable[[Condition], None]) -> None:
        self._looks = looks
        self._service = service
        self._report = report
        self._reached = reached
        self._since: float | None = None
        self._stuck: float | None = None
        self._running: frozenset[str] = frozenset()
        self._is_steady = False
        self._failures: dict[str, Task] = {}
        self._last = ""
        self._cause = ""

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + self._service.timeout_s
        forgiven: frozenset[str] | None = None
        while True:
            look = await self._looks.next()
            if forgiven is None:
                forgiven = look.ended(self._service.name)
            self._failures |= {task.id: task for task in look.failures(self._service.name)}
            progress = look.progress(self._service.name, forgiven, self._failures.values())
            self._compare(look.running(self._service.name))
            is_over = self._is_over(progress, look.monitor_s(self._service.name), clock())
            if not (self._service.is_changed and progress.update.startswith("rollback")):
                for condition in look.reached(self._service.name, progress):
                    self._reached(condition)
            if is_over:
                self._reached(Condition.HEALTHY)
                return
            if clock() > end:
                text = f"not there after {self._service.timeout_s:g} s: {self._last}"
                raise errors.RolloutFailed(f"service {self._service.name}: {text}")

    def _compare(self, running: frozenset[str]) -> None:
        """Tasks that end and are started again may run at every look: only the same tasks are a service that runs."""
        self._is_steady = running == self._running
        self._running = running

    def _is_over(self, progress: Progress, monitor_s: float, now: float) -> bool:
        """Whether it has converged, and stayed so for as long as it must."""
        self._fail(progress, now)
        if progress.verdict not in (Verdict.CONVERGED, Verdict.ROLLED_BACK):
            self._since = None
            self._tell(progress, progress.summary)
            return False
        if self._since is None or not self._is_steady:
            self._since = now
        # An update has watched its tasks for that long itself before it says that it is completed.
        if self._service.is_changed and progress.update != "completed" and now - self._since < monitor_s:
            self._tell(progress, f"{progress.counts}, to stay so for {monitor_s:g} s")
            return False
        if self._service.is_changed or self._last:
            self._report(Update("Service", self._service.name, "done", progress.counts, progress))
        return True

    def _fail(self, progress: Progress, now: float) -> None:
        """Raise when it was rolled back, or when a bad verdict holds."""
        name = self._service.name
        if progress.update == "rollback_started":
            self._cause = progress.reason
        if progress.verdict is Verdict.ROLLED_BACK and self._service.is_changed:
            raise errors.RolloutFailed(f"service {name}: {progress.counts}: {self._cause or progress.reason}")
        if progress.verdict not in (Verdict.FAILED, Verdict.UNSCHEDULABLE):
            if progress.verdict is Verdict.WAITING or self._is_steady:
                self._stuck = None
            return
        self._stuck = now if self._stuck is None else self._stuck
        if now - self._stuck > _PATIENCE_S:
            kind = errors.RolloutFailed if progress.verdict is Verdict.FAILED else errors.Unschedulable
            raise kind(f"service {name}: {progress.summary}")

    def _tell(self, progress: Progress, text: str) -> None:
        if self._last != text:
            self._last = text
            self._report(Update("Service", self._service.name, str(progress.verdict), text, progress))


async def wait_gone(looks: Looks, service_id: str, timeout_s: float) -> None:
    """Return when no task of a removed service is left.

    Raises:
        errors.Unavailable: tasks are left after `timeout_s` seconds.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + timeout_s
    while left := (await looks.next()).tasks.get(service_id, ()):
        if clock() > end:
            raise errors.Unavailable(f"{len(left)} tasks of a removed service did not stop within {timeout_s:.0f} s")


def monitor_s(service: Service) -> float:
    """How long a service must stay converged, in seconds: its update's monitor time. A job that has ended stays so."""
    if modes.is_job(service.spec.mode):
        return 0.0
    monitor = defaults.update_config(service.spec.update_config).monitor
    return (monitor or 0) / SECOND
