"""Keeps the host's nft table equal to what the service wants, and says where it isn't."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gitops import errors
from gitops.engine.networks import ruleset
from gitops.engine.networks.kernel import Kernel
from gitops.engine.networks.ruleset import Rules

log = logging.getLogger(__name__)


class RuleKeeper:
    """The table and the state that was last written to it."""

    def __init__(self, kernel: Kernel, table: str, source: Callable[[], Rules]) -> None:
        """`source` gives the state that is wanted at the moment of its call."""
        self._kernel = kernel
        self._table = table
        self._source = source
        self._applied = Rules()
        self._is_sure = False
        """Whether `_applied` is what the kernel has. It isn't known where a change was left by a cancellation."""
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Write the whole table, in place of what is there; established connections live on."""
        async with self._lock:
            await self._load(self._source())

    async def sync(self) -> None:
        """Write what changed since the last time, in one transaction. Raises errors.RuntimeFailure."""
        async with self._lock:
            wanted = ruleset.merge_sizes(self._source(), self._applied.sizes)
            if not self._is_sure:
                await self._load(wanted)
                return
            self._is_sure = False
            try:
                await self._kernel.run_rules(ruleset.update(self._table, self._applied, wanted))
            except errors.RuntimeFailure as error:
                log.warning("the nft table %s was changed by somebody else, writing it again: %s", self._table, error)
                await self._load(wanted)
            self._applied, self._is_sure = wanted, True

    async def differences(self) -> list[str]:
        """Where the kernel's table differs from what was last written, as sentences."""
        async with self._lock:
            found = await self._kernel.read_rules()
            if found is None:
                return [f"nft table {self._table} is missing"]
            rules, counts = found
            sentences = list(ruleset.differences(self._applied, rules))
            for chain, count in ruleset.expected_rules(self._applied.sizes).items():
                if counts.get(chain) != count:
                    sentences.append(f"nft chain {chain} has {counts.get(chain, 0)} rules instead of {count}")
            return sentences

    async def _load(self, wanted: Rules) -> None:
        self._is_sure = False
        await self._kernel.run_rules(ruleset.full(self._table, wanted))
        self._applied, self._is_sure = wanted, True
