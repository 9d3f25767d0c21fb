"""The resolver that every sandbox has at 127.0.0.11: names of its networks, everything else from upstream."""

from gitops.engine.networks.resolver.directory import Directory, normal
from gitops.engine.networks.resolver.server import Server, View
from gitops.engine.networks.resolver.upstream import Forwarder

__all__ = ["Directory", "Forwarder", "Server", "View", "normal"]
