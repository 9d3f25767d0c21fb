"""A manager: the control API and all loops over one store, started and stopped through one list.

Stopping it in the middle of anything is safe: every loop begins again from what is stored.
"""

from __future__ import annotations

import random

from gitops.swarm.clock import Clock, IdSource
from gitops.swarm.manager.allocator import Allocator
from gitops.swarm.manager.control import Control
from gitops.swarm.manager.dispatcher import Dispatcher
from gitops.swarm.manager.enforcer import Enforcer
from gitops.swarm.manager.orchestrator import Orchestrator
from gitops.swarm.manager.reaper import Reaper
from gitops.swarm.manager.scheduler import Scheduler
from gitops.swarm.store.protocol import Store
from gitops.swarm.supervision import Runs, Supervisor


class Manager:
    """Runs a swarm whose state is in `store`; the store stays its owner's."""

    def __init__(self, store: Store, clock: Clock, rng: random.Random, ids: IdSource, *, manager_id: str = "") -> None:
        """`manager_id`: the node that this manager runs on, noted beside each status that it stores."""
        self.control = Control(store, clock, ids)
        self.dispatcher = Dispatcher(store, clock, rng, ids, manager_id=manager_id)
        self._supervisor = Supervisor(clock, rng)
        self._loops: tuple[tuple[str, Runs], ...] = (
            # First, since the nodes knock at once.
            ("dispatcher", self.dispatcher),
            ("allocator", Allocator(store, clock, rng)),
            ("orchestrator", Orchestrator(store, clock, rng, ids)),
            ("enforcer", Enforcer(store, clock, rng)),
            ("scheduler", Scheduler(store, clock, rng)),
            ("reaper", Reaper(store, clock, rng)),
        )

    async def start(self) -> None:
        """Start all loops."""
        for name, loop in self._loops:
            self._supervisor.start(f"swarm-{name}", loop)

    async def stop(self) -> None:
        """Stop all loops, the last one first."""
        await self._supervisor.stop()
