"""A host in a swarm of its own: init, restart, leave, and a membership that can't be taken up (I11, I12, I17)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gitops import errors
from gitops.config import EngineConfig
from gitops.objects.assignment import Endpoints
from gitops.objects.node import ClusterSpec, EncryptionConfig, Orchestration
from gitops.objects.secret import SecretSpec
from gitops.objects.service import FileTarget, PortConfig, SecretReference
from gitops.objects.system import SwarmInit
from gitops.objects.task import TaskState
from gitops.simulation.executor import Behaviour, FakeExecutor
from gitops.swarm import node as swarm_node
from gitops.swarm.clock import WallClock
from gitops.swarm.node import SwarmNode
from gitops.swarm.store.protocol import View

QUICK = Behaviour(prepare_s=0.001, start_s=0.001, stop_s=0.001)


class Host:
    """A machine: its disk, its containers, and the daemon that runs or doesn't."""

    def __init__(self, root: Path) -> None:
        self.config = EngineConfig(data_root=root / "data", run_root=root / "run")
        self.executor = FakeExecutor(WallClock(), "host", behave=lambda task: QUICK)
        self.node = self.boot()

    def boot(self) -> SwarmNode:
        return SwarmNode(self.config, self.executor, WallClock(), random.SystemRandom())

    async def restart(self) -> None:
        await self.node.close()
        self.node = self.boot()
        await self.node.start()

    async def until(self, condition: Callable[[View], bool]) -> None:
        view, watch = self.node.store.view_and_watch()
        with watch:
            async with asyncio.timeout(20):
                while not condition(view):
                    await anext(aiter(watch))
                    view = self.node.store.view()

    async def until_running(self, count: int) -> None:
        await self.until(lambda view: self.node.control.services(status=True)[0].service_status.running_tasks == count)  # type: ignore[union-attr]


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(tmp_path)
    await made.node.start()
    yield made
    await made.node.close()


async def test_a_host_in_no_swarm_says_so(host: Host) -> None:
    assert (host.node.state, host.node.node_id) == ("inactive", "")
    assert host.node.info() == {
        "NodeID": "",
        "NodeAddr": "",
        "LocalNodeState": "inactive",
        "ControlAvailable": False,
        "Error": "",
        "RemoteManagers": None,
    }
    for read in (lambda: host.node.control, lambda: host.node.store):
        with pytest.raises(errors.NotInSwarm, match='Use "docker swarm init" or "docker swarm join" to connect'):
            read()
    with pytest.raises(errors.NotInSwarm, match="This node is not part of a swarm"):
        await host.node.leave()
    assert not (host.config.data_root / "swarm").exists()


async def test_init_makes_a_swarm_with_this_node_ready_as_its_manager(host: Host) -> None:
    node_id = await host.node.init(SwarmInit(advertise_addr="192.0.2.9:2377"))
    assert (host.node.state, host.node.node_id) == ("active", node_id)
    (node,) = host.node.control.nodes()
    assert (node.id, node.spec.role, node.spec.availability) == (node_id, "manager", "active")
    assert (node.status.state, node.status.addr, node.description.hostname) == ("ready", "192.0.2.9", "host")
    assert node.manager_status is not None and node.manager_status.leader
    info = host.node.info()
    assert (info["LocalNodeState"], info["ControlAvailable"], info["NodeAddr"]) == ("active", True, "192.0.2.9")
    assert (info["Nodes"], info["Managers"]) == (1, 1)
    assert info["RemoteManagers"] == [{"NodeID": node_id, "Addr": "192.0.2.9:2377"}]
    assert info["Cluster"]["ID"] == host.node.control.cluster().id
    assert info["Cluster"]["DefaultAddrPool"] == ["10.0.0.0/8"]


async def test_init_sets_up_the_networks_of_a_swarm(host: Host) -> None:
    await host.node.init()
    await host.until(lambda view: host.node.control.network("ingress").driver_state is not None)
    (ingress,) = host.node.control.networks()
    assert ingress.spec.ingress and ingress.ipam_options is not None
    assert [entry.subnet for entry in ingress.ipam_options.config or ()] == ["10.0.0.0/24"]
    assert host.node.control.network("host").driver_state is not None
    assert host.node.control.network("bridge").spec.scope == ""


async def test_i12_a_second_init_is_refused_in_dockers_words(host: Host) -> None:
    await host.node.init()
    with pytest.raises(errors.Unavailable) as caught:
        await host.node.init()
    assert str(caught.value) == (
        'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
    )
    assert not caught.value.is_temporary


@pytest.mark.parametrize(
    ("fields", "kind", "reason"),
    [
        ({"advertise_addr": "nowhere.example"}, errors.Invalid, "invalid advertise address 'nowhere.example'"),
        ({"availability": "asleep"}, errors.Invalid, 'Invalid Availability: "asleep"'),
        ({"data_path_port": 80}, errors.Invalid, "must be in the range of 1024 to 49151"),
        ({"subnet_size": 30}, errors.Invalid, "invalid subnet size 30"),
        ({"default_addr_pool": ["10.0.0.0/99"]}, errors.Invalid, "invalid default address pool 10.0.0.0/99"),
        ({"default_addr_pool": ["10.0.0.0/28"]}, errors.Invalid, "smaller than a subnet of size 24"),
        ({"force_new_cluster": True}, errors.Unsupported, "ForceNewCluster"),
        ({"auto_lock_managers": True}, errors.Unsupported, "autolock"),
        ({"spec": ClusterSpec(encryption_config=EncryptionConfig(True))}, errors.Unsupported, "autolock"),
    ],
)
async def test_i12_a_swarm_that_cannot_be_is_refused_and_leaves_nothing(
    host: Host, fields: dict[str, Any], kind: type[Exception], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        await host.node.init(SwarmInit(**fields))
    assert host.node.state == "inactive"
    assert not (host.config.data_root / "swarm").exists()
    await host.node.init()


async def test_the_settings_of_init_are_kept(host: Host) -> None:
    await host.node.init(
        SwarmInit(
            default_addr_pool=["172.30.0.0/16"],
            subnet_size=26,
            data_path_port=5000,
            availability="drain",
            spec=ClusterSpec(orchestration=Orchestration(task_history_retention_limit=2), labels={"a": "b"}),
        )
    )
    cluster = host.node.control.cluster()
    assert (cluster.default_addr_pool, cluster.subnet_size, cluster.data_path_port) == (["172.30.0.0/16"], 26, 5000)
    assert cluster.spec.orchestration.task_history_retention_limit == 2
    assert cluster.spec.labels == {"a": "b"} and cluster.spec.name == "default"
    assert host.node.control.nodes()[0].spec.availability == "drain"


async def serve(host: Host, swarm: Any, replicas: int = 3) -> None:
    await host.node.init()
    await host.node.control.create_secret(SecretSpec(name="db", data=b"hunter2"))
    secrets = [SecretReference(FileTarget("db"), secret_name="db")]
    spec = swarm.spec(replicas=replicas, ports=(PortConfig(target_port=80, published_port=8080),), secrets=secrets)
    await host.node.control.create_service(spec)
    await host.until_running(replicas)


async def test_a_service_runs_and_its_port_leads_to_its_tasks(host: Host, swarm: Any) -> None:
    await serve(host, swarm)
    assert len(host.executor.running()) == 3
    async with asyncio.timeout(10):
        while not host.executor.endpoints or len(host.executor.endpoints[-1].ports[0].backends) != 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    dependencies = next(iter(host.executor.dependencies.values()))
    assert [item.spec.data for item in dependencies.secrets.values()] == [b"hunter2"]
    for file in (host.config.data_root / "swarm").glob("*.db*"):
        assert b"hunter2" not in file.read_bytes()


async def test_i17_a_restart_takes_everything_up_and_restarts_nothing(host: Host, swarm: Any) -> None:
    await serve(host, swarm)
    node_id, tasks = host.node.node_id, {task.id for task in host.node.control.tasks()}
    running = {item.task.id for item in host.executor.containers.values()}
    await host.restart()
    assert (host.node.state, host.node.node_id) == ("active", node_id)
    await host.until(lambda view: host.node.control.nodes()[0].status.state == "ready")
    await host.until_running(3)
    assert {task.id for task in host.node.control.tasks()} == tasks
    assert {item.task.id for item in host.executor.containers.values()} == running
    assert all(item.state == "running" for item in host.executor.containers.values())


async def test_what_ended_while_the_daemon_was_away_is_replaced(host: Host, swarm: Any) -> None:
    await serve(host, swarm)
    service = host.node.control.service("web")
    await host.node.close()
    victim = next(iter(host.executor.containers))
    host.executor.containers[victim].end(137)
    host.node = host.boot()
    await host.node.start()
    await host.until(
        lambda view: any(task.status.state is TaskState.FAILED for task in view.tasks_of_service(service.id))
    )
    await host.until(lambda view: len(view.tasks_of_service(service.id)) == 4)


async def test_i11_the_last_manager_leaves_by_force_only(host: Host, swarm: Any) -> None:
    await serve(host, swarm)
    with pytest.raises(errors.Unavailable) as caught:
        await host.node.leave()
    assert str(caught.value) == swarm_node.LAST_MANAGER
    assert "Use `--force` to ignore this message." in swarm_node.LAST_MANAGER
    await host.node.leave(force=True)
    assert (host.node.state, host.executor.running()) == ("inactive", [])
    assert host.executor.endpoints[-1] == Endpoints()
    assert host.executor.retained[-1] == (set(), set())
    assert not (host.config.data_root / "swarm").exists()
    await host.restart()
    assert host.node.state == "inactive"
    await serve(host, swarm, 1)


async def test_a_leave_that_was_interrupted_is_finished_by_the_next_start(
    host: Host, swarm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await serve(host, swarm)
    with monkeypatch.context() as patch:

        async def refuse(*_: object) -> None:
            raise errors.RuntimeFailure("the container can't be removed")

        patch.setattr(host.executor, "retain", refuse)
        with pytest.raises(errors.RuntimeFailure, match="can't be removed"):
            await host.node.leave(force=True)
    assert host.executor.containers
    await host.restart()
    assert host.node.state == "inactive"
    assert not host.executor.containers
    assert not (host.config.data_root / "swarm").exists()


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("store.db", b"rubbish" * 1000, "not a database"),
        ("keys/store.key", b"rubbish", "is damaged"),
        ("keys/store.key", None, "is missing"),
        ("membership.json", b"{", "can't read"),
    ],
)
async def test_a_membership_that_cannot_be_taken_up_is_shown_and_can_be_given_up(
    host: Host, swarm: Any, file: str, content: bytes | None, reason: str
) -> None:
    await serve(host, swarm, 1)
    await host.node.close()
    path = host.config.data_root / "swarm" / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    await host.restart()
    assert host.node.state == "error"
    assert reason in host.node.info()["Error"]
    assert len(host.executor.running()) == 1, "containers go on undisturbed"
    with pytest.raises(errors.NotInSwarm, match=reason):
        _ = host.node.control
    with pytest.raises(errors.Unavailable, match="already part of a swarm"):
        await host.node.init()
    await host.node.leave(force=True)
    assert (host.node.state, host.executor.running()) == ("inactive", [])


async def test_closing_twice_and_starting_in_no_swarm_do_no_harm(host: Host) -> None:
    await host.node.close()
    await host.node.close()
    await host.node.start()
    assert host.node.state == "inactive"
