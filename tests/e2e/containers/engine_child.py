"""An engine in a process of its own, for tests that kill it: `engine_child.py CONFTEST ROOT PARENT SCENARIO`."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from gitops.config import EngineConfig
from gitops.engine.containers import runtime
from gitops.objects.base import MILLISECOND
from gitops.objects.container import HostConfig, RestartPolicy
from gitops.objects.service import HealthConfig


def load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("containers_conftest", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["containers_conftest"] = module
    spec.loader.exec_module(module)
    return module


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def die_soon(*_: object, **__: object) -> None:
    die()


async def start(service: Any, body: Any, name: str, **options: Any) -> Any:
    made = await service.create(body, name, **options)
    await service.start_container(made.id)
    return service.get(made.id)


async def steady(service: Any, call: Any) -> None:
    check = HealthConfig(test=["CMD", "true"], interval=50 * MILLISECOND)
    made = await start(
        service,
        call("sh", "-c", "echo begun; trap 'echo asked; exit 5' TERM; while :; do sleep 0.05; done", healthcheck=check),
        "steady",
    )
    async for state in service.changes(made.id):
        if state.health.status == "healthy":
            break
    await start(service, call("sh", "-c", "while test ! -e /tmp/go; do sleep 0.02; done; exit 21"), "leaver")
    again = HostConfig(restart_policy=RestartPolicy("always"))
    await start(service, call("sh", "-c", "while test ! -e /tmp/go; do sleep 0.02; done; exit 22", host=again), "again")
    gone = HostConfig(auto_remove=True, binds=["/data"])
    await start(service, call("sh", "-c", "while test ! -e /tmp/go; do sleep 0.02; done", host=gone), "gone")
    await start(service, call("sleep", "1000"), "paused")
    await service.pause("paused")


async def before_letting_go(service: Any, call: Any) -> None:
    runtime.Runtime.let_go = die_soon  # type: ignore[method-assign]
    await start(service, call("sleep", "1000"), "waiting")


async def after_letting_go(service: Any, call: Any) -> None:
    let_go = runtime.Runtime.let_go

    async def let_go_and_die(self: Any, container: str) -> None:
        await let_go(self, container)
        die()

    runtime.Runtime.let_go = let_go_and_die  # type: ignore[method-assign]
    await start(service, call("sleep", "1000"), "running")


async def churn(service: Any, call: Any) -> None:
    rng = random.Random()
    for line in service.list(all=True):
        await service.remove(line.id, force=True, volumes=True)

    async def one() -> None:
        while True:
            body = call("sh", "-c", f"sleep {rng.choice(['0', '0.01', '1000'])}", host=HostConfig(binds=["/data"]))
            made = await service.create(body, files=FILES)
            await service.start_container(made.id)
            await service.stop(made.id, 0)
            await service.remove(made.id, volumes=True)

    await asyncio.gather(*(one() for _ in range(3)))


FILES: list[Any] = []
SCENARIOS = {
    "steady": steady,
    "before-letting-go": before_letting_go,
    "after-letting-go": after_letting_go,
    "churn": churn,
}


async def main() -> None:
    helpers = load(sys.argv[1])
    root = Path(sys.argv[2])
    config = EngineConfig(data_root=root / "data", run_root=root / "run", cgroup_parent=sys.argv[3])
    host = helpers.Host(root, helpers.LocalImages(root / "layer"), config)
    FILES.append(helpers.InjectedFile("/run/secrets/s", b"word"))
    service = await host.start()
    print("started", flush=True)
    await SCENARIOS[sys.argv[4]](service, helpers.body)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
