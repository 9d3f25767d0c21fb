"""Time, randomness and identity, injected into every loop so that a failure replays from its seed.

Nothing else in `gitops.swarm` reads a clock, sleeps, draws a random number or makes an id.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Protocol

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 25


class Clock(Protocol):
    """The wall clock in a daemon, a virtual one in tests and simulation."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch, for timestamps in objects."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for durations."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class WallClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds since some start."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait, at least until the loop's next turn."""
        await asyncio.sleep(max(0.0, seconds))


class IdSource:
    """Makes ids of swarm objects: 25 characters of base 36, as SwarmKit's."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def __call__(self) -> str:
        """A new id."""
        return "".join(self._source.choices(_DIGITS, k=_ID_LENGTH))
