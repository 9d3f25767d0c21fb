"""Networks of host and swarm as one: what the swarm has that this host hasn't yet, and who is meant by a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gitops import errors
from gitops.objects.network import IPAM, NetworkObject, NetworkResource
from gitops.swarm.manager.control.networks import is_predefined

if TYPE_CHECKING:
    from gitops.engine.engine import Engine
    from gitops.swarm.node import SwarmNode

_INACTIVE = ("inactive", "")
_BUILTIN = frozenset({"bridge", "host", "none"})


def of_swarm(node: SwarmNode) -> list[NetworkResource]:
    """The swarm's networks; none where this host is in no swarm.

    Those that every host has of its own count only where somebody asks for the swarm's by name: services may use them.
    """
    if node.state in _INACTIVE:
        return []
    return [resource(item) for item in node.control.networks() if not is_predefined(item)]


def _predefined(node: SwarmNode) -> list[NetworkResource]:
    if node.state in _INACTIVE:
        return []
    return [resource(item) for item in node.control.networks() if is_predefined(item)]


def resource(network: NetworkObject) -> NetworkResource:
    """A swarm network as the API lists it."""
    spec = network.spec
    driver = network.driver_state or spec.driver_configuration
    return NetworkResource(
        name=spec.name,
        id=network.id,
        created=network.created_at,
        scope="swarm",
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
    extra = _predefined(node) if scope == "swarm" else []
    found = {item.id: item for item in [*of_swarm(node), *extra, *engine.networks.list()]}
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
    raise errors.NotFound(f"network {wanted} not found")


def check_name_is_free(node: SwarmNode, name: str) -> None:
    """A local network may not hide one of the swarm.

    Raises:
        errors.Conflict: the swarm has a network of that name.
    """
    if any(item.name == name for item in of_swarm(node)):
        raise errors.Conflict(f"network with name {name} already exists")


def matches(item: NetworkResource, filters: Mapping[str, Sequence[str]]) -> bool:
    """Whether a swarm network passes the filters of `docker network ls`."""
    return all(_matches(item, key, values) for key, values in filters.items())


def _matches(item: NetworkResource, key: str, values: Sequence[str]) -> bool:
    if key == "label":
        return all(_has_label(item.labels, value) for value in values)
    if key == "dangling":
        # Whether a service uses it only the swarm can say, and it doesn't let a used one be removed.
        return values[0].lower() not in ("true", "1")
    if key == "type":
        return ("builtin" if item.name in _BUILTIN else "custom") in values
    if key == "name":
        return any(value in item.name for value in values)
    if key == "id":
        return any(item.id.startswith(value) for value in values)
    return (item.driver if key == "driver" else item.scope) in values


def _has_label(labels: Mapping[str, str], wanted: str) -> bool:
    name, separator, value = wanted.partition("=")
    return name in labels and (not separator or labels[name] == value)
