"""Puts back what others took away: rules after a firewall's reload, port flags after a changed sysctl."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Sequence

from gitops import errors
from gitops.engine.networks.catalogue import Catalogue
from gitops.engine.networks.kernel import Kernel
from gitops.engine.networks.rules import RuleKeeper
from gitops.engine.networks.sandboxes import Sandboxes, port_flags

log = logging.getLogger(__name__)

INTERVAL_S = 5.0
_FULL_LOOK = 12


class Watch:
    """One task that looks every few seconds; the kernel counts changes of its tables, so most looks cost nothing."""

    def __init__(self, kernel: Kernel, rules: RuleKeeper, catalogue: Catalogue, sandboxes: Sandboxes) -> None:
        self._kernel = kernel
        self._rules = rules
        self._catalogue = catalogue
        self._sandboxes = sandboxes
        self._is_filtered = False
        self._task: asyncio.Task[None] | None = None
        self._port_warnings: Sequence[str] = ()
        self.warnings: list[str] = []
        """What a person should know about this host: firewalls that we had to open, ports that were lost."""

    async def start(self, port_warnings: Sequence[str]) -> None:
        """Look for the first time, and go on. Raises errors.RuntimeFailure."""
        self._port_warnings = port_warnings
        await self.look_at_firewalls()
        await self._set_port_flags()
        self._task = asyncio.create_task(self._run(), name="networks-watch")

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def look(self, *, is_full: bool = False) -> None:
        """Look once; `is_full` whatever the kernel's counter says. Raises errors.RuntimeFailure."""
        if await self._kernel.filters_bridges() != self._is_filtered:
            await self._set_port_flags()
        if not is_full and not await self._kernel.is_touched():
            return
        differences = await self._rules.differences()
        if differences:
            log.warning("the network rules were changed by somebody else, writing them again: %s", differences[:5])
            await self._rules.load()
        await self.look_at_firewalls()

    async def look_at_firewalls(self) -> None:
        """Open the way through firewalls that drop, and say so in `warnings`."""
        self.warnings[:] = [*self._port_warnings, *await self._kernel.open_ways()]

    async def _run(self) -> None:
        for number in itertools.count(1):
            await asyncio.sleep(INTERVAL_S)
            try:
                # Now and then whatever the kernel's counter says: a change right after one of ours hides behind it.
                await self.look(is_full=number % _FULL_LOOK == 0)
            except errors.GitopsError as error:
                log.warning("looking after the network rules failed, trying again: %s", error)

    async def _set_port_flags(self) -> None:
        self._is_filtered = await self._kernel.filters_bridges()
        flags = {}
        for network in self._catalogue.all():
            for _, leg in self._sandboxes.legs_on(network.id):
                flags[leg.host_link] = port_flags(network)
        await self._kernel.set_ports(flags)
