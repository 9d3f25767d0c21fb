"""How this engine's links, tables and addresses of the link layer are called.

Every name carries the instance, so that several engines on one machine never touch each other's, and a scan finds
what a crash left. Linux allows 15 characters for a link.
"""

from __future__ import annotations

import hashlib
import ipaddress

RESOLVER_TABLE = "gitops_dns"
"""The nft table in each sandbox; it needs no instance, as the namespace is ours alone."""


def prefix(instance: str) -> str:
    """How all links of `instance` (six characters) begin."""
    return f"g{instance}"


def bridge(instance: str, network_id: str) -> str:
    """The bridge of a network."""
    return f"{prefix(instance)}b{_short(network_id)}"


def veth(instance: str, endpoint_id: str) -> str:
    """The host's end of a container's leg."""
    return f"{prefix(instance)}v{_short(endpoint_id)}"


def table(instance: str) -> str:
    """The nft table of the host side."""
    return f"gitops_{instance}"


def mac(address: str) -> str:
    """The link-layer address that belongs to an IPv4 address: nobody has to be told it."""
    return ":".join(f"{octet:02x}" for octet in b"\x02\x42" + ipaddress.IPv4Address(address).packed)


def _short(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:7]
