"""The networks of one engine: what the rest of the engine and the swarm's executor call.

Promises: what it made in the kernel lives on when the daemon is gone, and `start` takes it up again; only what carries
this instance's mark is ever touched; a call that failed leaves nothing behind. Every method belongs to the event
loop's thread. Leaves to the containers: resolv.conf, /etc/hosts, and when a sandbox is made and removed (a container's
start and its end). A swarm network on one host is a bridge without an address of the host's: nothing is routed in or
out of it, a task's way out is its leg on docker_gwbridge.
"""

from __future__ import annotations

import asyncio
import logging
import re
import weakref
from collections.abc import Mapping, Sequence

import msgspec

from gitops import errors
from gitops.config import EngineConfig
from gitops.engine.database import Database
from gitops.engine.events import EventBus
from gitops.engine.networks import catalogue, flows, naming, publishing, records, resolver, ruleset
from gitops.engine.networks.boundary import Attachment, DNSOptions, PortFailure, PublishedPort, Sandbox, SharedPort
from gitops.engine.networks.joining import Joining
from gitops.engine.networks.kernel import Kernel
from gitops.engine.networks.lasting import Lasting
from gitops.engine.networks.records import LegRecord, Names, NetworkRecord, SandboxRecord
from gitops.engine.networks.rules import RuleKeeper
from gitops.engine.networks.sandboxes import Sandboxes, bridge_of
from gitops.engine.networks.watch import Watch
from gitops.objects.network import NetworkCreate, NetworkObject, NetworkResource

log = logging.getLogger(__name__)

_Joined = list[tuple[NetworkRecord, Attachment]]
_CONTAINER_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")


class NetworkService:
    """Networks, sandboxes, names and ports."""

    def __init__(self, config: EngineConfig, database: Database, events: EventBus) -> None:
        self._config = config
        self._database = database
        self._events = events
        self._kernel = Kernel(config.instance)
        self._catalogue = catalogue.Catalogue(config, database)
        self._directory = resolver.Directory()
        self._lasting = Lasting(database)
        self._sandboxes = Sandboxes(config, database, self._catalogue, self._directory, self._kernel, self._lasting)
        self._publishing = publishing.Publishing(database, self._lasting)
        self._rules = RuleKeeper(self._kernel, naming.table(config.instance), self._wanted_rules)
        self._joining = Joining(
            self._catalogue,
            self._sandboxes,
            self._kernel,
            self._rules,
            lambda address: self._forget_flows({address}, set(), (flows.UDP, flows.TCP)),
        )
        self._names: dict[str, Mapping[str, Sequence[str]]] = {}
        # A lock lives as long as somebody holds it or waits for it.
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._network_lock = asyncio.Lock()
        self._port_lock = asyncio.Lock()
        self._watch = Watch(
            self._kernel, self._rules, self._catalogue, self._sandboxes, self._lasting, self._network_lock
        )

    @property
    def warnings(self) -> Sequence[str]:
        """What a person should know about this host: firewalls that we had to open, ports that were lost."""
        return tuple(self._watch.warnings)

    # Life

    async def start(self, live_containers: Mapping[str, int]) -> None:
        """Prepare the host, take up the sandboxes of containers that run (ids with pids), remove those of others.

        Raises:
            errors.RuntimeFailure: no right, or the kernel lacks something; the message says what.
        """
        await self._kernel.open()
        self._catalogue.load()
        await self._add_predefined()
        await self._kernel.ensure_bridges([bridge_of(record) for record in self._catalogue.all() if record.bridge])
        self._load_names()
        self._sandboxes.load()
        for record in self._sandboxes.all():
            if record.container_id not in live_containers:
                await self._sandboxes.remove(record.container_id)
        for record in self._sandboxes.all():
            self._sandboxes.take_addresses(record)
            await self._adopt(record, live_containers[record.container_id])
        await self._sweep()
        port_warnings = self._publishing.load(self._sandboxes.all())
        await self._rules.load()
        await self._watch.start(port_warnings)

    async def close(self) -> None:
        """Stop serving names and free the reserved ports; everything in the kernel stays."""
        await self._watch.close()
        await self._sandboxes.close()
        self._publishing.close()
        await self._kernel.close()

    async def destroy(self) -> None:
        """Take everything of this instance out of the kernel; only `close` may follow. Records of networks stay."""
        await self._watch.close()
        for record in self._sandboxes.all():
            await self._sandboxes.remove(record.container_id)
        await self._kernel.remove_links(sorted(await self._kernel.own_links()))
        await self._kernel.drop_all_rules()

    # Networks

    async def create(self, body: NetworkCreate) -> NetworkResource:
        """Make a local bridge network.

        Raises: errors.Conflict, errors.Denied, errors.Invalid, errors.NotFound (driver), errors.Unsupported.
        """
        async with self._network_lock:
            record = self._catalogue.plan(body, await self._kernel.routes())
            await self._establish(record)
        return self._resource(record)

    def get(self, name_or_id: str) -> NetworkResource:
        """The network of that id, name or unambiguous id prefix; raises errors.NotFound, errors.Invalid."""
        return self._resource(self._catalogue.find(name_or_id))

    def list(self, filters: Mapping[str, Sequence[str]] | None = None) -> list[NetworkResource]:
        """Networks that match `filters` (driver, id, label, name, scope, type, dangling)."""
        test = catalogue.matches(filters or {}, lambda network_id: any(self._sandboxes.legs_on(network_id)))
        return [self._resource(record) for record in self._catalogue.all() if test(record)]

    async def remove(self, name_or_id: str) -> None:
        """Remove a local network; raises errors.NotFound, errors.Denied (predefined, in use)."""
        async with self._network_lock:
            record = self._catalogue.find(name_or_id)
            if record.name in records.PREDEFINED:
                raise errors.Denied(f"{record.name} is a pre-defined network and cannot be removed")
            await self._abolish(record)

    async def ensure_gateway(self) -> NetworkResource:
        """Make sure that docker_gwbridge exists: it does from a host's first swarm network on."""
        return self._resource(await self._gateway())

    async def ensure_overlay(self, network: NetworkObject) -> NetworkResource:
        """Make sure that a swarm network exists on this host; idempotent."""
        async with self._network_lock:
            record = self._catalogue.by_id(network.id)
            if record is None:
                record = self._catalogue.plan_overlay(network)
                await self._establish(record)
                self._directory.set_names(record.id, self._names.get(record.id, {}))
                self._keep_names(record.id)
        return self._resource(record)

    async def release_overlay(self, network_id: str) -> None:
        """Take a swarm network off this host; nothing to do where it isn't. Raises errors.Denied while it is used."""
        async with self._network_lock:
            record = self._catalogue.by_id(network_id)
            if record is not None and record.is_overlay:
                await self._abolish(record)
            self._names.pop(network_id, None)

    def overlays(self) -> Sequence[str]:
        """Ids of the swarm networks on this host."""
        return [record.id for record in self._catalogue.all() if record.is_overlay]

    # Sandboxes

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

        Raises:
            errors.NotFound (network), errors.Conflict (address in use), errors.Invalid, errors.Unavailable (no
            address is left), errors.RuntimeFailure. Nothing is left behind.
        """
        if not _CONTAINER_ID.fullmatch(container_id):
            raise errors.Invalid(f"invalid container id {container_id!r}")
        async with self._lock(container_id):
            await self._remove_sandbox(container_id)
            gateway = await self._gateway() if gateway_leg else None
            # From here to the plan nothing is awaited: a network that is found can't go before it is used.
            joined = self._joined(attachments)
            record = self._sandboxes.plan(
                container_id, joined, gateway, name=name, hostname=hostname, dns=dns or DNSOptions()
            )
            try:
                record = await self._sandboxes.make(record)
            except BaseException:
                await asyncio.shield(self._sandboxes.remove(container_id))
                raise
        for network, _ in joined:
            self._tell("connect", network, container_id)
        return self._sandboxes.show(record)

    def sandbox(self, container_id: str) -> Sandbox | None:
        """The container's sandbox, if it has one."""
        record = self._sandboxes.find(container_id)
        return self._sandboxes.show(record) if record else None

    def leads_out(self, container_id: str) -> bool:
        """Whether the container has a sandbox with a way to the outside, by which ports can be published."""
        record = self._sandboxes.find(container_id)
        return record is not None and self._sandboxes.way_out(record) is not None

    async def remove_sandbox(self, container_id: str) -> None:
        """Unpublish its ports, release its addresses, remove the namespace; nothing to do where there is none."""
        async with self._lock(container_id):
            await self._remove_sandbox(container_id)

    async def connect(self, container_id: str, attachment: Attachment) -> Sandbox:
        """Let a container that runs join one more network; see `Joining.join` for what is raised."""
        async with self._lock(container_id):
            network, record = await self._joining.join(container_id, attachment)
        self._tell("connect", network, container_id)
        return self._sandboxes.show(record)

    async def disconnect(self, container_id: str, network_name: str) -> Sandbox:
        """Let a container that runs leave a network; see `Joining.leave` for what is raised."""
        async with self._lock(container_id):
            network, record = await self._joining.leave(container_id, network_name)
        self._tell("disconnect", network, container_id)
        return self._sandboxes.show(record)

    async def rename(self, container_id: str, name: str) -> None:
        """Make the container resolve by its new name instead of the old one."""
        async with self._lock(container_id):
            record = self._sandboxes.find(container_id)
            if record is not None:
                self._sandboxes.rename(record, name)

    # Ports

    async def publish(self, container_id: str, bindings: Sequence[PublishedPort]) -> Sequence[PublishedPort]:
        """Publish ports of a container, all or none; returns them with the real host ports. Former ones are replaced.

        Raises: errors.NotFound (no sandbox), errors.Conflict (a port is taken), errors.Unsupported, errors.Invalid.
        """
        async with self._lock(container_id):
            record = self._sandboxes.find(container_id)
            if record is None:
                raise errors.NotFound(f"container {container_id} has no network sandbox: start it first")
            record = await self._withdraw(record)
            if not bindings:
                return []
            leg = self._published_leg(record)
            network = self._catalogue.find(leg.network_id)
            endpoint = f"{record.name or container_id[:12]} ({leg.endpoint_id})"
            taken = self._publishing.reserve(bindings, network.host_ip, endpoint)
            changed = msgspec.structs.replace(record, published=tuple(taken))
            try:
                self._sandboxes.save(changed)
                await self._rules.sync()
            except BaseException:
                self._publishing.release(taken)
                self._sandboxes.save(record)
                raise
        await self._forget_flows(set(), {port.host_port for port in taken if port.protocol == "udp"})
        return taken

    async def unpublish(self, container_id: str) -> None:
        """Take the container's ports off the host."""
        async with self._lock(container_id):
            record = self._sandboxes.find(container_id)
            if record is not None:
                await self._withdraw(record)

    async def apply_ports(self, ports: Sequence[SharedPort]) -> Sequence[PortFailure]:
        """Make the shared ports of this host what `ports` says, in one step; returns those that could not be had.

        New connections are spread evenly over the addresses; those that are established stay where they are, also
        where their container is no longer named (which is how it is drained).

        Raises: errors.Invalid, errors.Unsupported for a wrong entry, errors.RuntimeFailure.
        """
        async with self._port_lock:
            before = publishing.datagrams(self._publishing.shared)
            failures, gone = self._publishing.share(ports)
            try:
                await self._rules.sync()
            finally:
                self._publishing.free(gone)
            after = publishing.datagrams(self._publishing.shared)
        await self._forget_flows(
            {address for addresses in before.values() for address in addresses}
            - {address for addresses in after.values() for address in addresses},
            set(after) - set(before),
        )
        return failures

    # Names

    async def set_names(self, network_id: str, names: Mapping[str, Sequence[str]]) -> None:
        """The names of a swarm network with their addresses, the whole set; kept for a network that comes later."""
        if self._names.get(network_id) == names:
            return
        self._names[network_id] = {name: list(found) for name, found in names.items()}
        self._directory.set_names(network_id, names)
        self._keep_names(network_id)

    # Repair

    async def audit(self) -> Sequence[str]:
        """Differences between the kernel and what should be there, as sentences; empty when all is well."""
        found = await self._rules.differences()
        expected = {record.bridge for record in self._catalogue.all() if record.bridge}
        for record in self._sandboxes.all():
            expected.update(leg.host_link for leg in record.legs)
            if not self._sandboxes.is_served(record.container_id):
                found.append(f"container {record.container_id} has no resolver")
        present = await self._kernel.own_links()
        found += [f"link {name} is missing" for name in sorted(expected - present)]
        found += [f"link {name} should not be there" for name in sorted(present - expected)]
        found += [f"namespace file {name} should not be there" for name in self._sandboxes.stray_files()]
        return found

    # Inside

    async def _adopt(self, record: SandboxRecord, pid: int) -> None:
        try:
            await self._sandboxes.adopt(record, pid)
        except errors.RuntimeFailure as error:
            # It may have ended a moment ago; a daemon that doesn't start helps nobody.
            log.error("container %s: no names resolve in it: %s", record.container_id, error)

    def _lock(self, container_id: str) -> asyncio.Lock:
        return self._locks.setdefault(container_id, asyncio.Lock())

    def _wanted_rules(self) -> ruleset.Rules:
        publications = []
        for record in self._sandboxes.all():
            out = self._sandboxes.way_out(record) if record.published else None
            if out is not None:
                publications += publishing.publications(record, out.address)
        return ruleset.build(self._catalogue.all(), publications, self._publishing.shared)

    def _published_leg(self, record: SandboxRecord) -> LegRecord:
        leg = self._sandboxes.way_out(record)
        if leg is None:
            raise errors.Invalid(
                f"{record.name or record.container_id}: ports can't be published: no network with a way to the outside"
            )
        return leg

    def _resource(self, record: NetworkRecord) -> NetworkResource:
        return record.resource(self._sandboxes.endpoints_on(record))

    def _joined(self, attachments: Sequence[Attachment]) -> _Joined:
        joined: _Joined = []
        for attachment in attachments:
            record = self._catalogue.find(attachment.network)
            if not record.bridge:
                raise errors.Invalid(f"a container can't join network {record.name} together with a sandbox")
            if any(record.id == other.id for other, _ in joined):
                raise errors.Invalid(f"network {record.name} is joined twice")
            joined.append((record, attachment))
        return joined

    async def _remove_sandbox(self, container_id: str) -> None:
        record = self._sandboxes.find(container_id)
        if record is not None:
            await self._lead_away(record)
        await self._sandboxes.remove(container_id)
        if record is not None:
            for leg in record.legs[: len(record.legs) - record.has_gateway_leg]:
                network = self._catalogue.by_id(leg.network_id)
                if network is not None:
                    self._tell("disconnect", network, container_id)

    async def _lead_away(self, record: SandboxRecord) -> None:
        """Let no port lead to a container that is gone, whoever asked for it: the swarm hears of it later than we."""
        out = self._sandboxes.way_out(record)
        is_led_to = bool(record.published)
        if record.published:
            self._sandboxes.hold(msgspec.structs.replace(record, published=()))
            try:
                await self._rules.sync()
            finally:
                self._publishing.release(record.published)
        if out is not None and self._publishing.drop(out.address):
            await self._rules.sync()
            is_led_to = True
        if out is not None and is_led_to:
            await self._forget_flows({out.address}, set(), (flows.UDP, flows.TCP))

    async def _withdraw(self, record: SandboxRecord) -> SandboxRecord:
        if not record.published:
            return record
        changed = msgspec.structs.replace(record, published=())
        self._sandboxes.save(changed)
        try:
            await self._rules.sync()
        finally:
            self._publishing.release(record.published)
        out = self._sandboxes.way_out(record)
        if out is not None and any(port.protocol == "udp" for port in record.published):
            await self._forget_flows({out.address}, set())
        return changed

    async def _gateway(self) -> NetworkRecord:
        async with self._network_lock:
            record = self._catalogue.by_name(records.GATEWAY)
            if record is None:
                record = self._catalogue.plan_predefined(records.GATEWAY, await self._kernel.routes())
                await self._establish(record)
        return record

    async def _add_predefined(self) -> None:
        routes = await self._kernel.routes()
        for name in (records.BRIDGE, records.HOST, records.NONE):
            if self._catalogue.by_name(name) is None:
                self._catalogue.add(self._catalogue.plan_predefined(name, routes))

    async def _establish(self, record: NetworkRecord) -> None:
        """Keep a network, make its bridge and rules; all or nothing."""
        self._catalogue.add(record)
        self._open_zone(record)
        try:
            await self._kernel.ensure_bridges([bridge_of(record)])
            await self._rules.sync()
        except BaseException:
            self._catalogue.remove(record)
            self._directory.drop(record.id)
            await asyncio.shield(self._kernel.remove_links([record.bridge]))
            raise
        self._tell("create", record)

    async def _abolish(self, record: NetworkRecord) -> None:
        users = [
            f'name:"{sandbox.name}" id:"{leg.endpoint_id[:12]}"' for sandbox, leg in self._sandboxes.legs_on(record.id)
        ]
        if users:
            raise errors.Denied(
                f"error while removing network: network {record.name} has active endpoints ({', '.join(users)})"
            )
        self._catalogue.remove(record)
        self._directory.drop(record.id)
        self._names.pop(record.id, None)
        self._lasting.delete_or_later(records.NAMES, record.id)
        await self._rules.sync()
        await self._kernel.remove_links([record.bridge])
        self._tell("destroy", record)

    def _open_zone(self, record: NetworkRecord) -> None:
        if record.has_names:
            self._directory.open(record.id, record.name, record.subnet)

    def _load_names(self) -> None:
        for record in self._catalogue.all():
            self._open_zone(record)
        for network_id, row in self._database.all(records.NAMES, Names).items():
            self._names[network_id] = row.names
            self._directory.set_names(network_id, row.names)

    def _keep_names(self, network_id: str) -> None:
        """Names of networks that aren't here stay in memory: what never comes must not fill the database."""
        if self._catalogue.by_id(network_id) is not None and network_id in self._names:
            names = {name: list(found) for name, found in self._names[network_id].items()}
            self._lasting.put_or_later(records.NAMES, network_id, Names(names))

    async def _sweep(self) -> None:
        """Remove links and namespaces of this instance that no record knows: leftovers of a crash."""
        expected = {record.bridge for record in self._catalogue.all() if record.bridge}
        expected.update(leg.host_link for record in self._sandboxes.all() for leg in record.legs)
        await self._kernel.remove_links(sorted(await self._kernel.own_links() - expected))
        for name in self._sandboxes.stray_files():
            await self._kernel.remove_namespace(self._sandboxes.path(name))

    async def _forget_flows(
        self, addresses: set[str], ports: set[int], protocols: tuple[int, ...] = (flows.UDP,)
    ) -> None:
        """Best effort: a flow that is left goes on leading nowhere until its client gives up or pauses."""
        if not addresses and not ports:
            return
        try:
            await self._kernel.forget_flows(addresses, ports, protocols)
        except errors.RuntimeFailure as error:
            log.warning("old flows may go astray: %s", error)

    def _tell(self, action: str, network: NetworkRecord, container_id: str = "") -> None:
        attributes = {"name": network.name, "type": network.driver}
        if container_id:
            attributes["container"] = container_id
        self._events.publish("network", action, network.id, attributes)
