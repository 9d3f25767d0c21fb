"""What stacks there are: where they come from, how their last apply ended, and how their services stand now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gitops import client as clients
from gitops import errors
from gitops.objects import base, labels
from gitops.objects.node import Node
from gitops.objects.service import Service
from gitops.objects.task import Task
from gitops.reconciler import converge, groups, pinning, record
from gitops.reconciler.converge import Progress, Verdict
from gitops.reconciler.record import Outcome, Record


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A service and its progress; `image` with its digest, `updated_at` as the engine says it."""

    name: str
    image: str
    ports: str
    updated_at: str
    progress: Progress

    def row(self, now_ns: int) -> tuple[str, ...]:
        """Name, replicas, image, ports, age of its last change and state, as a listing shows them."""
        replicas = f"{self.progress.running}/{self.progress.desired}"
        image = pinning.bare(self.image) if self.image else ""
        return self.name, replicas, image, self.ports, ago(self.updated_at, now_ns), self.state

    @property
    def state(self) -> str:
        """`converged`, or what goes on, or what is wrong."""
        progress = self.progress
        if progress.verdict is Verdict.CONVERGED:
            return "converged"
        word = progress.update.replace("_", " ") if progress.verdict is Verdict.WAITING else ""
        word = word if word in ("updating", "rollback started") else str(progress.verdict)
        former = f", {progress.former} as before" if progress.former else ""
        reason = progress.reason.removeprefix(f"{word}: ")
        return f"{word}{former}: {reason}" if reason else word + former

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        progress = self.progress
        return {
            "name": self.name,
            "image": self.image,
            "ports": self.ports,
            "updated_at": self.updated_at,
            "running": progress.running,
            "desired": progress.desired,
            "former": progress.former,
            "tasks": dict(progress.states),
            "update": progress.update,
            "state": str(progress.verdict),
            "reason": progress.reason,
        }


@dataclass(frozen=True, slots=True)
class StackStatus:
    """A stack: its record and its services."""

    name: str
    record: Record
    services: tuple[ServiceStatus, ...]

    def headline(self, now_ns: int) -> list[str]:
        """Name, commit, outcome and source in a few lines."""
        found = self.record
        parts = [f"Stack {self.name}" if self.name else "Without a stack"]
        if found.commit:
            parts.append(f"commit {found.commit}")
        if found.outcome is Outcome.APPLYING:
            parts.append(f"applying, begun {ago(found.applied_at, now_ns)}")
        elif found.outcome is not Outcome.NONE:
            parts.append(f"{found.outcome} {ago(found.applied_at, now_ns)}")
        lines = [
            ", ".join(parts),
            f"   from {found.source.removesuffix('#.')}" if found.source else "   not applied by gitops, or deleted",
        ]
        if found.outcome is Outcome.APPLYING and found.lease_holder:
            lines.append(f"   by {found.lease_holder}")
        if found.suspended:
            lines.append(f"   {found.suspension}; gitops resume {self.name} lifts it")
        if found.outcome in (Outcome.FAILED, Outcome.INTERRUPTED, Outcome.ROLLED_BACK):
            lines.append(f"   {found.message}")
        if found.held:
            lines.append(f"   revision {found.held} is held: change the manifests, or run: gitops resume {self.name}")
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
            "suspended": self.record.suspended,
            "suspend_reason": self.record.suspend_reason,
            "lease_holder": self.record.lease_holder,
            "applied_at": self.record.applied_at,
            "services": [service.to_dict() for service in self.services],
        }


def ago(when: str, now_ns: int) -> str:
    """`5 minutes ago`; empty where the time isn't known."""
    if not when:
        return ""
    seconds = max(0, now_ns - base.parse_time(when)) // base.SECOND
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        count = seconds // unit
        if count >= (2 if unit > 1 else 1):
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "just now"


async def read(client: clients.EngineClient, stack: str | None = None) -> list[StackStatus]:
    """All stacks, or the one that is named.

    Raises:
        errors.NotFound: there is no such stack.
    """
    async with groups.group() as group:
        recorded = group.create_task(record.read(client))
        members = group.create_task(client.nodes())
        found = group.create_task(client.services())
        every_task = group.create_task(client.tasks())
        present = group.create_task(client.tasks({"_up-to-date": ["true"]}))
    records = recorded.result()
    nodes = {node.id: node for node in members.result()}
    services = [item for item in found.result() if labels.KIND in item.spec.labels]
    tasks: dict[str, list[Task]] = {}
    for task in every_task.result():
        tasks.setdefault(task.service_id, []).append(task)
    fresh = {task.id for task in present.result()}
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
                _service(item, tasks.get(item.id, []), fresh, nodes)
                for item in sorted(services, key=lambda item: item.spec.name)
                if item.spec.labels.get(labels.STACK, "") == name
            ),
        )
        for name in sorted(names if stack is None else {stack})
    ]


def _service(service: Service, tasks: list[Task], fresh: set[str], nodes: dict[str, Node]) -> ServiceStatus:
    current = [task for task in tasks if task.id in fresh]
    former = [task for task in tasks if task.id not in fresh]
    container = service.spec.task_template.container_spec
    ports = service.endpoint.ports or (service.spec.endpoint_spec.ports if service.spec.endpoint_spec else [])
    return ServiceStatus(
        service.spec.name,
        container.image if container else "",
        ", ".join(f"{port.published_port}->{port.target_port}/{port.protocol}" for port in ports),
        service.updated_at,
        converge.evaluate(service, current, former, nodes),
    )
