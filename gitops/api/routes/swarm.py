"""The swarm as a whole: init, inspect, update, leave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from msgspec.structs import replace

from gitops import errors
from gitops.api import answers, requests
from gitops.api.context import SWARM_EVENTS, swarm_of
from gitops.objects import system
from gitops.objects.node import CAConfig, ClusterSpec, Dispatcher, RaftConfig

_ROTATIONS = ("rotateWorkerToken", "rotateManagerToken", "rotateManagerUnlockKey")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def init(request: web.Request) -> web.Response:
    """`docker swarm init`: the answer is the node's id as a JSON string."""
    data = await requests.raw_body(request)
    body = await requests.body(request, system.SwarmInit) if data else system.SwarmInit()
    _refuse_unsupported(body)
    if body.spec is not None:
        body = replace(body, spec=_filled(body.spec))
    node_id = await swarm_of(request).init(body)
    request.app[SWARM_EVENTS].start()
    return answers.json(node_id)


def _filled(spec: ClusterSpec) -> ClusterSpec:
    """Where clients leave a number at 0, which none of these can be, they mean the default."""
    raft, usual = spec.raft, RaftConfig()
    return replace(
        spec,
        raft=replace(
            raft,
            snapshot_interval=raft.snapshot_interval or usual.snapshot_interval,
            log_entries_for_slow_followers=raft.log_entries_for_slow_followers or usual.log_entries_for_slow_followers,
            election_tick=raft.election_tick or usual.election_tick,
            heartbeat_tick=raft.heartbeat_tick or usual.heartbeat_tick,
        ),
        dispatcher=spec.dispatcher if spec.dispatcher.heartbeat_period else Dispatcher(),
        ca_config=spec.ca_config if spec.ca_config.node_cert_expiry else CAConfig(),
    )


def _refuse_unsupported(body: system.SwarmInit) -> None:
    for is_asked, what in (
        (body.force_new_cluster, "ForceNewCluster"),
        (body.auto_lock_managers, "AutoLockManagers"),
        (body.spec is not None and body.spec.encryption_config.auto_lock_managers, "AutoLockManagers"),
    ):
        if is_asked:
            raise errors.Unsupported(f"{what} is not supported by this engine")


async def inspect(request: web.Request) -> web.Response:
    """What `docker swarm` commands read. There are no join tokens as long as nodes can't join."""
    cluster = swarm_of(request).control.cluster()
    return answers.json(
        system.SwarmInspect(
            id=cluster.id,
            version=cluster.version,
            created_at=cluster.created_at,
            updated_at=cluster.updated_at,
            spec=cluster.spec,
            root_rotation_in_progress=cluster.root_rotation_in_progress,
            data_path_port=cluster.data_path_port,
            default_addr_pool=cluster.default_addr_pool,
            subnet_size=cluster.subnet_size,
            tls_info={"TrustRoot": "", "CertIssuerSubject": "", "CertIssuerPublicKey": ""},
            join_tokens={"Worker": "", "Manager": ""},
        )
    )


async def update(request: web.Request) -> web.Response:
    """`docker swarm update`."""
    for name in _ROTATIONS:
        if requests.switch(request, name):
            raise errors.Unsupported(f"{name} is not supported by this engine: there are no tokens and no unlock key")
    spec = await requests.body(request, ClusterSpec)
    if spec.encryption_config.auto_lock_managers:
        raise errors.Unsupported("AutoLockManagers is not supported by this engine")
    await swarm_of(request).control.update_cluster(requests.version(request), _filled(spec))
    return answers.empty(200)


async def leave(request: web.Request) -> web.Response:
    """`docker swarm leave`."""
    await swarm_of(request).leave(force=requests.switch(request, "force"))
    await request.app[SWARM_EVENTS].stop()
    return answers.empty(200)


async def unlock_key(request: web.Request) -> web.Response:
    """There is none, since managers aren't locked."""
    swarm_of(request).control.cluster()
    return answers.json({"UnlockKey": ""})


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/swarm", inspect),
    ("POST", "/swarm/init", init),
    ("POST", "/swarm/update", update),
    ("POST", "/swarm/leave", leave),
    ("GET", "/swarm/unlockkey", unlock_key),
]
