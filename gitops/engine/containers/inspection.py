"""Containers as the API shows them: in full, in a line, and which lines a filter lets through. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from gitops import errors
from gitops.engine.containers import creation, health, record
from gitops.engine.containers.container import Container
from gitops.engine.containers.record import ContainerRecord, MountRecord
from gitops.objects import base, spans
from gitops.objects.container import (
    ContainerInspect,
    ContainerState,
    ContainerSummary,
    EndpointSettings,
    Health,
    NetworkSettings,
    PortBinding,
    PortSummary,
)
from gitops.objects.mount import MountPoint

_FILTERS = "ancestor before exited expose health id is-task label label! name network publish since status volume"
_STATES = (record.CREATED, record.RUNNING, record.PAUSED, record.RESTARTING, record.REMOVING, record.EXITED, "dead")


def state(container: Container) -> ContainerState:
    """Where its life stands."""
    now = container.record
    return ContainerState(
        status=now.status,
        running=now.status in (record.RUNNING, record.PAUSED, record.RESTARTING),
        paused=now.status == record.PAUSED,
        restarting=now.status == record.RESTARTING,
        oom_killed=now.oom_killed,
        pid=now.run.pid if now.is_alive and now.run else 0,
        exit_code=now.exit_code,
        error=now.error,
        started_at=base.format_time(now.started_ns),
        finished_at=base.format_time(now.finished_ns),
        health=shown_health(container),
    )


def shown_health(container: Container) -> Health | None:
    """Its health, where there is a check."""
    if health.probe_of(container.record.config.healthcheck) is None:
        return None
    return container.verdict.shown()


def inspect(
    container: Container, folder: Path, bundle: Path, volumes: Path, execs: Sequence[str] = ()
) -> ContainerInspect:
    """All of it; `folder` is its directory, `volumes` that of all volumes, `execs` what is run in it besides."""
    now = container.record
    return ContainerInspect(
        id=now.id,
        created=base.format_time(now.created_ns),
        path=now.path,
        args=list(now.args),
        state=state(container),
        image=now.image_id,
        name=now.name,
        config=now.config,
        host_config=now.host_config,
        network_settings=network_settings(now),
        mounts=[mount_point(mount, volumes) for mount in now.mounts],
        log_path=str(folder / "log" / "ctr.log"),
        resolv_conf_path=str(folder / "resolv.conf"),
        hostname_path=str(folder / "hostname"),
        hosts_path=str(folder / "hosts"),
        restart_count=now.restart_count,
        exec_ids=list(execs) or None,
        graph_driver={"Name": "overlay2", "Data": _overlay(folder, bundle)},
    )


def _overlay(folder: Path, bundle: Path) -> dict[str, str]:
    places = {"UpperDir": folder / "diff", "WorkDir": folder / "work", "MergedDir": bundle / "rootfs"}
    return {name: str(place) for name, place in places.items()}


def network_settings(now: ContainerRecord) -> NetworkSettings:
    """Addresses while it runs, else what was asked for."""
    networks = _places(now)
    first = networks.get("bridge") or EndpointSettings()
    ports: dict[str, list[PortBinding] | None] = {}
    if now.is_alive:
        ports.update(dict.fromkeys(now.config.exposed_ports or ()))
        ports.update(now.ports)
    return NetworkSettings(
        sandbox_id=now.id if now.sandbox else "",
        sandbox_key=now.sandbox,
        ports=ports,
        networks=networks,
        gateway=first.gateway,
        ip_address=first.ip_address,
        ip_prefix_len=first.ip_prefix_len,
        mac_address=first.mac_address,
    )


def _places(now: ContainerRecord) -> dict[str, EndpointSettings]:
    """Its places on networks by name: what it has, with what was asked for."""
    if not now.attached:
        return dict(now.endpoints)
    found = {}
    for name, place in now.attached.items():
        asked = now.endpoints.get(name) or EndpointSettings()
        found[name] = msgspec.structs.replace(place, ipam_config=asked.ipam_config, driver_opts=asked.driver_opts)
    return found


def mount_point(mount: MountRecord, volumes: Path) -> MountPoint:
    """A mount as inspection shows it."""
    is_volume = mount.type == "volume"
    return MountPoint(
        type=mount.type,
        name=mount.source if is_volume else "",
        source=str(volumes / mount.source / "_data") if is_volume else mount.source,
        destination=mount.target,
        driver="local" if is_volume else "",
        mode=mount.mode,
        rw=not mount.read_only,
        propagation=mount.propagation or ("rprivate" if mount.type == "bind" else ""),
    )


def summary(container: Container, volumes: Path, now_ns: int) -> ContainerSummary:
    """A line of the listing."""
    now = container.record
    networks = _places(now)
    return ContainerSummary(
        id=now.id,
        names=[now.name],
        image=now.config.image,
        image_id=now.image_id,
        command=command(now),
        created=now.created_ns // base.SECOND,
        state=now.status,
        status=status_text(container, now_ns),
        ports=_ports(now),
        labels=dict(now.config.labels or {}),
        host_config={"NetworkMode": now.host_config.network_mode},
        network_settings={"Networks": networks},
        mounts=[mount_point(mount, volumes) for mount in now.mounts],
    )


def command(now: ContainerRecord) -> str:
    """The command in one line, as Docker quotes it."""
    words = [now.path, *(f"'{arg}'" if " " in arg else arg for arg in now.args)]
    return " ".join(words)


def status_text(container: Container, now_ns: int) -> str:
    """`Up 5 minutes (healthy)`, `Exited (0) 2 hours ago`, …"""
    now = container.record
    if now.status in (record.RUNNING, record.PAUSED):
        text = f"Up {spans.human(now_ns - now.started_ns)}"
        shown = shown_health(container)
        if now.status == record.PAUSED:
            return f"{text} (Paused)"
        if shown is not None:
            return f"{text} (health: starting)" if shown.status == health.STARTING else f"{text} ({shown.status})"
        return text
    since = spans.human(now_ns - now.finished_ns)
    if now.status == record.RESTARTING:
        return f"Restarting ({now.exit_code}) {since} ago"
    if now.status == record.REMOVING:
        return "Removal In Progress"
    return "Created" if now.started_ns == 0 else f"Exited ({now.exit_code}) {since} ago"


def _ports(now: ContainerRecord) -> list[PortSummary]:
    result = []
    for port in sorted({*(now.config.exposed_ports or ()), *now.ports}) if now.is_alive else ():
        number, protocol = creation.parse_port(port)
        places = now.ports.get(port, [])
        result += [PortSummary(place.host_ip, number, int(place.host_port or 0), protocol) for place in places]
        if not places:
            result.append(PortSummary(private_port=number, type=protocol))
    return result


def selected(
    containers: Sequence[Container],
    filters: Mapping[str, Sequence[str]],
    find: Callable[[str], Container],
    image: Callable[[str], str],
) -> list[Container]:
    """The containers that every filter lets through; `image` gives the id of an image's name, "" for none.

    Raises:
        errors.Invalid: an unknown filter or value. errors.NotFound: `before` or `since` name no container.
    """
    for key, values in filters.items():
        if key not in _FILTERS.split():
            raise errors.Invalid(f"invalid filter '{key}'")
        if key == "status" and (bad := [value for value in values if value not in _STATES]):
            raise errors.Invalid(f"invalid filter 'status={bad[0]}'")
    tests = _tests(find, image)
    return [
        container
        for container in containers
        if all(
            # Labels must all match, of the other filters' values one.
            (all if key.startswith("label") else any)(tests[key](container, value) for value in values)
            for key, values in filters.items()
            if values
        )
    ]


def _tests(
    find: Callable[[str], Container], image: Callable[[str], str]
) -> dict[str, Callable[[Container, str], bool]]:
    return {
        "ancestor": lambda one, value: one.record.image_id == image(value) or one.record.config.image == value,
        "before": lambda one, value: one.record.created_ns < find(value).record.created_ns,
        "since": lambda one, value: one.record.created_ns > find(value).record.created_ns,
        "exited": lambda one, value: one.record.status == record.EXITED and str(one.record.exit_code) == value,
        "expose": lambda one, value: any(_same_port(port, value) for port in one.record.config.exposed_ports or ()),
        "publish": lambda one, value: any(_same_port(port, value) for port in one.record.ports),
        "health": lambda one, value: (one.record.health or health.NONE) == value,
        "id": lambda one, value: one.id.startswith(value),
        "is-task": lambda one, value: one.record.gateway_leg == (value.lower() in ("1", "true")),
        "label": lambda one, value: _has_label(one.record.config.labels or {}, value),
        "label!": lambda one, value: not _has_label(one.record.config.labels or {}, value),
        "name": lambda one, value: _has_name(one.record, value),
        "network": lambda one, value: _on_network(one.record, value),
        "status": lambda one, value: one.record.status == value,
        "volume": lambda one, value: any(value in (mount.source, mount.target) for mount in one.record.mounts),
    }


def _has_name(now: ContainerRecord, wanted: str) -> bool:
    # A regular expression, found anywhere in the name with or without its slash.
    try:
        return bool(re.search(wanted, now.name) or re.search(wanted, now.short_name))
    except re.error as error:
        raise errors.Invalid(f"invalid filter 'name={wanted}': {error}") from error


def _same_port(port: str, wanted: str) -> bool:
    return creation.parse_port(port) == creation.parse_port(wanted)


def _on_network(now: ContainerRecord, wanted: str) -> bool:
    places = now.attached or now.endpoints
    return wanted in places or any(wanted and wanted == place.network_id for place in places.values())


def _has_label(labels: Mapping[str, str], wanted: str) -> bool:
    key, has_value, value = wanted.partition("=")
    return key in labels and (not has_value or labels[key] == value)
