"""The durable store: what is on disk, when, and what a damaged file leads to."""

from __future__ import annotations

import asyncio
import base64
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from gitops import errors
from gitops.objects.secret import Secret, SecretSpec
from gitops.objects.service import Credentials, Service, ServiceSpec
from gitops.objects.task import Task
from gitops.swarm.clock import WallClock
from gitops.swarm.store import journal
from gitops.swarm.store.protocol import Tx
from gitops.swarm.store.seal import Seal
from gitops.swarm.store.sqlite import SqliteStore

SECRET = b"correct horse battery staple"


@pytest.fixture
def seal(tmp_path: Path) -> Seal:
    return Seal.create(tmp_path / "keys" / "store.key")


def open_store(tmp_path: Path, seal: Seal) -> SqliteStore:
    return SqliteStore(tmp_path / "store.db", WallClock(), seal)


def edit(tmp_path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(tmp_path / "store.db")
    with connection:
        connection.execute(statement, values)
    connection.close()


async def test_everything_is_there_again_after_a_restart(tmp_path: Path, seal: Seal) -> None:
    store = open_store(tmp_path, seal)
    for name in ("c", "a", "b"):
        await store.update(
            lambda tx, name=name: tx.create(Service(id=name, spec=ServiceSpec(name=name)))  # type: ignore[misc]
        )
    await store.update(lambda tx: tx.delete(Service, "a"))
    service = store.view().get(Service, "c")
    assert service is not None
    await store.update(lambda tx: tx.update(replace(service, previous_spec=ServiceSpec(name="old"))))
    before = store.view()
    await store.close()

    again = open_store(tmp_path, seal)
    assert again.view().version == before.version == 5
    assert again.view().all(Service) == before.all(Service)
    made = await again.update(lambda tx: tx.create(Service(id="d", spec=ServiceSpec(name="d"))))
    assert made.version.index == 6
    assert [item.id for item in again.view().all(Service)] == ["c", "b", "d"]
    await again.close()


async def test_nothing_shows_before_it_is_on_disk(tmp_path: Path, seal: Seal, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path, seal)
    loop, is_writing, may_write = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    seen: list[str] = []
    write = journal.Journal.write

    def slow(self: journal.Journal, former: int, version: int, rows: list[journal.Row]) -> None:
        seen.append(threading.current_thread().name)
        loop.call_soon_threadsafe(is_writing.set)
        assert may_write.wait(10)
        write(self, former, version, rows)

    monkeypatch.setattr(journal.Journal, "write", slow)
    watch = store.watch()
    update = asyncio.create_task(store.update(lambda tx: tx.create(Task(id="t"))))
    await is_writing.wait()
    assert store.view().all(Task) == [] and list(watch.drain()) == [] and not update.done()
    may_write.set()
    assert (await update).id == "t"
    assert [task.id for task in store.view().all(Task)] == ["t"]
    assert len(list(watch.drain())) == 1
    assert seen[0].startswith("swarm-store")
    await store.close()


async def test_changes_that_wait_for_the_disk_share_a_write_and_stay_commits_of_their_own(
    tmp_path: Path, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path, seal)
    writes: list[tuple[int, int]] = []
    write = journal.Journal.write

    def counted(self: journal.Journal, former: int, version: int, rows: list[journal.Row]) -> None:
        writes.append((former, version))
        write(self, former, version, rows)

    monkeypatch.setattr(journal.Journal, "write", counted)
    watch = store.watch()

    def add(tx: Tx) -> int:
        tx.create(Task(id=f"t{len(tx.all(Task))}"))
        return len(tx.all(Task))

    assert await asyncio.gather(*(store.update(add) for _ in range(20))) == list(range(1, 21))
    assert [commit.version for commit in watch.drain()] == list(range(1, 21))
    assert writes == [(0, 20)]
    await store.close()


async def test_one_failing_change_doesnt_touch_those_beside_it(tmp_path: Path, seal: Seal) -> None:
    store = open_store(tmp_path, seal)
    outcomes = await asyncio.gather(
        store.update(lambda tx: tx.create(Task(id="a"))),
        store.update(lambda tx: tx.create(Task(id="a"))),
        store.update(lambda tx: tx.create(Task(id="b"))),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], errors.Conflict)
    assert [task.id for task in store.view().all(Task)] == ["a", "b"]
    await store.close()


async def test_a_write_that_fails_leaves_the_former_state_and_the_store_works_on(
    tmp_path: Path, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path, seal)
    await store.update(lambda tx: tx.create(Task(id="a")))
    with monkeypatch.context() as patch:

        def full(self: journal.Journal, row: journal.Row) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        patch.setattr(journal.Journal, "_apply", full)
        with pytest.raises(errors.Unavailable, match="disk is full"):
            await store.update(lambda tx: tx.create(Task(id="b")))
    assert [task.id for task in store.view().all(Task)] == ["a"]
    made = await store.update(lambda tx: tx.create(Task(id="c")))
    assert made.version.index == 2
    await store.close()
    again = open_store(tmp_path, seal)
    assert [task.id for task in again.view().all(Task)] == ["a", "c"]
    await again.close()


async def test_a_cancelled_caller_takes_nothing_back_and_harms_nobody(tmp_path: Path, seal: Seal) -> None:
    store = open_store(tmp_path, seal)
    first = asyncio.create_task(store.update(lambda tx: tx.create(Task(id="a"))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await store.update(lambda tx: tx.create(Task(id="b")))
    assert [task.id for task in store.view().all(Task)] == ["a", "b"]
    await store.close()


async def test_closing_waits_for_what_is_being_written(tmp_path: Path, seal: Seal) -> None:
    store = open_store(tmp_path, seal)
    update = asyncio.create_task(store.update(lambda tx: tx.create(Task(id="a"))))
    await asyncio.sleep(0)
    await store.close()
    assert (await update).id == "a"
    await store.close()
    with pytest.raises(errors.Unavailable, match="closed"):
        await store.update(lambda tx: tx.create(Task(id="b")))


async def test_credentials_are_sealed_on_disk_each_in_its_place(tmp_path: Path, seal: Seal) -> None:
    made = Service(
        id="a", spec=ServiceSpec(name="a"), credentials=Credentials(SECRET), previous_credentials=Credentials(b"former")
    )
    store = open_store(tmp_path, seal)
    await store.update(lambda tx: tx.create(made))
    await store.close()
    for path in tmp_path.glob("store.db*"):
        assert base64.b64encode(SECRET).rstrip(b"=") not in path.read_bytes()
    again = open_store(tmp_path, seal)
    service = again.view().get(Service, "a")
    assert service is not None
    assert (service.credentials, service.previous_credentials) == (made.credentials, made.previous_credentials)
    await again.close()


async def test_secrets_are_plain_in_memory_and_sealed_on_disk(tmp_path: Path, seal: Seal) -> None:
    store = open_store(tmp_path, seal)
    await store.update(lambda tx: tx.create(Secret(id="s", spec=SecretSpec(name="db", data=SECRET))))
    await store.close()
    for file in tmp_path.glob("store.db*"):
        content = file.read_bytes()
        assert SECRET not in content
        assert base64.b64encode(SECRET).rstrip(b"=") not in content
        assert file.stat().st_mode & 0o077 == 0
    again = open_store(tmp_path, seal)
    secret = again.view().get(Secret, "s")
    assert secret is not None and secret.spec.data == SECRET
    await again.close()


async def test_a_secret_that_was_put_in_anothers_place_does_not_open(tmp_path: Path, seal: Seal) -> None:
    store = open_store(tmp_path, seal)
    await store.update(lambda tx: tx.create(Secret(id="s1", spec=SecretSpec(name="one", data=SECRET))))
    await store.update(lambda tx: tx.create(Secret(id="s2", spec=SecretSpec(name="two", data=b"x"))))
    await store.close()
    edit(
        tmp_path,
        "UPDATE objects SET body = (SELECT replace(body, '\"s1\"', '\"s2\"') FROM objects WHERE id = 's1') "
        "WHERE id = 's2'",
    )
    with pytest.raises(errors.RuntimeFailure, match=r"secret s2 in .* is damaged.*does not open"):
        open_store(tmp_path, seal)


async def test_another_key_is_refused_by_name(tmp_path: Path, seal: Seal) -> None:
    await open_store(tmp_path, seal).close()
    other = Seal.create(tmp_path / "other.key")
    with pytest.raises(errors.RuntimeFailure, match=f"sealed with key {seal.fingerprint}.*{other.fingerprint}"):
        open_store(tmp_path, other)


async def test_a_newer_schema_is_refused_with_the_way_out(tmp_path: Path, seal: Seal) -> None:
    await open_store(tmp_path, seal).close()
    edit(tmp_path, f"PRAGMA user_version = {journal.SCHEMA_VERSION + 1}")
    with pytest.raises(errors.Unsupported, match="run the version that wrote it, or a newer one"):
        open_store(tmp_path, seal)


async def test_an_older_schema_is_migrated_with_its_rows(tmp_path: Path, seal: Seal) -> None:
    store = open_store(tmp_path, seal)
    await store.update(lambda tx: tx.create(Task(id="a")))
    await store.close()
    newer = (*journal.MIGRATIONS, ("ALTER TABLE store ADD COLUMN note TEXT", "UPDATE store SET note = 'migrated'"))
    migrated = journal.Journal(tmp_path / "store.db", seal, newer)
    assert [task.id for task in migrated.read().all(Task)] == ["a"]
    migrated.close()
    again = journal.Journal(tmp_path / "store.db", seal, newer)
    again.close()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE objects SET body = '{\"ID\": 7}'", "task a in .* is damaged"),
        ("UPDATE objects SET body = x'00ff'", "task a in .* is damaged"),
        ('UPDATE objects SET body = \'{"ID":"b"}\'', "it says that its id is 'b'"),
        ("UPDATE objects SET kind = 'pod'", "of a kind that this version"),
    ],
)
async def test_a_damaged_row_is_named(tmp_path: Path, seal: Seal, statement: str, reason: str) -> None:
    store = open_store(tmp_path, seal)
    await store.update(lambda tx: tx.create(Task(id="a")))
    await store.close()
    edit(tmp_path, statement)
    with pytest.raises(errors.RuntimeFailure, match=reason):
        open_store(tmp_path, seal)


async def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path, seal: Seal) -> None:
    (tmp_path / "store.db").write_bytes(b"not a database at all, but long enough to look at" * 100)
    with pytest.raises(errors.RuntimeFailure, match=r"store\.db is damaged .*not a database"):
        open_store(tmp_path, seal)


async def test_a_second_process_on_the_file_is_noticed_by_the_first_write(tmp_path: Path, seal: Seal) -> None:
    one, two = open_store(tmp_path, seal), open_store(tmp_path, seal)
    await one.update(lambda tx: tx.create(Task(id="a")))
    with pytest.raises(errors.Unavailable, match="changed by another process"):
        await two.update(lambda tx: tx.create(Task(id="b")))
    await one.close()
    await two.close()


CRASHER = """
import asyncio, os, sys
from pathlib import Path
from gitops.objects.task import Task
from gitops.swarm.clock import WallClock
from gitops.swarm.store.seal import Seal
from gitops.swarm.store.sqlite import SqliteStore

async def main():
    folder = Path(sys.argv[1])
    store = SqliteStore(folder / "store.db", WallClock(), Seal.load(folder / "keys" / "store.key"))
    for number in range(1_000_000):
        await store.update(lambda tx: [tx.create(Task(id=f"{number}-{part}")) for part in "ab"])
        os.write(1, f"{number}\\n".encode())

asyncio.run(main())
"""


def test_what_was_promised_is_there_after_a_kill_and_nothing_by_half(tmp_path: Path, seal: Seal) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CRASHER, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": "."},
    ) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(25)]
        process.kill()
        told += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
    store = open_store(tmp_path, seal)
    stored = {task.id for task in store.view().all(Task)}
    assert stored >= {f"{number}-{part}" for number in told for part in "ab"}
    assert {task_id[:-1] + "b" for task_id in stored} == {task_id for task_id in stored if task_id.endswith("b")}
    asyncio.run(store.close())
