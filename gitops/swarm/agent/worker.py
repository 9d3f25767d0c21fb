"""Makes a node hold what its manager assigns: tasks, what they need, and where names and ports lead.

One driver a task. Endpoints are applied before any task is told to stop, and a task that they led to stops a moment
later, so that connections already on their way still reach it. A task that is assigned no more is stopped and taken
away. Tasks that were running when a former agent ended are adopted before any manager is reached; those that were
not yet running wait for the first assignments, because secrets, configs and registry credentials are kept in memory
only.

Everything here is safe to repeat: a complete message after a lost session changes nothing that is right already.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from typing import TypeVar

from gitops import errors
from gitops.objects import base
from gitops.objects.assignment import Assignments, Endpoints
from gitops.objects.image import AuthConfig
from gitops.objects.network import NetworkObject
from gitops.objects.node import NodeDescription
from gitops.objects.secret import Config, Secret
from gitops.objects.service import Credentials
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.swarm.agent.database import TaskDatabase
from gitops.swarm.agent.driver import TaskDriver, merge
from gitops.swarm.agent.executor import Dependencies, Executor
from gitops.swarm.agent.reporter import Reporter
from gitops.swarm.clock import Clock
from gitops.swarm.waiting import backoff, discard, within

log = logging.getLogger(__name__)
T = TypeVar("T")

ENDPOINT_GRACE_S = 1.0
"""Seconds between a task's leaving the endpoints and its stop signal."""
RETRY_S = 0.5
RETRY_MAX_S = 30.0


class Worker:
    """A node's tasks, whichever session they came over."""

    def __init__(
        self, executor: Executor, database: TaskDatabase, reporter: Reporter, clock: Clock, rng: random.Random
    ) -> None:
        self._executor = executor
        self._database = database
        self._reporter = reporter
        self._clock = clock
        self._rng = rng
        self._node: NodeDescription | None = None
        self._tasks: dict[str, Task] = {}
        self._statuses: dict[str, TaskStatus] = {}
        self._drivers: dict[str, TaskDriver] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._secrets: dict[str, Secret] = {}
        self._configs: dict[str, Config] = {}
        self._networks: dict[str, NetworkObject] = {}
        self._credentials: dict[str, Credentials] = {}
        self._endpoints: Endpoints | None = None
        self._applying = asyncio.Lock()
        self._unapplied = asyncio.Event()
        self._sweep_wanted = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        # Live sets, so that a sweep under way sees what was assigned meanwhile.
        self._known_tasks: set[str] = set()
        self._known_networks: set[str] = set()

    async def run(self) -> None:
        """Adopt what a former agent left and drive all tasks until cancelled; what runs goes on running."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._adopt()
            group.create_task(self._mend_endpoints(), name="agent-endpoints")
            group.create_task(self._sweep(), name="agent-sweep")

    def describe(self, node: NodeDescription) -> None:
        """What the node is: goes into templates of tasks that are prepared from now on."""
        self._node = node

    def report_all(self) -> None:
        """Have every status reported (again): a manager that is new may have missed some."""
        for task_id, status in self._statuses.items():
            if status.state.rank >= TaskState.ACCEPTED.rank:
                self._reporter.put(task_id, status)

    async def apply(self, message: Assignments) -> None:
        """Take in an assignment message. Returns when it is under way: tasks take their time."""
        self._take_dependencies(message)
        for task in message.tasks:
            self._remember(task)
        removed = self._removed_by(message)
        if message.endpoints is not None:
            await self._take_endpoints(message.endpoints)
        for task in message.tasks:
            self._drive(task)
        for task_id in removed:
            self._retire(task_id)
        if message.is_complete or removed or message.removed_networks:
            self._sweep_wanted.set()

    def _removed_by(self, message: Assignments) -> list[str]:
        if not message.is_complete:
            return [task_id for task_id in message.removed_tasks if task_id in self._tasks]
        assigned = {task.id for task in message.tasks}
        return [task_id for task_id in self._tasks if task_id not in assigned]

    def _take_dependencies(self, message: Assignments) -> None:
        if message.is_complete:
            self._secrets.clear()
            self._configs.clear()
            self._networks.clear()
            self._credentials.clear()
        self._credentials.update(message.credentials)
        self._secrets.update((item.id, item) for item in message.secrets)
        self._configs.update((item.id, item) for item in message.configs)
        self._networks.update((item.id, item) for item in message.networks)
        for removed in message.removed_secrets:
            self._secrets.pop(removed, None)
        for removed in message.removed_configs:
            self._configs.pop(removed, None)
        for removed in message.removed_networks:
            self._networks.pop(removed, None)
        self._known_networks.clear()
        self._known_networks.update(self._networks)

    def _adopt(self) -> None:
        for record in self._database.records():
            self._tasks[record.task.id] = record.task
            self._known_tasks.add(record.task.id)
            self._statuses[record.task.id] = record.status
            if record.status.state is TaskState.RUNNING:
                self._start(record.task)

    def _remember(self, task: Task) -> None:
        """Write down what is assigned before anything is done about it."""
        known = self._tasks.get(task.id)
        if known is not None and known.desired_state.rank > task.desired_state.rank:
            task = known
        status = merge(self._statuses.get(task.id), task.status)
        if task != known or status != self._statuses.get(task.id):
            self._write(task, status)
        self._tasks[task.id] = task
        self._statuses[task.id] = status
        self._known_tasks.add(task.id)

    def _drive(self, task: Task) -> None:
        driver = self._drivers.get(task.id)
        if driver is not None:
            driver.update(task)
        elif not self._statuses[task.id].state.is_terminal:
            self._start(self._tasks[task.id])

    def _start(self, task: Task) -> None:
        assert self._group is not None, "the worker doesn't run"
        controller = self._executor.controller(task, self._dependencies(task))
        driver = TaskDriver(task, self._statuses[task.id], controller, self._record, self._clock, self._rng)
        self._drivers[task.id] = driver
        self._running[task.id] = self._group.create_task(driver.run(), name=f"task-{task.id}")

    def _dependencies(self, task: Task) -> Dependencies:
        container = task.spec.container_spec
        secrets = {item.secret_id for item in container.secrets} if container else set()
        configs = {item.config_id for item in container.configs} if container else set()
        networks = {item.network.id: item.network for item in task.networks_attachments}
        return Dependencies(
            secrets=_pick(self._secrets, secrets),
            configs=_pick(self._configs, configs),
            networks=networks | _pick(self._networks, networks),
            node=self._node,
            credentials=_opened(self._credentials.get(task.id)),
        )

    def _retire(self, task_id: str) -> None:
        assert self._group is not None, "the worker doesn't run"
        task = self._tasks.pop(task_id)
        status = self._statuses.pop(task_id)
        self._reporter.drop(task_id)
        self._credentials.pop(task_id, None)
        driver = self._drivers.pop(task_id, None)
        running = self._running.pop(task_id, None)
        if driver is None:
            controller = self._executor.controller(task, self._dependencies(task))
            driver = TaskDriver(task, status, controller, lambda *_: None, self._clock, self._rng)
        self._group.create_task(self._take_away(driver, running), name=f"retire-{task_id}")

    async def _take_away(self, driver: TaskDriver, running: asyncio.Task[None] | None) -> None:
        if running is not None:
            await discard(running)
        await driver.retire()
        # Only now: an agent that ends before finds the task in its database, and sweeps it.
        self._forget(driver.task.id)
        self._sweep_wanted.set()

    def _forget(self, task_id: str) -> None:
        self._known_tasks.discard(task_id)
        try:
            self._database.delete(task_id)
        except errors.RuntimeFailure as error:
            log.error("task %s can't be forgotten: %s", task_id, error)

    def _record(self, task_id: str, status: TaskStatus) -> None:
        if task_id not in self._tasks:
            return
        self._statuses[task_id] = status
        if status.state.rank >= TaskState.READY.rank:
            self._credentials.pop(task_id, None)
        try:
            self._database.put_status(task_id, status)
        except errors.RuntimeFailure as error:
            # The manager keeps it too, and is asked first after a restart.
            log.error("the status of task %s can't be kept: %s", task_id, error)
        self._reporter.put(task_id, status)

    def _write(self, task: Task, status: TaskStatus) -> None:
        try:
            self._database.put(task, status)
        except errors.RuntimeFailure as error:
            log.error("task %s can't be kept: %s", task.id, error)

    async def _take_endpoints(self, endpoints: Endpoints) -> None:
        former = _reachable(self._endpoints)
        self._endpoints = endpoints
        await self._apply_endpoints()
        left = former - _reachable(endpoints)
        for driver in self._drivers.values():
            if left and not left.isdisjoint(_reached_as(driver.task)):
                driver.hold(ENDPOINT_GRACE_S)

    async def _apply_endpoints(self) -> bool:
        async with self._applying:
            if self._endpoints is None:
                return True
            try:
                await self._executor.apply_endpoints(self._endpoints)
            except Exception as error:
                # Tasks must go on; names and ports are mended until they are right.
                expected = isinstance(error, errors.GitopsError)
                log.warning("names and ports could not be set, trying again: %s", error, exc_info=not expected)
                self._unapplied.set()
                return False
            self._unapplied.clear()
            return True

    async def _mend_endpoints(self) -> None:
        failures = 0
        while True:
            await self._unapplied.wait()
            failures += 1
            await self._clock.sleep(backoff(failures, self._rng, first_s=RETRY_S, max_s=RETRY_MAX_S))
            if await self._apply_endpoints():
                failures = 0

    async def _sweep(self) -> None:
        """Take away what belongs to no task, whenever something was removed; again when it failed."""
        failures = 0
        while True:
            pause = backoff(failures, self._rng, first_s=RETRY_S, max_s=RETRY_MAX_S) if failures else None
            await within(self._clock, pause, self._sweep_wanted.wait())
            self._sweep_wanted.clear()
            try:
                await self._executor.retain(self._known_tasks, self._known_networks)
                failures = 0
            except Exception as error:
                failures += 1
                expected = isinstance(error, errors.GitopsError)
                log.warning("leftovers could not be removed, trying again: %s", error, exc_info=not expected)


def _reachable(endpoints: Endpoints | None) -> set[str]:
    """What ports and names lead to: ids of tasks, and addresses."""
    if endpoints is None:
        return set()
    tasks = {backend.task_id for port in endpoints.ports for backend in port.backends}
    return tasks.union(*(addresses for network in endpoints.networks for addresses in network.names.values()))


def _reached_as(task: Task) -> set[str]:
    """A task's id and addresses."""
    addresses = (address for attachment in task.networks_attachments for address in attachment.addresses)
    return {task.id, *(address.partition("/")[0] for address in addresses)}


def _opened(credentials: Credentials | None) -> AuthConfig | None:
    return base.from_json(credentials.data, AuthConfig) if credentials else None


def _pick(items: dict[str, T], keys: Iterable[str]) -> dict[str, T]:
    return {key: items[key] for key in keys if key in items}
