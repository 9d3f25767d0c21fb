"""The allocator's loop: subnets for networks, ports for services, addresses for tasks, as `allocation` decides.

Nothing is remembered between passes but where addresses were given last, so that a manager that takes over goes on at
once. What can't be given is tried again whenever something changes that could have set it free.
"""

from __future__ import annotations

import random

from gitops.objects.network import NetworkObject
from gitops.objects.node import Cluster
from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.clock import Clock
from gitops.swarm.manager.allocation import Allocation
from gitops.swarm.manager.loop import StoreLoop
from gitops.swarm.store.protocol import Change, Store, View


class Allocator(StoreLoop):
    """Gives every network, service and new task what it needs."""

    def __init__(self, store: Store, clock: Clock, rng: random.Random) -> None:
        super().__init__(store, clock, rng)
        self._is_touched = True
        self._last: dict[str, str] = {}

    def resync(self, view: View) -> None:
        """Look at everything."""
        self._is_touched = True

    def notice(self, change: Change) -> None:
        """Networks, services, new tasks, and the end of tasks that had addresses."""
        item = change.object
        if isinstance(item, Task):
            is_over = item.status.state.is_terminal or change.action == "delete"
            self._is_touched |= is_over or item.status.state is TaskState.NEW
        elif isinstance(item, NetworkObject | Service | Cluster):
            self._is_touched = True

    async def act(self) -> float | None:
        """One pass, if anything was touched."""
        if self._is_touched:
            self._is_touched = False
            await self.store.update(lambda tx: Allocation(tx, self.clock.now_ns(), self._last).run())
        return None
