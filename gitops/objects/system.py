"""What an engine says of itself, and the bodies of the calls on the swarm as a whole."""

from __future__ import annotations

from typing import Any

import msgspec

from gitops.objects.base import ZERO_TIME, Full, Version, Wire
from gitops.objects.node import ClusterSpec


class Ping(Full, frozen=True):
    """The headers of GET /_ping; `swarm` is inactive, pending, error, locked, active/worker or active/manager."""

    api_version: str = ""
    os_type: str = ""
    swarm: str = ""


class Component(Full, frozen=True):
    """A part of an engine with its version."""

    name: str = ""
    version: str = ""
    details: dict[str, str] | None = None


class PlatformName(Full, frozen=True):
    """The product that answers."""

    name: str = ""


class EngineVersion(Full, frozen=True):
    """GET /version."""

    platform: PlatformName = msgspec.field(default_factory=PlatformName)
    components: list[Component] = msgspec.field(default_factory=list)
    version: str = ""
    api_version: str = ""
    min_api_version: str = msgspec.field(name="MinAPIVersion", default="")
    git_commit: str = ""
    go_version: str = ""
    os: str = "linux"
    arch: str = ""
    kernel_version: str = ""
    experimental: bool = False
    build_time: str = ""


class RemoteManager(Full, frozen=True):
    """A manager that a node knows of."""

    node_id: str = msgspec.field(name="NodeID", default="")
    addr: str = ""


class ClusterInfo(Wire, frozen=True):
    """The swarm in GET /info, without what only managers may know."""

    id: str = msgspec.field(name="ID", default="")
    version: Version = msgspec.field(default_factory=Version)
    created_at: str = ""
    updated_at: str = ""
    spec: ClusterSpec = msgspec.field(default_factory=ClusterSpec)
    data_path_port: int = 0
    default_addr_pool: list[str] = []
    subnet_size: int = 0


class SwarmInfo(Wire, frozen=True):
    """The swarm section of GET /info; `local_node_state` is inactive, pending, active, error or locked."""

    node_id: str = msgspec.field(name="NodeID", default="")
    node_addr: str = ""
    local_node_state: str = ""
    control_available: bool = False
    error: str = ""
    remote_managers: list[RemoteManager] | None = None
    nodes: int = 0
    managers: int = 0
    cluster: ClusterInfo | None = None


class SystemInfo(Wire, frozen=True):
    """GET /info, as far as clients of ours read it."""

    id: str = msgspec.field(name="ID", default="")
    containers: int = 0
    containers_running: int = 0
    containers_paused: int = 0
    containers_stopped: int = 0
    images: int = 0
    driver: str = ""
    driver_status: list[list[str]] | None = None
    name: str = ""
    server_version: str = ""
    operating_system: str = ""
    os_type: str = msgspec.field(name="OSType", default="")
    architecture: str = ""
    kernel_version: str = ""
    cgroup_version: str = ""
    ncpu: int = msgspec.field(name="NCPU", default=0)
    mem_total: int = 0
    system_time: str = ""
    swarm: SwarmInfo = msgspec.field(default_factory=SwarmInfo)
    warnings: list[str] | None = None
    labels: list[str] | None = None


class SwarmInit(Wire, frozen=True):
    """The body of POST /swarm/init."""

    listen_addr: str = ""
    advertise_addr: str = ""
    data_path_addr: str = ""
    data_path_port: int = 0
    default_addr_pool: list[str] | None = None
    subnet_size: int = 0
    force_new_cluster: bool = False
    auto_lock_managers: bool = False
    availability: str = ""
    spec: ClusterSpec | None = None


class SwarmInspect(Full, frozen=True):
    """GET /swarm."""

    id: str = msgspec.field(name="ID", default="")
    version: Version = msgspec.field(default_factory=Version)
    created_at: str = ZERO_TIME
    updated_at: str = ZERO_TIME
    spec: ClusterSpec = msgspec.field(default_factory=ClusterSpec)
    root_rotation_in_progress: bool = False
    data_path_port: int = 0
    default_addr_pool: list[str] = msgspec.field(default_factory=list)
    subnet_size: int = 0
    tls_info: dict[str, Any] = msgspec.field(name="TLSInfo", default_factory=dict)
    join_tokens: dict[str, str] = msgspec.field(default_factory=dict)


class Created(Wire, frozen=True):
    """What a create call of swarm mode answers."""

    id: str = msgspec.field(name="ID", default="")
    warnings: list[str] | None = None
