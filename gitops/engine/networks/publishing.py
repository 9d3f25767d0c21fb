"""Ports of the host that lead to containers: single ones and shared ones.

Owns which port of the host is whose, with a reservation for each. Rules follow from it (`publications`, `shared`); the
service writes them. A port is reserved before rules lead it anywhere, and freed after they don't any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from gitops import errors
from gitops.engine.database import Database
from gitops.engine.networks import ipam, records
from gitops.engine.networks.boundary import PortFailure, PublishedPort, SharedPort
from gitops.engine.networks.lasting import Lasting
from gitops.engine.networks.ports import PROTOCOLS, Claim, Reservations, Taken
from gitops.engine.networks.records import SandboxRecord, SharedPorts
from gitops.engine.networks.ruleset import MOST_BACKENDS, Publication

log = logging.getLogger(__name__)


class Publishing:
    """The host's ports of one engine."""

    def __init__(self, database: Database, lasting: Lasting) -> None:
        self._database = database
        self._lasting = lasting
        self._reservations = Reservations()
        self._shared: dict[Claim, SharedPort] = {}

    def load(self, sandboxes: Iterable[SandboxRecord]) -> list[str]:
        """Take up the ports of a former run; warnings for those that another program took in the meantime.

        No shared port leads to an address that none of `sandboxes` has: whose it was ended meanwhile.
        """
        warnings = []
        live = list(sandboxes)
        addresses = {leg.address for record in live for leg in record.legs}
        stored = self._database.get(records.SHARED, records.SHARED_KEY, SharedPorts) or SharedPorts()
        for port in stored.ports:
            self._shared[_shared_claim(port)] = _only(port, lambda address: address in addresses)
        claims = [_claim(port) for record in live for port in record.published]
        for claim in [*claims, *self._shared]:
            try:
                self._reservations.take(claim)
            except (Taken, errors.Conflict) as error:
                # The rules still lead there, ahead of any program's socket.
                self._reservations.hold(claim)
                warnings.append(str(error))
        return warnings

    @property
    def shared(self) -> list[SharedPort]:
        """Shared ports that this host serves."""
        return list(self._shared.values())

    def close(self) -> None:
        """Free the sockets; a new start takes them again."""
        self._reservations.close()

    def reserve(self, bindings: Sequence[PublishedPort], default_ip: str, endpoint: str) -> list[PublishedPort]:
        """Reserve ports for a container, all or none; returns them with real numbers.

        Raises: errors.Conflict with Docker's text, errors.Invalid, errors.Unsupported.
        """
        taken: list[PublishedPort] = []
        try:
            for binding in bindings:
                wanted = check(binding, default_ip)
                claim = self._take_one(wanted)
                taken.append(_numbered(wanted, claim))
        except (Taken, errors.GitopsError) as error:
            self.release(taken)
            if isinstance(error, Taken | errors.Conflict):
                raise errors.Conflict(
                    f"driver failed programming external connectivity on endpoint {endpoint}: {error}"
                ) from error
            raise
        return taken

    def _take_one(self, wanted: PublishedPort) -> Claim:
        """The port, or the first of its range that is free."""
        last = max(wanted.host_port, wanted.last_host_port)
        for number in range(wanted.host_port, last):
            try:
                return self._reservations.take(Claim(wanted.protocol, number, wanted.host_ip))
            except (Taken, errors.Conflict):
                continue
        return self._reservations.take(Claim(wanted.protocol, last, wanted.host_ip))

    def release(self, published: Iterable[PublishedPort]) -> None:
        """Free ports of a container."""
        for port in published:
            self._reservations.release(_claim(port))

    def share(self, ports: Sequence[SharedPort]) -> tuple[list[PortFailure], list[Claim]]:
        """Make `ports` the shared ports; returns those that could not be had, and claims to `free` after the rules.

        Raises: errors.Invalid, errors.Unsupported for an entry that is wrong in itself.
        """
        failures: list[PortFailure] = []
        wanted: dict[Claim, SharedPort] = {}
        for port in ports:
            check_shared(port)
            claim = _shared_claim(port)
            if claim in wanted:
                failures.append(PortFailure(port, f"port {port.published_port}/{port.protocol} is named twice"))
            elif claim in self._shared or self._try(claim, port, failures):
                wanted[claim] = port
        gone = [claim for claim in self._shared if claim not in wanted]
        self._shared = wanted
        self._keep()
        return failures, gone

    def drop(self, address: str) -> bool:
        """Send no new connections of shared ports to `address`; False where none went there."""
        changed = {
            claim: _only(port, lambda other: other != address)
            for claim, port in self._shared.items()
            if address in port.addresses
        }
        self._shared.update(changed)
        if changed:
            self._keep()
        return bool(changed)

    def _keep(self) -> None:
        """Store what is shared: after a crash no rule may lead to an address that has another owner by then."""
        self._lasting.put_or_later(records.SHARED, records.SHARED_KEY, SharedPorts(tuple(self._shared.values())))

    def free(self, claims: Iterable[Claim]) -> None:
        """Free claims that `share` gave up, unless they were shared again since."""
        for claim in claims:
            if claim not in self._shared:
                self._reservations.release(claim)

    def _try(self, claim: Claim, port: SharedPort, failures: list[PortFailure]) -> bool:
        try:
            self._reservations.take(claim)
        except (Taken, errors.Conflict) as error:
            failures.append(PortFailure(port, str(error)))
            return False
        return True


def _only(port: SharedPort, is_wanted: Callable[[str], bool]) -> SharedPort:
    """The port with fewer addresses behind it."""
    left = tuple(address for address in port.addresses if is_wanted(address))
    return SharedPort(port.protocol, port.published_port, port.target_port, left)


def publications(record: SandboxRecord, address: str) -> list[Publication]:
    """The rules' view of a container's ports, that lead to its `address`."""
    return [
        Publication(port.host_ip, port.protocol, port.host_port, address, port.container_port)
        for port in record.published
    ]


def check(binding: PublishedPort, default_ip: str = "") -> PublishedPort:
    """The binding with its host address in one form. Raises errors.Invalid, errors.Unsupported."""
    _check_protocol(binding.protocol)
    if not 1 <= binding.container_port <= 65535:
        raise errors.Invalid(f"invalid container port {binding.container_port}: 1 to 65535 is wanted")
    if not 0 <= binding.host_port <= 65535:
        raise errors.Invalid(f"invalid host port {binding.host_port}: 0 to 65535 is wanted")
    if binding.last_host_port and not binding.host_port <= binding.last_host_port <= 65535:
        raise errors.Invalid(f"invalid range of host ports {binding.host_port}-{binding.last_host_port}")
    text = binding.host_ip or default_ip
    host_ip = str(ipam.parse_address(text, "host address")) if text else ""
    return PublishedPort(
        container_port=binding.container_port,
        protocol=binding.protocol,
        host_port=binding.host_port,
        last_host_port=binding.last_host_port,
        host_ip="" if host_ip == "0.0.0.0" else host_ip,
    )


def check_shared(port: SharedPort) -> None:
    """Raises errors.Invalid, errors.Unsupported where a shared port makes no sense."""
    _check_protocol(port.protocol)
    for number in (port.published_port, port.target_port):
        if not 1 <= number <= 65535:
            raise errors.Invalid(f"invalid port {number}: 1 to 65535 is wanted")
    if len(port.addresses) > MOST_BACKENDS:
        raise errors.Unsupported(f"port {port.published_port}: more than {MOST_BACKENDS} containers")
    for address in port.addresses:
        ipam.parse_address(address, "address")


def _check_protocol(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise errors.Invalid(f"invalid protocol {protocol!r}: one of {', '.join(PROTOCOLS)} is wanted")


def _numbered(port: PublishedPort, claim: Claim) -> PublishedPort:
    return PublishedPort(port.container_port, port.protocol, claim.number, host_ip=port.host_ip)


def _claim(port: PublishedPort) -> Claim:
    return Claim(port.protocol, port.host_port, port.host_ip)


def _shared_claim(port: SharedPort) -> Claim:
    return Claim(port.protocol, port.published_port)


def datagrams(ports: Sequence[SharedPort]) -> dict[int, tuple[str, ...]]:
    """UDP ports with their addresses."""
    return {port.published_port: port.addresses for port in ports if port.protocol == "udp"}
