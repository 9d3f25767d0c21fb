"""Networks of host and swarm as one: what the swarm has that this host hasn't yet, and who is meant by a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gitops import errors
from gitops.objects.container import ContainerCreate
from gitops.objects.network import IPAM, NetworkObject, NetworkResource

if TYPE_CHECKING:
    from gitops.engine.engine import Engine
    from gitops.swarm.node import SwarmNode

_ACTIVE = "active"
_INACTIVE = "inactive"
_SWARM = "swarm"
_BUILTIN = ("bridge", "host", "none")


def of_swarm(node: SwarmNode, filters: Mapping[str, Sequence[str]] | None = None) -> list[NetworkResource]:
    """The swarm's networks that match; none where this host is in no swarm."""
    if node.state != _ACTIVE:
        return []
    return [resource(item) for item in node.control.networks(filters)]


def resource(network: NetworkObject) -> NetworkResource:
    """A swarm network as the API lists it."""
    spec = network.spec
    driver = network.driver_state or spec.driver_configuration
    return NetworkResource(
        name=spec.name,
        id=network.id,
        created=network.created_at,
        scope=_SWARM,
        driver=driver.name if driver and driver.name else "overlay",
        enable_ipv6=spec.ipv6_enabled,
        ipam=network.ipam_options or spec.ipam_options or IPAM(),
        internal=spec.internal,
        attachable=spec.attachable,
        ingress=spec.ingress,
        options=dict(driver.options) if driver else {},
        labels=dict(spec.labels),
    )


def find(engine: Engine, node: SwarmNode, wanted: str, scope: str) -> NetworkResource:
    """The network of that id, name or unique id prefix, in this order, of one scope or of any.

    Raises:
        errors.NotFound: there is none. errors.Invalid: several are meant.
    """
    # A network that this host has already comes last, so that what the host knows of its containers is shown.
    found = {item.id: item for item in [*of_swarm(node), *engine.networks.list()]}
    known = [item for item in found.values() if not scope or item.scope == scope]
    for candidates in (
        [item for item in known if item.id == wanted],
        [item for item in known if item.name == wanted],
        [item for item in known if wanted and item.id.startswith(wanted)],
    ):
        if len(candidates) > 1:
            raise errors.Invalid(f"network {wanted} is ambiguous ({len(candidates)} matches found)")
        if candidates:
            return candidates[0]
    if scope == _SWARM and node.state == _ACTIVE:
        # What every host has of its own (`host`, `bridge`) isn't listed, but services may ask for it.
        return resource(node.control.network(wanted))
    raise errors.NotFound(f"network {wanted} not found")


def check_name_is_free(engine: Engine, node: SwarmNode, name: str) -> None:
    """A local network may not hide one of the swarm, nor the other way round.

    Raises:
        errors.Conflict: host or swarm have a network of that name.
    """
    if name in _BUILTIN:
        # Whoever makes networks refuses these in words of its own.
        return
    if any(item.name == name for item in [*of_swarm(node), *engine.networks.list()]):
        raise errors.Conflict(f"network with name {name} already exists")


def check_attachments(node: SwarmNode, body: ContainerCreate) -> None:
    """A plain container may join a network of the swarm only where that allows it.

    Raises:
        errors.Denied: it doesn't; Docker's words.
    """
    host, networking = body.host_config, body.networking_config
    check_attachable(
        node, [host.network_mode if host else "", *((networking.endpoints_config if networking else None) or {})]
    )


def check_attachable(node: SwarmNode, wanted: Sequence[str]) -> None:
    """`check_attachments` for networks by name or id."""
    for item in of_swarm(node):
        if not item.attachable and (item.name in wanted or item.id in wanted):
            raise errors.Denied(
                f"Could not attach to network {item.name}: rpc error: code = PermissionDenied "
                f"desc = network {item.name} not manually attachable"
            )


async def remove(engine: Engine, node: SwarmNode, found: NetworkResource) -> None:
    """Take a network away: a local one, one of the swarm, or one that was left behind by a swarm.

    Raises:
        errors.NotInSwarm: it is the swarm's, which can't be reached. errors.Denied, errors.Invalid: it is used.
    """
    if found.scope != _SWARM:
        await engine.networks.remove(found.id)
    elif node.state == _INACTIVE:
        # A container that is no task kept it when the host left the swarm.
        await engine.networks.release_overlay(found.id)
    else:
        await node.control.remove_network(found.id)
