"""The background deletion."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitops.engine.images import trash


@pytest.fixture
def bin(tmp_path: Path) -> Iterator[trash.Trash]:
    (tmp_path / "trash").mkdir()
    made = trash.Trash(tmp_path / "trash")
    made.start()
    yield made
    made.close()


def make_tree(path: Path, depth: int = 3) -> Path:
    path.mkdir()
    (path / "file").write_bytes(b"x")
    (path / "link").symlink_to("/")
    if depth:
        make_tree(path / "sub", depth - 1)
    return path


def test_what_is_thrown_away_is_gone_at_once_and_deleted_later(bin: trash.Trash, tmp_path: Path) -> None:
    path = make_tree(tmp_path / "tree")
    bin.throw(path)
    assert not path.exists()
    assert bin.wait_until_empty(10)


def test_links_are_deleted_and_not_followed(bin: trash.Trash, tmp_path: Path) -> None:
    kept = make_tree(tmp_path / "kept")
    path = tmp_path / "tree"
    path.mkdir()
    (path / "link").symlink_to(kept)
    bin.throw(path)
    assert bin.wait_until_empty(10)
    assert (kept / "file").exists()


def test_what_isnt_there_is_no_error(bin: trash.Trash, tmp_path: Path) -> None:
    bin.throw(tmp_path / "nothing")


def test_trees_deeper_than_a_path_may_be_long_are_deleted(bin: trash.Trash, tmp_path: Path) -> None:
    top = tmp_path / "deep"
    top.mkdir()
    current = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=current)
        below = os.open("d" * 200, os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
        os.close(current)
        current = below
    os.close(current)
    bin.throw(top)
    assert bin.wait_until_empty(10)


def test_nothing_is_deleted_while_a_pull_runs(bin: trash.Trash, tmp_path: Path) -> None:
    with bin.paused():
        bin.throw(make_tree(tmp_path / "tree"))
        assert not bin.wait_until_empty(0.1)
    assert bin.wait_until_empty(10)


def test_what_an_earlier_run_left_is_deleted_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "trash").mkdir()
    make_tree(tmp_path / "trash" / "left")
    made = trash.Trash(tmp_path / "trash")
    made.start()
    assert made.wait_until_empty(10)
    made.close()


def test_closing_doesnt_wait_for_the_deletion(tmp_path: Path) -> None:
    (tmp_path / "trash").mkdir()
    made = trash.Trash(tmp_path / "trash")
    made.start()
    with made.paused():
        made.throw(make_tree(tmp_path / "tree"))
        made.close()
    assert len(list((tmp_path / "trash").iterdir())) == 1
