"""What the agent needs of a manager: the seam between agent and dispatcher, whatever lies between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

from gitops.objects.assignment import Assignments, TaskStatusReport
from gitops.objects.node import NodeDescription


class Session(Protocol):
    """A registration with a manager. Any `errors.GitopsError` but `Denied` means: register again."""

    async def heartbeat(self) -> float:
        """Say that the node is alive; returns the seconds until the next heartbeat is wanted."""
        ...

    async def report(self, reports: Sequence[TaskStatusReport]) -> None:
        """Report on tasks; returns when the reports are stored.

        Raises:
            errors.Denied: a task is another node's; none of the reports was stored.
        """
        ...

    def assignments(self) -> AsyncIterator[Assignments]:
        """What the node should hold: all of it first, then what changes."""
        ...


Connect = Callable[[NodeDescription], Awaitable[Session]]
"""Registers this node with a manager."""
