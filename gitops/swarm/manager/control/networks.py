"""Swarm networks: what a user declares; subnets and the rest are the allocator's.

The networks that every host has of its own (bridge, host) are objects too, so that services can refer to them; they
are found by name and never listed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from gitops import errors
from gitops.objects.network import IPAM, NetworkCreate, NetworkDriver, NetworkObject, NetworkSpec
from gitops.objects.service import EndpointSpec, Service
from gitops.objects.task import Task
from gitops.swarm.manager import addresses, refusals, validation
from gitops.swarm.manager.control import filters as filtering
from gitops.swarm.manager.control.base import ControlBase, find
from gitops.swarm.manager.control.filters import Filters
from gitops.swarm.store.protocol import Tx, View

PREDEFINED_LABEL = "com.docker.swarm.predefined"
PREDEFINED = ("bridge", "host", "none", "docker_gwbridge")
SCOPE = "swarm"
KEYS = ("dangling", "driver", "id", "label", "name", "scope", "type")


class NetworkControl(ControlBase):
    """Create, remove, find and list swarm networks."""

    async def create_network(self, body: NetworkCreate) -> NetworkObject:
        """Declare a network.

        Raises:
            errors.Conflict: the name is taken.
            errors.Denied: the name is one that every host has.
            errors.Invalid: a name or address that can't be, or a second ingress network.
            errors.Unsupported: a driver or an option that isn't there.
        """
        spec = network_spec(body)
        if spec.name in PREDEFINED:
            raise errors.Denied(f"{spec.name} is a pre-defined network and cannot be created")
        refusals.check([*validation.name(spec.name), *_addresses(spec.ipam_options)])
        wanted = addresses.subnets_of(spec.ipam_options)

        def change(tx: Tx) -> NetworkObject:
            if tx.by_name(NetworkObject, spec.name) is not None:
                raise errors.Conflict(f"network with name {spec.name} already exists")
            if any(subnet.overlaps(other) for subnet in wanted for other in _subnets(tx)):
                raise errors.Denied("Pool overlaps with other one on this address space")
            present = next((item for item in tx.all(NetworkObject) if item.spec.ingress), None)
            if spec.ingress and present is not None:
                raise refusals.exists(f"ingress network ({present.spec.name}) is already present")
            return tx.create(NetworkObject(id=self._ids(), spec=spec))

        return await self._store.update(change)

    async def remove_network(self, reference: str) -> None:
        """Take a network away.

        Raises:
            errors.NotFound: no such network.
            errors.Invalid: a service or task uses it.
            errors.Denied: every host has it.
        """

        def change(tx: Tx) -> None:
            network = find(tx, NetworkObject, reference)
            if is_predefined(network):
                raise errors.Denied(f"{network.spec.name} is a pre-defined network and cannot be removed")
            _check_unused(tx, network)
            tx.delete(NetworkObject, network.id)

        await self._store.update(change)

    def network(self, reference: str) -> NetworkObject:
        """The network with this id, name or beginning of an id.

        Raises:
            errors.NotFound, errors.Invalid: none, or several.
        """
        return find(self._store.view(), NetworkObject, reference)

    def networks(self, filters: Filters | None = None) -> list[NetworkObject]:
        """The networks that match, without those that every host has of its own.

        Raises:
            errors.Invalid: an unknown filter, or value of one.
        """
        wanted = filtering.check_keys(filters, KEYS)
        filtering.check_values(wanted, "type", ("custom", "builtin"))
        view = self._store.view()
        dangling = filtering.flag(wanted, "dangling")
        return [
            network
            for network in view.all(NetworkObject)
            if not is_predefined(network)
            and _matches(network, wanted)
            and (dangling is None or dangling == (next(_uses(view, network), None) is None))
        ]


def network_spec(body: NetworkCreate) -> NetworkSpec:
    """The declaration that a request body makes.

    Raises:
        errors.Unsupported: a driver or an option that isn't there.
    """
    driver = body.driver or "overlay"
    if driver != "overlay":
        raise errors.Unsupported(f"network driver {driver!r} can't span a swarm: use overlay")
    if body.enable_ipv6:
        raise errors.Unsupported("IPv6 is not supported in swarm networks by this version")
    if body.config_only:
        raise errors.Unsupported("configuration-only networks are not supported in a swarm")
    if body.ingress and body.attachable:
        raise refusals.invalid("ingress network cannot be attachable")
    return NetworkSpec(
        name=body.name,
        labels=body.labels or {},
        driver_configuration=NetworkDriver(name=driver, options=body.options or {}),
        internal=body.internal,
        attachable=body.attachable,
        ingress=body.ingress,
        ipam_options=body.ipam,
        scope=SCOPE,
    )


def predefined(name: str, network_id: str) -> NetworkObject:
    """The object that stands for a network which every host has of its own."""
    spec = NetworkSpec(name=name, labels={PREDEFINED_LABEL: "true"}, driver_configuration=NetworkDriver(name=name))
    return NetworkObject(id=network_id, spec=spec, driver_state=NetworkDriver(name=name))


def is_predefined(network: NetworkObject) -> bool:
    """Whether every host has this network of its own."""
    return network.spec.labels.get(PREDEFINED_LABEL) == "true"


def needs_ingress(endpoint: EndpointSpec | None) -> bool:
    """Whether ports are published on all nodes, so that the service's tasks join the ingress network."""
    return endpoint is not None and any(port.publish_mode == "ingress" for port in endpoint.ports)


def _check_unused(view: View, network: NetworkObject) -> None:
    user = next(_uses(view, network), None)
    if isinstance(user, Service) and network.spec.ingress:
        raise refusals.precondition(f"ingress network cannot be removed because service {user.id} depends on it")
    if user is not None:
        word = "service" if isinstance(user, Service) else "task"
        raise refusals.precondition(f"network {network.id} is in use by {word} {user.id}")


def _uses(view: View, network: NetworkObject) -> Iterator[Service | Task]:
    for service in view.all(Service):
        joins = any(item.target == network.id for item in service.spec.task_template.networks)
        if joins or (network.spec.ingress and needs_ingress(service.spec.endpoint_spec)):
            yield service
    if network.spec.ingress:
        return
    for task in view.all(Task):
        if not task.status.state.is_terminal and any(
            item.network.id == network.id for item in task.networks_attachments
        ):
            yield task


def _subnets(view: View) -> list[addresses.Subnet]:
    """All subnets that are given out, or were asked for."""
    return [
        subnet
        for network in view.all(NetworkObject)
        for subnet in addresses.subnets_of(network.ipam_options or network.spec.ipam_options)
    ]


def _addresses(ipam: IPAM | None) -> Iterator[str]:
    for entry in (ipam.config if ipam else None) or ():
        try:
            subnet = ipaddress.ip_network(entry.subnet) if entry.subnet else None
        except ValueError as error:
            yield f"invalid subnet {entry.subnet}: {error}"
            continue
        if subnet is not None and subnet.version != 4:
            yield f"invalid subnet {entry.subnet}: IPv6 is not supported in swarm networks by this version"
            continue
        if subnet is not None and subnet.prefixlen > 29:
            yield f"invalid subnet {entry.subnet}: it has no room for tasks, /29 is the smallest"
            continue
        yield from _inside(subnet, "gateway", entry.gateway)
        for name, address in entry.auxiliary_addresses.items():
            yield from _inside(subnet, f"auxiliary address {name}", address)
        if entry.ip_range:
            yield from _range(subnet, entry.ip_range)


def _inside(subnet: ipaddress.IPv4Network | ipaddress.IPv6Network | None, word: str, text: str) -> Iterator[str]:
    if not text:
        return
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        yield f"invalid {word} {text}"
        return
    if subnet is None or address not in subnet:
        yield f"{word} {text} is not in the subnet {subnet or '(none given)'}"


def _range(subnet: ipaddress.IPv4Network | ipaddress.IPv6Network | None, text: str) -> Iterator[str]:
    try:
        wanted = ipaddress.IPv4Network(text)
    except ValueError:
        yield f"invalid IP range {text}"
        return
    if not isinstance(subnet, ipaddress.IPv4Network) or not wanted.subnet_of(subnet):
        yield f"IP range {text} is not in the subnet {subnet or '(none given)'}"


def _matches(network: NetworkObject, filters: Filters) -> bool:
    driver = network.spec.driver_configuration
    return (
        filtering.has_prefix(filters, "id", network.id)
        and filtering.one_of(filters, "name", lambda text: text in network.spec.name)
        and filtering.has_labels(filters, "label", network.spec.labels)
        and filtering.one_of(filters, "driver", lambda text: driver is not None and text == driver.name)
        and filtering.one_of(filters, "scope", lambda text: text == SCOPE)
        and filtering.one_of(filters, "type", lambda text: text == "custom")
    )
