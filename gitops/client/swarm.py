"""Calls on the swarm: services, tasks, nodes, secrets, configs, and the swarm itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import msgspec

from gitops.client import answers
from gitops.client.containers import LogFrame, frames
from gitops.client.transport import Filters, Transport, filters_of, path_of
from gitops.objects import system, taskshape
from gitops.objects.image import AuthConfig
from gitops.objects.node import ClusterSpec, Node, NodeSpec
from gitops.objects.secret import Config, ConfigSpec, Secret, SecretSpec
from gitops.objects.service import Service, ServiceSpec
from gitops.objects.task import Task


class _Warnings(msgspec.Struct, frozen=True, rename="pascal"):
    warnings: list[str] | None = None


class SwarmCalls:
    """Objects by id, name or unique prefix of an id. All raise `errors.NotInSwarm` where there is no swarm."""

    _transport: Transport

    async def swarm_init(self, body: system.SwarmInit) -> str:
        """Make the engine the first manager of a new swarm; the node's id."""
        return await self._transport.call("POST", "/swarm/init", str, body=body)

    async def swarm(self) -> system.SwarmInspect:
        """The swarm as a whole."""
        return await self._transport.call("GET", "/swarm", system.SwarmInspect)

    async def swarm_leave(self, *, force: bool = False) -> None:
        """Leave the swarm; the last manager takes its state with it."""
        await self._transport.act("POST", "/swarm/leave", query={"force": force}, is_long=True)

    async def update_swarm(self, version: int, spec: ClusterSpec) -> None:
        """Change the swarm's settings."""
        await self._transport.act("POST", "/swarm/update", query={"version": version}, body=spec)

    async def services(self, filters: Filters | None = None, *, status: bool = False) -> list[Service]:
        """Services; `status` adds the counts of their tasks."""
        if status:
            query = {"filters": filters_of(filters), "status": status}
            return await self._transport.call("GET", "/services", list[Service], query=query)
        return await self._transport.listing("/services", answers.decoder(list[Service]), filters=filters)

    async def service(self, service: str, *, insert_defaults: bool = False) -> Service:
        """A service; `insert_defaults` fills in what the spec leaves out."""
        query = {"insertDefaults": insert_defaults}
        return await self._transport.call("GET", path_of("services", service), Service, query=query)

    async def create_service(self, spec: ServiceSpec, *, auth: AuthConfig | None = None) -> system.Created:
        """Make a service; its id, and what the engine warns of."""
        return await self._transport.call("POST", "/services/create", system.Created, body=spec, auth=auth)

    async def update_service(
        self,
        service_id: str,
        version: int,
        spec: ServiceSpec,
        *,
        rollback: bool = False,
        auth: AuthConfig | None = None,
        auth_from: Literal["spec", "previous-spec"] = "spec",
    ) -> list[str]:
        """Replace a service's spec (`rollback`: by its previous one); what the engine warns of.

        Raises:
            errors.OutOfSequence: `version` is not the stored one.
        """
        query = {
            "version": version,
            "registryAuthFrom": auth_from,
            "rollback": "previous" if rollback else None,
        }
        path = path_of("services", service_id, "update")
        return (await self._transport.call("POST", path, _Warnings, query=query, body=spec, auth=auth)).warnings or []

    async def remove_service(self, service: str) -> None:
        """Remove a service with its tasks."""
        await self._transport.act("DELETE", path_of("services", service))

    async def service_logs(
        self, service: str, *, follow: bool = False, timestamps: bool = False, tail: int | None = None
    ) -> AsyncIterator[LogFrame]:
        """The output of a service's tasks; with a terminal all of it is stdout."""
        query = {
            "stdout": True,
            "stderr": True,
            "follow": follow,
            "timestamps": timestamps,
            "tail": "all" if tail is None else tail,
        }
        container = (await self.service(service)).spec.task_template.container_spec
        chunks = self._transport.chunks("GET", path_of("services", service, "logs"), query=query)
        if container is not None and container.tty:
            async for chunk in chunks:
                yield LogFrame("stdout", chunk)
            return
        async for frame in frames(chunks):
            yield frame

    async def tasks(self, filters: Filters | None = None) -> list[Task]:
        """Tasks, history included."""
        return await self._transport.listing("/tasks", taskshape.decode_all, filters=filters)

    async def task(self, task_id: str) -> Task:
        """A task."""
        data = await self._transport.read("GET", path_of("tasks", task_id))
        return answers.readable(taskshape.decode_one, data)

    async def nodes(self, filters: Filters | None = None) -> list[Node]:
        """The members of the swarm."""
        return await self._transport.listing("/nodes", answers.decoder(list[Node]), filters=filters)

    async def node(self, node: str) -> Node:
        """A node by id or hostname; `self` is the one that answers."""
        return await self._transport.call("GET", path_of("nodes", node), Node)

    async def update_node(self, node_id: str, version: int, spec: NodeSpec) -> None:
        """Change a node's labels, role or availability."""
        await self._transport.act("POST", path_of("nodes", node_id, "update"), query={"version": version}, body=spec)

    async def secrets(self, filters: Filters | None = None) -> list[Secret]:
        """Secrets, without their data."""
        return await self._transport.listing("/secrets", answers.decoder(list[Secret]), filters=filters)

    async def secret(self, secret: str) -> Secret:
        """A secret, without its data."""
        return await self._transport.call("GET", path_of("secrets", secret), Secret)

    async def create_secret(self, spec: SecretSpec) -> str:
        """Make a secret; its id."""
        return (await self._transport.call("POST", "/secrets/create", system.Created, body=spec)).id

    async def update_secret(self, secret_id: str, version: int, spec: SecretSpec) -> None:
        """Change a secret's labels; nothing else may differ."""
        path = path_of("secrets", secret_id, "update")
        await self._transport.act("POST", path, query={"version": version}, body=spec)

    async def remove_secret(self, secret: str) -> None:
        """Remove a secret that no service uses."""
        await self._transport.act("DELETE", path_of("secrets", secret))

    async def configs(self, filters: Filters | None = None) -> list[Config]:
        """Configs."""
        return await self._transport.listing("/configs", answers.decoder(list[Config]), filters=filters)

    async def config(self, config: str) -> Config:
        """A config with its data."""
        return await self._transport.call("GET", path_of("configs", config), Config)

    async def create_config(self, spec: ConfigSpec) -> str:
        """Make a config; its id."""
        return (await self._transport.call("POST", "/configs/create", system.Created, body=spec)).id

    async def update_config(self, config_id: str, version: int, spec: ConfigSpec) -> None:
        """Change a config's labels; nothing else may differ."""
        path = path_of("configs", config_id, "update")
        await self._transport.act("POST", path, query={"version": version}, body=spec)

    async def remove_config(self, config: str) -> None:
        """Remove a config that no service uses."""
        await self._transport.act("DELETE", path_of("configs", config))
