"""Networks joined and left by a container, at once where it runs, else at its next start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gitops import errors
from gitops.engine.containers import creation, hostfiles, places, record, sharing
from gitops.engine.containers.container import Container
from gitops.engine.containers.launcher import Launcher
from gitops.engine.containers.record import ContainerRecord
from gitops.engine.networks import NetworkService, Sandbox
from gitops.objects.container import EndpointSettings, PortBinding


class Connecting:
    """`docker network connect` and `disconnect` of one engine's containers."""

    def __init__(
        self,
        find: Callable[[str], Container],
        launcher: Launcher,
        networks: NetworkService,
        save: Callable[..., None],
    ) -> None:
        """`save` stores changes of a container's record, and shows them."""
        self._find = find
        self._launcher = launcher
        self._networks = networks
        self._save = save

    async def connect(self, name: str, network: str, settings: EndpointSettings) -> None:
        """Join a network.

        Raises:
            errors.NotFound: container or network. errors.Denied: it is there already, or shares another's network.
            errors.Conflict, errors.Invalid, errors.Unsupported, errors.Unavailable: what was asked for can't be.
        """
        container = self._find(name)
        wanted = self._networks.get(network)
        creation.check_endpoint(wanted.name, settings)
        async with container.lock:
            now = container.record
            _check_mode(now, wanted.name)
            if self._key(now, wanted.id) is not None:
                raise errors.Denied(f"endpoint with name {now.short_name} already exists in network {wanted.name}")
            changes: dict[str, object] = {"endpoints": {**now.endpoints, wanted.name: settings}}
            if now.is_alive and now.sandbox:
                sandbox = await self._networks.connect(now.id, places.attachment(wanted.name, settings))
                changes["attached"] = dict(sandbox.endpoints)
                changes["ports"] = now.ports or await self._publish(now, wanted.id)
                self._name_in_hosts(now, sandbox)
            self._save(container, **changes)

    async def _publish(self, now: ContainerRecord, network_id: str) -> dict[str, list[PortBinding]]:
        """Ports that no network led to before; where they can't be had, the network isn't joined."""
        try:
            return await self._launcher.publish(now)
        except errors.GitopsError:
            await self._networks.disconnect(now.id, network_id)
            raise

    async def disconnect(self, name: str, network: str, *, force: bool = False) -> None:
        """Leave a network; with `force` a container that isn't there any more is no error.

        Raises:
            errors.NotFound: container or network. errors.Denied: it isn't on it, or on the host's.
        """
        wanted = self._networks.get(network)
        try:
            container = self._find(name)
        except errors.NotFound:
            if force:
                return
            raise
        async with container.lock:
            now = container.record
            _check_mode(now, wanted.name)
            key = self._key(now, wanted.id)
            if key is None:
                raise errors.Denied(f"container {now.id} is not connected to network {wanted.name}")
            changes: dict[str, object] = {"endpoints": {one: now.endpoints[one] for one in now.endpoints if one != key}}
            if now.is_alive and now.sandbox:
                sandbox = await self._networks.disconnect(now.id, wanted.id)
                changes["attached"] = dict(sandbox.endpoints)
                self._name_in_hosts(now, sandbox)
            self._save(container, **changes)

    def _key(self, now: ContainerRecord, network_id: str) -> str | None:
        """What a container calls a network that it is on: a name, an id, or the beginning of one."""
        for key in now.endpoints:
            try:
                if self._networks.get(key).id == network_id:
                    return key
            except errors.NotFound:
                continue  # gone since the container was made; its next start will say so
        return None

    def _name_in_hosts(self, now: ContainerRecord, after: Sandbox) -> None:
        """Write the container's own lines of /etc/hosts anew, in place; others' are kept."""
        path: Path = self._launcher.folder(now.id) / "hosts"
        gone = [place.ip_address for place in now.attached.values()]
        there = [place.ip_address for place in after.endpoints.values()]
        text = path.read_text(errors="replace")
        path.write_text(hostfiles.renamed(text, now.config.hostname, now.config.domainname, gone, there))


def _check_mode(now: ContainerRecord, network: str) -> None:
    mode = now.host_config.network_mode
    if sharing.HOST in (mode, network):
        raise errors.Denied("container cannot be disconnected from host network or connected to host network")
    if sharing.donor(mode):
        raise errors.Denied(
            "container sharing network namespace with another container or host cannot be connected to any other "
            "network"
        )
    if sharing.NONE in (mode, network):
        raise errors.Denied(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )
    if now.status == record.REMOVING:
        raise errors.Denied(f"container {now.id} is marked for removal and cannot be connected or disconnected")
