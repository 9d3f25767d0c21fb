"""Builders of nodes and tasks for the pure scheduler."""

from __future__ import annotations

from typing import Any, Protocol

import pytest

from gitops.objects.base import Version
from gitops.objects.network import NetworkDriver, NetworkObject
from gitops.objects.node import EngineDescription, Node, NodeDescription, NodeSpec, NodeStatus, PluginDescription
from gitops.objects.service import (
    ContainerSpec,
    Endpoint,
    Placement,
    PlacementPreference,
    Platform,
    PortConfig,
    ResourceRequirements,
    Resources,
    SpreadOver,
    TaskSpec,
)
from gitops.objects.task import NetworkAttachment, Task, TaskState, TaskStatus


class Build(Protocol):
    """Makes an object from keywords."""

    def __call__(self, object_id: str, **fields: Any) -> Any: ...


def make_node(
    object_id: str,
    *,
    cpus: float = 4,
    memory: int = 8 << 30,
    labels: dict[str, str] | None = None,
    engine_labels: dict[str, str] | None = None,
    state: str = "ready",
    availability: str = "active",
    arch: str = "x86_64",
    os: str = "linux",
    plugins: tuple[tuple[str, str], ...] = (),
) -> Node:
    """A node that is ready and has room."""
    return Node(
        id=object_id,
        spec=NodeSpec(labels=labels or {}, availability=availability),
        description=NodeDescription(
            hostname=object_id,
            platform=Platform(architecture=arch, os=os),
            resources=Resources(nano_cpus=round(cpus * 1e9), memory_bytes=memory),
            engine=EngineDescription(
                labels=engine_labels or {}, plugins=[PluginDescription(type=kind, name=name) for kind, name in plugins]
            ),
        ),
        status=NodeStatus(state=state),
    )


def make_task(
    object_id: str,
    *,
    service: str = "web",
    node: str = "",
    version: int = 1,
    slot: int = 0,
    state: TaskState | None = None,
    desired: TaskState = TaskState.RUNNING,
    cpus: float = 0,
    memory: int = 0,
    constraints: tuple[str, ...] = (),
    spread: tuple[str, ...] = (),
    max_replicas: int = 0,
    platforms: tuple[tuple[str, str], ...] = (),
    host_ports: tuple[tuple[str, int], ...] = (),
    networks: tuple[str, ...] = (),
    image: str = "tu-demo:v1",
    created_at: str = "",
    timestamp: str = "",
    **spec: Any,
) -> Task:
    """A task that waits for a node, or runs on one."""
    template = TaskSpec(
        container_spec=spec.pop("container_spec", ContainerSpec(image=image)),
        resources=ResourceRequirements(reservations=Resources(nano_cpus=round(cpus * 1e9), memory_bytes=memory)),
        placement=Placement(
            constraints=list(constraints),
            preferences=[PlacementPreference(spread=SpreadOver(spread_descriptor=text)) for text in spread],
            max_replicas=max_replicas,
            platforms=[Platform(architecture=arch, os=system) for system, arch in platforms],
        ),
        **spec,
    )
    ports = [
        PortConfig(protocol=protocol, target_port=80, published_port=port, publish_mode="host")
        for protocol, port in host_ports
    ]
    return Task(
        id=object_id,
        service_id=service,
        service_name=service,
        spec=template,
        spec_version=Version(version),
        slot=slot,
        node_id=node,
        created_at=created_at,
        endpoint=Endpoint(ports=ports),
        status=TaskStatus(state=state or (TaskState.RUNNING if node else TaskState.PENDING), timestamp=timestamp),
        desired_state=desired,
        networks_attachments=[
            NetworkAttachment(network=NetworkObject(id=name, driver_state=NetworkDriver(name=name)))
            for name in networks
        ],
    )


@pytest.fixture(scope="session")
def node() -> Build:
    return make_node


@pytest.fixture(scope="session")
def task() -> Build:
    return make_task
