"""What this package keeps in the engine's database, and how a network is shown.

Tables: `networks` and `sandboxes` by id, `network_names` (names of swarm networks) by network id, and one row of
`shared_ports`. The records are all that `start` needs to rebuild what the kernel lost.
"""

from __future__ import annotations

import ipaddress

import msgspec

from gitops.engine.networks import ipam
from gitops.engine.networks.boundary import PublishedPort, SharedPort
from gitops.objects import base
from gitops.objects.container import EndpointSettings
from gitops.objects.network import IPAM, EndpointResource, IPAMConfig, NetworkResource

NETWORKS = "networks"
SANDBOXES = "sandboxes"
NAMES = "network_names"
SHARED = "shared_ports"
SHARED_KEY = "all"

BRIDGE = "bridge"
HOST = "host"
NONE = "none"
GATEWAY = "docker_gwbridge"
PREDEFINED = (BRIDGE, HOST, NONE, GATEWAY)


class NetworkRecord(msgspec.Struct, frozen=True):
    """A network of this host, local or a swarm's."""

    id: str
    name: str
    created_ns: int
    driver: str = BRIDGE
    scope: str = "local"
    bridge: str = ""
    """The kernel's link; empty for host and none."""
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    auxiliary: dict[str, str] = {}
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    icc: bool = True
    """Whether its containers may talk to each other."""
    masquerade: bool = True
    mtu: int = 1500
    host_ip: str = ""
    """Host address of published ports that name none."""
    options: dict[str, str] = {}
    labels: dict[str, str] = {}

    @property
    def is_overlay(self) -> bool:
        """A swarm network: the host has no address on it, and nothing is routed in or out."""
        return self.driver == "overlay"

    @property
    def is_sealed(self) -> bool:
        """Whether nothing passes between it and the outside."""
        return self.internal or self.is_overlay

    @property
    def has_names(self) -> bool:
        """Whether containers resolve each other here: everywhere but on the default bridge and docker_gwbridge."""
        return bool(self.bridge) and self.name not in (BRIDGE, GATEWAY)

    @property
    def prefix_length(self) -> int:
        """Bits of the subnet's prefix."""
        return ipaddress.IPv4Network(self.subnet).prefixlen

    def layout(self) -> ipam.Layout:
        """Its addresses."""
        config = IPAMConfig(ip_range=self.ip_range, gateway=self.gateway, auxiliary_addresses=self.auxiliary)
        return ipam.layout(config, ipam.Network(self.subnet))

    def resource(self, containers: dict[str, EndpointResource]) -> NetworkResource:
        """As the API shows it."""
        pool = IPAMConfig(
            subnet=self.subnet, ip_range=self.ip_range, gateway=self.gateway, auxiliary_addresses=self.auxiliary
        )
        return NetworkResource(
            name=self.name,
            id=self.id,
            created=base.format_time(self.created_ns),
            scope=self.scope,
            driver=self.driver,
            ipam=IPAM(config=[pool] if self.subnet else []),
            internal=self.internal,
            attachable=self.attachable,
            ingress=self.ingress,
            containers=containers,
            options=dict(self.options),
            labels=dict(self.labels),
        )


class LegRecord(msgspec.Struct, frozen=True):
    """A container's interface on one network."""

    network_id: str
    endpoint_id: str
    address: str
    mac: str
    host_link: str
    """The end on the bridge."""
    link: str
    """The end in the sandbox: eth0, eth1, …"""
    aliases: tuple[str, ...] = ()
    nicknames: dict[str, str] = {}
    """Names that only this container has for others, each with the other's name."""

    def settings(self, network: NetworkRecord, names: tuple[str, ...], aliases: tuple[str, ...]) -> EndpointSettings:
        """As the API shows it in a container."""
        return EndpointSettings(
            aliases=list(aliases) or None,
            links=[f"{name}:{nickname}" for nickname, name in self.nicknames.items()] or None,
            network_id=network.id,
            endpoint_id=self.endpoint_id,
            gateway="" if network.internal else network.gateway,
            ip_address=self.address,
            ip_prefix_len=network.prefix_length,
            mac_address=self.mac,
            dns_names=list(names) or None,
        )


class SandboxRecord(msgspec.Struct, frozen=True):
    """A container's namespace and all that hangs on it."""

    container_id: str
    name: str = ""
    hostname: str = ""
    legs: tuple[LegRecord, ...] = ()
    """In the order of their interfaces; with `has_gateway_leg` the last is on docker_gwbridge."""
    has_gateway_leg: bool = False
    nameservers: tuple[str, ...] = ()
    published: tuple[PublishedPort, ...] = ()
    link_group: int = 0
    """The kernel's group of the legs' host ends: they are deleted in one step."""
    resolver_ports: tuple[int, int] = (0, 0)
    """Where the resolver listens in the sandbox, UDP and TCP."""

    def names(self, leg: LegRecord) -> tuple[str, ...]:
        """The names that lead to this container on the leg's network, without repetition."""
        found = (self.name, *leg.aliases, self.container_id[:12], self.hostname)
        return tuple(dict.fromkeys(name for name in found if name))


class SharedPorts(msgspec.Struct, frozen=True):
    """The last `apply_ports`."""

    ports: tuple[SharedPort, ...] = ()


class Names(msgspec.Struct, frozen=True):
    """The last `set_names` of a network."""

    names: dict[str, list[str]] = {}
