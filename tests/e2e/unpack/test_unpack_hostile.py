"""Layers that want out. The workers run in a mount namespace where only the test's own folder can be written."""

from __future__ import annotations

import ctypes
import gzip
import os
import socket
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from gitops import errors
from gitops.engine.images import unpack
from gitops.engine.images.unpack import zygote
from gitops.oci.limits import Limits

pytestmark = pytest.mark.e2e

DIR, LINK, SYM, CHR = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE
SECRET = b"the host's secret"
CLONE_NEWNS = 0x20000


@pytest.fixture
async def sealed(lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """The lab with workers that can't write anywhere else, whatever they do."""
    await lab.unpacker.close()
    main = zygote.main

    def sealed_main(control: socket.socket) -> None:
        if ctypes.CDLL(None).unshare(CLONE_NEWNS) != 0:
            os._exit(99)
        for command in (
            ["mount", "--make-rprivate", "/"],
            ["mount", "--bind", tmp_path, tmp_path],
            ["mount", "-o", "remount,bind,ro", "/"],
        ):
            subprocess.run(command, check=True)
        main(control)

    monkeypatch.setattr(zygote, "main", sealed_main)
    lab.unpacker = unpack.Unpacker()
    lab.unpacker.start()
    yield lab
    await lab.unpacker.close()


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    path = tmp_path / "canary"
    path.mkdir()
    (path / "secret").write_bytes(SECRET)
    (path / "victim").write_text("untouched")
    return path


def state(canary: Path) -> list[tuple[str, bytes, int, int]]:
    found = []
    for path in sorted(canary.iterdir()):
        status = path.lstat()
        found.append((path.name, path.read_bytes(), status.st_mode, status.st_mtime_ns))
    return found


def leaks(target: Path) -> bool:
    return any(not path.is_symlink() and path.is_file() and SECRET in path.read_bytes() for path in target.rglob("*"))


def accepted(canary: Path) -> dict[str, list[tuple[str, bytes, dict[str, Any]]]]:
    """Layers that are harmless once confined."""
    up = "../" * 30 + str(canary)[1:]
    link = {"type": SYM, "linkname": str(canary)}
    return {
        "dots": [(up + "/victim", b"x", {})],
        "absolute name": [(f"{canary}/victim", b"x", {})],
        "symlink to the outside, then through it": [("l", b"", link), ("l/victim", b"x", {}), ("l/new", b"x", {})],
        "relative symlink out": [("l", b"", {"type": SYM, "linkname": up}), ("l/victim", b"x", {})],
        "chain of symlinks": [
            ("a", b"", {"type": SYM, "linkname": ".."}),
            ("b", b"", {"type": SYM, "linkname": "a/.."}),
            ("b" + str(canary) + "/victim", b"x", {}),
        ],
        "directory over a symlink": [
            ("l", b"", link),
            ("l", b"", {"type": DIR, "mode": 0o777}),
            ("l/victim", b"x", {}),
        ],
        "file over a symlink": [("l", b"", {"type": SYM, "linkname": f"{canary}/victim"}), ("l", b"x", {})],
        "mode through a symlink": [("l", b"", link), ("l/", b"", {"type": DIR, "mode": 0o777, "uid": 1})],
        "symlink with attributes": [
            ("l", b"", {**link, "pax_headers": {"SCHILY.xattr.trusted.x": "1"}}),
        ],
        "whiteout through a symlink": [("l", b"", link), ("l/.wh.victim", b"", {})],
        "opaque through a symlink": [("l", b"", link), ("l/.wh..wh..opq", b"", {})],
        "whiteout out": [(up + "/.wh.victim", b"", {})],
        "hard link to a symlink, then written": [
            ("s", b"", {"type": SYM, "linkname": f"{canary}/victim"}),
            ("h", b"", {"type": LINK, "linkname": "s"}),
            ("h", b"x", {}),
        ],
        "root again": [("/", b"", {"type": DIR, "mode": 0o700}), ("..", b"", {"type": DIR}), ("a", b"x", {})],
        "overlay's own attributes": [
            ("d", b"", {"type": DIR, "pax_headers": {"SCHILY.xattr.trusted.overlay.redirect": str(canary)}}),
            ("d/f", b"x", {"pax_headers": {"SCHILY.xattr.user.overlay.opaque": "y"}}),
        ],
        "aufs's own": [(".wh..wh.plnk/x", b"x", {}), (".wh..wh.aufs", b"", {})],
        "symlink to proc": [("p", b"", {"type": SYM, "linkname": "/proc/1/root"}), ("p/etc/x", b"x", {})],
        "symlink replaced while in use": [
            ("d", b"", {"type": DIR}),
            ("d/f", b"1", {}),
            ("d", b"", link),
            ("d/victim", b"x", {}),
        ],
        "device": [("null", b"", {"type": CHR, "devmajor": 1, "devminor": 3})],
    }


def refused(canary: Path) -> dict[str, tuple[list[tuple[str, bytes, dict[str, Any]]], str]]:
    """Layers that can't be meant well."""
    up = "../" * 30 + str(canary)[1:]
    loop = [("a", b"", {"type": SYM, "linkname": "b"}), ("b", b"", {"type": SYM, "linkname": "a"}), ("a/x", b"", {})]
    inside = ("d", b"", {"type": DIR})
    return {
        "hard link out": ([("h", b"", {"type": LINK, "linkname": up + "/secret"})], "nowhere"),
        "absolute hard link": ([("h", b"", {"type": LINK, "linkname": f"{canary}/secret"})], "nowhere"),
        "hard link through a symlink": (
            [("l", b"", {"type": SYM, "linkname": str(canary)}), ("h", b"", {"type": LINK, "linkname": "l/secret"})],
            "nowhere",
        ),
        "hard link to a later member": ([("h", b"", {"type": LINK, "linkname": "f"}), ("f", b"x", {})], "nowhere"),
        "hard link to a directory": ([inside, ("h", b"", {"type": LINK, "linkname": "d"})], "directory"),
        "hard link to the root": ([("h", b"", {"type": LINK, "linkname": "/"})], "root"),
        "hard link that removes its target": (
            [inside, ("d/f", b"", {}), ("d", b"", {"type": LINK, "linkname": "d/f"})],
            "in the place of the directory",
        ),
        "whiteout of the parent": ([inside, ("d/.wh...", b"", {})], "not a valid whiteout"),
        "whiteout of itself": ([inside, ("d/.wh..", b"", {})], "not a valid whiteout"),
        "whiteout of nothing": ([inside, ("d/.wh.", b"", {})], "not a valid whiteout"),
        "entry below a whiteout": ([(".wh.d/f", b"", {})], "below a whiteout"),
        "symlink loop": (loop, "symlinks"),
        "symlink to nothing": ([("s", b"", {"type": SYM, "linkname": ""})], "symlink to nothing"),
        "long name": ([("n" * 256, b"", {})], "more than 255"),
        "long path": ([("/".join(["n" * 200] * 30), b"", {})], "the limit is 4095"),
        "deep": ([("d/" * 300 + "f", b"", {})], "directories deep"),
        "deep through symlinks": (
            [("s", b"", {"type": SYM, "linkname": "d/" * 200}), ("s/" + "e/" * 200 + "f", b"", {})],
            "deeper than the limits",
        ),
        "overlay's whiteout": ([("c", b"", {"type": CHR, "devmajor": 0, "devminor": 0})], "0:0"),
        "file as a directory": ([("f", b"", {}), ("f/x", b"", {})], "a directory must be"),
        "root as a file": ([("/", b"", {})], "no directory"),
        "owner out of range": ([("f", b"", {"pax_headers": {"uid": "4294967295"}})], "out of range"),
        "empty name": ([("f", b"", {"pax_headers": {"path": "\0"}})], "extended header"),
    }


@pytest.mark.parametrize("name", accepted(Path("/canary")))
async def test_what_is_harmless_once_confined_stays_inside(
    name: str, sealed: Any, canary: Path, entry: Callable[..., Any], layer: Callable[..., bytes]
) -> None:
    before = state(canary)
    data = layer(*(entry(path, content, **fields) for path, content, fields in accepted(canary)[name]))
    target, result = await sealed.unpack(data)
    assert not unpack.finish(target, result, []).redo
    assert state(canary) == before
    assert not leaks(target)


@pytest.mark.parametrize("name", refused(Path("/canary")))
async def test_what_cannot_be_meant_well_is_refused(
    name: str, sealed: Any, canary: Path, entry: Callable[..., Any], layer: Callable[..., bytes]
) -> None:
    before = state(canary)
    entries, reason = refused(canary)[name]
    data = layer(*(entry(path, content, **fields) for path, content, fields in entries))
    with pytest.raises(errors.Invalid, match=reason):
        target, result = await sealed.unpack(data)
        unpack.finish(target, result, [])
    assert state(canary) == before


async def test_a_lower_symlink_to_the_outside_leads_nowhere(
    sealed: Any, canary: Path, entry: Callable[..., Any], layer: Callable[..., bytes]
) -> None:
    before = state(canary)
    lower = layer(entry("l", type=SYM, linkname=str(canary)), entry("f"))
    upper = layer(entry("l/victim", b"x"), entry("l/.wh.secret"))
    top, bottom = await sealed.stack([lower, upper])
    assert (top / str(canary)[1:] / "victim").read_bytes() == b"x"
    assert (bottom / "l").is_symlink()
    assert state(canary) == before
    with pytest.raises(errors.Invalid, match="file of a lower layer"):
        await sealed.stack([lower, layer(entry("f/x"))])
    with pytest.raises(errors.Invalid, match="nowhere"):
        await sealed.stack([lower, layer(entry("h", type=LINK, linkname="l/secret"))])


async def test_overlays_own_attributes_are_left_out(
    sealed: Any, canary: Path, entry: Callable[..., Any], layer: Callable[..., bytes]
) -> None:
    headers = {"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.kept": "1"}
    target, _ = await sealed.unpack(layer(entry("d", type=DIR, pax_headers=headers)))
    assert os.listxattr(target / "d") == ["user.kept"]


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
async def test_a_bomb_meets_the_limit_and_honest_zeros_pass_in_constant_memory(
    compress: Callable[[bytes], bytes], sealed: Any, entry: Callable[..., Any], layer: Callable[..., bytes]
) -> None:
    data = layer(entry("zeros", bytes(300 << 20)))
    with pytest.raises(errors.Invalid, match="the limit is"):
        await sealed.unpack(data, compress=compress, limits=Limits(file_bytes=1 << 20))
    with pytest.raises(errors.Invalid, match="bytes of files"):
        await sealed.unpack(data, compress=compress, limits=Limits(layer_bytes=1 << 20))
    with pytest.raises(errors.RuntimeFailure, match="would stay free"):
        await sealed.unpack(data, compress=compress, limits=Limits(reserve_bytes=1 << 60))
    _, result = await sealed.unpack(data, compress=compress)
    assert result.unpacked_bytes == 300 << 20


async def test_too_many_members_are_refused(
    sealed: Any, entry: Callable[..., Any], layer: Callable[..., bytes]
) -> None:
    data = layer(*(entry(str(number)) for number in range(20)))
    with pytest.raises(errors.Invalid, match="more than 19 entries"):
        await sealed.unpack(data, limits=Limits(members=19))


async def test_a_huge_sparse_file_is_refused_and_a_small_one_is_sparse(
    sealed: Any, entry: Callable[..., Any], layer: Callable[..., bytes]
) -> None:
    def sparse(size: int) -> bytes:
        headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "f",
            "GNU.sparse.realsize": str(size),
        }
        content = f"1\n{size - 4}\n4\n".encode().ljust(512, b"\0") + b"tail"
        return layer(entry("GNUSparseFile.0/f", content, pax_headers=headers))

    with pytest.raises(errors.Invalid, match="the limit is"):
        await sealed.unpack(sparse(1 << 40))
    target, _ = await sealed.unpack(sparse(100 << 20))
    status = (target / "f").stat()
    assert status.st_size == 100 << 20
    assert status.st_blocks * 512 < 1 << 20
    with (target / "f").open("rb") as file:
        file.seek(-6, os.SEEK_END)
        assert file.read() == b"\0\0tail"


async def test_digests_sizes_and_damage_are_found(
    sealed: Any, entry: Callable[..., Any], layer: Callable[..., bytes]
) -> None:
    data = layer(entry("f", b"x" * 5000))
    wrong = "sha256:" + "0" * 64
    for changes, reason in (
        ({"digest": wrong}, "the blob's digest is"),
        ({"diff_id": wrong}, "the layer's diff id is"),
        ({"size": 10}, "more than the 10 bytes"),
        ({"size": 10**6}, "its descriptor says"),
        ({"compress": lambda data: gzip.compress(data)[:-4]}, "cut short"),
        ({"compress": lambda data: gzip.compress(data) + b"more"}, "damaged|cut short"),
        ({"compress": lambda data: gzip.compress(data[:2000])}, "unexpected end"),
    ):
        with pytest.raises(errors.Invalid, match=reason):
            await sealed.unpack(data, **changes)
    with pytest.raises(errors.Unsupported, match="bzip2"):
        await sealed.unpack(data, compress=lambda data: b"BZh9" + data)
