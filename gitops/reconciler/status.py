"""What stacks there are: where they come from, how their last apply ended, and how their services stand now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gitops import client as clients
from gitops import errors
from gitops.objects import labels
from gitops.objects.node import Node
from gitops.objects.service import Service
from gitops.objects.task import Task
from gitops.reconciler import converge, pinning, record
from gitops.reconciler.converge import Progress
from gitops.reconciler.record import Outcome, Record


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A service and its progress."""

    name: str
    image: str
    ports: str
    progress: Progress

    def row(self) -> tuple[str, str, str, str, str]:
        """Name, replicas, image, ports and state, as a listing shows them."""
        replicas = f"{self.progress.running}/{self.progress.desired}"
        state = str(self.progress.verdict) + (f": {self.progress.reason}" if self.progress.reason else "")
        return self.name, replicas, self.image, self.ports, state


@dataclass(frozen=True, slots=True)
class StackStatus:
    """A stack: its record and its services."""

    name: str
    record: Record
    services: tuple[ServiceStatus, ...]

    def headline(self) -> list[str]:
        """Name, commit, outcome and source in a line or two."""
        parts = [f"Stack {self.name}" if self.name else "Without a stack"]
        if self.record.commit:
            parts.append(f"commit {self.record.commit}")
        if self.record.outcome is not Outcome.NONE:
            parts.append(f"{self.record.outcome} {self.record.applied_at[:19].replace('T', ' ')}".rstrip())
        lines = [", ".join(parts), f"   from {self.record.source}" if self.record.source else "   source unknown"]
        if self.record.outcome is Outcome.FAILED:
            lines.append(f"   {self.record.message}")
        if self.record.held:
            lines.append(f"   revision {self.record.held} is held: commit a change, or run: gitops resume {self.name}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "stack": self.name,
            "source": self.record.source,
            "commit": self.record.commit,
            "revision": self.record.revision,
            "outcome": str(self.record.outcome),
            "message": self.record.message,
            "held": self.record.held,
            "applied_at": self.record.applied_at,
            "services": [
                {
                    "name": service.name,
                    "image": service.image,
                    "ports": service.ports,
                    "running": service.progress.running,
                    "desired": service.progress.desired,
                    "state": str(service.progress.verdict),
                    "reason": service.progress.reason,
                }
                for service in self.services
            ],
        }


async def read(client: clients.EngineClient, stack: str | None = None) -> list[StackStatus]:
    """All stacks, or the one that is named.

    Raises:
        errors.NotFound: there is no such stack.
    """
    records = await record.read(client)
    nodes = {node.id: node for node in await client.nodes()}
    services = [item for item in await client.services() if labels.KIND in item.spec.labels]
    tasks = await client.tasks()
    fresh = {task.id for task in await client.tasks({"_up-to-date": ["true"]})}
    names = records.keys() | {item.spec.labels.get(labels.STACK, "") for item in services}
    if stack is not None and stack not in names:
        raise errors.NotFound(
            f"no stack {stack!r} on this engine; stacks: {', '.join(sorted(filter(None, names))) or 'none'}"
        )
    return [
        StackStatus(
            name,
            records.get(name, Record(name)),
            tuple(
                _service(item, tasks, fresh, nodes)
                for item in sorted(services, key=lambda item: item.spec.name)
                if item.spec.labels.get(labels.STACK, "") == name
            ),
        )
        for name in sorted(names if stack is None else {stack})
    ]


def _service(service: Service, tasks: list[Task], fresh: set[str], nodes: dict[str, Node]) -> ServiceStatus:
    mine = [task for task in tasks if task.service_id == service.id]
    current = [task for task in mine if task.id in fresh]
    former = [task for task in mine if task.id not in fresh]
    container = service.spec.task_template.container_spec
    ports = service.endpoint.ports or (service.spec.endpoint_spec.ports if service.spec.endpoint_spec else [])
    return ServiceStatus(
        service.spec.name,
        pinning.bare(container.image) if container else "",
        ", ".join(f"{port.published_port}->{port.target_port}/{port.protocol}" for port in ports),
        converge.evaluate(service, current, former, nodes),
    )
