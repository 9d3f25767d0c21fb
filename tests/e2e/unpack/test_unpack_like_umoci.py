"""Trees must equal what `umoci unpack` makes of the same layers, seen through overlayfs."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

DIR, LINK, SYM, CHR, BLK, FIFO = (
    tarfile.DIRTYPE,
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
)
E = tuple[Any, ...]


def d(name: str, mode: int = 0o755, **fields: Any) -> E:
    return name, b"", {"type": DIR, "mode": mode, **fields}


def f(name: str, data: str = "x", **fields: Any) -> E:
    return name, data.encode(), fields


def hard(name: str, target: str) -> E:
    return name, b"", {"type": LINK, "linkname": target}


def sym(name: str, target: str) -> E:
    return name, b"", {"type": SYM, "linkname": target}


def pax(**headers: str) -> dict[str, dict[str, str]]:
    return {"pax_headers": {key.replace("__", "."): value for key, value in headers.items()}}


BASE = [
    d("etc", 0o750, uid=1, gid=2, mtime=11),
    f("etc/passwd", "root", mode=0o640),
    f("etc/shadow", "secret", mode=0o600, gid=42),
    d("usr"),
    d("usr/lib", mtime=12),
    f("usr/lib/a.so", "aaa", mode=0o755),
    sym("lib", "usr/lib"),
    d("data", 0o1777),
    f("data/one", "1"),
    d("data/sub"),
    f("data/sub/two", "2"),
    hard("data/one-too", "data/one"),
]

CASES: dict[str, list[list[E]]] = {
    "plain": [BASE],
    "root entry": [[d("./", 0o700, uid=9, mtime=5), f("a")]],
    "names with dots and slashes": [[d("./a/"), f("./a//b"), f("/c"), f("a/../d"), f("../../e")]],
    "setuid, setgid, sticky": [
        [
            f("suid", mode=0o4755),
            f("sgid", mode=0o2755, uid=5, gid=6),
            d("g", 0o2775, gid=7),
            f("g/in", gid=0),
            d("g/d"),
            d("t", 0o1777),
        ]
    ],
    "owners": [[f("a", uid=65534, gid=65533), f("b", uid=4_000_000, gid=2_000_000), d("c", uid=3), sym("s", "a")]],
    "symlink owners": [[("s", b"", {"type": SYM, "linkname": "a", "uid": 12, "gid": 13, "mtime": 77})]],
    "times": [
        [
            f("ns", **pax(mtime="1234567890.123456789")),
            f("old", **pax(mtime="-1000.5")),
            d("d", **pax(mtime="100.000000001")),
            f("d/x"),
            f("zero", mtime=0),
        ]
    ],
    "attributes": [
        [
            f("f", **pax(SCHILY__xattr__user__a="1", SCHILY__xattr__user__b="two words")),
            d("d", **pax(SCHILY__xattr__user__c="x")),
            f(
                "cap",
                mode=0o755,
                **pax(SCHILY__xattr__security__capability="\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            ),
        ]
    ],
    "attributes replaced above": [
        [d("d", **pax(SCHILY__xattr__user__a="1")), f("d/f", **pax(SCHILY__xattr__user__a="1"))],
        [d("d", mtime=3), f("d/f")],
    ],
    "nodes": [
        [
            ("pipe", b"", {"type": FIFO, "mode": 0o640, "uid": 1}),
            ("null", b"", {"type": CHR, "devmajor": 1, "devminor": 3, "mode": 0o666}),
            ("disk", b"", {"type": BLK, "devmajor": 259, "devminor": 300, "mode": 0o660, "gid": 6}),
        ]
    ],
    "hard links": [[f("a", "data", mode=0o4711, uid=3), hard("b", "a"), d("d"), hard("d/c", "b"), hard("d/x", "/a")]],
    "hard link to a symlink": [[sym("s", "nowhere"), hard("t", "s")]],
    "hard link keeps the old content": [[f("a", "old"), hard("b", "a"), f("a", "new")]],
    "duplicates": [[f("a", "1"), f("a", "22", mode=0o600), d("d", 0o700), f("d/x"), d("d", 0o755, mtime=9)]],
    "kinds replaced": [
        [d("a"), f("a/x"), f("a"), f("b"), d("b"), f("b/y"), sym("c", "b"), d("c"), f("c/z"), d("e"), sym("e", "b")]
    ],
    "through a symlink": [[d("real"), sym("link", "real"), f("link/file"), sym("abs", "/real"), f("abs/other")]],
    "through a symlink out of the root": [[sym("up", "../../.."), f("up/file"), sym("loop", "up/up"), f("loop/deep")]],
    "whiteouts": [BASE, [f(".wh.lib"), d("data", 0o1777), f("data/.wh.one"), f("data/.wh.sub")]],
    "whiteout of what is in the layer": [BASE, [d("data"), f("data/.wh.one"), f("data/one", "new")]],
    "whiteout after what is in the layer": [BASE, [d("data"), f("data/one", "new"), f("data/.wh.one")]],
    "whiteout of a directory that comes again": [BASE, [f(".wh.data"), d("data", 0o700, uid=4), f("data/new")]],
    "whiteout of a directory that is implied again": [BASE, [f(".wh.data"), f("data/new")]],
    "whiteout of nothing": [BASE, [f(".wh.nothing"), f("etc/.wh.nothing"), f("none/.wh.x"), f("none/at/.wh.all")]],
    "whiteout in a new directory": [BASE, [d("new"), f("new/.wh.x"), f("new/y")]],
    "whiteout in the lowest layer": [[d("a"), f("a/.wh.x"), f(".wh.y"), f("a/z")]],
    "opaque": [BASE, [d("data"), f("data/.wh..wh..opq"), f("data/new")]],
    "opaque comes last": [BASE, [d("data"), f("data/new"), f("data/.wh..wh..opq")]],
    "opaque without an entry": [BASE, [f("data/.wh..wh..opq"), f("data/new")]],
    "opaque where nothing is": [BASE, [f("nothing/.wh..wh..opq")]],
    "opaque root": [BASE, [f(".wh..wh..opq"), f("only")]],
    "opaque root, more above": [BASE, [f(".wh..wh..opq"), d("etc"), f("etc/new")], [f("etc/more"), f(".wh.only")]],
    "opaque in the middle": [
        BASE,
        [d("data"), f("data/.wh..wh..opq"), f("data/mid")],
        [f("data/top"), f("data/.wh.mid")],
    ],
    "implied directories": [BASE, [f("etc/hosts"), f("usr/lib/b.so"), f("data/sub/three")]],
    "implied directories over two layers": [BASE, [d("etc", 0o711, uid=8, mtime=33)], [f("etc/hosts")]],
    "implied directories that are new": [[f("a/b/c/file")], [f("a/b/other")]],
    "file over a directory, and a directory again": [
        [d("d"), f("d/old")],
        [f("d", "file")],
        [d("d"), f("d/new")],
    ],
    "directory over a symlink": [BASE, [d("lib"), f("lib/own")]],
    "symlink over a directory": [BASE, [sym("data", "etc")]],
    "parent is a symlink below": [BASE, [f("lib/b.so", "bbb"), f("lib/.wh.a.so")]],
    "parent is an absolute symlink below": [[d("a"), f("a/x"), sym("b", "/a")], [f("b/y")]],
    "parent is a chain of symlinks below": [[d("a"), d("a/b"), sym("c", "a"), sym("e", "c/b")], [f("e/y")], [f("e/z")]],
    "hard link to a lower file": [BASE, [hard("passwd-too", "etc/passwd")]],
    "hard link to a lower file with names of its own": [
        BASE,
        [hard("etc/three", "data/one"), hard("four", "data/one-too")],
    ],
    "hard link through a lower symlink": [BASE, [hard("a-too", "lib/a.so")]],
    "hard link with a copy in a new directory": [
        BASE,
        [d("new"), hard("new/two", "data/sub/two"), hard("new/three", "data/sub/two")],
    ],
    "hard link beside a replaced target": [BASE, [hard("kept", "data/one"), f("data/one", "changed")]],
    "hard link to a lower symlink": [BASE, [hard("lib-too", "lib")]],
    "many layers": [
        [d("d", mtime=index + 1), f(f"d/{index}"), f("d/all", str(index), mode=0o600 + index)] for index in range(8)
    ],
    "long names": [[d("n" * 200), f("n" * 200 + "/" + "m" * 255), sym("s", "t" * 1000)]],
    "odd names": [[f("new\nline"), f("tab\t"), f("\udcff\udcfe"), f("é"), f(" "), f("-rf"), f("a\\b")]],
}


@pytest.mark.parametrize("name", CASES)
async def test_the_tree_equals_what_umoci_makes(
    name: str, lab: Any, entry: Callable[..., Any], layer: Callable[..., bytes], tree: Callable[[Path], Any]
) -> None:
    layers = [layer(*(entry(path, data, **fields) for path, data, fields in entries)) for entries in CASES[name]]
    started_ns = time.time_ns()
    wanted = tree(lab.umoci(layers))
    with lab.mounted(await lab.stack(layers)) as root:
        found = tree(root)
    assert found.entries == wanted.entries
    assert found.groups == wanted.groups
    # Where a directory's time is nobody's word, umoci leaves the time of the unpacking.
    settled = {path: time_ns for path, time_ns in wanted.times.items() if time_ns < started_ns}
    assert {path: found.times[path] for path in settled} == settled


async def test_a_tree_of_this_machine_equals_what_umoci_makes(lab: Any, tree: Callable[[Path], Any]) -> None:
    packed = lab.folder / "etc.tar"
    with tarfile.open(packed, "w", format=tarfile.PAX_FORMAT) as tar:
        for source in ("/etc", "/usr/share/perl5", "/usr/share/zoneinfo"):
            if Path(source).exists():
                tar.add(source)
    layers = [packed.read_bytes()]
    wanted = tree(lab.umoci(layers))
    with lab.mounted(await lab.stack(layers)) as root:
        found = tree(root)
    assert found.entries == wanted.entries
    assert found.groups == wanted.groups
    explicit = {path: time_ns for path, time_ns in wanted.times.items() if path not in (b".", b"usr", b"usr/share")}
    assert {path: found.times[path] for path in explicit} == explicit
