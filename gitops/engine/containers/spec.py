"""The OCI configuration of a container: Docker's defaults in the runtime's words. Pure: values in, a dict out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gitops.engine.containers import resources, seccomp, sharing
from gitops.engine.containers.devices import Devices
from gitops.engine.containers.record import ContainerRecord
from gitops.engine.containers.users import Identity
from gitops.objects.container import HostConfig

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INIT_PATH = "/sbin/docker-init"
MASKED_PATHS = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
]
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_DEVICES = ((1, 3), (1, 5), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2))
_SAFE = ["nosuid", "noexec", "nodev"]


@dataclass(frozen=True, slots=True)
class Bind:
    """A host path in the container; `is_recursive` is for directories only, the runtime refuses it for a file."""

    source: str
    target: str
    read_only: bool = False
    is_recursive: bool = True
    propagation: str = "rprivate"
    is_deep: bool = True
    """Whether `read_only` holds for what is mounted below it too, where the kernel can."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container's configuration needs beside its record."""

    rootfs: str
    cgroups_path: str
    identity: Identity = field(default_factory=Identity)
    capabilities: Sequence[str] = ()
    seccomp_filter: dict[str, Any] | None = None
    seccomp_program: str | None = None
    no_new_privileges: bool = False
    network: str | None = ""
    """Path of a namespace to join; "" for a new one; None for the host's."""
    binds: Sequence[Bind] = ()
    """Volumes, binds, injected and host files, in the order of mounting, but for tmpfs."""
    limits: resources.HostLimits = field(default_factory=lambda: resources.HostLimits(False, True, {}, True, 0))
    init: str = ""
    """The init program on the host, where one is wanted."""
    devices: Devices = field(default_factory=Devices)
    """What the container was given of the host's devices."""
    joined: sharing.Joined = field(default_factory=sharing.Joined)


def build(record: ContainerRecord, around: Surroundings) -> dict[str, Any]:
    """config.json."""
    host = record.host_config
    spec: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "root": {"path": around.rootfs, "readonly": host.readonly_rootfs},
        "process": process(record, around),
        "mounts": _mounts(record, around),
        "linux": _linux(record, around),
    }
    if record.config.hostname and "uts" not in around.joined.paths:
        spec["hostname"] = record.config.hostname
    annotations = dict(host.annotations or {})
    if around.seccomp_program is not None:
        annotations[seccomp.ANNOTATION] = around.seccomp_program
    if annotations:
        spec["annotations"] = annotations
    return spec


def process(record: ContainerRecord, around: Surroundings) -> dict[str, Any]:
    """The first process; a health check runs with the same values and other words."""
    host = record.host_config
    args = [record.path, *record.args]
    if around.init:
        args = [INIT_PATH, "--", *args]
    identity = around.identity
    caps = list(around.capabilities)
    result: dict[str, Any] = {
        "terminal": record.config.tty,
        "user": user(identity),
        "args": args,
        "env": environment(record, identity),
        "cwd": record.config.working_dir or "/",
        # Inheritable and ambient stay empty, as in every release since CVE-2022-24769.
        "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        "rlimits": resources.rlimits(host.ulimits or (), around.limits),
        "noNewPrivileges": around.no_new_privileges,
        "oomScoreAdj": resources.oom_score(host.oom_score_adj, around.limits),
    }
    if record.config.tty:
        result["consoleSize"] = console_size(host.console_size)
    return result


def user(identity: Identity) -> dict[str, Any]:
    """Whom a process runs as."""
    return {"uid": identity.uid, "gid": identity.gid, "additionalGids": list(identity.groups), "umask": 0o022}


def console_size(asked: Sequence[int] | None) -> dict[str, int]:
    """The first size of a terminal, from height and width."""
    if asked and len(asked) == 2 and all(0 < number < 65536 for number in asked):
        return {"height": asked[0], "width": asked[1]}
    return {"height": 24, "width": 80}


def environment(record: ContainerRecord, identity: Identity) -> list[str]:
    """PATH, HOSTNAME, TERM and HOME where nothing else is said, and what the container sets."""
    values = {"PATH": DEFAULT_PATH}
    if record.config.hostname:
        values["HOSTNAME"] = record.config.hostname
    if record.config.tty:
        values["TERM"] = "xterm"
    for entry in record.config.env or ():
        name, is_set, value = entry.partition("=")
        if is_set:
            values[name] = value
        else:
            values.pop(name, None)
    values.setdefault("HOME", identity.home)
    return [f"{name}={value}" for name, value in values.items()]


def _mounts(record: ContainerRecord, around: Surroundings) -> list[dict[str, Any]]:
    host = record.host_config
    guard = [] if host.privileged else ["ro"]
    mounts = [
        _mount("/proc", "proc", "proc", _SAFE),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount(
            "/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        _mount("/sys", "sysfs", "sysfs", [*_SAFE, *guard]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*_SAFE, *guard]),
        _mount("/dev/mqueue", "mqueue", "mqueue", _SAFE),
    ]
    if around.joined.shm:
        mounts.append(_mount("/dev/shm", "bind", around.joined.shm, ["rbind", "rprivate"]))
    elif host.ipc_mode != sharing.NONE:
        mounts.append(_mount("/dev/shm", "tmpfs", "shm", [*_SAFE, "mode=1777", f"size={host.shm_size}"]))
    own = {mount["destination"]: mount for mount in mounts}
    placed = [(bind.target, _bind(bind, around.limits)) for bind in around.binds]
    placed += [
        (mount.target, _mount(mount.target, "tmpfs", "tmpfs", _tmpfs_options(mount.options)))
        for mount in record.mounts
        if mount.type == "tmpfs"
    ]
    # Who mounts at /dev/shm or the like himself takes ours away. Outer mounts go before inner ones; the sort is
    # stable, so that the files of the engine come before what the user puts at the same place.
    placed.sort(key=lambda entry: entry[0].count("/"))
    theirs = {target for target, _ in placed}
    mounts = [mount for target, mount in own.items() if target not in theirs]
    if around.init:
        placed.append((INIT_PATH, _bind(Bind(around.init, INIT_PATH, True, is_recursive=False), around.limits)))
    return mounts + [mount for _, mount in placed]


def _mount(target: str, kind: str, source: str, options: Sequence[str]) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def _bind(bind: Bind, limits: resources.HostLimits) -> dict[str, Any]:
    options = ["rbind" if bind.is_recursive else "bind", bind.propagation or "rprivate"]
    if bind.read_only:
        options.append("ro")
        if bind.is_recursive and bind.is_deep and limits.has_recursive_read_only:
            # `ro` alone leaves what is mounted below it writable.
            options.append("rro")
    return _mount(bind.target, "bind", bind.source, options)


def _tmpfs_options(options: str) -> list[str]:
    # Docker's own first: the user's come later and win.
    result = [*_SAFE, *(option for option in options.split(",") if option)]
    for positive, negative in (("exec", "noexec"), ("suid", "nosuid"), ("dev", "nodev")):
        if positive in result:
            result = [option for option in result if option != negative]
    return result


def _linux(record: ContainerRecord, around: Surroundings) -> dict[str, Any]:
    host = record.host_config
    spread = [bind.propagation for bind in around.binds]
    linux: dict[str, Any] = {
        "namespaces": _namespaces(host, around),
        "cgroupsPath": around.cgroups_path,
        "resources": {"devices": _device_rules(host, around.devices), **resources.cgroup(host, around.limits)},
        "maskedPaths": _hidden(host, host.masked_paths, MASKED_PATHS),
        "readonlyPaths": _hidden(host, host.readonly_paths, READONLY_PATHS),
        "sysctl": _sysctls(record, around),
    }
    if around.devices.block_io:
        linux["resources"]["blockIO"] = around.devices.block_io
    if any("shared" in propagation for propagation in spread):
        linux["rootfsPropagation"] = "rshared"
    elif any("slave" in propagation for propagation in spread):
        linux["rootfsPropagation"] = "rslave"
    if around.devices.nodes:
        linux["devices"] = list(around.devices.nodes)
    if around.seccomp_filter is not None and around.seccomp_program is None:
        linux["seccomp"] = around.seccomp_filter
    return linux


def _namespaces(host: HostConfig, around: Surroundings) -> list[dict[str, str]]:
    joined = dict(around.joined.paths)
    if around.network is None:
        joined["network"] = None
    elif around.network:
        joined["network"] = around.network
    kinds = ["mount", "uts", "ipc", "pid", "network"]
    if (host.cgroupns_mode or cgroup_namespace(host, is_v2=around.limits.is_v2)) == sharing.PRIVATE:
        kinds.append("cgroup")
    namespaces = []
    for kind in kinds:
        path = joined.get(kind, "")
        if path is not None:
            namespaces.append({"type": kind, **({"path": path} if path else {})})
    return namespaces


def cgroup_namespace(host: HostConfig, *, is_v2: bool) -> str:
    """The mode that a container has where none was asked for; Docker's choice."""
    return sharing.PRIVATE if is_v2 and not host.privileged else sharing.HOST


def _hidden(host: HostConfig, asked: list[str] | None, usual: list[str]) -> list[str]:
    if host.privileged:
        return []
    return usual if asked is None else asked


def _device_rules(host: HostConfig, devices: Devices) -> list[dict[str, Any]]:
    if host.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    rules += [{"allow": True, "type": kind, "access": "m"} for kind in ("c", "b")]
    rules += [
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"} for major, minor in _DEVICES
    ]
    rules.append({"allow": True, "type": "c", "major": 136, "access": "rwm"})
    return [*rules, *devices.rules]


def _sysctls(record: ContainerRecord, around: Surroundings) -> dict[str, str]:
    values: dict[str, str] = {}
    if around.network is not None:
        values = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
    if record.config.domainname and "uts" not in around.joined.paths:
        values["kernel.domainname"] = record.config.domainname
    return {**values, **(record.host_config.sysctls or {})}
