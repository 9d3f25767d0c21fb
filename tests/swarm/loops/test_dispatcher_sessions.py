"""Nodes register, say that they are alive, are told what to hold and report what they see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from gitops import errors
from gitops.objects.assignment import Assignments, Endpoints, PortBackends, TaskStatusReport
from gitops.objects.base import SECOND
from gitops.objects.network import NetworkObject, NetworkSpec
from gitops.objects.node import Cluster, ClusterSpec, Node, NodeDescription
from gitops.objects.node import Dispatcher as DispatcherSpec
from gitops.objects.secret import Config, ConfigSpec, Secret, SecretSpec
from gitops.objects.service import ConfigReference, ContainerSpec, SecretReference, TaskSpec
from gitops.objects.task import NetworkAttachment, Task, TaskAddress, TaskState, TaskStatus
from gitops.swarm.manager.dispatcher import Dispatcher, InvalidSession, Session
from gitops.swarm.store.protocol import View

DESCRIPTION = NodeDescription(hostname="n1")


def project(view: View, node_id: str) -> Endpoints:
    """All running tasks behind one port."""
    running = [task for task in view.all(Task) if task.status.state is TaskState.RUNNING]
    backends = [TaskAddress(task_id=task.id, node_id=task.node_id) for task in running]
    return Endpoints(version=view.version, ports=[PortBackends(published_port=80, backends=backends)])


class Reader:
    """Reads a session's assignments into a list."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.messages: list[Assignments] = []
        self.task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for message in self.session.assignments():
            self.messages.append(message)

    def take(self) -> list[Assignments]:
        """The messages since the last call."""
        taken, self.messages = self.messages, []
        return taken


@pytest.fixture
async def net(world: Any) -> AsyncIterator[Any]:
    """A world with a running dispatcher."""
    world.dispatcher = Dispatcher(world.store, world.clock, world.rng, world.ids, project=project, manager_id="m1")
    world.start(world.dispatcher)
    await world.clock.settle()
    world.readers = []
    yield world
    for reader in world.readers:
        reader.task.cancel()
        await asyncio.wait({reader.task})
        if not reader.task.cancelled():
            reader.task.exception()


async def register(net: Any, node_id: str = "n1") -> Session:
    return await net.dispatcher.session(node_id, DESCRIPTION, "192.0.2.1")


async def reading(net: Any, node_id: str = "n1") -> Reader:
    reader = Reader(await register(net, node_id))
    net.readers.append(reader)
    await net.clock.settle()
    return reader


async def assigned(net: Any, task_id: str, state: TaskState = TaskState.ASSIGNED, **fields: Any) -> Task:
    spec = TaskSpec(container_spec=fields.pop("container", None))
    task = Task(id=task_id, service_id="s", spec=spec, node_id=fields.pop("node_id", "n1"), **fields)
    return await net.store.update(lambda tx: tx.create(replace(task, status=TaskStatus(state=state))))


async def change(net: Any, task_id: str, **changes: Any) -> None:
    await net.store.update(lambda tx: tx.update(replace(tx.get(Task, task_id), **changes)))


def node(net: Any, node_id: str = "n1") -> Node:
    found = net.store.view().get(Node, node_id)
    assert found is not None
    return found


async def test_a_registered_node_is_ready_and_described(net: Any) -> None:
    await register(net)
    assert node(net).status.state == "ready"
    assert node(net).status.addr == "192.0.2.1"
    assert node(net).description == DESCRIPTION


async def test_a_node_that_is_not_in_the_swarm_gets_no_session(net: Any) -> None:
    with pytest.raises(errors.NotFound, match="not in this swarm"):
        await register(net, "stranger")


async def test_d01_a_second_registration_ends_the_first_session(net: Any) -> None:
    first = await reading(net)
    second = await register(net)
    assert second.id != first.session.id
    await net.clock.settle()
    with pytest.raises(InvalidSession, match="registered again"):
        await first.session.heartbeat()
    with pytest.raises(InvalidSession):
        await first.session.report([])
    assert isinstance(first.task.exception(), InvalidSession)
    assert await second.heartbeat() > 0


async def test_d02_more_than_three_registrations_in_eight_seconds_are_refused(net: Any) -> None:
    for _ in range(3):
        await register(net)
    with pytest.raises(errors.Unavailable, match="too often"):
        await register(net)
    await net.clock.advance(8)
    await register(net)


async def test_d04_missed_heartbeats_take_a_node_down_and_end_its_session(net: Any) -> None:
    session = await register(net)
    for _ in range(5):
        await net.clock.advance(await session.heartbeat())
        assert node(net).status.state == "ready"
    await net.clock.advance(8)
    assert node(net).status.state == "ready"
    await net.clock.advance(5)
    assert (node(net).status.state, node(net).status.message) == ("down", "heartbeat failure")
    with pytest.raises(InvalidSession, match="heartbeats failed"):
        await session.heartbeat()


async def test_a_manager_that_stood_still_takes_no_node_down(net: Any, monkeypatch: Any) -> None:
    session = await register(net)
    await net.clock.settle()
    # All timers are late by a minute, as after a process that was stopped.
    monkeypatch.setattr(net.clock, "monotonic", lambda real=net.clock.monotonic: real() + 60)
    await net.clock.advance(16)
    assert node(net).status.state == "ready"
    await session.heartbeat()
    await net.clock.advance(8)
    assert node(net).status.state == "ready"
    await net.clock.advance(10)
    assert node(net).status.state == "down"


async def test_d04_periods_are_jittered_around_the_clusters_setting(net: Any) -> None:
    session = await register(net)
    periods = [await session.heartbeat() for _ in range(50)]
    assert all(4.5 <= period <= 5.5 for period in periods)
    assert max(periods) - min(periods) > 0.5
    spec = ClusterSpec(dispatcher=DispatcherSpec(heartbeat_period=20 * SECOND))
    await net.store.update(lambda tx: tx.create(Cluster(id="c", spec=spec)))
    assert 19 < await session.heartbeat() < 21


async def test_d05_a_node_that_was_down_is_ready_again_with_a_new_session(net: Any) -> None:
    await register(net)
    await net.clock.advance(20)
    assert node(net).status.state == "down"
    session = await register(net)
    assert node(net).status.state == "ready"
    await net.clock.advance(await session.heartbeat())
    assert node(net).status.state == "ready"


async def test_after_a_change_of_managers_nodes_are_unknown_and_have_twice_the_time(world: Any) -> None:
    await world.node("n2")
    dispatcher = Dispatcher(world.store, world.clock, world.rng, world.ids, project=project)
    with pytest.raises(errors.Unavailable):
        await dispatcher.session("n1", DESCRIPTION, "")
    world.start(dispatcher)
    await world.clock.advance(1)
    assert {node(world, name).status.state for name in ("n1", "n2")} == {"unknown"}
    session = await dispatcher.session("n1", DESCRIPTION, "")
    for _ in range(5):
        await world.clock.advance(await session.heartbeat())
    assert node(world, "n2").status.state == "unknown"
    for _ in range(2):
        await world.clock.advance(await session.heartbeat())
    assert node(world, "n2").status.state == "down"
    assert node(world, "n1").status.state == "ready"


async def test_when_the_dispatcher_stops_its_sessions_end(net: Any) -> None:
    reader = await reading(net)
    await net.stop(net.dispatcher)
    with pytest.raises(InvalidSession, match="manager stopped"):
        await reader.session.heartbeat()
    await net.clock.settle()
    assert isinstance(reader.task.exception(), InvalidSession)


async def test_a_removed_node_loses_its_session(net: Any) -> None:
    session = await register(net)
    await net.store.update(lambda tx: tx.delete(Node, "n1"))
    await net.clock.settle()
    with pytest.raises(InvalidSession, match="removed"):
        await session.heartbeat()


async def test_d06_the_first_message_is_complete_and_the_next_are_increments_in_sequence(net: Any) -> None:
    await assigned(net, "t1")
    reader = await reading(net)
    (first,) = reader.take()
    assert first.is_complete
    assert (first.sequence, [task.id for task in first.tasks]) == (1, ["t1"])
    assert first.endpoints is not None
    await assigned(net, "t2")
    await net.clock.advance(0.2)
    await net.store.update(lambda tx: tx.delete(Task, "t1"))
    await net.clock.advance(0.2)
    second, third = reader.take()
    assert not second.is_complete
    assert (second.sequence, [task.id for task in second.tasks], second.removed_tasks) == (2, ["t2"], [])
    assert (third.sequence, third.tasks, third.removed_tasks) == (3, [], ["t1"])


async def test_d07_only_assigned_tasks_of_the_node_are_sent_and_only_news(net: Any) -> None:
    await net.node("n2")
    reader = await reading(net)
    reader.take()
    await assigned(net, "pending", TaskState.PENDING, node_id="")
    await assigned(net, "foreign", node_id="n2")
    await assigned(net, "mine")
    await net.clock.advance(0.2)
    (message,) = reader.take()
    assert [task.id for task in message.tasks] == ["mine"]
    await change(net, "mine", status=TaskStatus(state=TaskState.PREPARING))
    await net.clock.advance(0.2)
    assert reader.take() == []
    await change(net, "mine", desired_state=TaskState.SHUTDOWN)
    await net.clock.advance(0.2)
    (message,) = reader.take()
    assert message.tasks[0].desired_state is TaskState.SHUTDOWN


async def test_d08_secrets_and_configs_go_with_the_tasks_that_use_them(net: Any) -> None:
    await net.store.update(lambda tx: tx.create(Secret(id="sec", spec=SecretSpec(name="sec", data=b"x"))))
    await net.store.update(lambda tx: tx.create(Secret(id="unused", spec=SecretSpec(name="unused"))))
    await net.store.update(lambda tx: tx.create(Config(id="cfg", spec=ConfigSpec(name="cfg", data=b"y"))))
    reader = await reading(net)
    assert reader.take()[0].secrets == []
    users = ContainerSpec(secrets=[SecretReference(secret_id="sec")], configs=[ConfigReference(config_id="cfg")])
    await assigned(net, "t1", container=users)
    await net.clock.advance(0.2)
    (message,) = reader.take()
    assert [item.id for item in message.secrets] == ["sec"]
    assert [item.id for item in message.configs] == ["cfg"]
    await assigned(net, "t2", container=users)
    await net.clock.advance(0.2)
    assert reader.take()[0].secrets == []
    await change(net, "t1", status=TaskStatus(state=TaskState.FAILED))
    await net.clock.advance(0.2)
    assert reader.take() == []
    await change(net, "t2", status=TaskStatus(state=TaskState.COMPLETE))
    await net.clock.advance(0.2)
    (message,) = reader.take()
    assert (message.removed_secrets, message.removed_configs) == (["sec"], ["cfg"])


async def test_networks_go_with_the_tasks_that_are_on_them(net: Any) -> None:
    network = NetworkObject(id="ov", spec=NetworkSpec(name="ov"))
    await net.store.update(lambda tx: tx.create(network))
    reader = await reading(net)
    reader.take()
    await assigned(net, "t1", networks_attachments=[NetworkAttachment(network=network)])
    await net.clock.advance(0.2)
    (message,) = reader.take()
    assert [item.id for item in message.networks] == ["ov"]
    await net.store.update(lambda tx: tx.delete(Task, "t1"))
    await net.clock.advance(0.2)
    (message,) = reader.take()
    assert (message.removed_tasks, message.removed_networks) == (["t1"], ["ov"])


async def test_endpoints_are_sent_to_every_node_when_they_changed_and_only_then(net: Any) -> None:
    await net.node("n2")
    first, second = await reading(net, "n1"), await reading(net, "n2")
    await assigned(net, "t1", TaskState.STARTING)
    await net.clock.advance(0.2)
    first.take(), second.take()
    await change(net, "t1", status=TaskStatus(state=TaskState.RUNNING))
    await net.clock.advance(0.2)
    for reader in (first, second):
        (message,) = reader.take()
        assert [backend.task_id for backend in message.endpoints.ports[0].backends] == ["t1"]
    await assigned(net, "t2")
    await net.clock.advance(0.2)
    (message,) = first.take()
    assert message.endpoints is None
    assert second.take() == []


async def test_d10_a_hundred_changes_are_sent_at_once_and_fewer_after_a_tenth_of_a_second(net: Any) -> None:
    reader = await reading(net)
    reader.take()
    for number in range(30):
        await assigned(net, f"a{number}")
        await net.clock.advance(0.01)
    messages = reader.take()
    assert 2 <= len(messages) <= 4
    await net.clock.advance(0.2)
    assert sum(len(message.tasks) for message in messages + reader.take()) == 30
    for number in range(100):
        await assigned(net, f"b{number}")
    await net.clock.settle()
    assert sum(len(message.tasks) for message in reader.take()) == 100


async def test_d11_reports_move_a_task_forward_only(net: Any) -> None:
    await assigned(net, "t1")
    session = await register(net)

    async def report(state: TaskState, **fields: Any) -> None:
        async with asyncio.TaskGroup() as group:
            status = TaskStatus(state=state, timestamp="2026-01-01T00:00:00Z", **fields)
            group.create_task(session.report([TaskStatusReport(task_id="t1", status=status)]))
            await net.clock.advance(0.2)

    def stored() -> TaskStatus:
        task = net.store.view().get(Task, "t1")
        return task.status

    await report(TaskState.RUNNING)
    assert (stored().state, stored().applied_by) == (TaskState.RUNNING, "m1")
    assert stored().applied_at > "2023"
    await report(TaskState.PREPARING)
    assert stored().state is TaskState.RUNNING
    await report(TaskState.RUNNING, message="the same state, with news")
    assert stored().message == "the same state, with news"
    version = net.store.view().get(Task, "t1").version
    await report(TaskState.RUNNING, message="the same state, with news")
    assert net.store.view().get(Task, "t1").version == version


async def test_d11_a_foreign_task_is_denied_and_an_unknown_one_skipped(net: Any) -> None:
    await net.node("n2")
    await assigned(net, "mine")
    await assigned(net, "foreign", node_id="n2")
    session = await register(net)
    failed = TaskStatus(state=TaskState.FAILED)
    with pytest.raises(errors.Denied, match="another node"):
        await session.report([TaskStatusReport(task_id=name, status=failed) for name in ("mine", "foreign")])
    assert net.store.view().get(Task, "mine").status.state is TaskState.ASSIGNED
    async with asyncio.TaskGroup() as group:
        group.create_task(session.report([TaskStatusReport(task_id="gone", status=failed)]))
        await net.clock.advance(0.2)


async def test_reports_that_arrive_together_are_one_transaction(net: Any) -> None:
    session = await register(net)
    for number in range(20):
        await assigned(net, f"t{number}")
    before = net.store.view().version
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            status = TaskStatus(state=TaskState.RUNNING)
            group.create_task(session.report([TaskStatusReport(task_id=f"t{number}", status=status)]))
        await net.clock.advance(0.2)
    assert net.store.view().version == before + 1


async def test_a_report_that_can_not_be_stored_is_to_be_sent_again(net: Any, monkeypatch: Any) -> None:
    await assigned(net, "t1")
    session = await register(net)

    async def refuse(change: Any) -> None:
        raise errors.Unavailable("the disk is full")

    report = TaskStatusReport(task_id="t1", status=TaskStatus(state=TaskState.RUNNING))
    with monkeypatch.context() as patched:
        patched.setattr(net.store, "update", refuse)
        sending = asyncio.ensure_future(session.report([report]))
        await net.clock.advance(0.2)
        with pytest.raises(errors.Unavailable, match="disk is full"):
            await sending
    async with asyncio.TaskGroup() as group:
        group.create_task(session.report([report]))
        await net.clock.advance(0.2)
    assert net.store.view().get(Task, "t1").status.state is TaskState.RUNNING


async def test_d13_tasks_of_a_node_that_is_down_for_a_day_are_orphaned(net: Any) -> None:
    await assigned(net, "running", TaskState.RUNNING)
    await assigned(net, "over", TaskState.FAILED)
    await register(net)
    await net.clock.advance(20)
    assert node(net).status.state == "down"
    await net.clock.advance(24 * 3600 - 30)
    assert net.store.view().get(Task, "running").status.state is TaskState.RUNNING
    await net.clock.advance(60)
    assert net.store.view().get(Task, "running").status.state is TaskState.ORPHANED
    assert net.store.view().get(Task, "over").status.state is TaskState.FAILED
