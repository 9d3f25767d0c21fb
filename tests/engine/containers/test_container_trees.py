"""Tars out of a tree and into it, with trees and archives that were made to lead elsewhere."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitops import errors
from gitops.engine import mountinfo
from gitops.engine.containers import packing, rootfs, unpacking
from gitops.oci.tarstream import TarReader

OWN = unpacking.Rules(owner=(os.getuid(), os.getgid()))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A container's root, with links that lead to the host's files where they are followed wrongly."""
    root = tmp_path / "root"
    (root / "data" / "in").mkdir(parents=True)
    (root / "data" / "file").write_text("content")
    os.link(root / "data" / "file", root / "data" / "twin")
    (root / "data" / "link").symlink_to("file")
    (root / "out").symlink_to(tmp_path / "host")
    (root / "up").symlink_to("../../../../host")
    (root / "folder").symlink_to("/data")
    (root / "broken").symlink_to("/no/such")
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "secret").write_text("the host's")
    return root


@pytest.fixture
def top(tree: Path) -> Iterator[int]:
    with rootfs.opened(tree) as descriptor:
        yield descriptor


def packed(top: int, path: str) -> tarfile.TarFile:
    output = io.BytesIO()
    packing.pack(top, packing.absolute(path), output)
    output.seek(0)
    return tarfile.open(fileobj=output)


def archive(*members: tuple[str, bytes, str | bytes]) -> TarReader:
    """Members as name, kind and link or content."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as made:
        for name, kind, value in members:
            item = tarfile.TarInfo(name)
            item.type, item.mode = kind, 0o755 if kind == tarfile.DIRTYPE else 0o640
            if isinstance(value, bytes):
                item.size = len(value)
                made.addfile(item, io.BytesIO(value))
            else:
                item.linkname = value
                made.addfile(item)
    output.seek(0)
    return TarReader(lambda: output.read(1000))


def test_a_directory_is_packed_under_its_own_name_and_hard_links_stay_links(top: int) -> None:
    found = {item.name: item for item in packed(top, "/data").getmembers()}
    assert list(found) == ["data", "data/file", "data/in", "data/link", "data/twin"]
    assert (found["data/twin"].type, found["data/twin"].linkname) == (tarfile.LNKTYPE, "data/file")
    assert (found["data/link"].type, found["data/link"].linkname) == (tarfile.SYMTYPE, "file")


def test_a_path_that_ends_in_a_dot_is_packed_without_a_name(top: int) -> None:
    assert packed(top, "/data/.").getnames()[:2] == [".", "./file"]
    assert packed(top, "/folder/").getnames()[:2] == ["folder", "folder/file"]
    assert packed(top, "/").getnames()[:3] == ["", "broken", "data"] or packed(top, "/").getnames()[1] == "broken"


def test_a_link_is_packed_as_a_link_and_its_end_is_told(top: int) -> None:
    (item,) = packed(top, "/folder").getmembers()
    assert item.issym()
    assert packing.look(top, "/folder").target == "/data"
    assert packing.look(top, "/data/link").target == "/data/file"
    assert packing.look(top, "/broken").target == "/no/such"


@pytest.mark.parametrize("path", ["/out/secret", "/up/secret", "/up/../host/secret", "../host/secret"])
def test_no_path_leads_to_the_host(top: int, path: str) -> None:
    with pytest.raises(OSError):
        packed(top, path)


@pytest.mark.parametrize(
    ("path", "base"), [("/", "/"), ("a//b", "b"), ("/a/", "a"), ("/a/.", "."), ("/../..", "/"), ("a/../b", "b")]
)
def test_paths_are_read_as_docker_reads_them(path: str, base: str) -> None:
    assert packing.base_name(packing.absolute(path)) == base


def test_files_directories_and_links_are_written(top: int, tree: Path) -> None:
    members = [("new", tarfile.DIRTYPE, ""), ("new/a", tarfile.REGTYPE, b"hello"), ("new/b", tarfile.LNKTYPE, "new/a")]
    unpacking.unpack(top, "/folder", archive(*members, ("deep/er/c", tarfile.SYMTYPE, "/etc/passwd")), OWN)
    assert (tree / "data/new/b").read_text() == "hello"
    assert stat.S_IMODE((tree / "data/new/a").stat().st_mode) == 0o640
    assert os.readlink(tree / "data/deep/er/c") == "/etc/passwd"


def test_links_in_the_tree_and_in_the_archive_lead_nowhere_else(top: int, tree: Path, tmp_path: Path) -> None:
    for name in ("out/secret", "up/secret", "link/secret"):
        with pytest.raises((errors.Invalid, OSError)):
            unpacking.unpack(
                top, "/", archive(("link", tarfile.SYMTYPE, str(tmp_path / "host")), (name, tarfile.REGTYPE, b"x")), OWN
            )
    # A file in the place of a link takes the link's place.
    unpacking.unpack(top, "/", archive(("out", tarfile.REGTYPE, b"x")), OWN)
    assert (tree / "out").read_text() == "x"
    with pytest.raises(errors.Invalid, match="leads out"):
        unpacking.unpack(top, "/data", archive(("../../host/secret", tarfile.REGTYPE, b"x")), OWN)
    for target in ("../../host/secret", "out/secret"):
        with pytest.raises((errors.Invalid, OSError)):
            unpacking.unpack(top, "/", archive(("hard", tarfile.LNKTYPE, target)), OWN)
    unpacking.unpack(top, "/", archive(("/abs", tarfile.REGTYPE, b"inside")), OWN)
    assert (tree / "abs").read_text() == "inside"
    assert (tmp_path / "host" / "secret").read_text() == "the host's"
    assert sorted(path.name for path in (tmp_path / "host").iterdir()) == ["secret"]


def test_kinds_are_kept_where_that_is_asked_for(top: int, tree: Path) -> None:
    keeping = unpacking.Rules(keeps_kinds=True, owner=OWN.owner)
    with pytest.raises(errors.Invalid, match="cannot overwrite directory"):
        unpacking.unpack(top, "/", archive(("data", tarfile.REGTYPE, b"x")), keeping)
    with pytest.raises(errors.Invalid, match="cannot overwrite non-directory"):
        unpacking.unpack(top, "/data", archive(("file", tarfile.DIRTYPE, "")), keeping)
    unpacking.unpack(top, "/", archive(("data", tarfile.REGTYPE, b"x")), OWN)
    assert (tree / "data").read_text() == "x"
    assert not [path for path in tree.iterdir() if path.name.startswith(".removing")]


def test_a_file_is_no_place_to_write_an_archive_to(top: int) -> None:
    with pytest.raises(errors.Invalid, match="extraction point is not a directory"):
        unpacking.unpack(top, "/data/file", archive(("x", tarfile.REGTYPE, b"")), OWN)
    with pytest.raises(FileNotFoundError):
        unpacking.unpack(top, "/none", archive(("x", tarfile.REGTYPE, b"")), OWN)


def test_an_entry_of_any_depth_is_removed_from_an_open_directory(tmp_path: Path) -> None:
    inner = tmp_path / "a"
    for _ in range(100):
        inner = inner / "d"
    inner.mkdir(parents=True)
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        mountinfo.remove_entry("a", descriptor)
    finally:
        os.close(descriptor)
    assert list(tmp_path.iterdir()) == []


def test_a_layer_has_all_but_what_is_hidden(tree: Path) -> None:
    output = io.BytesIO()
    descriptor = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        packing.pack_layer(descriptor, output, {b"data/in", b"out"})
    finally:
        os.close(descriptor)
    output.seek(0)
    with tarfile.open(fileobj=output) as made:
        assert made.getnames() == [
            *("broken", "data", "data/file", "data/link", "data/twin"),
            *("folder", "up"),
        ]
