"""Immutable snapshots of the whole store, and the transaction that makes the next one out of the newest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from msgspec.structs import replace

from gitops import errors
from gitops.objects.base import Version
from gitops.objects.task import Task
from gitops.swarm.store.protocol import KINDS, Change, Commit, StoreObject, T
from gitops.swarm.store.table import UNIQUE_NAMES, WORDS, DraftTable, Table, name_of

OUT_OF_SEQUENCE = "rpc error: code = Unknown desc = update out of sequence"
"""Docker's text; clients look for its last three words."""


class Snapshot:
    """The store at one version; implements `View`."""

    def __init__(self, version: int, tables: Mapping[type[StoreObject], Table[Any]], position: int = 0) -> None:
        self._version = version
        self._tables = tables
        self.position = position
        """The position of the object that was created last."""

    @classmethod
    def of(cls, objects: Iterable[StoreObject], version: int = 0) -> Snapshot:
        """A snapshot of these objects, which are given in the order of their creation."""
        return cls.restore(enumerate(objects, start=1), version)

    @classmethod
    def restore(cls, rows: Iterable[tuple[int, StoreObject]], version: int) -> Snapshot:
        """A snapshot of objects with the positions of their creation, ascending."""
        tables: dict[type[StoreObject], DraftTable[Any]] = {kind: DraftTable(Table()) for kind in KINDS}
        last = 0
        for position, item in rows:
            tables[type(item)].put(item, position)
            last = position
        return cls(version, {kind: table.freeze() for kind, table in tables.items()}, last)

    @property
    def version(self) -> int:
        """The store's version at this snapshot; in a transaction the version that its commit will have."""
        return self._version

    @property
    def tables(self) -> Mapping[type[StoreObject], Table[Any]]:
        """The tables, not to be changed."""
        return self._tables

    def position_of(self, item: StoreObject) -> int:
        """The position of an object's creation; 0 when it is not here."""
        row = self._tables[type(item)].rows.get(item.id)
        return 0 if row is None else row.position

    def get(self, kind: type[T], object_id: str) -> T | None:
        """The object with this id."""
        return cast("T | None", self._tables[kind].get(object_id))

    def by_name(self, kind: type[T], name: str) -> T | None:
        """The object of this name (nodes by hostname); case doesn't count where names are unique."""
        return cast("T | None", self._tables[kind].named(name))

    def all(self, kind: type[T]) -> list[T]:
        """All objects of a kind, in the order of creation."""
        return self._tables[kind].all()

    def tasks_of_service(self, service_id: str) -> list[Task]:
        """The tasks of a service, history included."""
        table = self._tables[Task]
        return table.pick(table.by_service.get(service_id, {}))

    def tasks_of_node(self, node_id: str) -> list[Task]:
        """The tasks bound to a node, history included."""
        table = self._tables[Task]
        return table.pick(table.by_node.get(node_id, {}))


class Draft(Snapshot):
    """A transaction; implements `Tx`. Nothing of it shows anywhere until `finish`ed and published."""

    def __init__(self, base: Snapshot, now: str) -> None:
        super().__init__(base.version + 1, dict(base.tables), base.position)
        self._base = base
        self._now = now
        self._touched: dict[tuple[type[StoreObject], str], StoreObject] = {}
        """What was changed, in the order of the first change, with its last known state."""

    def create(self, item: T) -> T:
        """Store a new object; sets version, created_at and updated_at.

        Raises:
            errors.Conflict: the id exists, or the name is taken.
        """
        kind = type(item)
        if not item.id:
            raise errors.Invalid(f"a {WORDS[kind]} without an id can't be stored")
        if item.id in self._tables[kind].rows:
            raise errors.Conflict(f"rpc error: code = AlreadyExists desc = {WORDS[kind]} {item.id} already exists")
        self._check_name(item)
        stored = replace(item, version=Version(self._version), created_at=self._now, updated_at=self._now)
        self.position += 1
        self._draft(kind).put(stored, self.position)
        self._touched[kind, item.id] = stored
        return stored

    def update(self, item: T) -> T:
        """Replace an object; its version must be the stored one. Sets version and updated_at.

        Raises:
            errors.NotFound: no such object.
            errors.OutOfSequence: the version is not the stored one.
            errors.Conflict: the new name is taken.
        """
        kind = type(item)
        former = self._tables[kind].get(item.id)
        if former is None:
            raise _missing(kind, item.id)
        if former.version != item.version:
            raise errors.OutOfSequence(OUT_OF_SEQUENCE)
        self._check_name(item)
        stored = replace(item, version=Version(self._version), created_at=former.created_at, updated_at=self._now)
        self._draft(kind).put(stored, self.position)
        self._touched[kind, item.id] = stored
        return stored

    def delete(self, kind: type[StoreObject], object_id: str) -> None:
        """Take an object away.

        Raises:
            errors.NotFound: no such object.
        """
        if object_id not in self._tables[kind].rows:
            raise _missing(kind, object_id)
        self._touched[kind, object_id] = self._draft(kind).remove(object_id)

    def finish(self) -> tuple[Snapshot, Commit] | None:
        """The next snapshot and what changed; None when nothing did. The draft must not be used any more."""
        changes = tuple(change for key, last in self._touched.items() if (change := self._change(*key, last)))
        if not changes:
            return None
        tables = {kind: table.freeze() for kind, table in self._tables.items()}
        return Snapshot(self._version, tables, self.position), Commit(self._version, changes)

    def _change(self, kind: type[StoreObject], object_id: str, last: StoreObject) -> Change | None:
        old = self._base.tables[kind].get(object_id)
        if object_id in self._tables[kind].rows:
            return Change("create" if old is None else "update", last, old)
        return None if old is None else Change("delete", last, old)

    def _draft(self, kind: type[StoreObject]) -> DraftTable[Any]:
        table = self._tables[kind]
        if not isinstance(table, DraftTable):
            table = DraftTable(table)
            cast("dict[type[StoreObject], Table[Any]]", self._tables)[kind] = table
        return table

    def _check_name(self, item: StoreObject) -> None:
        kind = type(item)
        if kind not in UNIQUE_NAMES:
            return
        name = name_of(item)
        holder = self._tables[kind].names.get(name.lower())
        if holder is not None and holder != item.id:
            raise errors.Conflict(
                "rpc error: code = AlreadyExists desc = name conflicts with an existing object: "
                f"{WORDS[kind]} {name} already exists"
            )


def _missing(kind: type[StoreObject], object_id: str) -> errors.NotFound:
    return errors.NotFound(f"{WORDS[kind]} {object_id} not found")
