"""Puts back what others took away: rules after a firewall's reload, bridges, port flags after a changed sysctl."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Sequence

from gitops import errors
from gitops.engine.networks.catalogue import Catalogue
from gitops.engine.networks.kernel import Kernel
from gitops.engine.networks.lasting import Lasting
from gitops.engine.networks.records import NetworkRecord
from gitops.engine.networks.rules import RuleKeeper
from gitops.engine.networks.sandboxes import Sandboxes, bridge_of, port_flags

log = logging.getLogger(__name__)

INTERVAL_S = 5.0
_FULL_LOOK = 12


class Watch:
    """One task that looks every few seconds; the kernel counts changes of its tables, so most looks cost nothing."""

    def __init__(
        self,
        kernel: Kernel,
        rules: RuleKeeper,
        catalogue: Catalogue,
        sandboxes: Sandboxes,
        lasting: Lasting,
        lock: asyncio.Lock,
    ) -> None:
        """`lock` is held while a network is made or removed."""
        self._kernel = kernel
        self._rules = rules
        self._catalogue = catalogue
        self._sandboxes = sandboxes
        self._lasting = lasting
        self._lock = lock
        self._is_filtered = False
        self._lost: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._port_warnings: Sequence[str] = ()
        self.warnings: list[str] = []
        """What a person should know about this host: firewalls that we had to open, ports that were lost."""

    async def start(self, port_warnings: Sequence[str]) -> None:
        """Look for the first time, and go on. Raises errors.RuntimeFailure."""
        self._port_warnings = port_warnings
        await self.look_at_firewalls()
        await self._mend_ports()
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
        self._lasting.flush()
        await self._look_at_links()
        if await self._kernel.filters_bridges() != self._is_filtered:
            await self._set_port_flags()
        if not is_full and not await self._kernel.is_touched():
            return
        differences = await self._rules.differences()
        if differences:
            log.warning("the network rules were changed by somebody else, writing them again: %s", differences[:5])
            await self._rules.load()
        await self.look_at_firewalls()

    async def _look_at_links(self) -> None:
        present = await self._kernel.own_links()
        self._say_lost({name for name in self._sandboxes.masters() if name not in present})
        if not self._without_bridge(present):
            return
        # Under the lock no network is just being made.
        async with self._lock:
            if lost := self._without_bridge(await self._kernel.own_links()):
                await self._make_bridges(lost)

    def _without_bridge(self, present: set[str]) -> list[NetworkRecord]:
        return [record for record in self._catalogue.all() if record.bridge and record.bridge not in present]

    async def _make_bridges(self, lost: Sequence[NetworkRecord]) -> None:
        names = ", ".join(record.name for record in lost)
        log.warning("the bridges of these networks were deleted by somebody else, making them again: %s", names)
        await self._kernel.ensure_bridges([bridge_of(record) for record in lost])
        await self._mend_ports()
        await self._set_port_flags()

    def _say_lost(self, lost: set[str]) -> None:
        for name in sorted(lost - self._lost):
            log.warning("the link %s was deleted by somebody else: restart its container", name)
        self._lost = lost

    async def _mend_ports(self) -> None:
        mended = await self._kernel.mend_ports(self._sandboxes.masters())
        if mended:
            log.warning("these links were no ports of their bridges, mended: %s", ", ".join(mended))

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
            except Exception:
                # Whatever it is that somebody else put into the kernel: who stops looking mends nothing any more.
                log.exception("looking after the network rules failed, trying again")

    async def _set_port_flags(self) -> None:
        self._is_filtered = await self._kernel.filters_bridges()
        flags = {}
        for network in self._catalogue.all():
            for _, leg in self._sandboxes.legs_on(network.id):
                flags[leg.host_link] = port_flags(network)
        await self._kernel.set_ports(flags)
