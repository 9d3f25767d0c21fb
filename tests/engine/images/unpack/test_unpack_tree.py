"""What the writer notes down, on harmless layers; the rest needs root and is in tests/e2e/unpack."""

from __future__ import annotations

import io
import os
import random
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops import errors
from gitops.engine.images.unpack.job import DeferredLink
from gitops.engine.images.unpack.lowerview import LowerView
from gitops.engine.images.unpack.tree import TreeWriter
from gitops.oci import tarheader
from gitops.oci.limits import Limits
from gitops.oci.tarheader import Member
from gitops.oci.tarstream import TarReader

DIR, LINK, SYM = tarheader.DIRECTORY, tarheader.HARDLINK, tarheader.SYMLINK


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "root"
    path.mkdir()
    monkeypatch.chdir(path)
    mask = os.umask(0)
    yield path
    os.umask(mask)


def add(
    tree: TreeWriter, name: str, content: bytes = b"", kind: bytes = tarheader.FILE, link: str = "", **fields: Any
) -> None:
    member = Member(
        name.encode(), kind, fields.get("mode", 0o755), os.getuid(), os.getgid(), len(content), 10**18, link.encode()
    )
    tree.add(member, iter([content] if content else []))


def test_directories_that_no_entry_made_are_noted_until_one_does(root: Path) -> None:
    tree = TreeWriter(Limits())
    add(tree, "a/b/c/f", b"x")
    assert list(tree.implied) == [b"a", b"a/b", b"a/b/c"]
    add(tree, "a/b", kind=DIR)
    assert list(tree.implied) == [b"a", b"a/b/c"]
    tree.complete()
    assert (root / "a/b").stat().st_mtime_ns == 10**18
    assert (root / "a").stat().st_mode & 0o777 == 0o700


def test_replacing_a_directory_forgets_all_below_it(root: Path) -> None:
    tree = TreeWriter(Limits())
    add(tree, "d/e/f", b"x")
    add(tree, "d/.wh.gone")
    add(tree, "d/e/.wh..wh..opq")
    add(tree, "d/link", kind=LINK, link="nowhere")
    add(tree, "d", b"file")
    assert (tree.implied, tree.whiteouts, tree.links, tree.opaque) == ({}, {}, [], set())
    assert (root / "d").read_bytes() == b"file"


def test_a_directory_in_the_place_of_a_file_hides_what_is_below(root: Path) -> None:
    tree = TreeWriter(Limits())
    add(tree, "d", b"file")
    add(tree, "d", kind=DIR)
    assert tree.opaque == {b"d"}


def test_hard_links_to_what_the_layer_has_not_are_left_to_the_finish_pass(root: Path) -> None:
    tree = TreeWriter(Limits())
    add(tree, "one", kind=LINK, link="/below/file")
    add(tree, "two", kind=LINK, link="one")
    assert tree.links == [DeferredLink(b"one", b"below/file"), DeferredLink(b"two", b"below/file")]
    add(tree, "one", b"own")
    assert tree.links == [DeferredLink(b"two", b"below/file")]
    with pytest.raises(errors.Invalid, match="directory must be"):
        add(tree, "two/x", b"")


def test_counts_are_of_content_and_of_whole_blocks(root: Path) -> None:
    tree = TreeWriter(Limits())
    add(tree, "d", kind=DIR)
    add(tree, "d/f", b"x" * 5000)
    add(tree, "d/s", kind=SYM, link="f")
    assert (tree.members, tree.unpacked_bytes, tree.disk_bytes) == (3, 5000, 8192 + 2 * 4096)


def test_with_the_lower_layers_in_view_paths_follow_their_symlinks(root: Path, tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    (lower / "usr/lib").mkdir(parents=True)
    (lower / "lib").symlink_to("usr/lib")
    (lower / "abs").symlink_to("/usr")
    (lower / "file").touch()
    with LowerView.open([lower]) as view:
        tree = TreeWriter(Limits(), view)
        add(tree, "lib/a", b"a")
        add(tree, "abs/b", b"b")
        add(tree, "hard", kind=LINK, link="lib/c")
        add(tree, "file/.wh.ignored")
        assert (root / "usr/lib/a").exists() and (root / "usr/b").exists()
        assert list(tree.implied) == [b"usr", b"usr/lib"]
        assert tree.links == [DeferredLink(b"hard", b"usr/lib/c")]
        with pytest.raises(errors.Invalid, match="file of a lower layer"):
            add(tree, "file/x", b"")
        add(tree, ".wh.lib")
        add(tree, "lib/new", b"n")
        assert (root / "lib/new").exists()


@given(st.integers(0, 10**9))
def test_random_entries_never_leave_the_root_and_end_cleanly(seed: int) -> None:
    source = random.Random(seed)
    names = ["a", "b", "a/b", "a/c", "b/a/c", "../a", "/b", "a/../c", "c/a", ".wh.a", "a/.wh.b", "b/.wh..wh..opq"]
    with _inside() as folder:
        before = _listing(folder)
        tree = TreeWriter(Limits())
        try:
            for _ in range(source.randrange(12)):
                kind = source.choice([tarheader.FILE, tarheader.FILE, DIR, LINK, SYM])
                target = source.choice(["a", "../..", "/a", "/b/a", "..", "c"])
                add(tree, source.choice(names), b"x" if kind == tarheader.FILE else b"", kind, target)
            if os.getuid() == 0:
                tree.complete()
        except errors.Invalid:
            pass
        assert _listing(folder) == before


class _inside:
    """A fresh root in a folder with something beside it, as the current directory."""

    def __enter__(self) -> Path:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        for name in ("outer/root", "outer/a", "outer/b"):
            (folder / name).mkdir(parents=True)
        self._back = os.getcwd()
        os.chdir(folder / "outer/root")
        return folder / "outer"

    def __exit__(self, *_: object) -> None:
        os.chdir(self._back)
        self._folder.cleanup()


def _listing(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*") if folder / "root" not in path.parents)


def test_the_reader_and_the_writer_agree_on_a_stream(root: Path) -> None:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        info = tarfile.TarInfo("f")
        info.size, info.uid, info.gid = 3000, os.getuid(), os.getgid()
        tar.addfile(info, io.BytesIO(b"y" * 3000))
    data = output.getvalue()
    pieces = iter([data[at : at + 700] for at in range(0, len(data), 700)])
    reader = TarReader(lambda: next(pieces, b""))
    tree = TreeWriter(Limits())
    for member in reader:
        tree.add(member, reader.data())
    assert (root / "f").read_bytes() == b"y" * 3000
