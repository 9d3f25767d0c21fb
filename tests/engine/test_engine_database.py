"""The engine's rows: durable, atomic, refused when they come from the future."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import msgspec
import pytest

from gitops import errors
from gitops.engine import database


class Row(msgspec.Struct, frozen=True):
    name: str
    size: int = 0


class Wider(msgspec.Struct, frozen=True):
    name: str
    size: int
    colour: str


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "engine.db"


def test_rows_are_read_back_after_a_new_start(path: Path) -> None:
    with database.Database(path) as rows:
        rows.put("fruit", "b", Row("pear", 2))
        rows.put("fruit", "a", Row("apple"))
        rows.put("other", "a", Row("stone"))
    with database.Database(path) as rows:
        assert rows.get("fruit", "b", Row) == Row("pear", 2)
        assert rows.all("fruit", Row) == {"a": Row("apple"), "b": Row("pear", 2)}
        assert list(rows.all("fruit", Row)) == ["a", "b"]


def test_a_row_is_replaced_and_deleted(path: Path) -> None:
    with database.Database(path) as rows:
        rows.put("fruit", "a", Row("apple"))
        rows.put("fruit", "a", Row("quince"))
        assert rows.get("fruit", "a", Row) == Row("quince")
        assert rows.delete("fruit", "a") is True
        assert rows.delete("fruit", "a") is False
        assert rows.get("fruit", "a", Row) is None


def test_a_transaction_that_fails_leaves_nothing(path: Path) -> None:
    with database.Database(path) as rows:
        with pytest.raises(ZeroDivisionError), rows.transaction():
            rows.put("fruit", "a", Row("apple"))
            with rows.transaction():
                rows.put("fruit", "b", Row("pear"))
            raise ZeroDivisionError
        assert rows.all("fruit", Row) == {}
        with rows.transaction():
            rows.put("fruit", "a", Row("apple"))
        assert list(rows.all("fruit", Row)) == ["a"]


def test_writes_of_an_open_transaction_are_not_there_after_a_crash(path: Path) -> None:
    rows = database.Database(path)
    with rows.transaction():
        rows.put("fruit", "a", Row("apple"))
        copy = path.with_name("copy.db")
        for suffix in ("", "-wal"):
            source = path.with_name(path.name + suffix)
            copy.with_name(copy.name + suffix).write_bytes(source.read_bytes())
    rows.close()
    with database.Database(copy) as after:
        assert after.all("fruit", Row) == {}


def test_a_newer_schema_is_refused(path: Path) -> None:
    database.Database(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {database.SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(errors.Unsupported, match="newer"):
        database.Database(path)


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(errors.RuntimeFailure, match=r"engine\.db"):
        database.Database(path)


def test_a_row_of_another_shape_names_table_and_key(path: Path) -> None:
    with database.Database(path) as rows:
        rows.put("fruit", "a", Row("apple"))
        with pytest.raises(errors.RuntimeFailure, match="'a' of 'fruit'"):
            rows.get("fruit", "a", Wider)


def test_only_root_reads_the_file(path: Path) -> None:
    with database.Database(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("is_there", [False, True])
def test_an_empty_database_beside_what_it_explains_is_refused(tmp_path: Path, is_there: bool) -> None:
    path, folder = tmp_path / "engine.db", tmp_path / "layers"
    folder.mkdir()
    database.Database(path, [folder]).close()
    path.unlink()
    (folder / "one").mkdir()
    if is_there:
        path.write_bytes(b"")
    with pytest.raises(errors.RuntimeFailure, match=r"engine\.db is (missing|empty), but .*layers is not empty"):
        database.Database(path, [folder])
    assert path.exists() == is_there


def test_a_damaged_page_is_found_when_the_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    with database.Database(path) as rows:
        for number in range(2000):
            rows.put("table", f"{number}", {"text": "x" * 100})
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * 8192)
    with pytest.raises(errors.RuntimeFailure, match=r"engine\.db is damaged: restore it from a backup"):
        database.Database(path)


def test_rows_that_a_boot_makes_void_do_not_wait_for_the_disk(path: Path) -> None:
    with database.Database(path) as rows:

        def level() -> int:
            return int(rows._connection.execute("PRAGMA synchronous").fetchone()[0])

        full = level()
        with rows.until_boot():
            assert level() < full
            rows.put("t", "a", Row("one"))
        with pytest.raises(ValueError), rows.until_boot():
            raise ValueError
        with rows.transaction(), rows.until_boot():
            rows.put("t", "b", Row("2"))
            assert level() == full, "the transaction as a whole is one promise"
        assert level() == full
    with database.Database(path) as rows:
        assert set(rows.all("t", Row)) == {"a", "b"}
