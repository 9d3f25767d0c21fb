"""Networks, local and swarm-wide."""

from __future__ import annotations

import msgspec

from gitops.objects.base import Full, Version, Wire
from gitops.objects.container import EndpointSettings


class IPAMConfig(Wire, frozen=True):
    """A pool of addresses."""

    subnet: str = ""
    ip_range: str = msgspec.field(name="IPRange", default="")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] = {}


class IPAM(Full, frozen=True):
    """How addresses are given."""

    driver: str = "default"
    options: dict[str, str] | None = None
    config: list[IPAMConfig] | None = msgspec.field(default_factory=list)


class NetworkDriver(Wire, frozen=True):
    """A network driver with its options."""

    name: str = ""
    options: dict[str, str] = {}


class NetworkSpec(Wire, frozen=True):
    """What a user declares of a swarm network."""

    name: str = ""
    labels: dict[str, str] = {}
    driver_configuration: NetworkDriver | None = None
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    ipv6_enabled: bool = msgspec.field(name="IPv6Enabled", default=False)
    ipam_options: IPAM | None = msgspec.field(name="IPAMOptions", default=None)
    scope: str = ""


class NetworkObject(Wire, frozen=True):
    """A swarm network, stored and in a task's attachments; `driver_state` and `ipam_options` are the allocator's."""

    id: str = msgspec.field(name="ID", default="")
    version: Version = msgspec.field(default_factory=Version)
    created_at: str = ""
    updated_at: str = ""
    spec: NetworkSpec = msgspec.field(default_factory=NetworkSpec)
    driver_state: NetworkDriver | None = None
    ipam_options: IPAM | None = msgspec.field(name="IPAMOptions", default=None)


class ConfigFrom(Full, frozen=True):
    """The network whose configuration this one takes."""

    network: str = ""


class EndpointResource(Full, frozen=True):
    """A container on a network, in `network inspect`."""

    name: str = ""
    endpoint_id: str = msgspec.field(name="EndpointID", default="")
    mac_address: str = ""
    ipv4_address: str = msgspec.field(name="IPv4Address", default="")
    ipv6_address: str = msgspec.field(name="IPv6Address", default="")


class NetworkResource(Full, frozen=True):
    """A network as GET /networks shows it, local or swarm."""

    name: str
    id: str
    created: str
    scope: str = "local"
    driver: str = "bridge"
    enable_ipv4: bool = msgspec.field(name="EnableIPv4", default=True)
    enable_ipv6: bool = msgspec.field(name="EnableIPv6", default=False)
    ipam: IPAM = msgspec.field(name="IPAM", default_factory=IPAM)
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_from: ConfigFrom = msgspec.field(default_factory=ConfigFrom)
    config_only: bool = False
    containers: dict[str, EndpointResource] = msgspec.field(default_factory=dict)
    options: dict[str, str] = msgspec.field(default_factory=dict)
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class NetworkCreate(Wire, frozen=True):
    """The body of POST /networks/create."""

    name: str = ""
    driver: str = ""
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigFrom | None = None
    enable_ipv4: bool | None = msgspec.field(name="EnableIPv4", default=None)
    enable_ipv6: bool | None = msgspec.field(name="EnableIPv6", default=None)
    ipam: IPAM | None = msgspec.field(name="IPAM", default=None)
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class NetworkConnect(Wire, frozen=True):
    """The body of POST /networks/{id}/connect."""

    container: str = ""
    endpoint_config: EndpointSettings | None = None


class NetworkDisconnect(Wire, frozen=True):
    """The body of POST /networks/{id}/disconnect."""

    container: str = ""
    force: bool = False
