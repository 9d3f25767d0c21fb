"""The networks of this host and their addresses: which exist, which may be made, who holds which address.

Owns the table `networks` and the pools. Knows nothing of the kernel: the routes that a subnet must not touch are
handed in. Texts of refusals are Docker's where Docker has one.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from gitops import errors
from gitops.config import EngineConfig
from gitops.engine.database import Database
from gitops.engine.networks import ipam, naming, records
from gitops.engine.networks.links import Route
from gitops.engine.networks.records import NetworkRecord
from gitops.objects import base
from gitops.objects.network import IPAMConfig, NetworkCreate, NetworkObject

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_ICC = "com.docker.network.bridge.enable_icc"
_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
_HOST_IP = "com.docker.network.bridge.host_binding_ipv4"
_MTU = "com.docker.network.driver.mtu"
_BRIDGE_NAME = "com.docker.network.bridge.name"
_OPTIONS = frozenset({_ICC, _MASQUERADE, _HOST_IP, _MTU})
_BOOLEANS = {"1": True, "true": True, "t": True, "0": False, "false": False, "f": False}
_OVERLAY_MTU = 1450
_DEFAULT_MTU = 1500
_ANY = "0.0.0.0"
_FILTERS = frozenset({"driver", "id", "label", "name", "scope", "type", "dangling"})


class Catalogue:
    """Networks by id, each with its pool of addresses."""

    def __init__(self, config: EngineConfig, database: Database) -> None:
        self._config = config
        self._database = database
        self._networks: dict[str, NetworkRecord] = {}
        self._pools: dict[str, ipam.Pool] = {}

    def load(self) -> None:
        """Read the networks; their addresses are taken by who holds them."""
        for record in self._database.all(records.NETWORKS, NetworkRecord).values():
            self._remember(record)

    def all(self) -> list[NetworkRecord]:
        """Every network, the oldest first."""
        return sorted(self._networks.values(), key=lambda record: (record.created_ns, record.name))

    def by_id(self, network_id: str) -> NetworkRecord | None:
        """The network of exactly that id."""
        return self._networks.get(network_id)

    def by_name(self, name: str) -> NetworkRecord | None:
        """The network of exactly that name."""
        return next((record for record in self._networks.values() if record.name == name), None)

    def find(self, name_or_id: str) -> NetworkRecord:
        """By id, name, or the beginning of an id. Raises errors.NotFound, errors.Invalid (ambiguous)."""
        found = self.by_id(name_or_id) or self.by_name(name_or_id)
        if found is not None:
            return found
        matches = [record for record in self._networks.values() if name_or_id and record.id.startswith(name_or_id)]
        if not matches:
            raise errors.NotFound(f"network {name_or_id} not found")
        if len(matches) > 1:
            raise errors.Invalid(f"network {name_or_id} is ambiguous ({len(matches)} matches found based on ID prefix)")
        return matches[0]

    def pool(self, network_id: str) -> ipam.Pool:
        """The addresses of a network that has a bridge."""
        return self._pools[network_id]

    def plan(self, body: NetworkCreate, routes: Sequence[Route]) -> NetworkRecord:
        """The network that `body` asks for, not yet there.

        Raises:
            errors.Conflict: the name is taken. errors.Denied: predefined, or the subnet overlaps.
            errors.Invalid, errors.NotFound (driver), errors.Unsupported, errors.Unavailable (no subnet is left).
        """
        self._check(body)
        config = ipam.only_config(body.ipam)
        subnet = self._subnet(config, routes)
        options = dict(body.options or {})
        record = self._local(body.name, ipam.layout(config, subnet), config, options)
        return msgspec.structs.replace(
            record, internal=body.internal, attachable=body.attachable, labels=dict(body.labels or {}), options=options
        )

    def plan_predefined(self, name: str, routes: Sequence[Route]) -> NetworkRecord:
        """One of Docker's own networks."""
        if name in (records.HOST, records.NONE):
            driver = "host" if name == records.HOST else "null"
            return NetworkRecord(id=_new_id(), name=name, created_ns=time.time_ns(), driver=driver)
        subnet = self._subnet(IPAMConfig(), routes)
        is_gateway = name == records.GATEWAY
        record = self._local(name, ipam.layout(IPAMConfig(), subnet), IPAMConfig(), {_ICC: str(not is_gateway).lower()})
        options = {**record.options, _MASQUERADE: "true", _BRIDGE_NAME: record.bridge}
        if not is_gateway:
            options |= {
                "com.docker.network.bridge.default_bridge": "true",
                _HOST_IP: _ANY,
                _MTU: str(_DEFAULT_MTU),
            }
        return msgspec.structs.replace(record, options=options)

    def plan_overlay(self, network: NetworkObject) -> NetworkRecord:
        """A swarm network with what the swarm's allocator gave it. Raises errors.Invalid where it gave nothing."""
        spec = network.spec
        config = ipam.only_config(network.ipam_options or spec.ipam_options)
        if not config.subnet:
            raise errors.Invalid(f"network {spec.name} ({network.id}) has no subnet yet")
        layout = ipam.layout(config, ipam.parse_network(config.subnet, "subnet"))
        driver = network.driver_state or spec.driver_configuration
        options = dict(driver.options) if driver else {}
        return NetworkRecord(
            id=network.id,
            name=spec.name,
            created_ns=base.parse_time(network.created_at),
            driver="overlay",
            scope="swarm",
            bridge=naming.bridge(self._config.instance, network.id),
            subnet=str(layout.subnet),
            gateway=str(layout.gateway),
            ip_range=config.ip_range,
            auxiliary=dict(config.auxiliary_addresses),
            internal=spec.internal,
            attachable=spec.attachable,
            ingress=spec.ingress,
            mtu=_mtu(options, _OVERLAY_MTU),
            options=options,
            labels=dict(spec.labels),
        )

    def add(self, record: NetworkRecord) -> None:
        """Keep a network; it is durable when this returns."""
        self._database.put(records.NETWORKS, record.id, record)
        self._remember(record)

    def remove(self, record: NetworkRecord) -> None:
        """Forget a network."""
        self._database.delete(records.NETWORKS, record.id)
        self._networks.pop(record.id, None)
        self._pools.pop(record.id, None)

    def _remember(self, record: NetworkRecord) -> None:
        self._networks[record.id] = record
        if record.subnet:
            self._pools[record.id] = ipam.Pool(record.layout())

    def _check(self, body: NetworkCreate) -> None:
        if not _NAME.fullmatch(body.name):
            raise errors.Invalid(
                f"invalid network name {body.name!r}: letters, digits, '_', '.' and '-' are allowed, the first "
                "a letter or digit"
            )
        if body.name in records.PREDEFINED:
            raise errors.Denied(f"{body.name} is a pre-defined network and cannot be created")
        if body.driver in ("host", "null"):
            raise errors.Denied(f'only one instance of "{body.driver}" network is allowed')
        if body.driver not in ("", "bridge"):
            raise errors.NotFound(f'plugin "{body.driver}" not found')
        if body.scope not in ("", "local") or body.ingress:
            raise errors.Invalid("a network of scope swarm needs the driver overlay")
        for wrong, what in (
            (body.config_only, "ConfigOnly"),
            (bool(body.config_from and body.config_from.network), "ConfigFrom"),
            (bool(body.enable_ipv6), "EnableIPv6"),
            (body.enable_ipv4 is False, "EnableIPv4=false"),
        ):
            if wrong:
                raise errors.Unsupported(f"network {body.name}: {what} is not supported")
        for option in body.options or ():
            if option not in _OPTIONS:
                raise errors.Unsupported(
                    f"network {body.name}: option {option!r} is not supported; known: {', '.join(sorted(_OPTIONS))}"
                )
        if self.by_name(body.name) is not None:
            raise errors.Conflict(f"network with name {body.name} already exists")

    def _subnet(self, config: IPAMConfig, routes: Sequence[Route]) -> ipam.Network:
        """The subnet asked for, or a free one that touches no route of the host."""
        own = [ipam.Network(record.subnet) for record in self._networks.values() if self._is_routed(record)]
        bridges = {record.bridge for record in self._networks.values()}
        foreign = [route for route in routes if route.link not in bridges]
        if not config.subnet:
            pools = [ipam.parse_network(text, "local pool") for text in self._config.local_pools]
            return ipam.cut(pools, [*own, *(route.network for route in foreign)])
        subnet = ipam.parse_network(config.subnet, "subnet")
        if ipam.overlapping(subnet, own) is not None:
            raise errors.Denied(f"invalid pool request: Pool overlaps with other one on this address space: {subnet}")
        for route in foreign:
            if route.is_connected and route.network.overlaps(subnet):
                raise errors.Denied(
                    f"subnet {subnet} overlaps {route.network}, which this host reaches by {route.link}: give another"
                )
        return subnet

    @staticmethod
    def _is_routed(record: NetworkRecord) -> bool:
        return bool(record.subnet) and not record.is_overlay

    def _local(self, name: str, layout: ipam.Layout, config: IPAMConfig, options: Mapping[str, str]) -> NetworkRecord:
        network_id = _new_id()
        host_ip = options.get(_HOST_IP, "")
        if host_ip:
            ipam.parse_address(host_ip, f"option {_HOST_IP}")
        return NetworkRecord(
            id=network_id,
            name=name,
            created_ns=time.time_ns(),
            bridge=naming.bridge(self._config.instance, network_id),
            subnet=str(layout.subnet),
            gateway=str(layout.gateway),
            ip_range=config.ip_range,
            auxiliary=dict(config.auxiliary_addresses),
            icc=_boolean(options, _ICC),
            masquerade=_boolean(options, _MASQUERADE),
            mtu=_mtu(options),
            host_ip="" if host_ip == _ANY else host_ip,
            options=dict(options),
        )


def matches(filters: Mapping[str, Sequence[str]], is_used: Callable[[str], bool]) -> Callable[[NetworkRecord], bool]:
    """A test for `filters`, any of a key's values, all of the keys. Raises errors.Invalid for a filter unknown."""
    unknown = sorted(set(filters) - _FILTERS)
    if unknown:
        raise errors.Invalid(f"invalid filter '{unknown[0]}'")

    def one(record: NetworkRecord, key: str, value: str) -> bool:
        match key:
            case "driver" | "scope":
                return bool(getattr(record, key) == value)
            case "id":
                return record.id.startswith(value)
            case "name":
                return value in record.name
            case "label":
                label, separator, wanted = value.partition("=")
                return label in record.labels and (not separator or record.labels[label] == wanted)
            case "type":
                return (record.name in records.PREDEFINED) == (value == "builtin")
            case _:
                return (not is_used(record.id) and record.name not in records.PREDEFINED) == _truth(value)

    def test(record: NetworkRecord) -> bool:
        # Labels must all be there; of the other keys one value is enough.
        return all(
            (all if key == "label" else any)(one(record, key, value) for value in values)
            for key, values in filters.items()
            if values
        )

    return test


def _new_id() -> str:
    return secrets.token_hex(32)


def _truth(text: str) -> bool:
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise errors.Invalid(f"invalid value {text!r}: true or false is wanted")
    return value


def _boolean(options: Mapping[str, str], key: str) -> bool:
    value = _BOOLEANS.get(options.get(key, "true").lower())
    if value is None:
        raise errors.Invalid(f"invalid value {options[key]!r} of option {key}: true or false is wanted")
    return value


def _mtu(options: Mapping[str, str], default: int = _DEFAULT_MTU) -> int:
    text = options.get(_MTU, str(default))
    if not text.isdecimal() or len(text) > 5 or not 68 <= int(text) <= 65535:
        raise errors.Invalid(f"invalid value {text!r} of option {_MTU}: a number from 68 to 65535 is wanted")
    return int(text)
