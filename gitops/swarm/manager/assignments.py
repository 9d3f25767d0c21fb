"""What a node should hold, as a pure function of a snapshot, and the messages that lead there.

A node gets its tasks from the moment they are assigned until their objects are deleted, finished ones included: it
keeps their containers for as long as the history does. Secrets, configs and networks go along while a task that uses
them may still run, registry credentials while it may still have to pull. A change of status alone is no news: the node
itself made it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from msgspec.structs import replace

from gitops.objects.assignment import Assignments, Endpoints
from gitops.objects.base import Version
from gitops.objects.network import NetworkObject
from gitops.objects.secret import Config, Secret
from gitops.objects.service import Credentials, Service, TaskSpec
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.swarm.store.protocol import View

Item = TypeVar("Item", Task, Secret, Config, NetworkObject)
Project = Callable[[View, str], Endpoints]
"""The endpoints of a node, from a snapshot and the node's id."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """All that a node holds or should hold, by id."""

    tasks: Mapping[str, Task] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    configs: Mapping[str, Config] = field(default_factory=dict)
    networks: Mapping[str, NetworkObject] = field(default_factory=dict)
    endpoints: Endpoints | None = None
    credentials: Mapping[str, Credentials] = field(default_factory=dict)
    """By task id."""


def wanted(view: View, node_id: str, project: Project) -> Holdings:
    """What the node should hold now."""
    tasks = [task for task in view.tasks_of_node(node_id) if task.status.state.rank >= TaskState.ASSIGNED.rank]
    secrets: dict[str, Secret] = {}
    configs: dict[str, Config] = {}
    networks: dict[str, NetworkObject] = {}
    credentials: dict[str, Credentials] = {}
    for task in tasks:
        if task.status.state.is_terminal:
            continue
        if task.status.state.rank < TaskState.READY.rank and (found := credentials_of(view, task)) is not None:
            credentials[task.id] = found
        _collect_files(view, task, secrets, configs)
        for attachment in task.networks_attachments:
            network = attachment.network
            networks[network.id] = view.get(NetworkObject, network.id) or network
    endpoints = project(view, node_id)
    return Holdings({task.id: task for task in tasks}, secrets, configs, networks, endpoints, credentials)


def credentials_of(view: View, task: Task) -> Credentials | None:
    """What the task's image is pulled with: the newest that its service has for this image.

    An image of neither spec gets none: credentials are for one registry, and another must not see them.
    """
    service = view.get(Service, task.service_id)
    image = _image(task.spec)
    if service is None:
        return None
    if image == _image(service.spec.task_template):
        return service.credentials
    if service.previous_spec is not None and image == _image(service.previous_spec.task_template):
        return service.previous_credentials
    return None


def _image(template: TaskSpec) -> str:
    return template.container_spec.image if template.container_spec else ""


def _collect_files(view: View, task: Task, secrets: dict[str, Secret], configs: dict[str, Config]) -> None:
    container = task.spec.container_spec
    if container is None:
        return
    for secret_reference in container.secrets:
        secret = view.get(Secret, secret_reference.secret_id)
        if secret is not None:
            secrets[secret.id] = secret
    for config_reference in container.configs:
        config = view.get(Config, config_reference.config_id)
        if config is not None:
            configs[config.id] = config


def complete(holdings: Holdings) -> Assignments:
    """The first message of a stream: all of it."""
    return Assignments(
        is_complete=True,
        tasks=list(holdings.tasks.values()),
        secrets=list(holdings.secrets.values()),
        configs=list(holdings.configs.values()),
        networks=list(holdings.networks.values()),
        endpoints=holdings.endpoints,
        credentials=dict(holdings.credentials),
    )


def difference(held: Holdings, want: Holdings) -> Assignments | None:
    """The message that leads from `held` to `want`; None when there is nothing to say."""
    message = Assignments(
        tasks=_changed(held.tasks, want.tasks),
        secrets=_changed(held.secrets, want.secrets),
        configs=_changed(held.configs, want.configs),
        networks=_changed(held.networks, want.networks),
        removed_tasks=_gone(held.tasks, want.tasks),
        removed_secrets=_gone(held.secrets, want.secrets),
        removed_configs=_gone(held.configs, want.configs),
        removed_networks=_gone(held.networks, want.networks),
        endpoints=want.endpoints if _leads_elsewhere(held.endpoints, want.endpoints) else None,
        # Those that are needed no more aren't spoken of: the node pulled, and has dropped them.
        credentials={key: item for key, item in want.credentials.items() if held.credentials.get(key) != item},
    )
    return None if message == Assignments() else message


def _changed(held: Mapping[str, Item], want: Mapping[str, Item]) -> list[Item]:
    return [item for key, item in want.items() if _is_news(held.get(key), item)]


def _gone(held: Mapping[str, Item], want: Mapping[str, Item]) -> list[str]:
    return [key for key in held if key not in want]


def _is_news(held: Item | None, item: Item) -> bool:
    # Snapshots share what didn't change: the common case costs nothing.
    return held is not item and (held is None or _news(held) != _news(item))


def _news(item: Item) -> object:
    """What a node cares about in an object."""
    if isinstance(item, Task):
        return replace(item, status=TaskStatus(), version=Version(), updated_at="")
    if isinstance(item, NetworkObject):
        return replace(item, version=Version(), updated_at="")
    # Their data never changes, and nothing else of them reaches a container.
    return item.id


def _leads_elsewhere(held: Endpoints | None, want: Endpoints | None) -> bool:
    if held is None or want is None:
        return want is not None
    return replace(held, version=0) != replace(want, version=0)
