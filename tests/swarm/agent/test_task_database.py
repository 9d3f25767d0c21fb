"""D16: what a node remembers of its tasks."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from gitops import errors
from gitops.objects.service import ContainerSpec, TaskSpec
from gitops.objects.task import ContainerStatus, Task, TaskState, TaskStatus
from gitops.swarm.agent.database import SCHEMA, Record, TaskDatabase

TASK = Task(id="t1", spec=TaskSpec(container_spec=ContainerSpec(image="app:v1")), slot=3)
STATUS = TaskStatus(state=TaskState.RUNNING, container_status=ContainerStatus(container_id="c", pid=7))


def test_tasks_and_statuses_survive_a_restart_in_their_order(tmp_path: Path) -> None:
    database = TaskDatabase(tmp_path / "worker" / "tasks.db")
    assert database.records() == []
    database.put(TASK, TaskStatus(state=TaskState.ACCEPTED))
    database.put(Task(id="a-later-one"), STATUS)
    database.put_status("t1", STATUS)
    database.put_status("unknown", STATUS)
    database.close()
    database = TaskDatabase(tmp_path / "worker" / "tasks.db")
    assert database.records() == [Record(TASK, STATUS), Record(Task(id="a-later-one"), STATUS)]
    database.delete("t1")
    database.delete("t1")
    assert [record.task.id for record in database.records()] == ["a-later-one"]
    database.close()


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    TaskDatabase(tmp_path / "tasks.db").close()
    assert stat.S_IMODE((tmp_path / "tasks.db").stat().st_mode) == 0o600


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    TaskDatabase(tmp_path / "tasks.db").close()
    connection = sqlite3.connect(tmp_path / "tasks.db")
    connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    connection.close()
    with pytest.raises(errors.RuntimeFailure, match="schema"):
        TaskDatabase(tmp_path / "tasks.db")


def test_a_damaged_file_is_put_aside_and_a_new_one_begun(tmp_path: Path) -> None:
    (tmp_path / "tasks.db").write_bytes(b"not a database at all, but long enough to look at" * 20)
    database = TaskDatabase(tmp_path / "tasks.db")
    assert database.records() == []
    database.close()
    assert (tmp_path / "tasks.db.damaged").read_bytes().startswith(b"not a database")
