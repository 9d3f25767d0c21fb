"""The engine's durable state: one SQLite file of JSON rows, keyed by table and key.

Promises: a write that returned survives a power cut (WAL, synchronous=FULL); the writes of one `transaction()` are
all there or none of them; a file of a newer schema is refused, not guessed at. What is written within `until_boot()`
survives the end of this process, however it comes, and not a power cut.
Leaves to its users: what the tables mean. Each table has one writer; rows are `msgspec` structs.

Calls are synchronous, about 0.5 ms each, and belong to the thread that opened the database: the event loop's. A
transaction must not await, or another coroutine's writes would join it.

A damaged file is refused as a whole, before anybody acts on the half of it that can be read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from gitops import errors
from gitops.objects import base

T = TypeVar("T")

MIGRATIONS: tuple[str, ...] = (
    "CREATE TABLE rows (kind TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, key)) "
    "WITHOUT ROWID",
)
"""Statement n brings schema version n to n + 1. Only ever appended to."""

SCHEMA_VERSION = len(MIGRATIONS)
_BUSY_TIMEOUT_S = 5.0
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Database:
    """Tables of JSON rows in one SQLite file.

    Every method raises `errors.RuntimeFailure` where SQLite refuses (a full disk, a damaged file), chained.
    """

    def __init__(self, path: Path, explains: Sequence[Path] = ()) -> None:
        """Open or create the file at `path`, bring its schema up to date.

        `explains`: directories whose content is garbage to who has an empty database. Where there is any, a missing or
        empty file was lost, and is refused.

        Raises:
            errors.Unsupported: the file was written by a newer version.
            errors.RuntimeFailure: it can't be opened, is no database, is damaged or lost.
        """
        self.path = path
        self._explains = explains
        self._depth = 0
        if not path.exists():
            self._check_is_first("missing")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._chained("open"):
            self._connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def put(self, table: str, key: str, value: Any) -> None:
        """Write the row `key` of `table`, new or not."""
        with self._chained("write to"):
            self._connection.execute(
                "INSERT INTO rows (kind, key, body) VALUES (?, ?, ?) "
                "ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body",
                (table, key, base.to_json(value)),
            )

    def get(self, table: str, key: str, kind: type[T]) -> T | None:
        """The row `key` of `table`, or None."""
        with self._chained("read"):
            found = self._connection.execute(
                "SELECT body FROM rows WHERE kind = ? AND key = ?", (table, key)
            ).fetchone()
        return None if found is None else self._decode(table, key, found[0], kind)

    def all(self, table: str, kind: type[T]) -> dict[str, T]:
        """Every row of `table` by key, in the order of the keys."""
        with self._chained("read"):
            found = self._connection.execute(
                "SELECT key, body FROM rows WHERE kind = ? ORDER BY key", (table,)
            ).fetchall()
        return {key: self._decode(table, key, body, kind) for key, body in found}

    def delete(self, table: str, key: str) -> bool:
        """Remove the row; False when there was none."""
        with self._chained("write to"):
            return self._connection.execute("DELETE FROM rows WHERE kind = ? AND key = ?", (table, key)).rowcount > 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside, or none. A nested one joins the outer. No `await` inside."""
        if self._depth == 0:
            with self._chained("write to"):
                self._connection.execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0:
                self._roll_back()
            raise
        self._depth -= 1
        if self._depth == 0:
            self._commit()

    @contextmanager
    def until_boot(self) -> Iterator[None]:
        """Writes inside don't wait for the disk: for rows that a boot makes void. Inside a transaction, they do."""
        if self._depth:
            yield
            return
        self._connection.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            self._connection.execute("PRAGMA synchronous = FULL")

    def close(self) -> None:
        """Close the file; calling it twice does no harm."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _commit(self) -> None:
        try:
            with self._chained("write to"):
                self._connection.execute("COMMIT")
        except errors.GitopsError:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        # SQLite ends the transaction by itself on some errors (a full disk): then there is nothing to roll back.
        if self._connection.in_transaction:
            with self._chained("write to"):
                self._connection.execute("ROLLBACK")

    def _prepare(self) -> None:
        with self._chained("open"):
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self.path.chmod(0o600)
            version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise errors.Unsupported(
                f"{self.path} has schema version {version}, this version of gitops knows up to {SCHEMA_VERSION}: "
                "run the version that wrote it, or a newer one"
            )
        if version == 0:
            self._check_is_first("empty")
        for number in range(version, SCHEMA_VERSION):
            self._migrate(number)

        with self._chained("open"):
            found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise errors.RuntimeFailure(f"{_damaged(self.path)} ({found})")

    def _check_is_first(self, what: str) -> None:
        for folder in self._explains:
            if folder.is_dir() and any(folder.iterdir()):
                names = " and ".join(str(folder) for folder in self._explains)
                raise errors.RuntimeFailure(
                    f"the database {self.path} is {what}, but {folder} is not empty: restore it from a backup, or move "
                    f"{names} away to begin anew; nothing was changed"
                )

    def _migrate(self, number: int) -> None:
        with self.transaction(), self._chained("migrate"):
            self._connection.execute(MIGRATIONS[number])
            self._connection.execute(f"PRAGMA user_version = {number + 1}")

    def _decode(self, table: str, key: str, body: bytes, kind: type[T]) -> T:
        try:
            return base.from_json(body, kind)
        except errors.Invalid as error:
            raise errors.RuntimeFailure(
                f"row {key!r} of {table!r} in {self.path} can't be read: {error}; restore the file from a backup"
            ) from error

    @contextmanager
    def _chained(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                raise errors.RuntimeFailure(f"{_damaged(self.path)} ({error})") from error
            raise errors.RuntimeFailure(
                f"can't {verb} the database {self.path}: {error}; check the free space and the health of its disk"
            ) from error


def _damaged(path: Path) -> str:
    return f"the database {path} is damaged: restore it from a backup; containers run on, and nothing was changed"
