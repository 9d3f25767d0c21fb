"""Runs tasks as containers of this host's engine.

A task's container is found by its label, so that an agent that comes back, or a container that was renamed, changes
nothing. What happens to a container behind the agent's back shows in `wait`: its end, its removal, its ill health.
Names and published ports lead to local tasks by the address of their gateway leg; the engine's networks do the rest.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import gitops
from gitops import errors
from gitops.config import EngineConfig
from gitops.engine.networks.boundary import SharedPort
from gitops.executors import templates, translation
from gitops.objects.assignment import Endpoints, PortBackends
from gitops.objects.container import ContainerInspect, ContainerState
from gitops.objects.node import EngineDescription, NodeDescription, PluginDescription
from gitops.objects.service import Platform, PortConfig, Resources
from gitops.objects.task import ContainerStatus, PortStatus, Task
from gitops.swarm.agent.executor import Dependencies, TaskExited

if TYPE_CHECKING:
    from gitops.engine.engine import Engine

log = logging.getLogger(__name__)

PLUGINS = (
    ("Log", "json-file"),
    ("Log", "local"),
    ("Log", "none"),
    ("Network", "bridge"),
    ("Network", "host"),
    ("Network", "null"),
    ("Network", "overlay"),
    ("Volume", "local"),
)


class ContainerExecutor:
    """The executor of an engine."""

    def __init__(self, engine: Engine, config: EngineConfig) -> None:
        self.engine = engine
        self.config = config
        self._names: dict[str, dict[str, list[str]]] = {}

    async def describe(self) -> NodeDescription:
        """What this host has; the same from call to call unless the host changed."""
        return NodeDescription(
            hostname=socket.gethostname(),
            platform=Platform(architecture=platform.machine(), os="linux"),
            resources=Resources(nano_cpus=(os.cpu_count() or 1) * 1_000_000_000, memory_bytes=_memory_bytes()),
            engine=EngineDescription(
                engine_version=gitops.__version__,
                plugins=[PluginDescription(type=kind, name=name) for kind, name in PLUGINS],
            ),
        )

    def controller(self, task: Task, dependencies: Dependencies) -> ContainerController:
        """The controller of a task."""
        return ContainerController(self, task, dependencies)

    async def apply_endpoints(self, endpoints: Endpoints) -> None:
        """Make names and published ports of this host lead where `endpoints` says.

        Raises:
            errors.Unavailable: a port is taken by something else; all others are set.
        """
        self._names = {network.network_id: network.names for network in endpoints.networks}
        for network_id in self.engine.networks.overlays():
            await self.set_names(network_id)
        addresses = self._gateway_addresses()
        failures = await self.engine.networks.apply_ports([_shared(port, addresses) for port in endpoints.ports])
        if failures:
            reasons = "; ".join(f"{item.port.published_port}/{item.port.protocol}: {item.reason}" for item in failures)
            raise errors.Unavailable(f"ports could not be published: {reasons}")

    async def set_names(self, network_id: str) -> None:
        """Make a network's names what the manager last said."""
        await self.engine.networks.set_names(network_id, self._names.get(network_id, {}))

    async def retain(self, task_ids: set[str], network_ids: set[str]) -> None:
        """Remove containers of other tasks, and other swarm networks that nothing uses."""
        for task_id, container_id in self.containers().items():
            # Looked up now: the sets grow while this goes on.
            if task_id not in task_ids:
                log.info("removing container %s of task %s, which is not assigned", container_id[:12], task_id)
                await _remove(self.engine, container_id)
        for network_id in self.engine.networks.overlays():
            if network_id in network_ids:
                continue
            try:
                await self.engine.networks.release_overlay(network_id)
            except errors.Denied as error:
                # A task that still stops has it; the sweep after its end comes back to it.
                log.debug("network %s stays for now: %s", network_id, error)

    def containers(self) -> dict[str, str]:
        """The containers of tasks, by task id."""
        found = self.engine.containers.list(all=True, filters={"label": [translation.TASK_ID]})
        return {container.labels[translation.TASK_ID]: container.id for container in found}

    def _gateway_addresses(self) -> dict[str, str]:
        addresses: dict[str, str] = {}
        for task_id, container_id in self.containers().items():
            sandbox = self.engine.networks.sandbox(container_id)
            if sandbox is not None and sandbox.gateway_address:
                addresses[task_id] = sandbox.gateway_address
        return addresses


class ContainerController:
    """One task's container."""

    def __init__(self, executor: ContainerExecutor, task: Task, dependencies: Dependencies) -> None:
        self._executor = executor
        self._engine = executor.engine
        self._task = task
        self._dependencies = dependencies
        self._container_id = ""

    async def prepare(self) -> None:
        """Have networks, image and container; a container that is there already is taken as it is."""
        plan = translation.plan(self._task, self._dependencies)
        for network in translation.overlays(self._task, self._dependencies):
            await self._engine.networks.ensure_overlay(network)
            await self._executor.set_names(network.id)
        if self._find() is not None:
            return
        await self._have_image(plan.body.image)
        made = await self._engine.containers.create(
            plan.body, plan.name, files=plan.files, gateway_leg=plan.has_gateway_leg
        )
        self._container_id = made.id

    async def start(self) -> None:
        """Start it unless it was started before, and wait until it is healthy.

        Raises:
            TaskExited: it ended with an error, or is unhealthy.
        """
        container = self._get()
        if container.state.status == "created":
            await self._engine.containers.start_container(container.id)
        async with aclosing(self._states(container.id)) as states:
            async for state in states:
                health = state.health.status if state.health else "none"
                if not state.running and health != "none":
                    # It never was healthy, and must not count as running even for a moment: an update would go on.
                    _check_exit(state.exit_code, state.error, state.oom_killed)
                if not state.running or health in ("none", "healthy"):
                    # What ended already is found so by `wait`, with its exit code.
                    return
                if health == "unhealthy":
                    await self._give_up_unhealthy(container.id)
        raise _removed()

    async def wait(self) -> None:
        """Return when it ended with 0.

        Raises:
            TaskExited: it ended otherwise, became unhealthy, or was removed.
        """
        try:
            container = self._get()
        except errors.NotFound as error:
            raise _removed() from error
        async with aclosing(self._states(container.id)) as states:
            async for state in states:
                if state.status in ("exited", "dead", "created"):
                    _check_exit(state.exit_code, state.error, state.oom_killed)
                    return
                if state.health is not None and state.health.status == "unhealthy":
                    await self._give_up_unhealthy(container.id)
        raise _removed()

    async def shutdown(self) -> None:
        """Stop it, where it runs."""
        container = self._find()
        if container is None:
            return
        try:
            await self._engine.containers.stop(container.id, translation.grace_s(self._task))
        except errors.NotFound:
            log.debug("container %s was removed while it was stopped", container.id[:12])

    async def remove(self) -> None:
        """Take it away, with its anonymous volumes."""
        container = self._find()
        if container is not None:
            await _remove(self._engine, container.id)

    async def container_status(self) -> ContainerStatus | None:
        """Its id, pid and exit code."""
        container = self._find()
        if container is None:
            return None
        return ContainerStatus(container_id=container.id, pid=container.state.pid, exit_code=container.state.exit_code)

    async def port_status(self) -> PortStatus | None:
        """The host's ports that lead to it alone."""
        wanted = translation.host_ports(self._task)
        container = self._find() if wanted else None
        if container is None:
            return None
        ports: list[PortConfig] = []
        for port in wanted:
            bindings = container.network_settings.ports.get(f"{port.target_port}/{port.protocol}") or []
            published = int(bindings[0].host_port) if bindings and bindings[0].host_port else port.published_port
            ports.append(
                PortConfig(
                    name=port.name,
                    protocol=port.protocol,
                    target_port=port.target_port,
                    published_port=published,
                    publish_mode="host",
                )
            )
        return PortStatus(ports=ports)

    async def _states(self, container_id: str) -> AsyncGenerator[ContainerState, None]:
        """The container's state now and after each change, until it is removed."""
        states = self._engine.containers.changes(container_id)
        try:
            async for state in states:
                yield state
        finally:
            if isinstance(states, AsyncGenerator):
                await states.aclose()

    async def _have_image(self, reference: str) -> None:
        """See that the image is here; the registry is asked only when it isn't.

        Raises:
            errors.RuntimeFailure: it isn't, and can't be had. Another node, or a later attempt, may have more luck.
        """
        try:
            self._engine.images.resolve(reference)
            return
        except errors.NotFound:
            log.info("pulling %s for task %s", reference, self._task.id)
        try:
            await self._engine.images.pull(reference, auth=self._dependencies.credentials)
        except errors.GitopsError as error:
            raise errors.RuntimeFailure(f"No such image: {reference}: {error}") from error

    async def _give_up_unhealthy(self, container_id: str) -> None:
        """Stop what is ill before it is said to be over, so that it never runs beside its successor."""
        await self._engine.containers.stop(container_id, translation.grace_s(self._task))
        code = self._engine.containers.get(container_id).state.exit_code
        raise TaskExited("task: unhealthy container", code)

    def _get(self) -> ContainerInspect:
        container = self._find()
        if container is None:
            raise errors.NotFound(f"No such container: {templates.task_name(self._task)}")
        return container

    def _find(self) -> ContainerInspect | None:
        """The task's container, whatever its name."""
        if not self._container_id:
            self._container_id = self._look_up()
        if not self._container_id:
            return None
        try:
            return self._engine.containers.get(self._container_id)
        except errors.NotFound:
            return None

    def _look_up(self) -> str:
        label = f"{translation.TASK_ID}={self._task.id}"
        found = self._engine.containers.list(all=True, filters={"label": [label]})
        return found[0].id if found else ""


def _check_exit(code: int, error: str, oom_killed: bool) -> None:
    if code or error:
        reason = f": {error}" if error else ""
        memory = ", out of memory" if oom_killed else ""
        raise TaskExited(f"task: non-zero exit ({code}){memory}{reason}", code)


def _removed() -> TaskExited:
    return TaskExited("task: the container was removed from outside of the swarm", 137)


async def _remove(engine: Engine, container_id: str) -> None:
    try:
        await engine.containers.remove(container_id, force=True, volumes=True)
    except errors.NotFound:
        log.debug("container %s is gone already", container_id[:12])


def _shared(port: PortBackends, addresses: dict[str, str]) -> SharedPort:
    local = (addresses[backend.task_id] for backend in port.backends if backend.task_id in addresses)
    return SharedPort(port.protocol, port.published_port, port.target_port, tuple(local))


def _memory_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise errors.RuntimeFailure("/proc/meminfo has no MemTotal: is /proc mounted?")
