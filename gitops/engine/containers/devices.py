"""Devices of the host for one container: by name (`--device`), by rule, and limits on block devices.

What a path stands for is looked up at each start, as it may change between boots. All calls but `parse_rule` block.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gitops import errors
from gitops.engine.containers import allowances
from gitops.objects.container import DeviceMapping, HostConfig, ThrottleDevice

_RULE = re.compile(r"([acb]) ([0-9]{1,9}|\*):([0-9]{1,9}|\*) ([rwm]{1,3})")
_PERMISSIONS = re.compile(r"[rwm]{0,3}")


@dataclass(frozen=True, slots=True)
class Devices:
    """Nodes to make in a container, what it may do with them, and how fast: each in the OCI runtime's form."""

    nodes: Sequence[dict[str, Any]] = ()
    rules: Sequence[dict[str, Any]] = ()
    block_io: dict[str, Any] | None = None


def check(host: HostConfig) -> None:
    """Raises `errors.Invalid` for a mapping or rule that can't be."""
    for rule in host.device_cgroup_rules or ():
        parse_rule(rule)
    for device in host.devices or ():
        inside = device.path_in_container or device.path_on_host
        if (
            not device.path_on_host.startswith("/")
            or not inside.startswith("/")
            or "\0" in device.path_on_host + inside
        ):
            raise errors.Invalid(f"bad format for path: {device.path_on_host}:{inside}: absolute paths are wanted")
        if not _PERMISSIONS.fullmatch(device.cgroup_permissions):
            raise errors.Invalid(f"bad mode specified: {device.cgroup_permissions}")


def parse_rule(text: str) -> dict[str, Any]:
    """`c 1:3 rwm` as the runtime takes it.

    Raises:
        errors.Invalid: it isn't of that form.
    """
    match = _RULE.fullmatch(text)
    if match is None:
        raise errors.Invalid(f"invalid device cgroup rule format: '{text}'")
    rule: dict[str, Any] = {"allow": True, "type": match[1], "access": match[4]}
    for name, number in (("major", match[2]), ("minor", match[3])):
        if number != "*":
            rule[name] = int(number)
    return rule


def are_asked_for(host: HostConfig) -> bool:
    """Whether `find` would find anything."""
    blocks = host.blkio_weight or host.blkio_weight_device or allowances.throttles(host)
    return bool(host.devices or host.device_cgroup_rules or blocks)


def find(host: HostConfig) -> Devices:
    """What `host` asks for beside the devices that every container has.

    Raises:
        errors.Invalid: there is no such device.
    """
    nodes, rules = [], []
    for mapping in host.devices or ():
        for node in _nodes(mapping):
            nodes.append(node)
            access = mapping.cgroup_permissions or "rwm"
            rules.append({"allow": True, "access": access, **{key: node[key] for key in ("type", "major", "minor")}})
    rules += [parse_rule(text) for text in host.device_cgroup_rules or ()]
    return Devices(nodes, rules, _block_io(host))


def _nodes(mapping: DeviceMapping) -> Iterator[dict[str, Any]]:
    source = mapping.path_on_host
    inside = mapping.path_in_container or source
    try:
        real = os.path.realpath(source, strict=True)
        status = os.stat(real)
        if is_device(status):
            yield node(inside, status)
            return
        if not stat.S_ISDIR(status.st_mode):
            raise errors.Invalid(
                f'error gathering device information while adding custom device "{source}": not a device node'
            )
        for path, found in below(real):
            yield node(inside + path.removeprefix(real), found)
    except OSError as error:
        raise errors.Invalid(
            f'error gathering device information while adding custom device "{source}": {_word(error)}'
        ) from error


def below(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """The device files in a directory of the host and below it, but for terminals and what isn't one of the host's."""
    for base, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("pts", "shm", "mqueue", "fd")]
        for name in files:
            path = os.path.join(base, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            if is_device(status):
                yield path, status


def is_device(status: os.stat_result) -> bool:
    """Whether it is a character or block device."""
    return stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)


def node(path: str, status: os.stat_result) -> dict[str, Any]:
    """A device file at `path` like the one that `status` is of."""
    return {
        "path": path,
        "type": "c" if stat.S_ISCHR(status.st_mode) else "b",
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def _block_io(host: HostConfig) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    if host.blkio_weight:
        found["weight"] = host.blkio_weight
    weights = [{**_number(one.path), "weight": one.weight} for one in host.blkio_weight_device or ()]
    if weights:
        found["weightDevice"] = weights
    for name, limits in (
        ("throttleReadBpsDevice", host.blkio_device_read_bps),
        ("throttleWriteBpsDevice", host.blkio_device_write_bps),
        ("throttleReadIOPSDevice", host.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", host.blkio_device_write_iops),
    ):
        if limits:
            found[name] = _throttled(limits)
    return found or None


def _throttled(limits: Iterable[ThrottleDevice]) -> list[dict[str, int]]:
    return [{**_number(limit.path), "rate": limit.rate} for limit in limits]


def _number(path: str) -> dict[str, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise errors.Invalid(f"{path}: {_word(error)}") from error
    if not is_device(status):
        raise errors.Invalid(f"{path}: not a device node")
    return {"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev)}


def _word(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
