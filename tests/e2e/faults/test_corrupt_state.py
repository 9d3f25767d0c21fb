"""State on the disk is damaged: the error names the file and a way out, containers run on, nothing is deleted by it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

BIN = Path(sys.executable).parent


def refused(host: Any) -> str:
    """What a daemon says that can't start."""
    done = host.run(
        BIN / "gitops",
        *("engine", "run", "--data-root", host.data_root, "--run-root", host.run_root, "--cgroup-parent", host.name),
        check=False,
        timeout=30,
    )
    assert done.returncode != 0, "it started"
    assert "Traceback" not in done.stderr, done.stderr
    return str(done.stderr)


def garble(path: Path) -> None:
    """Overwrite the middle of a file."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(os.urandom(size // 2))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def nonsense(path: Path) -> None:
    path.write_bytes(b"nonsense " * 1000)


def checkpoint(path: Path) -> None:
    """Bring everything from the log of a database into its file, as a clean end does."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def drop_log(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def inventory(host: Any) -> dict[str, set[str]]:
    found = {}
    for name in ("containers", "layers", "volumes", "blobs/sha256"):
        found[name] = {path.name for path in (host.data_root / name).iterdir()}
    return found


@pytest.mark.parametrize("damage", [garble, empty, cut, nonsense])
def test_a_damaged_engine_database_is_named_and_nothing_is_touched(served: Any, damage: Any) -> None:
    host = served.host
    former, there = set(served.web()), inventory(host)
    pids = {served.pid(container) for container in former}
    host.kill()
    path = host.data_root / "engine.db"
    checkpoint(path)
    drop_log(path)
    kept = shutil.copy(path, host.directory / "kept.db")
    damage(path)
    for _ in range(2):
        said = refused(host)
        assert str(path) in said, said
        assert "restore" in said and "backup" in said, said
        assert inventory(host) == there
        assert host.get("http://127.0.0.1:8080/") == "v1\n"
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    shutil.copy(kept, path)
    drop_log(path)
    host.start()
    served.settled()
    assert set(served.web()) == former


def test_a_missing_engine_database_beside_containers_is_refused(served: Any) -> None:
    host = served.host
    former, there = set(served.web()), inventory(host)
    host.kill()
    path = host.data_root / "engine.db"
    checkpoint(path)
    drop_log(path)
    moved = path.rename(host.directory / "moved.db")
    said = refused(host)
    assert str(path) in said and "missing" in said, said
    assert inventory(host) == there
    assert not path.exists(), "an empty one is left in its place"
    assert host.get("http://127.0.0.1:8080/") == "v1\n"
    moved.rename(path)
    host.start()
    served.settled()
    assert set(served.web()) == former


@pytest.mark.parametrize("name", ["engine.db", "swarm/store.db", "swarm/tasks.db"])
def test_a_garbled_log_of_a_database_costs_at_most_its_newest_changes(served: Any, name: str) -> None:
    host = served.host
    host.kill()
    path = host.data_root / name
    checkpoint(path)
    path.with_name(path.name + "-wal").write_bytes(os.urandom(100_000))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    host.start()
    served.settled()
    served.calm()


@pytest.mark.parametrize("damage", [garble, empty, cut, nonsense, Path.unlink])
def test_a_damaged_swarm_store_leaves_the_tasks_running(served: Any, damage: Any) -> None:
    host = served.host
    former = set(served.web())
    host.kill()
    path = host.data_root / "swarm" / "store.db"
    checkpoint(path)
    drop_log(path)
    kept = shutil.copy(path, host.directory / "kept.db")
    damage(path)
    host.start()
    info = host.api("/info")["Swarm"]
    assert info["LocalNodeState"] == "error"
    assert str(path) in info["Error"], info["Error"]
    assert "backup" in info["Error"], info["Error"]
    assert host.get("http://127.0.0.1:8080/") == "v1\n"
    said = host.run("docker", "service", "ls", check=False).stderr
    assert str(path) in said, said
    done = served.apply(check=False)
    assert done.returncode != 0
    assert str(path) in done.stdout + done.stderr, done.stdout + done.stderr
    assert set(served.web()) == former
    host.stop()
    shutil.copy(kept, path)
    drop_log(path)
    host.start()
    served.settled()
    assert set(served.web()) == former
    served.calm()


@pytest.mark.parametrize("damage", [garble, empty, cut, nonsense, Path.unlink])
def test_a_damaged_task_database_is_no_harm(served: Any, damage: Any) -> None:
    """It holds what the manager knows too: it is put aside, and the tasks are adopted by the manager's word."""
    host = served.host
    former = set(served.web())
    host.kill()
    path = host.data_root / "swarm" / "tasks.db"
    checkpoint(path)
    drop_log(path)
    damage(path)
    host.start()
    served.settled()
    assert set(served.web()) == former
    served.calm()


@pytest.mark.parametrize("damage", [empty, nonsense, Path.unlink])
def test_a_missing_or_damaged_key_is_named_and_no_new_one_is_made(served: Any, damage: Any) -> None:
    host = served.host
    former = set(served.web())
    host.stop()
    path = host.data_root / "swarm" / "keys" / "store.key"
    kept = shutil.copy(path, host.directory / "kept.key")
    damage(path)
    damaged = path.read_bytes() if path.exists() else None
    host.start()
    error = host.api("/info")["Swarm"]["Error"]
    assert str(path) in error and "backup" in error, error
    assert (path.read_bytes() if path.exists() else None) == damaged
    assert host.get("http://127.0.0.1:8080/") == "v1\n"
    host.stop()
    shutil.copy(kept, path)
    path.chmod(0o600)
    host.start()
    served.settled()
    assert set(served.web()) == former
    served.calm()


@pytest.mark.parametrize("damage", [empty, nonsense])
def test_a_damaged_membership_is_named(served: Any, damage: Any) -> None:
    host = served.host
    former = set(served.web())
    host.stop()
    path = host.data_root / "swarm" / "membership.json"
    kept = path.read_bytes()
    damage(path)
    host.start()
    error = host.api("/info")["Swarm"]["Error"]
    assert str(path) in error and "backup" in error, error
    assert host.get("http://127.0.0.1:8080/") == "v1\n"
    host.stop()
    path.write_bytes(kept)
    host.start()
    served.settled()
    assert set(served.web()) == former


@pytest.mark.parametrize("damage", [garble, empty, Path.unlink])
def test_damaged_blobs_are_said_and_the_next_apply_brings_the_image_back(served: Any, damage: Any) -> None:
    host = served.host
    former = set(served.web())
    host.kill()
    for blob in (host.data_root / "blobs" / "sha256").iterdir():
        damage(blob)
    host.start()
    assert "app:v1" in host.log.read_text()
    assert host.get("http://127.0.0.1:8080/") == "v1\n"
    assert set(served.web()) == former
    done = served.apply(check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    served.settled()
    assert set(served.web()) == former
    served.calm()


def test_a_damaged_record_of_a_container_is_named(served: Any) -> None:
    host = served.host
    host.docker("create", "--name", "spoiled", "app:v1")
    found = host.api("/containers/spoiled/json")["Id"]
    host.stop()
    path = host.data_root / "engine.db"
    with sqlite3.connect(path) as connection:
        [(kept,)] = connection.execute("SELECT body FROM rows WHERE kind = 'containers' AND key = ?", (found,))
        connection.execute("UPDATE rows SET body = 'x' WHERE kind = 'containers' AND key = ?", (found,))
    connection.close()
    said = refused(host)
    assert found in said and str(path) in said and "backup" in said, said
    assert host.get("http://127.0.0.1:8080/") == "v1\n"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE rows SET body = ? WHERE kind = 'containers' AND key = ?", (kept, found))
    connection.close()
    host.start()
    served.settled()


def test_a_full_copy_of_a_store_with_another_key_is_refused(served: Any) -> None:
    host = served.host
    host.stop()
    path = host.data_root / "swarm" / "keys" / "store.key"
    path.write_text("00" * 32 + "\n")
    host.start()
    error = host.api("/info")["Swarm"]["Error"]
    assert "key" in error and str(path) in error, error
    assert subprocess.run(["true"], check=True)
