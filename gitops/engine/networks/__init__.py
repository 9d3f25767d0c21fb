"""Networks of one host: bridges, namespaces, addresses, names, published ports."""

from gitops.engine.networks.boundary import (
    RESOLVER,
    Attachment,
    DNSOptions,
    PortFailure,
    PublishedPort,
    Sandbox,
    SharedPort,
)
from gitops.engine.networks.service import NetworkService

__all__ = [
    "RESOLVER",
    "Attachment",
    "DNSOptions",
    "NetworkService",
    "PortFailure",
    "PublishedPort",
    "Sandbox",
    "SharedPort",
]
