"""The real API over a store in memory that holds what manifests ask for: an engine without host, loops or tasks.

`python -m benchmarks.standin SOCKET PATH` serves until it is ended. For sets that take our daemon minutes to declare.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks import planning
from gitops import manifests
from gitops.api import listeners, server
from gitops.config import EngineConfig
from gitops.engine.events import EventBus
from gitops.objects.network import NetworkCreate
from gitops.objects.service import Service, ServiceSpec
from gitops.simulation.clock import VirtualClock
from gitops.swarm.clock import IdSource
from gitops.swarm.manager.control import Control, references
from gitops.swarm.store.memory import MemoryStore
from gitops.swarm.store.protocol import Tx


class _Host:
    """A host that has nothing."""

    def __init__(self) -> None:
        self.id = "standin"
        self.config = EngineConfig()
        self.events = EventBus()
        self.networks = self.volumes = self.images = self.containers = SimpleNamespace(list=lambda *_, **__: [])

    def warnings(self) -> list[str]:
        """None."""
        return []

    async def components(self) -> dict[str, str]:
        """Of no other programs."""
        return {}


async def serve(socket: Path, path: Path) -> None:
    """Serve on `socket` what the manifests of `path` ask for, until a signal comes."""
    clock, ids = VirtualClock(), IdSource(random.Random(1))
    store = MemoryStore(clock)
    control = Control(store, clock, ids)
    desired = manifests.load(path, planning.OPTIONS.load)
    for network in desired.of("Network"):
        assert isinstance(network.spec, NetworkCreate)
        await control.create_network(network.spec)

    def declare(tx: Tx) -> None:
        for item in desired.objects:
            if isinstance(item.spec, ServiceSpec):
                tx.create(Service(id=ids(), spec=references.resolve(tx, item.spec)))

    await store.update(declare)
    host: Any = _Host()
    node: Any = SimpleNamespace(state="active", control=control, store=store, info=dict)
    serving = await server.serve(host, node, listeners.bind([f"unix://{socket}"], "no-such-group"))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await serving.close()


@contextlib.contextmanager
def holding(directory: Path, path: Path) -> Iterator[tuple[str, int]]:
    """A child that serves; its endpoint and its pid."""
    socket = directory / "standin.sock"
    child = subprocess.Popen([sys.executable, "-m", "benchmarks.standin", str(socket), str(path)])
    try:
        while not socket.exists():
            if child.poll() is not None:
                raise RuntimeError(f"the stand-in ended with {child.returncode}")
            time.sleep(0.05)
        yield f"unix://{socket}", child.pid
    finally:
        child.terminate()
        child.wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
