"""Network: a swarm network that services join."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from gitops.manifests.kinds.base import Manifest, Model, optional
from gitops.manifests.kinds.findings import Findings, problem, shown
from gitops.manifests.kinds.values import Bool, EngineName, Labels, text

_OPTIONS = ("com.docker.network.driver.mtu",)
_MIN_PREFIX, _MAX_PREFIX = 8, 29


def _driver(value: Any) -> Any:
    if isinstance(value, str) and value != "overlay":
        known = ("bridge", "host", "macvlan", "ipvlan", "none")
        raise problem(
            f"the driver {value} is known, but not supported yet" if value in known else f"no driver {shown(value)}",
            f"write external: true and name: {value}"
            if value in ("host", "bridge")
            else "leave it out: networks are swarm networks (overlay)",
        )
    return value


def _options(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    findings = Findings()
    for key in value:
        if key == "encrypted":
            findings.add("encryption is known, but not supported yet", "use TLS between the services", key, on_key=True)
        elif key not in _OPTIONS:
            findings.add("the driver overlay has no such option", f"it has {_OPTIONS[0]}", key, on_key=True)
    mtu = text(value.get(_OPTIONS[0], "1450"))
    if not isinstance(mtu, str) or not mtu.isdigit() or not 576 <= int(mtu) <= 65535:
        findings.add("must be from 576 to 65535", "", _OPTIONS[0])
    findings.finish()
    return {key: text(item) for key, item in value.items()}


def _subnet(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        network = ipaddress.ip_network(value)
    except ValueError as error:
        better = _without_host_bits(value)
        raise problem(f"{shown(value)} is no subnet", f"as in {better or '10.10.0.0/24'}") from error
    if network.version != 4:
        raise problem("IPv6 is known, but not supported yet")
    if not _MIN_PREFIX <= network.prefixlen <= _MAX_PREFIX:
        raise problem(f"/{network.prefixlen} is no size for a network", f"from /{_MIN_PREFIX} to /{_MAX_PREFIX}")
    return str(network)


def _without_host_bits(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        return ""


def _gateway(value: Any) -> Any:
    try:
        return str(ipaddress.IPv4Address(value)) if isinstance(value, str) else value
    except ValueError as error:
        raise problem(f"{shown(value)} is no IPv4 address") from error


def _range(value: Any) -> Any:
    try:
        return str(ipaddress.IPv4Network(value)) if isinstance(value, str) else value
    except ValueError as error:
        better = _without_host_bits(value)
        raise problem(f"{shown(value)} is no range", f"as in {better or '10.10.0.128/25'}") from error


def _kept(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    findings = Findings()
    result = {}
    for name, address in value.items():
        try:
            result[name] = _gateway(address)
        except PydanticCustomError as error:
            findings.take(error, name)
    findings.finish()
    return result


class Pool(Model):
    """Addresses of a network."""

    subnet: Annotated[str, BeforeValidator(_subnet, json_schema_input_type=str)] = Field(
        description="As in 10.10.0.0/24."
    )
    ip_range: Annotated[str, BeforeValidator(_range, json_schema_input_type=str)] | None = optional(
        "The part of the subnet that tasks get addresses from; default all of it."
    )
    gateway: Annotated[str, BeforeValidator(_gateway, json_schema_input_type=str)] | None = optional(
        "The gateway's address; default the first of the subnet."
    )
    aux_addresses: Annotated[dict[str, str], BeforeValidator(_kept, json_schema_input_type=dict[str, str])] | None = (
        optional("Addresses that are kept free, by a name for each.")
    )


def _fits(pool: Pool) -> Pool:
    network = ipaddress.IPv4Network(pool.subnet)
    if pool.gateway is not None:
        address = ipaddress.IPv4Address(pool.gateway)
        if address not in network or address in (network.network_address, network.broadcast_address):
            raise problem(f"the gateway {pool.gateway} is no host of {pool.subnet}", "", "gateway")
    if pool.ip_range is not None and not ipaddress.IPv4Network(pool.ip_range).subnet_of(network):
        raise problem(f"{pool.ip_range} isn't within {pool.subnet}", "", "ip_range")
    for name, kept in (pool.aux_addresses or {}).items():
        if ipaddress.IPv4Address(kept) not in network:
            raise problem(f"{kept} isn't within {pool.subnet}", "", "aux_addresses", name)
    return pool


def _one(pools: list[Pool]) -> list[Pool]:
    if len(pools) > 1:
        raise problem("several subnets are known, but not supported yet", "give one", 1)
    return pools


class Ipam(Model):
    """How addresses are given."""

    NOT_YET: ClassVar = {"options": "leave it out: addresses are the swarm's to give"}

    driver: Literal["default"] | None = optional("Only `default`.")
    config: Annotated[list[Annotated[Pool, AfterValidator(_fits)]], AfterValidator(_one)] | None = optional(
        "The subnet and gateway; default: the next free /24."
    )


class NetworkSpec(Model):
    """A network; without a spec it is a plain one."""

    NOT_YET: ClassVar = {
        "ingress": "the ingress network is made by the engine",
        "scope": "networks are swarm networks",
        "enable_ipv4": "leave it out: networks are IPv4",
        "enable_ipv6": "leave it out: networks are IPv4",
        "encrypted": "use TLS between the services",
    }

    driver: Annotated[str, BeforeValidator(_driver, json_schema_input_type=Literal["overlay"])] | None = optional(
        "Only `overlay`."
    )
    driver_opts: (
        Annotated[dict[str, str], BeforeValidator(_options, json_schema_input_type=dict[str, str | int])] | None
    ) = optional("`com.docker.network.driver.mtu`.")
    internal: Bool | None = optional("No way out of the network.")
    attachable: Bool | None = optional("Plain containers may join it too.")
    ipam: Ipam | None = optional("Addresses.")
    labels: Labels | None = optional("Labels on the engine, with those of metadata.")
    external: Bool | None = optional("The network exists already: it is never made, changed or deleted.")
    name: EngineName | None = optional(
        "Its name on the engine; default: stack and name, or with external metadata.name."
    )


class Network(Manifest, defer_build=False):
    """A network that services join."""

    kind: Literal["Network"] = Field(description="Network.")
    spec: NetworkSpec | None = optional("How the network is made.")
