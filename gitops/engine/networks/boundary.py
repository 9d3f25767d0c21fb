"""What crosses the border of this package: values that callers hand in, and what they get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gitops.objects.container import EndpointSettings

RESOLVER = "127.0.0.11"
"""Where every sandbox has its resolver (UDP and TCP, port 53): the one nameserver of a container's resolv.conf."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A network that a container joins: the first one becomes eth0, the next eth1, and so on."""

    network: str
    """Name or id; `host` and `none` are not joined but stand for no sandbox, and for one without attachments."""
    address: str | None = None
    """An address asked for (with or without `/length`); None takes the next free one."""
    aliases: tuple[str, ...] = ()
    """More names of this container on this network. Service names are not among them: `set_names` has those."""
    nicknames: Mapping[str, str] = field(default_factory=dict)
    """Names that only this container has for others, each with the other's name."""
    mac: str = ""
    """A link-layer address asked for; "" for the one that belongs to the address."""


@dataclass(frozen=True, slots=True)
class DNSOptions:
    """How a container resolves. Only `nameservers` matters here; the rest is for the writer of resolv.conf."""

    nameservers: tuple[str, ...] = ()
    """Upstream resolvers in place of the host's."""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A container's network namespace, ready to be joined."""

    path: Path
    """The namespace's file, for the OCI bundle."""
    endpoints: Mapping[str, EndpointSettings] = field(default_factory=dict)
    """Its place on each network, by network name."""
    gateway_address: str | None = None
    """Its address on docker_gwbridge, where it has a leg there: what `SharedPort.addresses` names."""


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A port of one container on the host. Ports are 1 to 65535; `host_port` 0 takes a free one."""

    container_port: int
    protocol: str = "tcp"
    """tcp, udp or sctp."""
    host_port: int = 0
    host_ip: str = ""
    """"" or 0.0.0.0 for every IPv4 address of the host, loopback included."""
    last_host_port: int = 0
    """The last one of a range, of which the first port that is free is taken; 0 for `host_port` alone."""


@dataclass(frozen=True, slots=True)
class SharedPort:
    """A port of the host that several containers of this host share, with new connections spread evenly over them."""

    protocol: str
    published_port: int
    target_port: int
    addresses: tuple[str, ...] = ()
    """Addresses of the containers, as `Sandbox.gateway_address` has them. None: connections are refused. The address of
    a sandbox that is removed leaves by itself."""


@dataclass(frozen=True, slots=True)
class PortFailure:
    """A shared port that could not be had; the next `apply_ports` tries again."""

    port: SharedPort
    reason: str
