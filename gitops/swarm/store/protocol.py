"""What every store offers; memory, SQLite and etcd stand behind it alike.

Every loop watches the store and writes back to it. A view is an immutable snapshot. A change runs on a transaction
over the newest snapshot, and is durable before `update` returns; watchers see whole commits, in order, without gaps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from gitops.objects.network import NetworkObject
from gitops.objects.node import Cluster, Node
from gitops.objects.secret import Config, Secret
from gitops.objects.service import Service
from gitops.objects.task import Task

StoreObject = Service | Task | Node | NetworkObject | Secret | Config | Cluster
KINDS: tuple[type[StoreObject], ...] = (Cluster, Node, NetworkObject, Secret, Config, Service, Task)
T = TypeVar("T", Service, Task, Node, NetworkObject, Secret, Config, Cluster)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Change:
    """One object's step: `old` is None for a create, `object` is the last state for a delete."""

    action: Literal["create", "update", "delete"]
    object: StoreObject
    old: StoreObject | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """All changes of one transaction and the store's version after it."""

    version: int
    changes: tuple[Change, ...]


class View(Protocol):
    """A consistent snapshot. Listings are in the order of creation."""

    @property
    def version(self) -> int:
        """The store's version at this snapshot."""
        ...

    def get(self, kind: type[T], object_id: str) -> T | None:
        """The object with this id."""
        ...

    def by_name(self, kind: type[T], name: str) -> T | None:
        """The object whose spec has this name (services, networks, secrets, configs; nodes by hostname)."""
        ...

    def all(self, kind: type[T]) -> list[T]:
        """All objects of a kind."""
        ...

    def tasks_of_service(self, service_id: str) -> list[Task]:
        """The tasks of a service, history included."""
        ...

    def tasks_of_node(self, node_id: str) -> list[Task]:
        """The tasks bound to a node, history included."""
        ...


class Tx(View, Protocol):
    """A snapshot that can be changed; sees its own changes."""

    def create(self, item: T) -> T:
        """Store a new object; sets version, created_at and updated_at.

        Raises:
            errors.Conflict: the id exists, or the name is taken.
        """
        ...

    def update(self, item: T) -> T:
        """Replace an object; its version must be the stored one. Sets version and updated_at.

        Raises:
            errors.NotFound: no such object.
            errors.OutOfSequence: the version is not the stored one ("update out of sequence").
            errors.Conflict: the new name is taken.
        """
        ...

    def delete(self, kind: type[StoreObject], object_id: str) -> None:
        """Take an object away.

        Raises:
            errors.NotFound: no such object.
        """
        ...


class Watch(Protocol):
    """A stream of commits from a moment on. Closing it is the watcher's duty: use `with`."""

    def __enter__(self) -> Watch: ...

    def __exit__(self, *_: object) -> None: ...

    def __aiter__(self) -> AsyncIterator[Commit]: ...

    async def __anext__(self) -> Commit: ...

    def drain(self) -> Iterable[Commit]:
        """The commits that wait already, without waiting for more."""
        ...


class Store(Protocol):
    """The one store of a manager."""

    def view(self) -> View:
        """The newest snapshot."""
        ...

    async def update(self, change: Callable[[Tx], R]) -> R:
        """Run `change` on a transaction, commit it and return its result.

        Atomic: an exception from `change` leaves everything as it was. Serialised: changes run one after another.
        Durable before it returns. `change` must not await and may be run again. A change that changes nothing
        commits nothing.

        Raises:
            whatever `change` raises; errors.Unavailable when the store is closed or can't write.
        """
        ...

    def watch(self) -> Watch:
        """Commits from now on."""
        ...

    def view_and_watch(self) -> tuple[View, Watch]:
        """A snapshot and all commits after it, without a gap."""
        ...

    async def close(self) -> None:
        """Flush and stop; watchers end."""
        ...
