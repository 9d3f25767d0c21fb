"""A daemon that is killed at any moment leaves nothing that its next start doesn't take up or remove."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from typing import Any

import pytest

from gitops.engine.networks import Attachment, SharedPort
from gitops.objects.network import NetworkCreate

pytestmark = pytest.mark.e2e

BUSY = """
import asyncio, itertools, os, sys
from pathlib import Path
from gitops.config import EngineConfig
from gitops.engine.database import Database
from gitops.engine.events import EventBus
from gitops.engine.networks import Attachment, NetworkService, PublishedPort, SharedPort
from gitops.objects.network import NetworkCreate

async def main():
    config = EngineConfig(data_root=Path(sys.argv[1]), run_root=Path(sys.argv[2]))
    service = NetworkService(config, Database(config.data_root / "engine.db"), EventBus())
    await service.start(dict.fromkeys(sys.argv[3].split(","), os.getpid()))
    print("ready", flush=True)
    async def churn(number):
        container = f"{number:064x}"
        while True:
            sandbox = await service.create_sandbox(container, [Attachment("front")], gateway_leg=True)
            await service.publish(container, [PublishedPort(80, "tcp", 9000 + number)])
            await service.apply_ports([SharedPort("tcp", 8080, 80, (sandbox.gateway_address,) * number)])
            await service.remove_sandbox(container)
    async def networks():
        for number in itertools.count():
            await service.create(NetworkCreate(name=f"n{number}"))
            await service.remove(f"n{number}")
    await asyncio.gather(networks(), *(churn(number) for number in range(1, 5)))

asyncio.run(main())
"""


async def killed(world: Any, live: str, after_s: float) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        BUSY,
        str(world.config.data_root),
        str(world.config.run_root),
        live,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    line = await process.stdout.readline()
    assert line == b"ready\n", (await process.stderr.read()).decode()
    try:
        await asyncio.wait_for(process.wait(), after_s)
    except TimeoutError:
        process.send_signal(signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL, (await process.stderr.read()).decode()


async def test_a_daemon_may_be_killed_at_any_moment(world: Any) -> None:
    service = await world.start()
    await service.create(NetworkCreate(name="front"))
    kept = await service.create_sandbox("a" * 64, [Attachment("front")], gateway_leg=True, name="kept")
    await world.stop(service)
    rng = random.Random(7)
    with world.serve(kept.path, 80, "kept"):
        for _ in range(8):
            await killed(world, "a" * 64, rng.uniform(0.02, 0.6))
            assert world.ask(None, kept.endpoints["front"].ip_address, 80)[0] == "kept"
            service = await world.start({"a" * 64})
            assert await service.audit() == []
            assert sorted(path.name for path in (world.config.run_root / "netns").iterdir()) == ["a" * 64]
            # One leg on each network, and the uplink; no bridge but those of networks.
            assert world.run("ip", "-br", "link", "show", "type", "veth").count("\n") == 3
            bridges = [network for network in service.list() if network.driver == "bridge"]
            assert world.run("ip", "-br", "link", "show", "type", "bridge").count("\n") == len(bridges)
            assert service.sandbox("a" * 64) == kept
            for network in bridges:
                if network.name.startswith("n"):
                    await service.remove(network.name)
            assert await service.apply_ports([SharedPort("tcp", 8080, 80, (kept.gateway_address or "",))]) == []
            assert world.ask(world.client, "198.51.100.1", 8080)[0] == "kept"
            await world.stop(service)
