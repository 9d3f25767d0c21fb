"""The objects of one kind with their indexes, as an immutable table and as a draft of the next one.

A draft copies only what it changes: the table's dicts when it is made, one index row when that row is touched. Rows
carry the position of their creation, by which every listing is ordered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar

from gitops.objects.network import NetworkObject
from gitops.objects.node import Cluster, Node
from gitops.objects.secret import Config, Secret
from gitops.objects.service import Service
from gitops.objects.task import Task
from gitops.swarm.store.protocol import KINDS, StoreObject

S = TypeVar("S", bound=StoreObject)

UNIQUE_NAMES: tuple[type[StoreObject], ...] = (Cluster, NetworkObject, Secret, Config, Service)
"""Kinds of which no two objects may have one name; case doesn't count, since names become DNS names."""

WORDS: dict[type[StoreObject], str] = {
    Cluster: "cluster",
    Node: "node",
    NetworkObject: "network",
    Secret: "secret",
    Config: "config",
    Service: "service",
    Task: "task",
}
"""What people call each kind."""

assert set(WORDS) == set(KINDS)


class Row(NamedTuple, Generic[S]):
    """An object and the position of its creation."""

    position: int
    item: S


def name_of(item: StoreObject) -> str:
    """The name that an object is found by."""
    if isinstance(item, Task):
        return item.name
    if isinstance(item, Node):
        return item.description.hostname
    return item.spec.name


class Table(Generic[S]):
    """All objects of a kind; never changed once it is in a snapshot."""

    __slots__ = ("by_node", "by_service", "names", "rows")

    def __init__(
        self,
        rows: dict[str, Row[S]] | None = None,
        names: dict[str, str] | None = None,
        by_service: dict[str, dict[str, int]] | None = None,
        by_node: dict[str, dict[str, int]] | None = None,
    ) -> None:
        self.rows = rows if rows is not None else {}
        self.names = names if names is not None else {}
        self.by_service = by_service if by_service is not None else {}
        self.by_node = by_node if by_node is not None else {}

    def get(self, object_id: str) -> S | None:
        """The object with this id."""
        row = self.rows.get(object_id)
        return None if row is None else row.item

    def all(self) -> list[S]:
        """All objects in the order of creation."""
        return [row.item for row in self.rows.values()]

    def freeze(self) -> Table[S]:
        """The table as it goes into a snapshot."""
        return self

    def named(self, name: str) -> S | None:
        """The (first) object of this name."""
        object_id = self.names.get(name.lower())
        if object_id is not None:
            return self.rows[object_id].item
        return next((row.item for row in self.rows.values() if name_of(row.item) == name), None) if name else None

    def pick(self, positions: Mapping[str, int]) -> list[S]:
        """The objects of an index row in the order of creation."""
        return [self.rows[object_id].item for object_id in sorted(positions, key=positions.__getitem__)]


class DraftTable(Table[S]):
    """A table that can be changed, without any effect on the one that it comes from."""

    __slots__ = ("_owned",)

    def __init__(self, base: Table[S]) -> None:
        super().__init__(dict(base.rows), dict(base.names), dict(base.by_service), dict(base.by_node))
        self._owned: set[tuple[str, str]] = set()

    def freeze(self) -> Table[S]:
        """A table of what the draft holds; the draft must not be used any more."""
        return Table(self.rows, self.names, self.by_service, self.by_node)

    def put(self, item: S, position: int) -> None:
        """Insert or replace an object; a replaced one keeps its place."""
        former = self.rows.get(item.id)
        if former is not None:
            self._unindex(former)
            position = former.position
        row = Row(position, item)
        self.rows[item.id] = row
        self._index(row)

    def remove(self, object_id: str) -> S:
        """Take an object away."""
        row = self.rows.pop(object_id)
        self._unindex(row)
        return row.item

    def _index(self, row: Row[S]) -> None:
        item = row.item
        if isinstance(item, UNIQUE_NAMES) and (name := name_of(item)):
            self.names[name.lower()] = item.id
        for label, index, key in self._places(item):
            self._own(label, index, key)[item.id] = row.position

    def _unindex(self, row: Row[S]) -> None:
        item = row.item
        if isinstance(item, UNIQUE_NAMES):
            self.names.pop(name_of(item).lower(), None)
        for label, index, key in self._places(item):
            entries = self._own(label, index, key)
            del entries[item.id]
            if not entries:
                del index[key]
                self._owned.discard((label, key))

    def _places(self, item: S) -> Iterable[tuple[str, dict[str, dict[str, int]], str]]:
        if isinstance(item, Task):
            if item.service_id:
                yield "service", self.by_service, item.service_id
            if item.node_id:
                yield "node", self.by_node, item.node_id

    def _own(self, label: str, index: dict[str, dict[str, int]], key: str) -> dict[str, int]:
        """The index row of `key`, copied before its first change."""
        if (label, key) not in self._owned:
            index[key] = dict(index.get(key, {}))
            self._owned.add((label, key))
        return index[key]
