"""A daemon that is killed in the middle of a pull, at one moment after the other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gitops

pytestmark = pytest.mark.e2e

PULL = """
import asyncio, pathlib, sys
from gitops import config
from gitops.engine import database, events
from gitops.engine.images import service, unpack

unpacker = unpack.Unpacker()
unpacker.start()

async def main(root, name):
    rows = database.Database(root / "engine.db")
    images = service.ImageService(config.EngineConfig(data_root=root), rows, events.EventBus(), unpacker)
    await images.start()
    await images.pull(name, progress=lambda line: print(line.status, flush=True))

asyncio.run(main(pathlib.Path(sys.argv[1]), sys.argv[2]))
"""


def pull_until(root: Path, name: str, line: int) -> str:
    """Pull in another process, killed when it has told so many lines; the last of them."""
    environment = {**os.environ, "PYTHONPATH": str(Path(gitops.__file__).parents[1])}
    command = [sys.executable, "-c", PULL, str(root), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        text = ""
        for _ in range(line):
            text = process.stdout.readline()
        process.kill()
    return text.strip()


def check_consistent(host: Any) -> None:
    """Every directory has a row, every row its directory; nothing is half there."""
    assert host.service.findings == []
    assert all(path.suffix == ".part" for path in host.temporary())
    known = {key.removeprefix("sha256:") for key in host.service._store.layers}
    assert host.layer_directories() == known
    assert len(list((host.root / "l").iterdir())) == len(known)
    assert bool(known) == bool(host.service.list())


async def test_whenever_it_is_killed_the_next_start_is_clean_and_the_next_pull_succeeds(
    registry: Any, image_layout: Any, start_host: Any, tools: Any
) -> None:
    contents = [os.urandom(1 << 20) * 4 for _ in range(4)]
    layers = [tools.make_layer({f"f{number}": content}) for number, content in enumerate(contents)]
    image_layout.name("v1", image_layout.image(layers, compression=""))
    registry.push(image_layout, "v1", "app:v1", "--preserve-digests", "--dest-compress=false")
    name = f"{registry.host}/app:v1"
    seen = set()
    for line in (1, 3, 6, 8, 10, 14, 18, 22, 24, 26, 28):
        host = await start_host()
        seen.add(pull_until(host.root, name, line))
        again = await start_host(host.root)
        check_consistent(again)
        image_id = await again.pull(name)
        assert [again.read(image_id, f"f{number}") for number in range(4)] == contents
        assert again.temporary() == []
        check_consistent(again)
    assert "Pulling from app" in seen and len(seen) > 2, "it was killed at several moments"
