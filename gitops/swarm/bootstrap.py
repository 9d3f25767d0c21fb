"""The first objects of a swarm: the cluster, its first node, the ingress network, and what every host has."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from gitops import errors
from gitops.objects.network import NetworkDriver, NetworkObject, NetworkSpec
from gitops.objects.node import Cluster, ClusterSpec, ManagerStatus, Node, NodeSpec, NodeStatus
from gitops.objects.system import SwarmInit
from gitops.swarm.clock import IdSource
from gitops.swarm.manager import refusals, validation
from gitops.swarm.manager.control.networks import SCOPE, predefined
from gitops.swarm.store.protocol import Tx

DATA_PATH_PORT = 4789
SUBNET_SIZE = 24
LISTEN_PORT = 2377
INGRESS = "ingress"


def check(request: SwarmInit) -> None:
    """Raise errors.Invalid or errors.Unsupported for what a new swarm can't be."""
    if request.force_new_cluster:
        raise errors.Unsupported("ForceNewCluster is not supported by this version: there is one manager")
    spec = request.spec or ClusterSpec()
    if request.auto_lock_managers or spec.encryption_config.auto_lock_managers:
        raise errors.Unsupported("autolock is not supported by this version: leave it off")
    problems = validation.cluster(spec)
    if request.availability not in ("", "active", "pause", "drain"):
        problems.append(f'Invalid Availability: "{request.availability}"')
    if request.data_path_port and not 1024 <= request.data_path_port <= 49151:
        problems.append("invalid data path port: must be in the range of 1024 to 49151")
    if request.subnet_size > 29:
        problems.append(f"invalid subnet size {request.subnet_size}: must not be greater than 29")
    for pool in request.default_addr_pool or ():
        problems.extend(_pool_problems(pool, request.subnet_size or SUBNET_SIZE))
    refusals.check(problems)


def _pool_problems(text: str, prefix: int) -> list[str]:
    try:
        pool = ipaddress.IPv4Network(text)
    except ValueError as error:
        return [f"invalid default address pool {text}: {error}"]
    if pool.prefixlen > prefix:
        return [f"invalid default address pool {text}: it is smaller than a subnet of size {prefix}"]
    return []


def populate(request: SwarmInit, node_id: str, address: str, pool: str, ids: IdSource) -> Callable[[Tx], None]:
    """The change that makes an empty store a swarm; `pool` is the address pool where the request has none."""
    spec = request.spec or ClusterSpec()

    def change(tx: Tx) -> None:
        tx.create(
            Cluster(
                id=ids(),
                spec=ClusterSpec(
                    labels=spec.labels,
                    orchestration=spec.orchestration,
                    raft=spec.raft,
                    dispatcher=spec.dispatcher,
                    ca_config=spec.ca_config,
                    task_defaults=spec.task_defaults,
                ),
                data_path_port=request.data_path_port or DATA_PATH_PORT,
                default_addr_pool=request.default_addr_pool or [pool],
                subnet_size=request.subnet_size or SUBNET_SIZE,
            )
        )
        tx.create(
            Node(
                id=node_id,
                spec=NodeSpec(role="manager", availability=request.availability or "active"),
                status=NodeStatus(addr=address),
                manager_status=ManagerStatus(leader=True, addr=f"{address}:{LISTEN_PORT}"),
            )
        )
        tx.create(_ingress(ids()))
        for name in ("bridge", "host"):
            tx.create(predefined(name, ids()))

    return change


def _ingress(network_id: str) -> NetworkObject:
    return NetworkObject(
        id=network_id,
        spec=NetworkSpec(name=INGRESS, driver_configuration=NetworkDriver(name="overlay"), ingress=True, scope=SCOPE),
    )
