"""Who is alive: the times by which nodes must have been heard, and what their silence leads to.

Pure book-keeping over a monotonic clock; the dispatcher asks it what is due and writes the consequences. A node in
session is DOWN when three heartbeats are missed. After a change of managers nobody was heard yet: nodes are UNKNOWN,
with twice that grace, so that their tasks stay where they are. A node that is DOWN for a day won't report on its
tasks any more: they are ORPHANED.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

GRACE = 3
"""Heartbeats that may be missed."""
TAKEOVER_GRACE = 6
"""… and of a node that this manager never heard."""
ORPHAN_S = 24 * 3600.0
RATE_COUNT = 3
RATE_S = 8.0
"""A node may register so often within so many seconds."""


class Verdict(enum.Enum):
    """What a node's silence means."""

    DOWN = "down"
    ORPHANED = "orphaned"


@dataclass(frozen=True, slots=True)
class Due:
    """At `at` (monotonic seconds) the verdict falls, unless the node is heard before."""

    at: float
    verdict: Verdict


class Liveness:
    """The deadlines of all nodes, and the pace of their registrations."""

    def __init__(self) -> None:
        self._due: dict[str, Due] = {}
        self._registrations: dict[str, deque[float]] = {}

    def may_register(self, node_id: str, now: float) -> bool:
        """Whether the node's pace allows one more registration, which is counted if so."""
        times = self._registrations.setdefault(node_id, deque())
        while times and now - times[0] >= RATE_S:
            times.popleft()
        if len(times) >= RATE_COUNT:
            return False
        times.append(now)
        return True

    def expect(self, node_id: str, at: float) -> None:
        """The node must be heard before `at`."""
        self._due[node_id] = Due(at, Verdict.DOWN)

    def down(self, node_id: str, now: float) -> None:
        """The node is down from `now` on."""
        self._due[node_id] = Due(now + ORPHAN_S, Verdict.ORPHANED)

    def forget(self, node_id: str) -> None:
        """The node is of no interest any more."""
        self._due.pop(node_id, None)
        self._registrations.pop(node_id, None)

    def overdue(self, now: float) -> dict[str, Verdict]:
        """The verdicts that have fallen; each stays due until `down` or `forget`."""
        return {node_id: due.verdict for node_id, due in self._due.items() if due.at <= now}

    def postpone(self, now: float, seconds: float) -> None:
        """Give every node that is overdue so many seconds more: it was this manager that heard nothing."""
        for node_id, due in self._due.items():
            if due.at <= now and due.verdict is Verdict.DOWN:
                self._due[node_id] = Due(now + seconds, Verdict.DOWN)

    def next_due(self) -> float | None:
        """When the next verdict falls, in monotonic seconds."""
        return min((due.at for due in self._due.values()), default=None)
