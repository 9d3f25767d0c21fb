"""A container as it is stored: what was asked for, and where its life stands. One row of `containers` each."""

from __future__ import annotations

import contextlib

import msgspec

from gitops.engine.database import Database
from gitops.objects.base import Wire
from gitops.objects.container import ContainerConfig, EndpointSettings, HostConfig, PortBinding

TABLE = "containers"

CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
RESTARTING = "restarting"
EXITED = "exited"
REMOVING = "removing"


class MountRecord(Wire, frozen=True):
    """A mount in its final form. `source` is a host path or a volume's name, `options` the tmpfs's.

    `is_explicit` is False for a volume that only the image or the short syntax without a name asked for.
    """

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    propagation: str = ""
    is_recursive: bool = True
    makes_source: bool = False
    copies: bool = True
    options: str = ""
    mode: str = ""
    is_anonymous: bool = False
    subpath: str = ""
    """The part of a volume that is mounted, "" for all of it."""
    deep: str = ""
    """Whether read-only goes for what is mounted below: "" where the kernel can, `off`, or `force`."""
    volume_driver: str = ""
    volume_options: dict[str, str] = {}
    volume_labels: dict[str, str] = {}


class FileRecord(Wire, frozen=True):
    """An injected file without its data, which lies on the container's tmpfs under `number`."""

    path: str
    number: int
    mode: int = 0o444
    uid: int = 0
    gid: int = 0


class Run(Wire, frozen=True):
    """One run of a container: what recognises its first process for certain; start in clock ticks since the boot."""

    pid: int
    start_ticks: int
    boot_id: str


class ContainerRecord(Wire, frozen=True):
    """Times in nanoseconds since the epoch, 0 for never."""

    id: str
    name: str
    image_id: str
    created_ns: int
    config: ContainerConfig
    host_config: HostConfig
    path: str = ""
    args: list[str] = []
    endpoints: dict[str, EndpointSettings] = {}
    """What was asked for, by network, the first one first."""
    gateway_leg: bool = False
    mounts: list[MountRecord] = []
    files: list[FileRecord] = []

    status: str = CREATED
    came_from: str = CREATED
    """The status before the last start: what it goes back to when the engine dies before the process runs."""
    run: Run | None = None
    """The current run, or the last one."""
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_ns: int = 0
    finished_ns: int = 0
    restart_count: int = 0
    removes_volumes: bool = False
    """It is being removed together with its anonymous volumes."""
    was_stopped: bool = False
    """Somebody stopped it: `unless-stopped` leaves it so."""
    is_filled: bool = False
    """Its new volumes were filled from the image."""
    health: str = ""
    """none, starting, healthy or unhealthy, while there is a health check."""
    attached: dict[str, EndpointSettings] = {}
    """Its places on networks by name, while it runs."""
    sandbox: str = ""
    """The path of its network namespace, while it runs in one of the engine's."""
    gateway_address: str = ""
    """Its address on the bridge of swarm tasks, while it runs."""
    ports: dict[str, list[PortBinding]] = {}
    """Published ports with the real host ports, while it runs."""

    @property
    def is_alive(self) -> bool:
        """Whether it has a process."""
        return self.status in (RUNNING, PAUSED)

    @property
    def short_name(self) -> str:
        """The name without the API's slash."""
        return self.name.removeprefix("/")


def replace(record: ContainerRecord, **changes: object) -> ContainerRecord:
    """`record` with other values in some fields."""
    return msgspec.structs.replace(record, **changes)


def store(database: Database, record: ContainerRecord) -> None:
    """Write the row. Raises `errors.RuntimeFailure`, as `forget`."""
    with _as_lasting_as(database, record):
        database.put(TABLE, record.id, record)


def forget(database: Database, record: ContainerRecord) -> None:
    """Delete the row."""
    with _as_lasting_as(database, record):
        database.delete(TABLE, record.id)


def _as_lasting_as(database: Database, record: ContainerRecord) -> contextlib.AbstractContextManager[None]:
    # What goes with its end is gone after a power cut: no need to wait for the disk. Its volumes aren't gone.
    has_volumes = any(mount.type == "volume" for mount in record.mounts)
    is_passing = record.host_config.auto_remove and not has_volumes
    return database.until_boot() if is_passing else contextlib.nullcontext()
