"""Which namespaces a container has of its own, and which it shares with the host or with another container. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gitops import errors
from gitops.objects.container import ContainerConfig, HostConfig

HOST = "host"
PRIVATE = "private"
SHAREABLE = "shareable"
NONE = "none"
_CONTAINER = "container:"


@dataclass(frozen=True, slots=True)
class Joined:
    """Namespaces that aren't new: by kind the path of one to join, or None for the host's."""

    paths: Mapping[str, str | None] = field(default_factory=dict)
    shm: str = ""
    """The host's directory that is the container's /dev/shm; "" for a tmpfs of its own."""


def donor(mode: str) -> str:
    """The container that `container:NAME` means, "" for any other mode."""
    return mode.removeprefix(_CONTAINER) if mode.startswith(_CONTAINER) else ""


def is_alone(host: HostConfig) -> bool:
    """Whether it shares no namespace but, perhaps, a network: what nearly all containers do."""
    modes = {host.pid_mode, host.ipc_mode, host.uts_mode}
    return modes <= {"", PRIVATE, NONE}


def check(config: ContainerConfig, host: HostConfig) -> None:
    """Raises `errors.Invalid`, in Docker's words, for a mode that isn't one and for options that contradict it."""
    if host.pid_mode not in ("", PRIVATE, HOST) and not donor(host.pid_mode):
        raise errors.Invalid(f"invalid PID mode: {host.pid_mode}")
    if host.ipc_mode not in ("", NONE, PRIVATE, SHAREABLE, HOST) and not donor(host.ipc_mode):
        raise errors.Invalid(f"invalid IPC mode: {host.ipc_mode}")
    if host.uts_mode not in ("", HOST):
        raise errors.Invalid(f"invalid UTS mode: {host.uts_mode}")
    if host.userns_mode not in ("", HOST):
        raise errors.Invalid(f"invalid userns mode: {host.userns_mode}: this engine has no user namespaces")
    if host.cgroupns_mode not in ("", PRIVATE, HOST):
        raise errors.Invalid(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    if host.uts_mode == HOST and config.hostname:
        raise errors.Invalid("conflicting options: hostname and the UTS mode")
    _check_network(config, host)


def _check_network(config: ContainerConfig, host: HostConfig) -> None:
    mode = host.network_mode
    if not re.match(r"container(:|$)", mode):
        return
    if not donor(mode):
        raise errors.Invalid("Invalid network mode: invalid container format container:<name|id>")
    conflicts = {
        "hostname and the network mode": bool(config.hostname),
        "dns and the network mode": bool(host.dns),
        "custom host-to-IP mapping and the network mode": bool(host.extra_hosts),
        "port publishing and the container type network mode": bool(host.port_bindings or host.publish_all_ports),
        "port exposing and the container type network mode": bool(config.exposed_ports),
    }
    for text, is_so in conflicts.items():
        if is_so:
            raise errors.Invalid(f"conflicting options: {text}")
