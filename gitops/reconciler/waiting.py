"""Waits until services have converged, and says on the way where each of them stands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from gitops import client as clients
from gitops import errors
from gitops.objects import defaults
from gitops.objects.base import SECOND
from gitops.objects.service import Service
from gitops.objects.task import Task
from gitops.reconciler import converge, groups
from gitops.reconciler.converge import Progress, Verdict

POLL_S = 0.25
"""Between two looks: short beside the second that a person notices, long beside the milliseconds that a look costs."""

_PATIENCE_S = 3.0
"""How long a bad verdict must hold, in seconds: loops that have just started, or have not seen an update yet, leave a
service without a task or without a node for a moment."""

_SILENCE_S = 15.0
"""How long an engine may not answer, in seconds, before a wait ends with that: a restart of it takes a few."""


@dataclass(frozen=True, slots=True)
class Update:
    """A line of progress: `state` is started, progress, done, kept, or that of a service on its way."""

    kind: str
    name: str
    state: str
    text: str
    progress: Progress | None = None


Report = Callable[[Update], None]


@dataclass(frozen=True, slots=True)
class Ids:
    """Ids by name."""

    networks: Mapping[str, str]
    secrets: Mapping[str, str]
    configs: Mapping[str, str]


async def wait(
    client: clients.EngineClient,
    names: Collection[str],
    changed: Collection[str],
    report: Report,
    timeout_s: float,
    guard: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Return when all services have converged; those in `changed` must stay so for their monitor time.

    `guard` is asked at every look, and ends the wait by what it raises.

    What failed before the wait is not held against a service: its cause may be gone.

    Raises:
        errors.RolloutFailed: one failed, was paused or rolled back, or is not there within `timeout_s` seconds.
        errors.Unschedulable: tasks of one have no node.
        errors.NotFound: one was removed meanwhile.
        errors.Unavailable: the engine has not answered for a while.
    """
    await _Wait(client, names, changed, report, timeout_s, guard).run()


class _Wait:
    def __init__(
        self,
        client: clients.EngineClient,
        names: Collection[str],
        changed: Collection[str],
        report: Report,
        timeout_s: float,
        guard: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._guard = guard
        self._client = client
        self._open = set(names)
        self._changed = set(changed)
        self._report = report
        self._timeout_s = timeout_s
        self._forgiven: set[str] | None = None
        self._since: dict[str, float] = {}
        self._stuck: dict[str, float] = {}
        self._last: dict[str, str] = {}
        self._cause: dict[str, str] = {}
        self._silent_since: float | None = None

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + self._timeout_s
        while self._open:
            begin = clock()
            if self._guard:
                await self._guard()
            for progress, monitor_s in await self._look_patiently(begin):
                self._judge(progress, monitor_s, clock())
            if not self._open:
                return
            if clock() > end:
                raise errors.RolloutFailed(self._blockers())
            # Looking at thousands of tasks takes its time: the engine has more to do than to answer us.
            await asyncio.sleep(max(POLL_S, clock() - begin))

    async def _look_patiently(self, now: float) -> list[tuple[Progress, float]]:
        """A look; nothing while the engine does not answer, which a restart of it is allowed for a while."""
        try:
            found = await self._look()
        except errors.Unavailable as error:
            if not error.is_temporary:
                raise
            if self._silent_since is None:
                self._silent_since = now
            if now - self._silent_since > _SILENCE_S:
                raise
            return []
        self._silent_since = None
        return found

    async def _look(self) -> list[tuple[Progress, float]]:
        async with groups.group() as group:
            services = group.create_task(self._client.services())
            nodes = group.create_task(self._client.nodes())
            tasks = group.create_task(self._client.tasks())
            current = group.create_task(self._client.tasks({"_up-to-date": ["true"]}))
        by_name = {item.spec.name: item for item in services.result() if item.spec.name in self._open}
        if missing := sorted(self._open - by_name.keys()):
            raise errors.NotFound(f"service {missing[0]} was removed while it was waited for: run it again")
        all_nodes = {node.id: node for node in nodes.result()}
        fresh = {task.id for task in current.result()}
        by_service = _by_service(tasks.result())
        if self._forgiven is None:
            self._forgiven = {task.id for task in tasks.result() if task.status.state.is_terminal}
        found = []
        for service in by_name.values():
            mine = by_service.get(service.id, [])
            now = [task for task in mine if task.id in fresh]
            former = [task for task in mine if task.id not in fresh]
            progress = converge.evaluate(service, now, former, all_nodes, self._forgiven)
            found.append((progress, monitor_s(service)))
        return found

    def _judge(self, progress: Progress, monitor_s: float, now: float) -> None:
        name = progress.name
        if progress.update == "rollback_started":
            self._cause[name] = progress.reason
        if progress.verdict is Verdict.ROLLED_BACK and name in self._changed:
            raise errors.RolloutFailed(f"service {name}: {progress.counts}: {self._cause.get(name, progress.reason)}")
        self._give_up(progress, now)
        if progress.verdict not in (Verdict.CONVERGED, Verdict.ROLLED_BACK):
            self._since.pop(name, None)
            self._tell(progress, progress.summary)
            return
        since = self._since.setdefault(name, now)
        # An update has watched its tasks for that long itself before it says that it is completed.
        if name in self._changed and progress.update != "completed" and now - since < monitor_s:
            self._tell(progress, f"{progress.counts}, to stay so for {monitor_s:g} s")
            return
        self._open.discard(name)
        if name in self._changed or name in self._last:
            self._report(Update("Service", name, "done", progress.counts, progress))

    def _tell(self, progress: Progress, text: str) -> None:
        if self._last.get(progress.name) != text:
            self._last[progress.name] = text
            self._report(Update("Service", progress.name, str(progress.verdict), text, progress))

    def _give_up(self, progress: Progress, now: float) -> None:
        """Raise when a bad verdict holds."""
        if progress.verdict not in (Verdict.FAILED, Verdict.UNSCHEDULABLE):
            self._stuck.pop(progress.name, None)
            return
        if now - self._stuck.setdefault(progress.name, now) > _PATIENCE_S:
            kind = errors.RolloutFailed if progress.verdict is Verdict.FAILED else errors.Unschedulable
            raise kind(f"service {progress.name}: {progress.summary}")

    def _blockers(self) -> str:
        waiting = [f"service {name}: {self._last[name]}" for name in sorted(self._open) if name in self._last]
        return f"not there after {self._timeout_s:g} s: " + ("; ".join(waiting) or "the engine does not answer")


async def wait_gone(client: clients.EngineClient, service_id: str, timeout_s: float) -> None:
    """Return when no task of a removed service is left.

    Raises:
        errors.Unavailable: tasks are left after `timeout_s` seconds.
    """
    end = asyncio.get_running_loop().time() + timeout_s
    while service_id:
        left = [task for task in await client.tasks() if task.service_id == service_id]
        if not left:
            return
        if asyncio.get_running_loop().time() > end:
            raise errors.Unavailable(f"{len(left)} tasks of a removed service did not stop within {timeout_s:.0f} s")
        await asyncio.sleep(POLL_S)


def _by_service(tasks: Iterable[Task]) -> dict[str, list[Task]]:
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.service_id, []).append(task)
    return groups


def monitor_s(service: Service) -> float:
    """How long a service must stay converged, in seconds: its update's monitor time."""
    monitor = defaults.update_config(service.spec.update_config).monitor
    return (monitor or 0) / SECOND
