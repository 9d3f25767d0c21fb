"""Sandboxes: each container's namespace with its legs, its names and its resolver.

Owns the table `sandboxes`, the namespace files and the addresses that are given out. A record is durable when `make`
returns; a crash before that leaves links and a file that no record knows, which the next start removes by their names.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from gitops import errors
from gitops.config import EngineConfig
from gitops.engine.database import Database
from gitops.engine.networks import ipam, links, namespaces, naming, records, resolver
from gitops.engine.networks.boundary import Attachment, DNSOptions, Sandbox
from gitops.engine.networks.catalogue import Catalogue
from gitops.engine.networks.kernel import Ears, Kernel
from gitops.engine.networks.lasting import Lasting
from gitops.engine.networks.records import LegRecord, NetworkRecord, SandboxRecord
from gitops.objects.network import EndpointResource

log = logging.getLogger(__name__)


class Sandboxes:
    """The sandboxes of one engine."""

    def __init__(
        self,
        config: EngineConfig,
        database: Database,
        catalogue: Catalogue,
        directory: resolver.Directory,
        kernel: Kernel,
        lasting: Lasting,
    ) -> None:
        self._instance = config.instance
        self._root = config.run_root / "netns"
        self._database = database
        self._catalogue = catalogue
        self._directory = directory
        self._kernel = kernel
        self._lasting = lasting
        self._forwarder = resolver.Forwarder()
        self._records: dict[str, SandboxRecord] = {}
        self._servers: dict[str, resolver.Server] = {}

    def load(self) -> None:
        """Read the records; those that are adopted take their addresses then."""
        self._records = self._database.all(records.SANDBOXES, SandboxRecord)

    def take_addresses(self, record: SandboxRecord) -> None:
        """Take the addresses of a sandbox that is to be adopted; those of others must be given back before."""
        for leg in record.legs:
            self._take_again(record, leg)

    def _take_again(self, record: SandboxRecord, leg: LegRecord) -> None:
        if self._catalogue.by_id(leg.network_id) is None:
            return
        try:
            self._catalogue.pool(leg.network_id).take(ipam.Address(leg.address))
        except errors.GitopsError as error:
            # A daemon that doesn't start helps nobody; the container keeps what its namespace has.
            log.error("address %s of container %s: %s", leg.address, record.container_id, error)

    def all(self) -> list[SandboxRecord]:
        """Every record."""
        return list(self._records.values())

    def find(self, container_id: str) -> SandboxRecord | None:
        """The record of a container."""
        return self._records.get(container_id)

    def path(self, container_id: str) -> Path:
        """The file of a container's namespace."""
        return self._root / container_id

    def legs_on(self, network_id: str) -> Iterator[tuple[SandboxRecord, LegRecord]]:
        """Who has a leg on a network."""
        for record in self._records.values():
            for leg in record.legs:
                if leg.network_id == network_id:
                    yield record, leg

    def endpoints_on(self, network: NetworkRecord) -> dict[str, EndpointResource]:
        """Who has a leg on a network, as the API shows it."""
        return {
            record.container_id: EndpointResource(
                name=record.name,
                endpoint_id=leg.endpoint_id,
                mac_address=leg.mac,
                ipv4_address=f"{leg.address}/{network.prefix_length}",
            )
            for record, leg in self.legs_on(network.id)
        }

    def show(self, record: SandboxRecord) -> Sandbox:
        """A sandbox as its users see it."""
        endpoints = {}
        for leg in record.legs[: len(record.legs) - record.has_gateway_leg]:
            network = self._network(leg)
            names = record.names(leg) if network.has_names else ()
            endpoints[network.name] = leg.settings(network, names, leg.aliases)
        gateway = record.legs[-1].address if record.has_gateway_leg else None
        return Sandbox(self.path(record.container_id), endpoints, gateway)

    def way_out(self, record: SandboxRecord) -> LegRecord | None:
        """The leg of the default route: the one on docker_gwbridge, or the first on a network that is not sealed."""
        if record.has_gateway_leg:
            return record.legs[-1]
        return next((leg for leg in record.legs if not self._network(leg).is_sealed), None)

    def plan(
        self,
        container_id: str,
        attachments: Sequence[tuple[NetworkRecord, Attachment]],
        gateway: NetworkRecord | None,
        *,
        name: str,
        hostname: str,
        dns: DNSOptions,
    ) -> SandboxRecord:
        """Take the addresses for a new sandbox; `remove` gives them back.

        Raises: errors.Conflict, errors.Invalid, errors.Unavailable (addresses).
        """
        legs: list[LegRecord] = []
        joined = [*attachments, *([(gateway, Attachment(gateway.name))] if gateway else [])]
        try:
            for number, (network, attachment) in enumerate(joined):
                legs.append(self._leg(f"eth{number}", network, attachment))
        except errors.GitopsError:
            self._release(legs)
            raise
        record = SandboxRecord(
            container_id=container_id,
            name=name,
            hostname=hostname,
            legs=tuple(legs),
            has_gateway_leg=gateway is not None,
            link_group=self._new_group(),
            nameservers=dns.nameservers,
        )
        self._records[container_id] = record
        return record

    def plan_leg(
        self, record: SandboxRecord, network: NetworkRecord, attachment: Attachment
    ) -> tuple[SandboxRecord, LegRecord]:
        """Take an address for one more leg of a sandbox; `unplan_leg` gives it back.

        Raises: errors.Conflict, errors.Invalid, errors.Unavailable (addresses).
        """
        used = {leg.link for leg in record.legs}
        link = next(name for number in range(len(used) + 1) if (name := f"eth{number}") not in used)
        leg = self._leg(link, network, attachment)
        own = len(record.legs) - record.has_gateway_leg
        changed = msgspec.structs.replace(record, legs=(*record.legs[:own], leg, *record.legs[own:]))
        self._records[record.container_id] = changed
        return changed, leg

    def unplan_leg(self, record: SandboxRecord, leg: LegRecord) -> None:
        """`record` is as it was before `plan_leg`."""
        self._records[record.container_id] = record
        self._release([leg])

    def without_leg(self, record: SandboxRecord, leg: LegRecord) -> SandboxRecord:
        """The record of a sandbox that lost a leg."""
        legs = tuple(other for other in record.legs if other.endpoint_id != leg.endpoint_id)
        return msgspec.structs.replace(record, legs=legs)

    def give_back(self, container_id: str, leg: LegRecord) -> None:
        """Free the address of a leg that is gone."""
        self._directory.drop_container(leg.network_id, container_id)
        self._release([leg])

    def refresh(self, record: SandboxRecord) -> None:
        """Let the resolver know of the legs that a sandbox has now."""
        server = self._servers.get(record.container_id)
        if server is not None:
            server.view = self._view(record)
        self._announce(record)

    def save(self, record: SandboxRecord) -> None:
        """Keep a new or changed record."""
        self._lasting.put(records.SANDBOXES, record.container_id, record)
        self._records[record.container_id] = record

    def hold(self, record: SandboxRecord) -> None:
        """Change a record that is about to be removed: in memory only, since the disk may be full."""
        self._records[record.container_id] = record

    async def make(self, record: SandboxRecord) -> SandboxRecord:
        """Make what the record describes, and keep it; from then on its names resolve. Raises errors.RuntimeFailure."""
        out = self.way_out(record)
        gateway = self._network(out).gateway if out else ""
        path = self.path(record.container_id)
        ears = await self._kernel.make_sandbox(path, [self.kernel_leg(record, leg) for leg in record.legs], gateway)
        changed = msgspec.structs.replace(record, resolver_ports=ears.ports)
        self.save(changed)
        await self._serve(changed, ears)
        return changed

    async def adopt(self, record: SandboxRecord, pid: int) -> None:
        """Take up a sandbox that a former run made; `pid` is a process in it, by which a lost file is made again.

        Raises: errors.RuntimeFailure.
        """
        path = self.path(record.container_id)
        if not namespaces.is_namespace(path):
            log.warning("the namespace file of container %s was unmounted: mounting it again", record.container_id)
            await self._kernel.keep_namespace(path, pid)
        ears = await self._kernel.adopt_sandbox(path, record.resolver_ports)
        if ears.ports != record.resolver_ports:
            self.save(msgspec.structs.replace(record, resolver_ports=ears.ports))
        await self._serve(self._records[record.container_id], ears)

    async def remove(self, container_id: str) -> SandboxRecord | None:
        """Remove whatever there is of a sandbox, then its record; the addresses are free when this returns."""
        record = self._records.get(container_id)
        await self.silence(container_id)
        if record is None:
            return None
        for leg in record.legs:
            self._directory.drop_container(leg.network_id, container_id)
        path, names = self.path(container_id), [leg.host_link for leg in record.legs]
        await self._kernel.remove_sandbox(path, record.link_group, names)
        self._lasting.delete_or_later(records.SANDBOXES, container_id)
        self._records.pop(container_id, None)
        self._release(record.legs)
        return record

    def rename(self, record: SandboxRecord, name: str) -> None:
        """Let the container resolve by another name."""
        changed = msgspec.structs.replace(record, name=name)
        self.save(changed)
        self._announce(changed)

    def kernel_leg(self, record: SandboxRecord, leg: LegRecord) -> links.Leg:
        """A leg as the kernel gets it."""
        network = self._network(leg)
        is_isolated, is_hairpin = port_flags(network)
        return links.Leg(
            host_link=leg.host_link,
            link=leg.link,
            bridge=network.bridge,
            address=leg.address,
            prefix_length=network.prefix_length,
            mac=leg.mac,
            mtu=network.mtu,
            group=record.link_group,
            is_isolated=is_isolated,
            is_hairpin=is_hairpin,
        )

    def masters(self) -> dict[str, str]:
        """The bridge of each leg's host end, where the sandbox is made."""
        made = [record for record in self._records.values() if self.is_served(record.container_id)]
        return {leg.host_link: self._network(leg).bridge for record in made for leg in record.legs}

    def is_served(self, container_id: str) -> bool:
        """Whether its resolver answers."""
        return container_id in self._servers

    def stray_files(self) -> list[str]:
        """Namespace files that no record knows, by name."""
        if not self._root.is_dir():
            return []
        return sorted(path.name for path in self._root.iterdir() if path.name not in self._records)

    async def silence(self, container_id: str) -> None:
        """Stop the resolver of a sandbox."""
        server = self._servers.pop(container_id, None)
        if server is not None:
            await server.close()

    async def close(self) -> None:
        """Stop all resolvers; the sandboxes stay."""
        for container_id in tuple(self._servers):
            await self.silence(container_id)

    async def _serve(self, record: SandboxRecord, ears: Ears) -> None:
        server = resolver.Server(ears.udp, ears.tcp, self._view(record), self._forwarder)
        try:
            await server.start()
        except BaseException:
            await server.close()
            raise
        self._servers[record.container_id] = server
        self._announce(record)

    def _view(self, record: SandboxRecord) -> resolver.View:
        return resolver.View(
            self._directory,
            tuple(leg.network_id for leg in record.legs if self._network(leg).has_names),
            record.nameservers,
            may_forward=self.way_out(record) is not None,
            nicknames={
                resolver.normal(nickname): resolver.normal(name)
                for leg in record.legs
                for nickname, name in leg.nicknames.items()
            },
        )

    def _announce(self, record: SandboxRecord) -> None:
        for leg in record.legs:
            if self._network(leg).has_names:
                self._directory.set_container(leg.network_id, record.container_id, leg.address, record.names(leg))

    def _leg(self, link: str, network: NetworkRecord, attachment: Attachment) -> LegRecord:
        wanted = ipam.parse_address(attachment.address, "address") if attachment.address else None
        address = str(self._catalogue.pool(network.id).take(wanted))
        endpoint_id = secrets.token_hex(32)
        return LegRecord(
            network_id=network.id,
            endpoint_id=endpoint_id,
            address=address,
            mac=attachment.mac.lower().replace("-", ":") or naming.mac(address),
            host_link=naming.veth(self._instance, endpoint_id),
            link=link,
            aliases=tuple(attachment.aliases),
            nicknames=dict(attachment.nicknames),
        )

    def _new_group(self) -> int:
        used = {record.link_group for record in self._records.values()}
        while True:
            group = links.FIRST_GROUP + secrets.randbelow(links.LAST_GROUP - links.FIRST_GROUP)
            if group not in used:
                return group

    def _release(self, legs: Sequence[LegRecord]) -> None:
        for leg in legs:
            if self._catalogue.by_id(leg.network_id) is not None:
                self._catalogue.pool(leg.network_id).release(ipam.Address(leg.address))

    def _network(self, leg: LegRecord) -> NetworkRecord:
        network = self._catalogue.by_id(leg.network_id)
        if network is None:
            raise errors.RuntimeFailure(f"network {leg.network_id} of {leg.host_link} is unknown")
        return network


def bridge_of(network: NetworkRecord) -> links.Bridge:
    """A network's bridge as the kernel gets it."""
    address = "" if network.is_overlay else network.gateway
    return links.Bridge(network.bridge, naming.mac(network.gateway), address, network.prefix_length, network.mtu)


def port_flags(network: NetworkRecord) -> tuple[bool, bool]:
    """Whether a network's bridge ports are isolated, and whether they are hairpins.

    Where frames within a bridge pass the IP rules, a container that is sent to itself through a port of its host comes
    back by the port it went out by; the rules keep containers apart, and an isolated port would break that way.
    Elsewhere isolation is the only thing that keeps them apart.
    """
    is_filtered = namespaces.read_sysctl("bridge/bridge-nf-call-iptables") == "1"
    return (not network.icc and not is_filtered), (is_filtered and not network.is_overlay)
