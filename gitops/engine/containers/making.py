"""What a create call is held against before a record is made of it: this host, its image, and other containers."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from gitops import errors
from gitops.engine.containers import allowances, mounts, spec
from gitops.engine.containers.container import Container
from gitops.engine.containers.launcher import INIT_PROGRAM
from gitops.engine.containers.record import ContainerRecord, MountRecord
from gitops.engine.containers.resources import HostLimits
from gitops.objects.container import ContainerCreate, HostConfig
from gitops.objects.image import ImageInspect


def fit(body: ContainerCreate, limits: HostLimits) -> tuple[ContainerCreate, list[str]]:
    """`body` as this host can have it, with a sentence for each thing that was left out.

    Raises:
        errors.Invalid: CPUs that aren't there. errors.Unsupported: an init process without its program.
    """
    given = body.host_config or HostConfig()
    host, warnings = allowances.fit(given, limits)
    mode = given.cgroupns_mode or spec.cgroup_namespace(given, is_v2=limits.is_v2)
    host = msgspec.structs.replace(host, cgroupns_mode=mode)
    if host.init and not INIT_PROGRAM.exists():
        raise errors.Unsupported(
            f"an init process needs {INIT_PROGRAM}, which isn't there: install the package tini, or leave init out"
        )
    return msgspec.structs.replace(body, host_config=host), warnings


def check_platform(image: ImageInspect, name: str, platform: str) -> None:
    """Raises `errors.NotFound` where the image is for another `os/architecture[/variant]`: clients pull then."""
    if not platform:
        return
    wanted, own = platform.lower().split("/"), [image.os, image.architecture]
    if len(wanted) > 3 or not all(wanted):
        raise errors.Invalid(f'"{platform}" is an invalid platform: os/architecture is wanted, as in linux/amd64')
    if wanted[: len(own)] != own[: len(wanted)]:
        raise errors.NotFound(
            f"image with reference {name} was found but its platform ({'/'.join(own)}) does not match the specified "
            f"platform ({platform})"
        )


def inherited(body: ContainerCreate, find: Callable[[str], Container]) -> list[MountRecord]:
    """The mounts of the containers that `--volumes-from` names.

    Raises:
        errors.Invalid: there is no such container, or no such mode.
    """
    found: list[MountRecord] = []
    for text in (body.host_config and body.host_config.volumes_from) or ():
        name, _, mode = text.partition(":")
        if not name:
            raise errors.Invalid(f'malformed volumes-from specification: "{text}"')
        try:
            donor = find(name)
        except errors.NotFound as error:
            # "Not found" would mean the image, and make clients pull that.
            raise errors.Invalid(str(error)) from error
        found += mounts.inherit(donor.record.mounts, mode)
    return found


def check_binds(made: ContainerRecord) -> None:
    """Raises `errors.Invalid` where a mount's source isn't there and isn't to be made."""
    for mount in made.mounts:
        if mount.type == "bind" and not mount.makes_source and not os.path.exists(mount.source):
            raise errors.Invalid(
                f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
            )
