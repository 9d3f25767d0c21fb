"""What a node remembers of its tasks over a restart: their specs and what was observed of them, in one SQLite file.

A status that is written here is on its way to the manager, or there already. Writes survive a crash of the process;
after a power failure the newest may be lost, which is no harm: no container survived it either, and the manager's
own record of the task is taken where it is ahead. Secrets and configs are never written.

So a damaged file is put aside and a new one begun: the manager tells what the node has to do.
"""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from gitops import errors
from gitops.objects import base
from gitops.objects.task import Task, TaskStatus

log = logging.getLogger(__name__)

SCHEMA = 1
ASIDE = ".damaged"
"""Added to the name of a file that is put aside."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class Record:
    """A task that was assigned to this node, and its status here."""

    task: Task
    status: TaskStatus


class TaskDatabase:
    """The node's tasks. Calls block for less than a millisecond; they are made on the event loop's thread."""

    def __init__(self, path: Path) -> None:
        """Open or create the file, readable by the owner only; a damaged one is put aside.

        Raises:
            errors.RuntimeFailure: it can't be opened, or is a newer version's.
        """
        self._path = path
        try:
            self._open(path)
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF not in _DAMAGED:
                raise errors.RuntimeFailure(f"the task database {path} can't be opened: {error}") from error
            self._put_aside(error)

    def _put_aside(self, reason: Exception) -> None:
        path, kept = self._path, self._path.with_name(self._path.name + ASIDE)
        log.error("the task database %s is damaged (%s): kept as %s, a new one is begun", path, reason, kept)
        try:
            path.replace(kept)
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._open(path)
        except (sqlite3.Error, OSError) as error:
            raise errors.RuntimeFailure(f"the task database {path} can't be begun anew: {error}") from error

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(path, isolation_level=None)
        except OSError as error:
            raise errors.RuntimeFailure(f"the task database {path} can't be opened: {error}") from error
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def records(self) -> list[Record]:
        """All tasks, in the order in which they came."""
        rows = self._execute("SELECT id, task, status FROM tasks ORDER BY rowid").fetchall()
        found = []
        for task_id, task, status in rows:
            try:
                found.append(Record(base.from_json(task, Task), base.from_json(status, TaskStatus)))
            except errors.Invalid as error:
                log.error("task %s in %s can't be read, the manager's word counts: %s", task_id, self._path, error)
        return found

    def put(self, task: Task, status: TaskStatus) -> None:
        """Remember a task as it is assigned now, with its status here."""
        self._execute(
            "INSERT INTO tasks (id, task, status) VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET task = excluded.task, status = excluded.status",
            (task.id, base.to_json(task), base.to_json(status)),
        )

    def put_status(self, task_id: str, status: TaskStatus) -> None:
        """Remember a status; nothing happens for a task that isn't known."""
        self._execute("UPDATE tasks SET status = ? WHERE id = ?", (base.to_json(status), task_id))

    def delete(self, task_id: str) -> None:
        """Forget a task."""
        self._execute("DELETE FROM tasks WHERE id = ?", (task_id,))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _prepare(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA:
            raise errors.RuntimeFailure(
                f"the task database {self._path} has schema {version}, this version knows {SCHEMA}: "
                "start the version that wrote it, or a newer one"
            )
        self._connection.execute("CREATE TABLE IF NOT EXISTS tasks (id TEXT PRIMARY KEY, task BLOB, status BLOB)")
        self._connection.execute(f"PRAGMA user_version = {SCHEMA}")
        found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            error = sqlite3.DatabaseError(found)
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise errors.RuntimeFailure(f"the task database {self._path} failed: {error}") from error
