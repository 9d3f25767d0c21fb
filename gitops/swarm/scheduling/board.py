"""What a pass over a service reads and writes, and the time it goes by: handed in, so that passes stay pure.

In a manager the board is a transaction of its store and the time its clock; in a forecast both are a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from gitops.objects.node import Node
from gitops.objects.service import Service
from gitops.objects.task import Task

T = TypeVar("T", Service, Task, Node)
Ids = Callable[[], str]
"""Makes the id of a new task."""


class Glance(Protocol):
    """A picture of services, tasks and nodes."""

    def get(self, kind: type[T], object_id: str, /) -> T | None:
        """The object with this id."""
        ...

    def all(self, kind: type[T], /) -> Sequence[T]:
        """All objects of a kind in the order of their ids, or of their creation."""
        ...

    def tasks_of_service(self, service_id: str, /) -> Sequence[Task]:
        """The tasks of a service in the order of their creation, history included."""
        ...


class Board(Glance, Protocol):
    """A picture that can be changed; it shows its own changes."""

    @property
    def version(self) -> int:
        """The version that the changes will have."""
        ...

    def create(self, item: T, /) -> T:
        """Put a new object on the board, with its time of creation."""
        ...

    def update(self, item: T, /) -> T:
        """Replace an object."""
        ...


class Time(Protocol):
    """Tells what time it is."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...
