"""A thousand services through the real API, over a socket: what a pass that finds nothing to do sends, and keeps."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from gitops import manifests
from gitops.api import listeners, server
from gitops.client import EngineClient, endpoint
from gitops.client.endpoint import Endpoint
from gitops.client.transport import Transport
from gitops.engine.events import EventBus
from gitops.manifests import DesiredSet
from gitops.objects import base, system
from gitops.objects.network import NetworkCreate
from gitops.objects.service import ServiceSpec
from gitops.reconciler import source
from gitops.reconciler.plan import Action
from gitops.reconciler.reconcile import Options, Reconciler
from gitops.simulation.clock import VirtualClock
from gitops.swarm.clock import IdSource
from gitops.swarm.manager.control import Control
from gitops.swarm.store.memory import MemoryStore

COUNT = 1000
A_FILE = 50
SERVICE = """\
apiVersion: gitops/v1
kind: Service
metadata: {{name: web-{number}, stack: bench}}
spec:
  image: registry.example/app-{number}:1@sha256:{number:064}
  environment: {{LOG_LEVEL: info}}
  ports: ["{port}:80"]
  deploy: {{replicas: 0, update_config: {{delay: 10s}}}}
"""


class _Counting(Transport):
    """Remembers what is sent."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.calls: list[tuple[str, str]] = []

    def _answer(self, method: str, path: str, **more: Any) -> Any:
        self.calls.append((method, path))
        return super()._answer(method, path, **more)

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [call for call in self.calls if call[0] not in ("GET", "HEAD")]


class _Client(EngineClient):
    """Knows what time it is without asking a host that isn't there."""

    async def info(self) -> system.SystemInfo:
        return system.SystemInfo(system_time=base.format_time(time.time_ns()))


class _Hosted:
    """An engine's part of the API: nothing on the host."""

    def __init__(self) -> None:
        nothing = SimpleNamespace(list=lambda *_, **__: [])
        self.events = EventBus()
        self.networks = self.volumes = self.images = nothing

    async def components(self) -> dict[str, str]:
        return {}


def lay_out(directory: Path) -> None:
    for begin in range(0, COUNT, A_FILE):
        numbers = range(begin, begin + A_FILE)
        text = "---\n".join(SERVICE.format(number=number, port=10_000 + number) for number in numbers)
        (directory / f"services-{begin:04}.yaml").write_text(text)


async def declare(control: Control, desired: DesiredSet) -> None:
    """As an apply does."""
    for item in desired.objects:
        if isinstance(item.spec, NetworkCreate):
            await control.create_network(item.spec)
        elif isinstance(item.spec, ServiceSpec):
            await control.create_service(item.spec)


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore(VirtualClock())


@pytest.fixture
def control(store: MemoryStore) -> Control:
    return Control(store, VirtualClock(), IdSource(random.Random(1)))


@pytest.fixture
async def transport(tmp_path: Path, store: MemoryStore, control: Control) -> AsyncIterator[_Counting]:
    hosted: Any = _Hosted()
    node: Any = SimpleNamespace(state="active", control=control, store=store)
    host = f"unix://{tmp_path}/api.sock"
    serving = await server.serve(hosted, node, listeners.bind([host], "no-such-group"))
    yield _Counting(endpoint.resolve(host))
    await serving.close()


async def test_a_pass_that_finds_nothing_to_do_writes_nothing(
    tmp_path: Path, control: Control, transport: _Counting
) -> None:
    path = tmp_path / "manifests"
    path.mkdir()
    lay_out(path)
    options = Options(manifests.LoadOptions(secret_key=b"key"))
    await declare(control, manifests.load(path, options.load))
    async with _Client(transport) as client:
        client.keep_listings()
        reconciler = Reconciler(client, options)
        first = await reconciler.prepare(source.of_path(path))
        assert not first.plan.changed and len(first.plan.steps) == COUNT + 1
        await reconciler.apply(first, lambda _: None)
        assert transport.writes and all(call[1].startswith("/configs/") for call in transport.writes)

        transport.calls.clear()
        second = await reconciler.prepare(source.of_path(path))
        await reconciler.apply(second, lambda _: None)
        assert not second.plan.changed and transport.writes == []
        # What is the same is not even made again, be it declared or live.
        live = second.live.services
        assert all(live[name] is service for name, service in first.live.services.items())
        pairs = zip(first.request.desired.objects, second.request.desired.objects, strict=True)
        assert all(one is other for one, other in pairs if one.kind == "Service")

        file = path / "services-0500.yaml"
        file.write_text(file.read_text().replace("LOG_LEVEL: info", "LOG_LEVEL: debug", 1))
        transport.calls.clear()
        third = await reconciler.prepare(source.of_path(path))
        (step,) = third.plan.changed
        assert (step.engine_name, step.action) == ("bench_web-500", Action.UPDATE)
        await reconciler.apply(third, lambda _: None)
        service = live["bench_web-500"].id
        assert [call for call in transport.writes if not call[1].startswith("/configs/")] == [
            ("POST", f"/services/{service}/update")
        ]


async def test_what_somebody_changes_behind_a_watch_is_seen_by_the_next_pass(
    tmp_path: Path, control: Control, transport: _Counting
) -> None:
    path = tmp_path / "manifests"
    path.mkdir()
    (path / "services.yaml").write_text(SERVICE.format(number=1, port=80) + "---\n" + SERVICE.format(number=2, port=81))
    options = Options(manifests.LoadOptions(secret_key=b"key"))
    await declare(control, manifests.load(path, options.load))
    async with _Client(transport) as client:
        client.keep_listings()
        reconciler = Reconciler(client, options)
        for _ in range(3):
            assert not (await reconciler.prepare(source.of_path(path))).plan.changed
        service = control.service("bench_web-2")
        template = service.spec.task_template
        assert template.container_spec is not None
        container = replace(template.container_spec, env=["LOG_LEVEL=debug"])
        spec = replace(service.spec, task_template=replace(template, container_spec=container))
        await control.update_service(service.id, service.version.index, spec)
        await control.remove_service("bench_web-1")
        found = (await reconciler.prepare(source.of_path(path))).plan.changed
        assert [(step.engine_name, step.action) for step in found] == [
            ("bench_web-1", Action.CREATE),
            ("bench_web-2", Action.UPDATE),
        ]
