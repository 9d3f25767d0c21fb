"""Random stacks of layers over few names, so that entries collide: the trees must equal umoci's.

Within a layer no name comes twice: there, umoci goes by the order of entries, and overlayfs can't always show that.
Where umoci gives up, only our own refusal or success is seen, not compared.
"""

from __future__ import annotations

import random
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitops import errors

pytestmark = pytest.mark.e2e

SEEDS = range(60)
DIRECTORIES = ["", "a/", "b/", "a/c/", "b/a/"]
NAMES = ["a", "b", "c"]


def random_layer(
    source: random.Random, known: list[str], entry: Callable[..., Any], layer: Callable[..., bytes]
) -> bytes:
    taken: set[str] = set()
    entries = []
    for _ in range(source.randrange(1, 9)):
        name = source.choice(DIRECTORIES) + source.choice(NAMES)
        if name in taken or any(name.startswith(other + "/") for other in taken if not other.endswith("/")):
            continue
        if any(other.startswith(name + "/") for other in taken):
            continue
        fields = {"mtime": source.randrange(10**9), "uid": source.randrange(3)}
        kind = source.choice(["file", "file", "directory", "directory", "whiteout", "opaque", "symlink", "link"])
        directory, _, last = name.rpartition("/")
        prefix = directory + "/" if directory else ""
        if kind == "directory":
            entries.append(entry(name, type=tarfile.DIRTYPE, mode=source.choice([0o755, 0o700]), **fields))
            taken.add(name + "/")
            continue
        taken.add(name)
        if kind == "file":
            known.append(name)
            entries.append(
                entry(name, source.randbytes(source.randrange(9)), mode=source.choice([0o644, 0o4755]), **fields)
            )
        elif kind == "link":
            target = source.choice(known) if known else name
            entries.append(entry(name, type=tarfile.LNKTYPE, linkname=target))
            known.append(name)
        elif kind == "whiteout":
            entries.append(entry(f"{prefix}.wh.{last}"))
        elif kind == "opaque":
            entries.append(entry(f"{name}/.wh..wh..opq"))
            taken.discard(name)
            taken.add(name + "/")
        else:
            entries.append(
                entry(name, type=tarfile.SYMTYPE, linkname=source.choice(["a", "/b", "../c", "x"]), **fields)
            )
    return layer(*entries)


@pytest.mark.parametrize("seed", SEEDS)
async def test_random_stacks_equal_what_umoci_makes(
    seed: int, lab: Any, entry: Callable[..., Any], layer: Callable[..., bytes], tree: Callable[[Path], Any]
) -> None:
    source = random.Random(seed)
    known: list[str] = []
    layers = [random_layer(source, known, entry, layer) for _ in range(source.randrange(1, 5))]
    started_ns = time.time_ns()
    try:
        wanted = tree(lab.umoci(layers))
    except subprocess.CalledProcessError:
        wanted = None
    try:
        stack = await lab.stack(layers)
    except errors.Invalid:
        assert wanted is None
        return
    if wanted is None:
        return
    with lab.mounted(stack) as root:
        found = tree(root)
    assert found.entries == wanted.entries
    settled = {path: time_ns for path, time_ns in wanted.times.items() if time_ns < started_ns}
    assert {path: found.times[path] for path in settled} == settled
