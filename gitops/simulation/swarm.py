"""A whole swarm under the virtual clock: the managers' loops and the agents as they are, on hosts that are records.

`SimulatedSwarm` runs the loops over a store in memory and one agent a node, and does to them what happens to real
ones: managers are replaced, agents restart, containers die, nodes are cut off. Everything is drawn from one seed.
`Watchman` looks at every commit and at every host, and notes what must never be.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

from gitops import errors
from gitops.objects.node import Node, NodeDescription, NodeSpec, NodeStatus
from gitops.objects.service import Resources
from gitops.objects.task import Task
from gitops.simulation.clock import VirtualClock
from gitops.simulation.executor import CAPACITY, FakeExecutor
from gitops.swarm.agent.agent import Agent
from gitops.swarm.clock import IdSource
from gitops.swarm.manager.dispatcher import Session
from gitops.swarm.manager.manager import Manager
from gitops.swarm.store.memory import MemoryStore


class SimulatedNode:
    """A host with its containers, and the agent that may or may not run on it."""

    def __init__(self, swarm: SimulatedSwarm, node_id: str, resources: Resources = CAPACITY) -> None:
        self.id = node_id
        self.executor = FakeExecutor(swarm.clock, node_id, resources=resources)
        self.is_cut_off = False
        self._swarm = swarm
        self._agent: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the agent."""
        agent = Agent(
            self._connect, self.executor, self._swarm.folder / f"{self.id}.db", self._swarm.clock, self._swarm.rng
        )
        self._agent = asyncio.ensure_future(agent.run())

    async def stop(self) -> None:
        """Stop the agent; containers go on."""
        if self._agent is not None:
            await _end(self._agent)
            self._agent = None

    async def _connect(self, description: NodeDescription) -> Session:
        if self.is_cut_off or self._swarm.manager is None:
            raise errors.Unavailable("no manager can be reached")
        session = await self._swarm.manager.dispatcher.session(self.id, description, f"192.0.2.{self.id[1:]}")
        self._swarm.sessions[self.id] = session
        return session


class SimulatedSwarm:
    """Managers, nodes, and the hand that disturbs them."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.clock = VirtualClock()
        self.rng = random.Random(seed)
        self.ids = IdSource(self.rng)
        self.store = MemoryStore(self.clock)
        self.folder = folder
        self.nodes: dict[str, SimulatedNode] = {}
        self.sessions: dict[str, Session] = {}
        self.manager: Manager | None = None

    async def open(self, node_count: int) -> None:
        """Start a manager and so many nodes, `n1`, `n2` and so on."""
        await self.start_manager()
        for number in range(1, node_count + 1):
            await self.add_node(f"n{number}")
        await self.clock.advance(1)

    async def add_node(self, node_id: str, spec: NodeSpec | None = None, resources: Resources = CAPACITY) -> None:
        """Have a node join; its id is an n and a number."""
        node = Node(id=node_id, spec=spec or NodeSpec(name=node_id), status=NodeStatus())
        await self.store.update(lambda tx: tx.create(node))
        self.nodes[node_id] = SimulatedNode(self, node_id, resources)
        self.nodes[node_id].start()

    async def close(self) -> None:
        """Stop everything."""
        for node in self.nodes.values():
            await node.stop()
        await self.stop_manager()

    async def start_manager(self) -> None:
        """Start all loops, as a manager does that becomes the leader."""
        self.manager = Manager(self.store, self.clock, self.rng, self.ids, manager_id="manager")
        await self.manager.start()

    async def stop_manager(self) -> None:
        """Stop all loops in the middle of whatever they do."""
        if self.manager is not None:
            manager, self.manager = self.manager, None
            await manager.stop()

    def cut_off(self, node_id: str) -> None:
        """Cut a node off from all managers."""
        self.nodes[node_id].is_cut_off = True
        if (session := self.sessions.pop(node_id, None)) is not None:
            session.end("the link is cut")

    def mend(self, node_id: str) -> None:
        """Let a node reach its managers again."""
        self.nodes[node_id].is_cut_off = False

    def running(self) -> list[Task]:
        """The tasks whose containers run on any node."""
        return [task for node in self.nodes.values() for task in node.executor.running()]


class Watchman:
    """Notes what must never be: states that go back, tasks that move or change, two containers in one slot (or, of
    services by node, on one node)."""

    def __init__(self, swarm: SimulatedSwarm) -> None:
        self.findings: list[str] = []
        self._swarm = swarm
        self._watch = swarm.store.watch()
        self._last: dict[str, Task] = {}

    def look(self, *, with_slots: bool = True) -> None:
        """Look at all commits since the last time, and at all hosts now."""
        for commit in self._watch.drain():
            for change in commit.changes:
                if isinstance(change.object, Task):
                    self._compare(change.object)
        if with_slots:
            places = Counter((task.service_id, task.place) for task in self._swarm.running())
            self.findings += [
                f"slot {place} of {service} runs {n} times" for (service, place), n in places.items() if n > 1
            ]

    def close(self) -> None:
        """Stop watching."""
        self._watch.__exit__(None, None, None)

    def _compare(self, task: Task) -> None:
        old = self._last.get(task.id)
        self._last[task.id] = task
        if old is None:
            return
        if task.desired_state.rank < old.desired_state.rank:
            self.findings.append(f"{task.id}: desired {old.desired_state.value} -> {task.desired_state.value}")
        if task.status.state.rank < old.status.state.rank:
            self.findings.append(f"{task.id}: observed {old.status.state.value} -> {task.status.state.value}")
        if old.node_id not in ("", task.node_id):
            self.findings.append(f"{task.id}: moved from {old.node_id} to {task.node_id}")
        if task.spec != old.spec or task.spec_version != old.spec_version:
            self.findings.append(f"{task.id}: its spec changed")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
