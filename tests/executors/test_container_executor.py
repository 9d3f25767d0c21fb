"""The executor over an engine that is a few dictionaries: what it asks for, and what it makes of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from gitops import errors
from gitops.config import EngineConfig
from gitops.engine.networks.boundary import PortFailure, Sandbox, SharedPort
from gitops.executors.container import ContainerExecutor
from gitops.objects.assignment import Endpoints, NetworkNames, PortBackends
from gitops.objects.container import ContainerState, Health, PortBinding
from gitops.objects.image import AuthConfig
from gitops.objects.network import NetworkObject, NetworkSpec
from gitops.objects.service import ContainerSpec, Endpoint, PortConfig, TaskSpec
from gitops.objects.task import NetworkAttachment, Task, TaskAddress
from gitops.swarm.agent.executor import Dependencies, TaskExited


class Record:
    """A container of the fake engine."""

    def __init__(self, container_id: str, name: str, labels: dict[str, str]) -> None:
        self.id, self.name, self.labels = container_id, name, labels
        self.state = ContainerState()
        self.network_settings = type("Settings", (), {"ports": {}})()
        self.changed = asyncio.Event()
        self.is_gone = False

    def become(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        self.changed.set()


class Containers:
    """ContainerService in small."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.created: list[tuple[Any, str, Any, bool]] = []
        self.starts = True
        self.stops: list[str] = []

    async def create(self, body: Any, name: str, *, files: Any, gateway_leg: bool) -> Record:
        self.created.append((body, name, files, gateway_leg))
        record = Record(f"c{len(self.created)}", name, body.labels)
        self.records[record.id] = record
        return record

    async def start_container(self, container: str) -> bool:
        self.get(container).become(status="running", running=True, pid=77)
        return True

    async def stop(self, container: str, timeout_s: float | None = None) -> bool:
        self.stops.append(container)
        if self.get(container).state.running:
            self.get(container).become(status="exited", running=False, exit_code=143)
        return True

    async def remove(self, container: str, *, force: bool, volumes: bool) -> None:
        record = self.get(container)
        del self.records[container]
        record.is_gone = True
        record.changed.set()

    def get(self, container: str) -> Record:
        if container not in self.records:
            raise errors.NotFound(f"No such container: {container}")
        return self.records[container]

    def list(self, *, all: bool, filters: dict[str, list[str]]) -> list[Record]:
        (label,) = filters["label"]
        key, _, value = label.partition("=")
        return [r for r in self.records.values() if key in r.labels and value in ("", r.labels[key])]

    async def changes(self, container: str) -> AsyncIterator[ContainerState]:
        record = self.get(container)
        while not record.is_gone:
            record.changed.clear()
            yield record.state
            await record.changed.wait()


class Images:
    """ImageService in small."""

    def __init__(self) -> None:
        self.local = {"app:v1"}
        self.pulls: list[str] = []
        self.auths: list[AuthConfig | None] = []
        self.error: errors.GitopsError | None = None

    def resolve(self, name: str) -> str:
        if name not in self.local:
            raise errors.NotFound(f"No such image: {name}")
        return "sha256:1"

    async def pull(self, reference: str, *, auth: AuthConfig | None) -> str:
        self.pulls.append(reference)
        self.auths.append(auth)
        if self.error is not None:
            raise self.error
        self.local.add(reference)
        return "sha256:1"


class Networks:
    """NetworkService in small."""

    def __init__(self) -> None:
        self.known: list[str] = []
        self.names: dict[str, Any] = {}
        self.ports: Sequence[SharedPort] = ()
        self.sandboxes: dict[str, Sandbox] = {}
        self.failures: list[PortFailure] = []
        self.busy: set[str] = set()

    async def ensure_overlay(self, network: NetworkObject) -> None:
        self.known.append(network.id)

    async def release_overlay(self, network_id: str) -> None:
        if network_id in self.busy:
            raise errors.Denied("in use")
        self.known.remove(network_id)

    def overlays(self) -> list[str]:
        return list(self.known)

    async def set_names(self, network_id: str, names: Any) -> None:
        self.names[network_id] = names

    async def apply_ports(self, ports: Sequence[SharedPort]) -> list[PortFailure]:
        self.ports = ports
        return self.failures

    def sandbox(self, container_id: str) -> Sandbox | None:
        return self.sandboxes.get(container_id)


class FakeEngine:
    """What the executor needs of an engine."""

    def __init__(self) -> None:
        self.containers, self.images, self.networks = Containers(), Images(), Networks()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def executor(engine: FakeEngine) -> ContainerExecutor:
    return ContainerExecutor(engine, EngineConfig())  # type: ignore[arg-type]


def task(task_id: str = "t1", image: str = "app:v1", **fields: Any) -> Task:
    spec = TaskSpec(container_spec=ContainerSpec(image=image))
    return Task(id=task_id, service_name="web", slot=1, node_id="n1", spec=spec, **fields)


async def started(executor: ContainerExecutor, engine: FakeEngine, **fields: Any) -> Any:
    controller = executor.controller(task(**fields), Dependencies())
    await controller.prepare()
    await controller.start()
    return controller


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_node_is_described_alike_from_call_to_call(executor: ContainerExecutor) -> None:
    first = await executor.describe()
    assert first == await executor.describe()
    assert first.resources.nano_cpus > 0
    assert first.resources.memory_bytes > 0
    assert {"overlay", "local", "json-file"} <= {plugin.name for plugin in first.engine.plugins}


async def test_preparing_makes_networks_image_and_container_once(
    executor: ContainerExecutor, engine: FakeEngine
) -> None:
    network = NetworkObject(id="ov1", spec=NetworkSpec(name="back"))
    fields = {"networks_attachments": [NetworkAttachment(network=network)]}
    controller = executor.controller(task(**fields), Dependencies())
    await controller.prepare()
    await controller.prepare()
    await executor.controller(task(**fields), Dependencies()).prepare()
    assert len(engine.containers.created) == 1
    assert engine.containers.created[0][1] == "web.1.t1"
    assert engine.containers.created[0][3] is True
    assert set(engine.networks.known) == {"ov1"}
    assert engine.images.pulls == []


async def test_an_image_that_is_not_here_is_pulled(executor: ContainerExecutor, engine: FakeEngine) -> None:
    await executor.controller(task(image="other:v1"), Dependencies()).prepare()
    assert engine.images.pulls == ["other:v1"]
    assert len(engine.containers.created) == 1


async def test_an_image_is_pulled_with_the_service_s_credentials(
    executor: ContainerExecutor, engine: FakeEngine
) -> None:
    auth = AuthConfig(username="alice", password="sesame")
    dependencies = Dependencies(credentials=auth)
    await executor.controller(task(image="other:v1"), dependencies).prepare()
    assert engine.images.auths == [auth]
    assert "sesame" not in repr(dependencies)


async def test_an_image_that_can_not_be_had_rejects_the_task_for_good(
    executor: ContainerExecutor, engine: FakeEngine
) -> None:
    engine.images.error = errors.Unavailable("the registry does not answer")
    with pytest.raises(errors.RuntimeFailure, match=r"No such image: other:v1: the registry") as raised:
        await executor.controller(task(image="other:v1"), Dependencies()).prepare()
    assert not raised.value.is_temporary


async def test_d19_start_waits_for_health(executor: ContainerExecutor, engine: FakeEngine) -> None:
    controller = executor.controller(task(), Dependencies())
    await controller.prepare()
    engine.containers.get("c1").become(health=Health(status="starting"))
    starting = asyncio.ensure_future(controller.start())
    await turns()
    assert not starting.done()
    engine.containers.get("c1").become(health=Health(status="healthy"))
    await starting


async def test_what_ends_badly_before_it_is_healthy_has_never_started(
    executor: ContainerExecutor, engine: FakeEngine
) -> None:
    for name, code in (("c1", 3), ("c2", 0)):
        controller = executor.controller(task(f"t{name}"), Dependencies())
        await controller.prepare()
        engine.containers.get(name).become(health=Health(status="starting"))
        starting = asyncio.ensure_future(controller.start())
        await turns()
        engine.containers.get(name).become(status="exited", running=False, exit_code=code)
        if code:
            with pytest.raises(TaskExited, match=r"non-zero exit \(3\)"):
                await starting
        else:
            await starting


async def test_d19_a_container_that_is_unhealthy_is_stopped_before_it_is_given_up(
    executor: ContainerExecutor, engine: FakeEngine
) -> None:
    controller = executor.controller(task(), Dependencies())
    await controller.prepare()
    engine.containers.get("c1").become(health=Health(status="unhealthy"))
    with pytest.raises(TaskExited, match="unhealthy"):
        await controller.start()
    assert engine.containers.stops == ["c1"]
    controller = await started(executor, engine, task_id="t2")
    waiting = asyncio.ensure_future(controller.wait())
    await turns()
    engine.containers.get("c2").become(health=Health(status="unhealthy"))
    with pytest.raises(TaskExited, match="unhealthy"):
        await waiting
    assert engine.containers.stops == ["c1", "c2"]


@pytest.mark.parametrize(("code", "fails"), [(0, False), (3, True)])
async def test_wait_ends_with_the_container(
    executor: ContainerExecutor, engine: FakeEngine, code: int, fails: bool
) -> None:
    controller = await started(executor, engine)
    waiting = asyncio.ensure_future(controller.wait())
    await turns()
    engine.containers.get("c1").become(status="exited", running=False, exit_code=code, oom_killed=fails)
    await turns()
    if fails:
        with pytest.raises(TaskExited, match=r"non-zero exit \(3\), out of memory") as raised:
            await waiting
        assert raised.value.exit_code == 3
    else:
        await waiting


async def test_i19_a_container_that_is_removed_behind_the_agents_back_ends_the_task(
    executor: ContainerExecutor, engine: FakeEngine
) -> None:
    controller = await started(executor, engine)
    waiting = asyncio.ensure_future(controller.wait())
    await turns()
    await engine.containers.remove("c1", force=True, volumes=True)
    with pytest.raises(TaskExited, match="removed"):
        await waiting
    with pytest.raises(TaskExited, match="removed"):
        await executor.controller(task(), Dependencies()).wait()
    await controller.shutdown()
    await controller.remove()


async def test_a_container_is_found_by_its_label_whatever_its_name(
    executor: ContainerExecutor, engine: FakeEngine
) -> None:
    await started(executor, engine)
    engine.containers.get("c1").name = "renamed"
    status = await executor.controller(task(), Dependencies()).container_status()
    assert status is not None
    assert (status.container_id, status.pid) == ("c1", 77)


async def test_shutdown_stops_and_remove_takes_away(executor: ContainerExecutor, engine: FakeEngine) -> None:
    controller = await started(executor, engine)
    await controller.shutdown()
    assert engine.containers.get("c1").state.status == "exited"
    await controller.remove()
    await controller.remove()
    assert engine.containers.records == {}


async def test_host_ports_that_the_node_chose_are_reported(executor: ContainerExecutor, engine: FakeEngine) -> None:
    port = PortConfig(target_port=80, publish_mode="host")
    controller = await started(executor, engine, endpoint=Endpoint(ports=[port]))
    engine.containers.get("c1").network_settings.ports = {"80/tcp": [PortBinding(host_port="49153")]}
    status = await controller.port_status()
    assert status is not None
    assert [item.published_port for item in status.ports] == [49153]
    assert await (await started(executor, engine, task_id="t2")).port_status() is None


async def test_endpoints_lead_to_local_tasks_by_their_gateway_legs(
    executor: ContainerExecutor, engine: FakeEngine, tmp_path: Any
) -> None:
    await started(executor, engine)
    engine.networks.sandboxes["c1"] = Sandbox(path=tmp_path, gateway_address="172.18.0.5")
    engine.networks.known = ["ov1", "ov2"]
    backends = [TaskAddress(task_id="t1", node_id="n1"), TaskAddress(task_id="elsewhere", node_id="n2")]
    await executor.apply_endpoints(
        Endpoints(
            ports=[PortBackends(protocol="tcp", published_port=8080, target_port=80, backends=backends)],
            networks=[NetworkNames(network_id="ov1", names={"web": ["10.0.1.5"]}), NetworkNames(network_id="far")],
        )
    )
    assert list(engine.networks.ports) == [SharedPort("tcp", 8080, 80, ("172.18.0.5",))]
    assert engine.networks.names == {"ov1": {"web": ["10.0.1.5"]}, "ov2": {}}


async def test_names_are_set_on_a_network_that_comes_later(executor: ContainerExecutor, engine: FakeEngine) -> None:
    names = {"web": ["10.0.1.5"]}
    await executor.apply_endpoints(Endpoints(networks=[NetworkNames(network_id="ov1", names=names)]))
    assert engine.networks.names == {}
    network = NetworkObject(id="ov1", spec=NetworkSpec(name="back"))
    await started(executor, engine, networks_attachments=[NetworkAttachment(network=network)])
    assert engine.networks.names == {"ov1": names}


async def test_a_port_that_can_not_be_had_is_temporary_and_said(
    executor: ContainerExecutor, engine: FakeEngine
) -> None:
    engine.networks.failures = [PortFailure(SharedPort("tcp", 80, 80), "another process has it")]
    with pytest.raises(errors.Unavailable, match="80/tcp: another process has it"):
        await executor.apply_endpoints(Endpoints())


async def test_retain_removes_other_tasks_and_unused_networks_only(
    executor: ContainerExecutor, engine: FakeEngine
) -> None:
    await started(executor, engine, task_id="kept")
    await started(executor, engine, task_id="left")
    plain = Record("plain", "mine", {})
    engine.containers.records["plain"] = plain
    engine.networks.known = ["used", "unused", "busy"]
    engine.networks.busy = {"busy"}
    await executor.retain({"kept"}, {"used"})
    assert set(engine.containers.records) == {"c1", "plain"}
    assert engine.networks.known == ["used", "busy"]
