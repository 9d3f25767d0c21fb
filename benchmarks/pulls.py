"""A cold pull of 200 MB in six layers from a registry on loopback: ours and dockerd's."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks import hosts, measure

ROUNDS = 5
LAYERS = 6
LAYER_BYTES = 34_000_000
SIZES = (4_000, 16_000, 64_000, 1_000_000)
"""Of the files, in turn, until the layer is full: some hundred of them."""
ADDRESS = "127.0.0.1:5000"
"""The same in the network namespace of each engine."""
IMAGE = f"{ADDRESS}/bench/large:1"


def run() -> None:
    """Pushed once by dockerd, so compressed as it compresses; then pulled in turn, and removed after each pull."""
    with tempfile.TemporaryDirectory() as directory, hosts.ours() as ours, hosts.docker() as docker:
        engines = {"gitops": ours, "dockerd": docker}
        with contextlib.ExitStack() as registries:
            for name, (_, pid) in engines.items():
                registries.enter_context(_registry(Path(directory), name, pid))
            _push(Path(directory), docker[0])
            figures: dict[str, list[float]] = {name: [] for name in engines}
            for _ in range(ROUNDS):
                for name, (environment, _) in engines.items():
                    figures[name].append(measure.command(["docker", "pull", IMAGE], environment).wall_s)
                    measure.command(["docker", "rmi", IMAGE], environment)
        title = f"{LAYERS * LAYER_BYTES // 10**6} MB in {LAYERS} layers, cold"
        measure.show("Pull from loopback", [("what", *engines, "ratio"), measure.compared(title, figures)])


@contextlib.contextmanager
def _registry(directory: Path, name: str, pid: int) -> Iterator[None]:
    """docker-registry beside an engine; all of them serve the same storage."""
    config = directory / f"registry-{name}.json"
    storage = {"filesystem": {"rootdirectory": str(directory / "registry")}}
    config.write_text(json.dumps({"version": 0.1, "storage": storage, "http": {"addr": ADDRESS}}))
    command = [*hosts.enter(pid), "docker-registry", "serve", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(pid)
        yield
    finally:
        process.terminate()
        process.wait()


def _await(pid: int) -> None:
    probe = [*hosts.enter(pid), "busybox", "nc", "-w", "1", *ADDRESS.split(":")]
    for _ in range(200):
        if subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError(f"no registry answers on {ADDRESS}")


def _push(directory: Path, environment: Mapping[str, str]) -> None:
    """Base64 of random bytes: the layers shrink to three quarters, and inflating them is work, as with programs."""
    from gitops.oci import builder

    layers: list[list[builder.Entry]] = []
    for layer in range(LAYERS):
        entries: list[builder.Entry] = []
        left = LAYER_BYTES
        while left > 0:
            size = min(SIZES[len(entries) % len(SIZES)], left)
            content = base64.b64encode(os.urandom(size))[:size]
            entries.append(builder.ContentEntry(content, f"/data/{layer}/{len(entries) // 100}/{len(entries)}"))
            left -= size
        layers.append(entries)
    path = directory / "large.tar"
    plan = builder.BuildPlan(layers, builder.BuildConfig(), None, [IMAGE])
    with builder.build(plan) as built, path.open("wb") as output:
        builder.write_archive(built, output)
    for command in (["load", "-i", str(path)], ["push", IMAGE], ["rmi", IMAGE]):
        measure.command(["docker", *command], environment)
    path.unlink()
