"""Nodes and the cluster."""

from __future__ import annotations

import msgspec

from gitops.objects.base import Full, Version, Wire, always
from gitops.objects.service import LogDriver, Platform, Resources


class NodeSpec(Full, frozen=True):
    """What a user declares of a node: role manager or worker; availability active, pause or drain."""

    name: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    role: str = "worker"
    availability: str = "active"


class PluginDescription(Full, frozen=True):
    """A driver that a node has: `type` Volume, Network or Log."""

    type: str = ""
    name: str = ""


class EngineDescription(Wire, frozen=True):
    """A node's engine."""

    engine_version: str = ""
    labels: dict[str, str] = {}
    plugins: list[PluginDescription] = []


class NodeDescription(Wire, frozen=True):
    """What a node says of itself."""

    hostname: str = ""
    platform: Platform = msgspec.field(default_factory=Platform)
    resources: Resources = msgspec.field(default_factory=Resources)
    engine: EngineDescription = msgspec.field(default_factory=EngineDescription)


class NodeStatus(Full, frozen=True):
    """`state` is unknown, down, ready or disconnected."""

    state: str = "unknown"
    message: str = ""
    addr: str = ""


class ManagerStatus(Full, frozen=True):
    """Set for managers."""

    leader: bool = False
    reachability: str = "reachable"
    addr: str = ""


class Node(Wire, frozen=True):
    """A member of the swarm."""

    id: str = msgspec.field(name="ID", default="")
    version: Version = msgspec.field(default_factory=Version)
    created_at: str = ""
    updated_at: str = ""
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    description: NodeDescription = msgspec.field(default_factory=NodeDescription)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)
    manager_status: ManagerStatus | None = None


class Orchestration(Full, frozen=True):
    """Task history: how many tasks a slot keeps, the present one included; negative keeps all."""

    task_history_retention_limit: int = 5


class Dispatcher(Full, frozen=True):
    """`heartbeat_period` in nanoseconds."""

    heartbeat_period: int = 5_000_000_000


class CAConfig(Full, frozen=True):
    """`node_cert_expiry` in nanoseconds."""

    node_cert_expiry: int = 7_776_000_000_000_000


class EncryptionConfig(Full, frozen=True):
    """Whether managers need an unlock key after a restart."""

    auto_lock_managers: bool = False


class TaskDefaults(Wire, frozen=True):
    """Defaults of new tasks."""

    log_driver: LogDriver | None = None


class RaftConfig(Full, frozen=True):
    """Kept for clients; consensus is not Raft inside this process."""

    snapshot_interval: int = 10000
    keep_old_snapshots: int = 0
    log_entries_for_slow_followers: int = 500
    election_tick: int = 10
    heartbeat_tick: int = 1


class ClusterSpec(Full, frozen=True):
    """Settings of the whole swarm."""

    name: str = "default"
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    orchestration: Orchestration = msgspec.field(default_factory=Orchestration)
    raft: RaftConfig = msgspec.field(default_factory=RaftConfig)
    dispatcher: Dispatcher = msgspec.field(default_factory=Dispatcher)
    ca_config: CAConfig = msgspec.field(name="CAConfig", default_factory=CAConfig)
    encryption_config: EncryptionConfig = msgspec.field(default_factory=EncryptionConfig)
    task_defaults: TaskDefaults = msgspec.field(default_factory=TaskDefaults)


class Cluster(Wire, frozen=True):
    """The swarm itself: one object, named default."""

    id: str = msgspec.field(name="ID", default="")
    version: Version = msgspec.field(default_factory=Version)
    created_at: str = ""
    updated_at: str = ""
    spec: ClusterSpec = msgspec.field(default_factory=ClusterSpec)
    root_rotation_in_progress: bool = False
    data_path_port: int = always(4789)
    default_addr_pool: list[str] = msgspec.field(default_factory=lambda: ["10.0.0.0/8"])
    subnet_size: int = always(24)
