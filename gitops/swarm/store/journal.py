"""The SQLite file behind a store: one row an object, as JSON, and the store's version.

Promises: a write that returned survives a power cut (WAL, synchronous=FULL), and is all there or not at all; a file of
a newer schema, or one sealed with another key, is refused; a row that can't be read is named. Secret data and registry
credentials are sealed.
Calls block; they belong to one thread at a time.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from gitops import errors
from gitops.objects import base
from gitops.objects.secret import Secret
from gitops.objects.service import Credentials, Service
from gitops.swarm.store.protocol import KINDS, Change, StoreObject
from gitops.swarm.store.seal import WAY_OUT, Seal
from gitops.swarm.store.snapshot import Snapshot
from gitops.swarm.store.table import WORDS

log = logging.getLogger(__name__)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE objects (position INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, "
        "body BLOB NOT NULL, UNIQUE (kind, id))",
        "CREATE TABLE store (version INTEGER NOT NULL, key TEXT NOT NULL)",
    ),
)
"""Statements n bring schema version n to n + 1. Only ever appended to."""

SCHEMA_VERSION = len(MIGRATIONS)
_BUSY_TIMEOUT_S = 5.0
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_KIND_OF = {word: kind for kind, word in WORDS.items()}


class Row:
    """What is to be written of one change."""

    __slots__ = ("action", "body", "id", "kind", "position")

    def __init__(self, change: Change, position: int, seal: Seal) -> None:
        item = change.object
        self.action = change.action
        self.kind = WORDS[type(item)]
        self.id = item.id
        self.position = position
        self.body = b"" if change.action == "delete" else base.to_json(_sealed(item, seal))


class Journal:
    """The file, open. Every method raises `errors.RuntimeFailure` where SQLite refuses, chained."""

    def __init__(
        self, path: Path, seal: Seal, migrations: tuple[tuple[str, ...], ...] = MIGRATIONS, *, is_new: bool = True
    ) -> None:
        """Open or create the file at `path`, bring its schema up to date. Not `is_new`: it must be there already.

        Raises:
            errors.Unsupported: the file was written by a newer version.
            errors.RuntimeFailure: it can't be opened, is no database, is damaged, lost, or sealed with another key.
        """
        self.path = path
        self._seal = seal
        self._migrations = migrations
        self._is_new = is_new
        if not is_new and not path.exists():
            raise errors.RuntimeFailure(f"the store {path} is missing: {WAY_OUT}")
        with self._chained("open"):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def read(self) -> Snapshot:
        """Everything in the file.

        Raises:
            errors.RuntimeFailure: a row can't be read; the message names it.
        """
        with self._chained("read"):
            version = int(self._connection.execute("SELECT version FROM store").fetchone()[0])
            rows = self._connection.execute("SELECT position, kind, id, body FROM objects ORDER BY position").fetchall()
        return Snapshot.restore([(position, self._decode(*rest)) for position, *rest in rows], version)

    def write(self, former: int, version: int, rows: Iterable[Row]) -> None:
        """Write changes that bring the store from version `former` to `version`, in one transaction.

        Raises:
            errors.RuntimeFailure: nothing was written.
        """
        with self._chained("write to"), self._transaction():
            moved = self._connection.execute(
                "UPDATE store SET version = ? WHERE version = ?", (version, former)
            ).rowcount
            if moved != 1:
                raise errors.RuntimeFailure(
                    f"the store {self.path} was changed by another process: stop it, and start this one again"
                )
            for row in rows:
                self._apply(row)

    def close(self) -> None:
        """Close the file; calling it twice does no harm."""
        self._connection.close()

    def _apply(self, row: Row) -> None:
        if row.action == "delete":
            self._connection.execute("DELETE FROM objects WHERE kind = ? AND id = ?", (row.kind, row.id))
        else:
            self._connection.execute(
                "INSERT INTO objects (position, kind, id, body) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body, position = excluded.position",
                (row.position, row.kind, row.id, row.body),
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # SQLite ends the transaction by itself on some errors (a full disk): then there is nothing to roll back.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _prepare(self) -> None:
        with self._chained("open"):
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self.path.chmod(0o600)
            version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version == 0 and not self._is_new:
            raise errors.RuntimeFailure(f"the store {self.path} is empty: {WAY_OUT}")
        known = len(self._migrations)
        if version > known:
            raise errors.Unsupported(
                f"{self.path} has schema version {version}, this version of gitops knows up to {known}: "
                "run the version that wrote it, or a newer one"
            )
        for number in range(version, known):
            self._migrate(number)
        self._check_key()
        with self._chained("open"):
            found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise errors.RuntimeFailure(f"the store {self.path} is damaged ({found}): {WAY_OUT}")

    def _migrate(self, number: int) -> None:
        log.info("bringing %s to schema version %d", self.path, number + 1)
        with self._chained("migrate"), self._transaction():
            for statement in self._migrations[number]:
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {number + 1}")

    def _check_key(self) -> None:
        with self._chained("open"), self._transaction():
            found = self._connection.execute("SELECT key FROM store").fetchone()
            if found is None:
                self._connection.execute("INSERT INTO store VALUES (0, ?)", (self._seal.fingerprint,))
        if found is not None and found[0] != self._seal.fingerprint:
            raise errors.RuntimeFailure(
                f"{self.path} is sealed with key {found[0]}, the key file {self._seal.origin} holds "
                f"{self._seal.fingerprint}: put the right key file in its place"
            )

    def _decode(self, word: str, object_id: str, body: bytes) -> StoreObject:
        where = f"{word} {object_id} in {self.path}"
        kind = _KIND_OF.get(word)
        if kind is None:
            raise errors.RuntimeFailure(f"{where} is of a kind that this version of gitops doesn't know")
        try:
            item: StoreObject = base.from_json(body, kind)
            if item.id != object_id:
                raise errors.Invalid(f"it says that its id is {item.id!r}")
            return _opened(item, self._seal)
        except (errors.Invalid, errors.RuntimeFailure, TypeError) as error:
            raise errors.RuntimeFailure(f"{where} is damaged: {error}; restore the file from a backup") from error

    @contextmanager
    def _chained(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                raise errors.RuntimeFailure(f"the store {self.path} is damaged ({error}): {WAY_OUT}") from error
            raise errors.RuntimeFailure(
                f"can't {verb} the store {self.path}: {error}; check the free space and the health of its disk"
            ) from error


def _sealed(item: StoreObject, seal: Seal) -> StoreObject:
    return _with_data(item, seal.seal)


def _opened(item: StoreObject, seal: Seal) -> StoreObject:
    return _with_data(item, seal.open)


def _with_data(item: StoreObject, change: Callable[[bytes, str], bytes]) -> StoreObject:
    """The object with all of its secret data changed; each piece has a context of its own."""
    if isinstance(item, Secret):
        return replace(item, spec=replace(item.spec, data=change(item.spec.data, f"secret {item.id}")))
    if isinstance(item, Service) and (item.credentials or item.previous_credentials):
        return replace(
            item,
            credentials=_changed(item.credentials, change, f"credentials of service {item.id}"),
            previous_credentials=_changed(
                item.previous_credentials, change, f"previous credentials of service {item.id}"
            ),
        )
    return item


def _changed(item: Credentials | None, change: Callable[[bytes, str], bytes], context: str) -> Credentials | None:
    return None if item is None else Credentials(change(item.data, context))


assert set(_KIND_OF.values()) == set(KINDS)
