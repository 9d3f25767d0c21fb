"""Mounts of containers and services."""

from __future__ import annotations

import msgspec

from gitops.objects.base import Wire


class BindOptions(Wire, frozen=True):
    """Options of a bind mount."""

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class VolumeDriver(Wire, frozen=True):
    """The driver that makes a volume when it is missing."""

    name: str = ""
    options: dict[str, str] = {}


class VolumeOptions(Wire, frozen=True):
    """Options of a volume mount."""

    no_copy: bool = False
    labels: dict[str, str] = {}
    driver_config: VolumeDriver | None = None
    subpath: str = ""


class TmpfsOptions(Wire, frozen=True):
    """Options of a tmpfs mount; size in bytes, 0 unlimited."""

    size_bytes: int = 0
    mode: int = 0


class Mount(Wire, frozen=True):
    """`type` is bind, volume or tmpfs; `source` a host path or a volume's name; `target` a path in the container."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class MountPoint(Wire, frozen=True):
    """A mount as container inspection shows it."""

    type: str = ""
    name: str = ""
    source: str = ""
    destination: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = msgspec.field(name="RW", default_factory=lambda: True)
    propagation: str = ""
