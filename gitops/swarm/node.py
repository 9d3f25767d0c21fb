"""A host's place in a swarm: made by `init`, taken up again by `start`, given up by `leave`.

Owns the folder of swarm state, the store, the manager and the agent, and the order in which they start and stop. The
agent and the manager share nothing but the dispatcher's sessions. Closing leaves every task running: the next start
adopts it. A membership that can't be taken up (a damaged store, a missing key) is the state `error`: containers go on
undisturbed, and only `leave` works until it is mended.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

from gitops import errors
from gitops.config import EngineConfig
from gitops.objects import base
from gitops.objects.assignment import Endpoints
from gitops.objects.node import Node, NodeDescription
from gitops.objects.system import SwarmInit
from gitops.swarm import advertising, bootstrap
from gitops.swarm.agent.agent import Agent
from gitops.swarm.agent.executor import Executor
from gitops.swarm.agent.session import Session
from gitops.swarm.clock import Clock, IdSource
from gitops.swarm.manager.control import Control
from gitops.swarm.manager.manager import Manager
from gitops.swarm.membership import Membership, SwarmFolder
from gitops.swarm.store.protocol import Store
from gitops.swarm.store.seal import Seal
from gitops.swarm.store.sqlite import SqliteStore
from gitops.swarm.supervision import Supervisor
from gitops.swarm.waiting import within

log = logging.getLogger(__name__)

INACTIVE = "inactive"
ACTIVE = "active"
ERROR = "error"

READY_S = 20.0
"""Seconds that `init` waits for the new node to be ready; it is a member all the same when it takes longer."""

NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
NO_SWARM = "This node is not part of a swarm"
ALREADY = 'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
LAST_MANAGER = (
    "You are attempting to leave the swarm on a node that is participating as a manager. "
    "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message. "
)


class StateForbids(errors.Unavailable):
    """The node's place in the swarm forbids the call; trying again doesn't help."""

    is_temporary = False


class _Member:
    """What runs while this host is in a swarm."""

    def __init__(
        self,
        folder: SwarmFolder,
        membership: Membership,
        store: SqliteStore,
        executor: Executor,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.membership = membership
        self.store = store
        self.manager = Manager(store, clock, rng, IdSource(rng), manager_id=membership.node_id)
        self._agent = Agent(self._connect, executor, folder.tasks, clock, rng)
        self._supervisor = Supervisor(clock, rng)

    async def start(self) -> None:
        await self.manager.start()
        self._supervisor.start("swarm-agent", self._agent)

    async def stop(self) -> None:
        await self._supervisor.stop()
        await self.manager.stop()
        await self.store.close()

    async def until_ready(self) -> None:
        """Return when the node has registered."""
        view, watch = self.store.view_and_watch()
        with watch:
            while (node := view.get(Node, self.membership.node_id)) is None or node.status.state != "ready":
                await anext(watch)
                view = self.store.view()

    async def _connect(self, description: NodeDescription) -> Session:
        membership = self.membership
        return await self.manager.dispatcher.session(membership.node_id, description, membership.address)


class SwarmNode:
    """This host, in a swarm or not."""

    def __init__(self, config: EngineConfig, executor: Executor, clock: Clock, rng: random.Random) -> None:
        self._config = config
        self._executor = executor
        self._clock = clock
        self._rng = rng
        self._folder = SwarmFolder(config.data_root / "swarm")
        self._member: _Member | None = None
        self._error = ""
        self._busy = asyncio.Lock()

    async def start(self) -> None:
        """Take up the membership that this host had, or finish leaving.

        A membership that can't be taken up is no error here: `state` and `info` tell.
        """
        async with self._busy:
            try:
                membership = self._folder.read()
                if membership is not None and membership.is_leaving:
                    await self._erase()
                elif membership is not None:
                    await self._enter(membership, self._open())
            except errors.GitopsError as error:
                self._error = str(error)
                log.error("this node can't take up its place in the swarm: %s", error)

    async def close(self) -> None:
        """Stop agent, manager and store; every task goes on."""
        async with self._busy:
            await self._exit()

    async def init(self, request: SwarmInit | None = None) -> str:
        """Make a swarm with this node as its manager; returns the node's id.

        Raises:
            errors.Unavailable: this node is in a swarm already.
            errors.Invalid, errors.Unsupported: something in the request.
            errors.RuntimeFailure: the state can't be written.
        """
        request = request or SwarmInit()
        async with self._busy:
            if self.state != INACTIVE:
                raise StateForbids(ALREADY)
            bootstrap.check(request)
            address = advertising.address_of(request.advertise_addr or "")
            # Without a membership, what is there is what an attempt left behind that didn't finish.
            self._folder.clear()
            ids = IdSource(self._rng)
            membership = Membership(ids(), address, request.listen_addr or f"0.0.0.0:{bootstrap.LISTEN_PORT}")
            store = SqliteStore(self._folder.store, self._clock, Seal.create(self._folder.key))
            try:
                await store.update(
                    bootstrap.populate(request, membership.node_id, address, self._config.swarm_pool, ids)
                )
                self._folder.write(membership)
            except BaseException:
                await store.close()
                self._folder.clear()
                raise
            member = await self._enter(membership, store)
            if not await within(self._clock, READY_S, member.until_ready()):
                log.warning("the node is not ready %.0f s after it became a swarm's manager", READY_S)
            return membership.node_id

    async def leave(self, *, force: bool = False) -> None:
        """Give the swarm up: its tasks, networks and state go.

        Raises:
            errors.NotInSwarm: there is none.
            errors.Unavailable: this is its last manager, and `force` isn't given.
            errors.RuntimeFailure: something can't be removed; the next start tries again.
        """
        async with self._busy:
            if self.state == INACTIVE:
                raise errors.NotInSwarm(NO_SWARM)
            if not force:
                raise StateForbids(LAST_MANAGER)
            membership = self._member.membership if self._member else Membership()
            self._folder.write(Membership(membership.node_id, membership.address, is_leaving=True))
            await self._exit()
            await self._erase()
            self._error = ""

    @property
    def state(self) -> str:
        """inactive, active or error."""
        if self._member is not None:
            return ACTIVE
        return ERROR if self._error else INACTIVE

    @property
    def node_id(self) -> str:
        """This node's id; "" in no swarm."""
        return self._member.membership.node_id if self._member else ""

    @property
    def control(self) -> Control:
        """The control API.

        Raises:
            errors.NotInSwarm: this node is no manager.
        """
        return self._active().manager.control

    @property
    def store(self) -> Store:
        """The swarm's store.

        Raises:
            errors.NotInSwarm: this node is no manager.
        """
        return self._active().store

    def info(self) -> dict[str, Any]:
        """The section `Swarm` of GET /info."""
        member = self._member
        shown: dict[str, Any] = {
            "NodeID": self.node_id,
            "NodeAddr": member.membership.address if member else "",
            "LocalNodeState": self.state,
            "ControlAvailable": member is not None,
            "Error": self._error,
            "RemoteManagers": None,
        }
        return shown | _about_swarm(member) if member else shown

    def _active(self) -> _Member:
        if self._member is None:
            raise errors.NotInSwarm(self._error or NO_MANAGER)
        return self._member

    def _open(self) -> SqliteStore:
        return SqliteStore(self._folder.store, self._clock, Seal.load(self._folder.key), is_new=False)

    async def _enter(self, membership: Membership, store: SqliteStore) -> _Member:
        member = _Member(self._folder, membership, store, self._executor, self._clock, self._rng)
        await member.start()
        self._member = member
        return member

    async def _exit(self) -> None:
        if self._member is not None:
            member, self._member = self._member, None
            await member.stop()

    async def _erase(self) -> None:
        """Take away what the swarm had on this host."""
        await self._executor.apply_endpoints(Endpoints())
        await self._executor.retain(set(), set())
        self._folder.clear()


def _about_swarm(member: _Member) -> dict[str, Any]:
    view = member.store.view()
    cluster = member.manager.control.cluster()
    nodes = view.all(Node)
    managers = [node for node in nodes if node.manager_status is not None]
    return {
        "RemoteManagers": [
            {"NodeID": node.id, "Addr": node.manager_status.addr} for node in managers if node.manager_status
        ],
        "Nodes": len(nodes),
        "Managers": len(managers),
        "Cluster": {
            "ID": cluster.id,
            "Version": base.to_builtins(cluster.version),
            "CreatedAt": cluster.created_at,
            "UpdatedAt": cluster.updated_at,
            "Spec": base.to_builtins(cluster.spec),
            "TLSInfo": {},
            "RootRotationInProgress": cluster.root_rotation_in_progress,
            "DefaultAddrPool": cluster.default_addr_pool,
            "SubnetSize": cluster.subnet_size,
            "DataPathPort": cluster.data_path_port,
        },
    }
