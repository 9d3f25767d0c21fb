"""Containers of one host, as the API takes and shows them."""

from __future__ import annotations

from typing import Any

import msgspec

from gitops.objects.base import ZERO_TIME, Full, Wire, always
from gitops.objects.mount import Mount, MountPoint
from gitops.objects.service import HealthConfig, Ulimit


class ContainerConfig(Full, frozen=True):
    """What runs in a container, independent of the host."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, Any] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | str | None = None
    healthcheck: HealthConfig | None = None
    network_disabled: bool = False
    image: str = ""
    volumes: dict[str, Any] | None = None
    working_dir: str = ""
    entrypoint: list[str] | str | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    stop_timeout: int | None = None


class RestartPolicy(Full, frozen=True):
    """Of plain containers: no, always, unless-stopped, on-failure."""

    name: str = "no"
    maximum_retry_count: int = 0


class PortBinding(Full, frozen=True):
    """A host address and port ("" for any)."""

    host_ip: str = ""
    host_port: str = ""


class LogConfig(Full, frozen=True):
    """A log driver with its options."""

    type: str = "json-file"
    config: dict[str, str] | None = None


class DeviceMapping(Wire, frozen=True):
    """A device of the host in a container; permissions are letters of `rwm`."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class WeightDevice(Wire, frozen=True):
    """A block device with the weight of a container's requests to it, from 10 to 1000."""

    path: str = ""
    weight: int = 0


class ThrottleDevice(Wire, frozen=True):
    """A block device with the most bytes or requests a second."""

    path: str = ""
    rate: int = 0


class HostConfig(Full, frozen=True):
    """How a container sits on its host. `memory_swap` is memory plus swap, as Docker has it."""

    binds: list[str] | None = None
    network_mode: str = "default"
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy | None = None
    auto_remove: bool = False
    log_config: LogConfig | None = None
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    oom_score_adj: int = 0
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    shm_size: int = 0
    sysctls: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    init: bool | None = None
    links: list[str] | None = None
    mounts: list[Mount] | None = None
    annotations: dict[str, str] | None = None
    volumes_from: list[str] | None = None
    volume_driver: str = ""
    pid_mode: str = ""
    ipc_mode: str = ""
    uts_mode: str = msgspec.field(name="UTSMode", default="")
    userns_mode: str = ""
    cgroupns_mode: str = ""
    runtime: str = ""
    isolation: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    masked_paths: list[str] | None = None
    """None for the engine's own list; empty hides nothing."""
    readonly_paths: list[str] | None = None
    cpu_period: int = 0
    """Microseconds, as is the quota."""
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = msgspec.field(name="BlkioDeviceReadIOps", default=None)
    blkio_device_write_iops: list[ThrottleDevice] | None = msgspec.field(name="BlkioDeviceWriteIOps", default=None)
    console_size: list[int] | None = None
    """Height and width of the terminal at the start, in characters."""


class IPAMEndpoint(Wire, frozen=True):
    """Addresses asked for."""

    ipv4_address: str = msgspec.field(name="IPv4Address", default="")
    ipv6_address: str = msgspec.field(name="IPv6Address", default="")
    link_local_ips: list[str] | None = msgspec.field(name="LinkLocalIPs", default=None)


class EndpointSettings(Full, frozen=True):
    """A container's place on a network: asked for at creation, filled in when it is connected."""

    ipam_config: IPAMEndpoint | None = msgspec.field(name="IPAMConfig", default=None)
    links: list[str] | None = None
    aliases: list[str] | None = None
    driver_opts: dict[str, str] | None = None
    network_id: str = msgspec.field(name="NetworkID", default="")
    endpoint_id: str = msgspec.field(name="EndpointID", default="")
    gateway: str = ""
    ip_address: str = msgspec.field(name="IPAddress", default="")
    ip_prefix_len: int = msgspec.field(name="IPPrefixLen", default=0)
    mac_address: str = ""
    dns_names: list[str] | None = msgspec.field(name="DNSNames", default=None)


class NetworkingConfig(Wire, frozen=True):
    """The networks that a new container joins, by name or id."""

    endpoints_config: dict[str, EndpointSettings] | None = None


class ContainerCreate(ContainerConfig, frozen=True):
    """The body of POST /containers/create: a ContainerConfig with more fields; `mac_address` is of older clients."""

    mac_address: str = ""
    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None


class HealthResult(Full, frozen=True):
    """One probe."""

    start: str = ""
    end: str = ""
    exit_code: int = 0
    output: str = ""


class Health(Full, frozen=True):
    """`status` is none, starting, healthy or unhealthy."""

    status: str = "none"
    failing_streak: int = 0
    log: list[HealthResult] = msgspec.field(default_factory=list)


class ContainerState(Full, frozen=True):
    """`status` is created, running, paused, restarting, removing, exited or dead."""

    status: str = "created"
    running: bool = False
    paused: bool = False
    restarting: bool = False
    oom_killed: bool = msgspec.field(name="OOMKilled", default=False)
    dead: bool = False
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_at: str = ZERO_TIME
    finished_at: str = ZERO_TIME
    health: Health | None = None


class NetworkSettings(Full, frozen=True):
    """Addresses and ports of a container."""

    sandbox_id: str = msgspec.field(name="SandboxID", default="")
    sandbox_key: str = ""
    ports: dict[str, list[PortBinding] | None] = msgspec.field(default_factory=dict)
    networks: dict[str, EndpointSettings] = msgspec.field(default_factory=dict)
    gateway: str = ""
    ip_address: str = msgspec.field(name="IPAddress", default="")
    ip_prefix_len: int = msgspec.field(name="IPPrefixLen", default=0)
    mac_address: str = ""


class ContainerInspect(Full, frozen=True):
    """GET /containers/{id}/json."""

    id: str
    created: str
    path: str
    args: list[str]
    state: ContainerState
    image: str
    name: str
    config: ContainerConfig
    host_config: HostConfig
    network_settings: NetworkSettings
    mounts: list[MountPoint] = msgspec.field(default_factory=list)
    log_path: str = ""
    resolv_conf_path: str = ""
    hostname_path: str = ""
    hosts_path: str = ""
    restart_count: int = 0
    driver: str = "overlay2"
    platform: str = "linux"
    mount_label: str = ""
    process_label: str = ""
    app_armor_profile: str = ""
    exec_ids: list[str] | None = msgspec.field(name="ExecIDs", default=None)
    graph_driver: dict[str, Any] = msgspec.field(default_factory=dict)
    size_rw: int | msgspec.UnsetType = msgspec.UNSET
    size_root_fs: int | msgspec.UnsetType = msgspec.UNSET


class PortSummary(Wire, frozen=True):
    """A port in a listing."""

    ip: str = msgspec.field(name="IP", default="")
    private_port: int = 0
    public_port: int = 0
    type: str = always("tcp")


class ContainerSummary(Full, frozen=True):
    """A line of GET /containers/json; `created` in seconds since the epoch."""

    id: str
    names: list[str]
    image: str
    image_id: str = msgspec.field(name="ImageID")
    command: str
    created: int
    state: str
    status: str
    ports: list[PortSummary] = msgspec.field(default_factory=list)
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    host_config: dict[str, str] = msgspec.field(default_factory=dict)
    network_settings: dict[str, dict[str, EndpointSettings]] = msgspec.field(default_factory=dict)
    mounts: list[MountPoint] = msgspec.field(default_factory=list)
    size_rw: int | msgspec.UnsetType = msgspec.UNSET
    """Bytes of its own layer, and with its image's; where they were asked for."""
    size_root_fs: int | msgspec.UnsetType = msgspec.UNSET


class FileChange(Full, frozen=True):
    """A line of `docker diff`: `kind` is 0 for modified, 1 for added, 2 for deleted."""

    path: str
    kind: int


class PathStat(Wire, frozen=True):
    """What a path in a container is, in the header of archive calls; `mode` as Go's os.FileMode has it."""

    name: str = msgspec.field(name="name", default_factory=str)
    size: int = msgspec.field(name="size", default_factory=int)
    mode: int = msgspec.field(name="mode", default_factory=int)
    mtime: str = msgspec.field(name="mtime", default_factory=str)
    link_target: str = msgspec.field(name="linkTarget", default_factory=str)


class Volume(Full, frozen=True):
    """A named volume."""

    name: str
    created_at: str = ""
    driver: str = "local"
    mountpoint: str = ""
    labels: dict[str, str] | None = msgspec.field(default_factory=dict)
    options: dict[str, str] | None = None
    scope: str = "local"


class VolumeCreate(Wire, frozen=True):
    """The body of POST /volumes/create."""

    name: str = ""
    driver: str = "local"
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class Event(Wire, frozen=True):
    """A line of GET /events. `scope` is local or swarm; `time` in seconds, `time_nano` in nanoseconds."""

    type: str = ""
    action: str = ""
    actor: Actor = msgspec.field(default_factory=lambda: Actor())
    scope: str = msgspec.field(name="scope", default_factory=lambda: "local")
    time: int = msgspec.field(name="time", default=0)
    time_nano: int = msgspec.field(name="timeNano", default=0)


class Actor(Wire, frozen=True):
    """What an event is about."""

    id: str = msgspec.field(name="ID", default="")
    attributes: dict[str, str] = msgspec.field(default_factory=dict)
