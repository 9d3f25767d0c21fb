"""One pass of allocation, inside a transaction: networks first, then services, then new tasks.

It follows from what is stored alone. Subnets are taken while their network exists, published ports while a service
declares them, addresses until their task ended. A number that the allocator chose stays with its service over updates.

What can't be given is said in the status of the tasks that wait for it: a task without an address must not look like
one that nobody cares for.

Written are networks' `driver_state` and `ipam_options`, services' `endpoint`, and of new tasks `networks_attachments`,
`endpoint` and the step from NEW to PENDING.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from gitops.objects import base
from gitops.objects.network import IPAM, IPAMConfig, NetworkDriver, NetworkObject
from gitops.objects.node import Cluster, Node
from gitops.objects.service import Endpoint, NetworkAttachmentConfig, PortConfig, Service
from gitops.objects.task import NetworkAttachment, Task, TaskState, TaskStatus
from gitops.swarm.manager import addresses
from gitops.swarm.manager.addresses import AddressPool, Subnet
from gitops.swarm.manager.control.networks import is_predefined, needs_ingress
from gitops.swarm.store.protocol import Tx

PENDING_MESSAGE = "pending task scheduling"

PortKey = tuple[str, int]
"""A protocol and a published port."""


class Unallocatable(Exception):
    """Something can't be given now; the text is for the tasks' status."""


class Allocation:
    """A look at everything that waits for something."""

    def __init__(self, tx: Tx, now_ns: int, last: dict[str, str]) -> None:
        """`last`: network id to the address that was given last; kept up to date."""
        self._tx = tx
        self._now = base.format_time(now_ns)
        self._last = last
        self._pools: dict[str, AddressPool] = {}
        self._used: dict[str, set[str]] | None = None
        self._reasons: dict[str, str] = {}
        """Network or service id to why it could not be allocated."""

    def run(self) -> None:
        """Give out all that can be given."""
        self._allocate_networks()
        self._allocate_services()
        for task in self._tx.all(Task):
            if task.status.state is TaskState.NEW and task.desired_state.rank <= TaskState.COMPLETE.rank:
                self._allocate_task(task)

    # Networks

    def _allocate_networks(self) -> None:
        networks = self._tx.all(NetworkObject)
        for network in networks:
            if network.driver_state is not None:
                continue
            try:
                self._tx.update(self._with_subnets(network))
            except Unallocatable as error:
                self._reasons[network.id] = f"network {network.spec.name} can't be set up: {error}"

    def _with_subnets(self, network: NetworkObject) -> NetworkObject:
        wanted = (network.spec.ipam_options.config if network.spec.ipam_options else None) or [IPAMConfig()]
        taken = list(self._subnets_of_others(network))
        entries: list[IPAMConfig] = []
        for entry in wanted:
            subnet = self._subnet(entry, taken)
            taken.append(subnet)
            entries.append(addresses.with_gateway(replace(entry, subnet=str(subnet))))
        driver = network.spec.driver_configuration or NetworkDriver(name="overlay")
        options = dict(driver.options) | {addresses.VNI_OPTION: self._vnis(len(entries))}
        return replace(
            network,
            driver_state=NetworkDriver(name=driver.name, options=options),
            ipam_options=IPAM(driver="default", config=entries),
        )

    def _subnet(self, entry: IPAMConfig, taken: list[Subnet]) -> Subnet:
        if entry.subnet:
            subnet = Subnet(entry.subnet)
            if any(subnet.overlaps(other) for other in taken):
                raise Unallocatable(f"subnet {subnet} overlaps with another network's")
            return subnet
        cluster = next(iter(self._tx.all(Cluster)), Cluster())
        # A network over a node's own address would cut that node off.
        nodes = [Subnet(node.status.addr) for node in self._tx.all(Node) if addresses.is_ipv4(node.status.addr)]
        found = addresses.free_subnet(cluster.default_addr_pool, cluster.subnet_size, [*taken, *nodes])
        if found is None:
            pools = ", ".join(cluster.default_addr_pool)
            raise Unallocatable(f"no free /{cluster.subnet_size} is left in the address pool {pools}")
        return found

    def _subnets_of_others(self, network: NetworkObject) -> Iterator[Subnet]:
        for other in self._tx.all(NetworkObject):
            if other.id != network.id:
                # What was asked for explicitly is not given to somebody else, even before it was looked at.
                yield from addresses.subnets_of(other.ipam_options or other.spec.ipam_options)

    def _vnis(self, count: int) -> str:
        taken: set[int] = set()
        for network in self._tx.all(NetworkObject):
            text = network.driver_state.options.get(addresses.VNI_OPTION, "") if network.driver_state else ""
            taken.update(int(number) for number in text.split(",") if number)
        chosen: list[str] = []
        for _ in range(count):
            number = addresses.free_number(range(addresses.FIRST_VNI, addresses.LAST_VNI + 1), taken)
            if number is None:
                raise Unallocatable("no VXLAN id is left")
            taken.add(number)
            chosen.append(str(number))
        return ",".join(chosen)

    # Services

    def _allocate_services(self) -> None:
        services = self._tx.all(Service)
        waiting = [service for service in services if service.endpoint.spec != service.spec.endpoint_spec]
        if not waiting:
            return
        holders: dict[PortKey, Service] = {}
        for service in services:
            if service.endpoint.spec == service.spec.endpoint_spec:
                holders.update((key, service) for key in _ingress(service.endpoint.ports))
        # Numbers that are to be left alone where any will do: someone asked for them, or is about to give them back.
        avoided = {
            key
            for service in services
            for ports in (
                service.endpoint.ports,
                service.spec.endpoint_spec.ports if service.spec.endpoint_spec else [],
            )
            for key in _ingress(ports)
        }
        for service in waiting:
            try:
                ports = _ports(service, holders, avoided)
            except Unallocatable as error:
                self._reasons[service.id] = str(error)
                continue
            holders.update((key, service) for key in _ingress(ports))
            endpoint = Endpoint(spec=service.spec.endpoint_spec, ports=ports)
            self._tx.update(replace(service, endpoint=endpoint))

    # Tasks

    def _allocate_task(self, task: Task) -> None:
        service = self._tx.get(Service, task.service_id)
        if service is None:
            return
        try:
            if service.id in self._reasons:
                raise Unallocatable(self._reasons[service.id])
            attachments = self._attach(task)
        except Unallocatable as error:
            if task.status.err != str(error):
                self._tx.update(replace(task, status=replace(task.status, err=str(error), timestamp=self._now)))
            return
        status = TaskStatus(timestamp=self._now, state=TaskState.PENDING, message=PENDING_MESSAGE)
        self._tx.update(
            replace(task, networks_attachments=attachments, endpoint=_endpoint(task, service), status=status)
        )

    def _attach(self, task: Task) -> list[NetworkAttachment]:
        taken: list[tuple[AddressPool, str]] = []
        try:
            found = [self._attachment(network, item, taken) for network, item in self._networks_of(task)]
        except Unallocatable:
            for pool, former in reversed(taken):
                pool.undo(former)
            raise
        for item in found:
            if item.addresses:
                self._last[item.network.id] = self._pools[item.network.id].last
        return found

    def _networks_of(self, task: Task) -> Iterator[tuple[NetworkObject, NetworkAttachmentConfig]]:
        for item in task.spec.networks:
            network = self._tx.get(NetworkObject, item.target)
            if network is None:
                raise Unallocatable(f"network {item.target} not found")
            yield network, item
        if needs_ingress(task.endpoint.spec if task.endpoint else None):
            ingress = next((network for network in self._tx.all(NetworkObject) if network.spec.ingress), None)
            if ingress is None:
                raise Unallocatable("service needs ingress network, but no ingress network is present")
            yield ingress, NetworkAttachmentConfig(target=ingress.id)

    def _attachment(
        self, network: NetworkObject, item: NetworkAttachmentConfig, taken: list[tuple[AddressPool, str]]
    ) -> NetworkAttachment:
        if is_predefined(network):
            return NetworkAttachment(network=network, aliases=item.aliases)
        if network.id in self._reasons:
            raise Unallocatable(self._reasons[network.id])
        pool = self._pool(network)
        former = pool.last
        address = pool.take()
        if address is None:
            raise Unallocatable(f"network {network.spec.name} has no free address left in {pool.subnets}")
        taken.append((pool, former))
        return NetworkAttachment(network=network, addresses=[address], aliases=item.aliases)

    def _pool(self, network: NetworkObject) -> AddressPool:
        if network.id not in self._pools:
            used = self._used_addresses().get(network.id, set())
            self._pools[network.id] = AddressPool(network, used, self._last.get(network.id, ""))
        return self._pools[network.id]

    def _used_addresses(self) -> dict[str, set[str]]:
        """The addresses of all tasks that did not end, by network."""
        if self._used is None:
            self._used = {}
            for task in self._tx.all(Task):
                if task.status.state.is_terminal:
                    continue
                for item in task.networks_attachments:
                    used = self._used.setdefault(item.network.id, set())
                    used.update(address.partition("/")[0] for address in item.addresses)
        return self._used


def _ingress(ports: list[PortConfig]) -> list[PortKey]:
    return [(port.protocol, port.published_port) for port in ports if port.publish_mode == "ingress"]


def _ports(service: Service, holders: dict[PortKey, Service], avoided: set[PortKey]) -> list[PortConfig]:
    """The service's ports with a number each; ports in host mode stay as they are, their nodes choose."""
    spec = service.spec.endpoint_spec
    if spec is None:
        return []
    former = {
        (port.protocol, port.target_port): port.published_port
        for port in service.endpoint.ports
        if port.publish_mode == "ingress"
    }
    explicit = _ingress([port for port in spec.ports if port.published_port])
    if len(set(explicit)) < len(explicit):
        raise Unallocatable("duplicate published ports provided")
    chosen: list[PortConfig] = []
    for port in spec.ports:
        if port.publish_mode == "ingress" and not port.published_port:
            number = former.pop((port.protocol, port.target_port), 0)
            key = (port.protocol, number)
            if key in holders or key in explicit or number not in addresses.DYNAMIC_PORTS:
                number = _dynamic(port.protocol, holders, avoided)
            avoided.add((port.protocol, number))
            port = replace(port, published_port=number)
        holder = holders.get((port.protocol, port.published_port)) if port.publish_mode == "ingress" else None
        if holder is not None:
            raise Unallocatable(
                f"port '{port.published_port}' is already in use by service '{holder.spec.name}' ({holder.id}) "
                "as an ingress port"
            )
        chosen.append(port)
    return chosen


def _dynamic(protocol: str, holders: dict[PortKey, Service], avoided: set[PortKey]) -> int:
    taken = {number for name, number in (*holders, *avoided) if name == protocol}
    number = addresses.free_number(addresses.DYNAMIC_PORTS, taken)
    if number is None:
        first, last = addresses.DYNAMIC_PORTS[0], addresses.DYNAMIC_PORTS[-1]
        raise Unallocatable(f"all {protocol} ports from {first} to {last} are in use: publish a port by its number")
    return number


def _endpoint(task: Task, service: Service) -> Endpoint | None:
    """The task's endpoint with the numbers of its service, where both are of one spec."""
    if task.endpoint is None or task.endpoint.spec != service.endpoint.spec:
        return task.endpoint
    return replace(task.endpoint, ports=service.endpoint.ports)
