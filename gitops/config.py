"""Settings of the built-in engine: each with its meaning, unit and the reason of its default."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

DATA_ROOT = Path("/var/lib/gitops")
RUN_ROOT = Path("/run/gitops")
API_VERSION = "1.47"
"""Advertised: old enough for every client in use, new enough for health start intervals and service capabilities."""
MIN_API_VERSION = "1.24"


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """The engine's side of mutual TLS, all in PEM."""

    ca: Path
    """The authority whose clients may connect; they are root on this host."""
    certificate: Path
    """The engine's own, with what else of the chain a client needs."""
    key: Path


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What an engine is told at its start. With other roots and another parent, engines on a machine share nothing."""

    data_root: Path = DATA_ROOT
    """Images, containers, volumes, databases. Survives a reboot; mode 0700."""
    run_root: Path = RUN_ROOT
    """Sockets, pid files, runtime state, namespaces. Lost at a reboot."""
    cgroup_parent: str = "gitops"
    """The cgroup that containers are made under, in every hierarchy."""
    hosts: tuple[str, ...] = ()
    """Where the API listens: `unix://PATH`, `tcp://ADDRESS:PORT`. Without a unix socket among them, it listens on
    `engine.sock` in the run root too: the host's own commands go there."""
    tls: TlsConfig | None = None
    """For TCP, which is refused without it anywhere but on loopback."""
    allow_plain_tcp: bool = False
    """The operator's word that TCP may be without TLS on any address."""
    insecure_registries: tuple[str, ...] = ()
    """Registries, `host[:port]` or networks such as `10.0.0.0/8`, that may have a certificate that nobody signed, or
    plain HTTP. Those on loopback may in any case."""
    registry_mirrors: tuple[str, ...] = ()
    """Addresses, `https://host[:port]`, that are asked before the public registry, in this order."""
    socket_group: str = "gitops"
    """Group of the socket, where it exists; else root. Mode 0660, as Docker's."""
    local_pools: tuple[str, ...] = (
        "172.18.0.0/16",
        "172.19.0.0/16",
        "172.20.0.0/14",
        "172.24.0.0/13",
        "192.168.0.0/16",
    )
    """Pools of local bridge networks, cut as needed; those that overlap a route of the host are passed over."""
    swarm_pool: str = "10.0.0.0/8"
    """Pool of swarm networks, cut in /24, as Docker's."""

    @property
    def listen(self) -> tuple[str, ...]:
        """The endpoints to listen on, a unix socket among them."""
        if any(host.startswith("unix://") for host in self.hosts):
            return self.hosts
        return (f"unix://{self.run_root / 'engine.sock'}", *self.hosts)

    @property
    def instance(self) -> str:
        """Six hex digits that tell engines on one machine apart: in link names, nft tables and scans.

        Derived from the data root, so that it is the same after a restart.
        """
        return hashlib.sha256(str(self.data_root.resolve()).encode()).hexdigest()[:6]
