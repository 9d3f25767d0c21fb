"""The networks of one engine: what the rest of the engine and the swarm's executor call.

Promises: what it made in the kernel lives on when the daemon is gone, and `start` takes it up again; only what carries
this instance's mark is ever touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gitops import errors
from gitops.config import EngineConfig
from gitops.engine.database import Database
from gitops.engine.events import EventBus
from gitops.engine.networks.boundary import Attachment, DNSOptions, PortFailure, PublishedPort, Sandbox, SharedPort
from gitops.objects.network import NetworkCreate, NetworkObject, NetworkResource

_NOT_YET = "networks are not started"


class NetworkService:
    """Networks, sandboxes, names and ports."""

    def __init__(self, config: EngineConfig, database: Database, events: EventBus) -> None:
        self._config = config
        self._database = database
        self._events = events
        self.warnings: list[str] = []
        """What a person should know about this host: firewalls that we had to open, modules that are missing."""

    async def start(self, live_containers: set[str]) -> None:
        """Prepare the host, take up the sandboxes of `live_containers`, remove what is left of others."""
        raise errors.Unavailable(_NOT_YET)

    async def close(self) -> None:
        """Stop serving names; everything in the kernel stays."""
        raise errors.Unavailable(_NOT_YET)

    async def create(self, body: NetworkCreate) -> NetworkResource:
        """Make a local bridge network.

        Raises: errors.Conflict, errors.Denied, errors.Invalid, errors.NotFound (driver), errors.Unsupported.
        """
        raise errors.Unavailable(_NOT_YET)

    def get(self, name_or_id: str) -> NetworkResource:
        """The network of that id, name or unambiguous id prefix; raises errors.NotFound, errors.Invalid."""
        raise errors.Unavailable(_NOT_YET)

    def list(self, filters: Mapping[str, Sequence[str]] | None = None) -> list[NetworkResource]:
        """Networks that match `filters` (driver, id, label, name, scope, type, dangling)."""
        raise errors.Unavailable(_NOT_YET)

    async def remove(self, name_or_id: str) -> None:
        """Remove a local network; raises errors.NotFound, errors.Denied (predefined, in use)."""
        raise errors.Unavailable(_NOT_YET)

    async def ensure_overlay(self, network: NetworkObject) -> NetworkResource:
        """Make sure that a swarm network exists on this host; idempotent."""
        raise errors.Unavailable(_NOT_YET)

    async def release_overlay(self, network_id: str) -> None:
        """Take a swarm network off this host; nothing to do where it isn't. Raises errors.Denied while it is used."""
        raise errors.Unavailable(_NOT_YET)

    def overlays(self) -> Sequence[str]:
        """Ids of the swarm networks on this host."""
        raise errors.Unavailable(_NOT_YET)

    async def create_sandbox(
        self,
        container_id: str,
        attachments: Sequence[Attachment],
        *,
        gateway_leg: bool = False,
        name: str = "",
        hostname: str = "",
        dns: DNSOptions | None = None,
    ) -> Sandbox:
        """Make the container's namespace, with a leg on each network; a former one of the same id is replaced.

        `gateway_leg` adds a last leg on docker_gwbridge, which carries the default route: for swarm tasks. `name` is
        the container's, without the slash; it resolves on its networks, as do the short id and `hostname`.
        """
        raise errors.Unavailable(_NOT_YET)

    def sandbox(self, container_id: str) -> Sandbox | None:
        """The container's sandbox, if it has one."""
        raise errors.Unavailable(_NOT_YET)

    async def remove_sandbox(self, container_id: str) -> None:
        """Unpublish its ports, release its addresses, remove the namespace; nothing to do where there is none."""
        raise errors.Unavailable(_NOT_YET)

    async def rename(self, container_id: str, name: str) -> None:
        """Make the container resolve by its new name instead of the old one."""
        raise errors.Unavailable(_NOT_YET)

    async def publish(self, container_id: str, bindings: Sequence[PublishedPort]) -> Sequence[PublishedPort]:
        """Publish ports of a container, all or none; returns them with the real host ports.

        Raises: errors.NotFound (no sandbox), errors.Conflict (a port is taken), errors.Unsupported, errors.Invalid.
        """
        raise errors.Unavailable(_NOT_YET)

    async def unpublish(self, container_id: str) -> None:
        """Take the container's ports off the host."""
        raise errors.Unavailable(_NOT_YET)

    async def apply_ports(self, ports: Sequence[SharedPort]) -> Sequence[PortFailure]:
        """Make the shared ports of this host what `ports` says, in one step; returns those that could not be had."""
        raise errors.Unavailable(_NOT_YET)

    async def set_names(self, network_id: str, names: Mapping[str, Sequence[str]]) -> None:
        """The names of a swarm network with their addresses, the whole set."""
        raise errors.Unavailable(_NOT_YET)

    async def audit(self) -> Sequence[str]:
        """Differences between the kernel and what should be there, as sentences; empty when all is well."""
        raise errors.Unavailable(_NOT_YET)
