"""Services: what a user declares, and what the swarm says of it."""

from __future__ import annotations

import msgspec

from gitops.objects.base import Full, Version, Wire, always
from gitops.objects.mount import Mount


class HealthConfig(Wire, frozen=True):
    """A health check; `test` is `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`, empty means the image's."""

    test: list[str] = []
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class FileTarget(Full, frozen=True):
    """Where a secret or config appears in a container."""

    name: str = ""
    uid: str = msgspec.field(name="UID", default="0")
    gid: str = msgspec.field(name="GID", default="0")
    mode: int = 0o444


class SecretReference(Wire, frozen=True):
    """A service's use of a secret."""

    file: FileTarget | None = None
    secret_id: str = msgspec.field(name="SecretID", default="")
    secret_name: str = ""


class ConfigReference(Wire, frozen=True):
    """A service's use of a config."""

    file: FileTarget | None = None
    config_id: str = msgspec.field(name="ConfigID", default="")
    config_name: str = ""


class DNSConfig(Wire, frozen=True):
    """Name servers, search domains and options of a task's resolv.conf."""

    nameservers: list[str] = []
    search: list[str] = []
    options: list[str] = []


class Ulimit(Wire, frozen=True):
    """A resource limit of a process."""

    name: str = ""
    hard: int = 0
    soft: int = 0


class CredentialSpec(Wire, frozen=True):
    """A managed account of Windows."""

    config: str = ""
    file: str = ""
    registry: str = ""


class SELinuxContext(Wire, frozen=True):
    """The label of a container's processes; `disable` takes it away."""

    disable: bool = False
    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


class SeccompOptions(Wire, frozen=True):
    """`mode` is default, unconfined or custom; with the last, `profile` is the profile's JSON."""

    mode: str = ""
    profile: bytes = b""


class AppArmorOptions(Wire, frozen=True):
    """`mode` is default or disabled."""

    mode: str = ""


class Privileges(Wire, frozen=True):
    """What a container's processes may gain or are kept from, beyond capabilities."""

    credential_spec: CredentialSpec | None = None
    selinux_context: SELinuxContext | None = msgspec.field(name="SELinuxContext", default=None)
    seccomp: SeccompOptions | None = None
    app_armor: AppArmorOptions | None = None
    no_new_privileges: bool = False


class ContainerSpec(Wire, frozen=True):
    """The container that each task of a service runs. `command` is Docker's entrypoint, `args` its command."""

    image: str = ""
    labels: dict[str, str] = {}
    command: list[str] = []
    args: list[str] = []
    hostname: str = ""
    env: list[str] = []
    dir: str = ""
    user: str = ""
    groups: list[str] = []
    privileges: Privileges | None = None
    tty: bool = msgspec.field(name="TTY", default=False)
    open_stdin: bool = False
    read_only: bool = False
    mounts: list[Mount] = []
    stop_signal: str = ""
    stop_grace_period: int | None = None
    healthcheck: HealthConfig | None = None
    hosts: list[str] = []
    dns_config: DNSConfig | None = msgspec.field(name="DNSConfig", default=None)
    secrets: list[SecretReference] = []
    configs: list[ConfigReference] = []
    isolation: str = ""
    init: bool | None = None
    sysctls: dict[str, str] = {}
    capability_add: list[str] = []
    capability_drop: list[str] = []
    ulimits: list[Ulimit] = []
    oom_score_adj: int = 0


class Limits(Wire, frozen=True):
    """What a task may use at most."""

    nano_cpus: int = msgspec.field(name="NanoCPUs", default=0)
    memory_bytes: int = 0
    pids: int = 0


class Resources(Wire, frozen=True):
    """What a task reserves, or what a node has."""

    nano_cpus: int = msgspec.field(name="NanoCPUs", default=0)
    memory_bytes: int = 0


class ResourceRequirements(Wire, frozen=True):
    """Limits go to the cgroup; reservations to the scheduler."""

    limits: Limits | None = None
    reservations: Resources | None = None


class RestartPolicy(Wire, frozen=True):
    """When a slot gets a new task; `condition` is none, on-failure or any."""

    condition: str = ""
    delay: int | None = None
    max_attempts: int | None = None
    window: int | None = None


class SpreadOver(Wire, frozen=True):
    """A label over whose values tasks are spread."""

    spread_descriptor: str = ""


class PlacementPreference(Wire, frozen=True):
    """One level of spreading."""

    spread: SpreadOver | None = None


class Platform(Wire, frozen=True):
    """An architecture and operating system."""

    architecture: str = ""
    os: str = msgspec.field(name="OS", default="")


class Placement(Wire, frozen=True):
    """Which nodes may run a service's tasks."""

    constraints: list[str] = []
    preferences: list[PlacementPreference] = []
    max_replicas: int = 0
    platforms: list[Platform] = []


class NetworkAttachmentConfig(Wire, frozen=True):
    """A network that a service's tasks join: `target` is its id (or its name, when a client sends it)."""

    target: str = ""
    aliases: list[str] = []
    driver_opts: dict[str, str] = {}


class LogDriver(Wire, frozen=True):
    """A log driver with its options."""

    name: str = ""
    options: dict[str, str] = {}


class TaskSpec(Wire, frozen=True):
    """What a task is to run; frozen into each task when it is made."""

    container_spec: ContainerSpec | None = None
    resources: ResourceRequirements | None = None
    restart_policy: RestartPolicy | None = None
    placement: Placement | None = None
    networks: list[NetworkAttachmentConfig] = []
    log_driver: LogDriver | None = None
    force_update: int = always(0)
    runtime: str = ""


class Replicated(Wire, frozen=True):
    """A fixed number of tasks; absent means 1."""

    replicas: int | None = None


class Global(Wire, frozen=True):
    """One task on each eligible node."""


class ReplicatedJob(Wire, frozen=True):
    """Tasks that run to completion."""

    max_concurrent: int | None = None
    total_completions: int | None = None


class GlobalJob(Wire, frozen=True):
    """A task that runs to completion on each eligible node."""


class ServiceMode(Wire, frozen=True):
    """Exactly one is set; none means replicated with one replica."""

    replicated: Replicated | None = None
    global_: Global | None = msgspec.field(name="Global", default=None)
    replicated_job: ReplicatedJob | None = None
    global_job: GlobalJob | None = None


class UpdateConfig(Wire, frozen=True):
    """How an update goes through the slots; absent fields take `objects.defaults`."""

    parallelism: int | None = None
    delay: int = 0
    failure_action: str = ""
    monitor: int | None = None
    max_failure_ratio: float = 0.0
    order: str = ""


class PortConfig(Full, frozen=True):
    """A published port. `published_port` 0 is chosen by the allocator; `publish_mode` is ingress or host."""

    name: str = ""
    protocol: str = "tcp"
    target_port: int = 0
    published_port: int = 0
    publish_mode: str = "ingress"


class EndpointSpec(Wire, frozen=True):
    """How a service is reached: `mode` vip or dnsrr, and its ports."""

    mode: str = ""
    ports: list[PortConfig] = []


class ServiceSpec(Wire, frozen=True):
    """What a user declares."""

    name: str = ""
    labels: dict[str, str] = always({})
    task_template: TaskSpec = msgspec.field(default_factory=TaskSpec)
    mode: ServiceMode = msgspec.field(default_factory=ServiceMode)
    update_config: UpdateConfig | None = None
    rollback_config: UpdateConfig | None = None
    endpoint_spec: EndpointSpec | None = None


class VirtualIP(Full, frozen=True):
    """A service's address on a network, with its prefix length."""

    network_id: str = msgspec.field(name="NetworkID", default="")
    addr: str = ""


class Endpoint(Wire, frozen=True):
    """What the allocator gave a service."""

    spec: EndpointSpec | None = None
    ports: list[PortConfig] = []
    virtual_ips: list[VirtualIP] = msgspec.field(name="VirtualIPs", default_factory=list)


class UpdateStatus(Wire, frozen=True):
    """Where an update stands: updating, paused, completed, rollback_started, rollback_paused, rollback_completed."""

    state: str = ""
    started_at: str | None = None
    completed_at: str | None = None
    message: str = ""


class ServiceStatus(Full, frozen=True):
    """Counts of tasks, in listings that ask for them."""

    running_tasks: int = 0
    desired_tasks: int = 0
    completed_tasks: int = 0


class JobStatus(Full, frozen=True):
    """The iteration of a job."""

    job_iteration: Version = msgspec.field(default_factory=Version)
    last_execution: str = ""


class Credentials(Wire, frozen=True):
    """What a registry wants for a service's image: an `AuthConfig` as JSON, empty for none. No repr shows it."""

    data: bytes = b""

    def __repr__(self) -> str:
        return "Credentials(<hidden>)"


class Service(Wire, frozen=True):
    """A service. `spec_version` and `previous_spec_version` are the store's own.

    So are the credentials, which go with the spec and the previous one: sealed on disk, never shown by the API.
    """

    id: str = msgspec.field(name="ID", default="")
    version: Version = msgspec.field(default_factory=Version)
    created_at: str = ""
    updated_at: str = ""
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)
    previous_spec: ServiceSpec | None = None
    spec_version: Version = msgspec.field(default_factory=Version)
    previous_spec_version: Version | None = None
    credentials: Credentials | None = None
    previous_credentials: Credentials | None = None
    endpoint: Endpoint = msgspec.field(default_factory=Endpoint)
    update_status: UpdateStatus | None = None
    service_status: ServiceStatus | None = None
    job_status: JobStatus | None = None
