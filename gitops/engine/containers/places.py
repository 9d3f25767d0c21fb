"""What a record asks of networks, of this host's files and of other containers, in the words of those who give it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from gitops import errors
from gitops.engine import mountinfo
from gitops.engine import networks as net
from gitops.engine.containers import creation, sharing, spec
from gitops.engine.containers.record import ContainerRecord, MountRecord, replace
from gitops.engine.containers.resources import HostLimits
from gitops.objects.container import EndpointSettings, PortBinding


def published_ports(record: ContainerRecord) -> list[net.PublishedPort]:
    """The ports of the host that a container asks for."""
    wanted: list[net.PublishedPort] = []
    bindings = dict(record.host_config.port_bindings or {})
    if record.host_config.publish_all_ports:
        for port in record.config.exposed_ports or ():
            bindings.setdefault(port, None)
    for port, places in bindings.items():
        number, protocol = creation.parse_port(port)
        for place in places or [PortBinding()]:
            first, last = creation.parse_host_port(place.host_port)
            wanted.append(net.PublishedPort(number, protocol, first, place.host_ip, last))
    return wanted


def attachment(name: str, settings: EndpointSettings) -> net.Attachment:
    """A container's place on a network as the networks take it."""
    address = settings.ipam_config.ipv4_address if settings.ipam_config else ""
    return net.Attachment(
        network=name,
        address=address or None,
        aliases=tuple(settings.aliases or ()),
        nicknames=dict(map(creation.parse_link, settings.links or ())),
        mac=settings.mac_address,
    )


def named(record: ContainerRecord, peer: Callable[[str], ContainerRecord]) -> ContainerRecord:
    """The record with the name that the host of its network has: another container, or this machine."""
    donor = sharing.donor(record.host_config.network_mode)
    if donor:
        config = peer(donor).config
        names = {"hostname": config.hostname, "domainname": config.domainname}
    elif record.host_config.network_mode == sharing.HOST and not record.config.hostname:
        names = {"hostname": os.uname().nodename}
    else:
        return record
    return replace(record, config=msgspec.structs.replace(record.config, **names))


def namespace(other: ContainerRecord, kind: str, what: str) -> str:
    """The path of another container's namespace.

    Raises:
        errors.Conflict: it doesn't run.
    """
    if not other.is_alive or other.run is None:
        raise errors.Conflict(f"cannot join {what} of a non running container: {other.id}")
    return f"/proc/{other.run.pid}/ns/{kind}"


def bind(mount: MountRecord, limits: HostLimits) -> spec.Bind:
    """A bind mount as the runtime takes it; its source is made where that was asked for.

    Raises:
        errors.Invalid: there is no source, or this host can't mount it so.
    """
    source = Path(mount.source)
    if not source.exists():
        if not mount.makes_source:
            raise errors.Invalid(
                f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
            )
        source.mkdir(parents=True, exist_ok=True)
    is_recursive = mount.is_recursive and source.is_dir()
    if mount.deep == "force" and not limits.has_recursive_read_only:
        raise errors.Invalid("this kernel can't make a mount read-only with what is mounted below it")
    propagation = mount.propagation or "rprivate"
    _check_propagation(source, propagation)
    is_deep = mount.deep != "off"
    return spec.Bind(mount.source, mount.target, mount.read_only, is_recursive, propagation, is_deep)


def _check_propagation(source: Path, wanted: str) -> None:
    """Mounts go through a bind only where its source's mount lets them; raises `errors.Invalid` where it doesn't."""
    if "private" in wanted:
        return
    point, ties = mountinfo.propagation(source)
    if "shared" in wanted and "shared" not in ties:
        raise errors.Invalid(f"path {source} is mounted on {point} but it is not a shared mount")
    if "slave" in wanted and not ties & {"shared", "master"}:
        raise errors.Invalid(f"path {source} is mounted on {point} but it is not a shared or slave mount")
