"""Agent and worker over a real dispatcher, on a fake host, under the virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gitops import errors
from gitops.objects import base
from gitops.objects.assignment import Assignments, Endpoints, PortBackends, TaskStatusReport
from gitops.objects.image import AuthConfig
from gitops.objects.network import NetworkObject, NetworkSpec
from gitops.objects.node import Node, NodeDescription
from gitops.objects.secret import Secret, SecretSpec
from gitops.objects.service import ContainerSpec, Credentials, SecretReference, Service, ServiceSpec, TaskSpec
from gitops.objects.task import NetworkAttachment, Task, TaskAddress, TaskState, TaskStatus
from gitops.simulation.clock import VirtualClock
from gitops.simulation.executor import Behaviour, FakeExecutor
from gitops.swarm.agent.agent import Agent
from gitops.swarm.agent.executor import Dependencies
from gitops.swarm.agent.reporter import Reporter
from gitops.swarm.clock import IdSource
from gitops.swarm.manager.dispatcher import Dispatcher
from gitops.swarm.store.memory import MemoryStore
from gitops.swarm.store.protocol import View

S = TaskState


def project(view: View, node_id: str) -> Endpoints:
    """All tasks that run and shall behind one port."""
    tasks = [t for t in view.all(Task) if t.status.state is S.RUNNING and t.desired_state is S.RUNNING]
    backends = [TaskAddress(task_id=task.id, node_id=task.node_id) for task in tasks]
    return Endpoints(version=view.version, ports=[PortBackends(published_port=80, backends=backends)])


class Lab:
    """A store, a dispatcher, a host and an agent, each of which can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)
        self.executor = FakeExecutor(self.clock)
        self.rng = random.Random(3)
        self.jobs: dict[str, asyncio.Task[None]] = {}
        self.registrations: list[float] = []

    async def open(self) -> None:
        await self.store.update(lambda tx: tx.create(Node(id="n1")))
        self.start_dispatcher()
        self.start_agent()
        await self.clock.advance(0.5)

    def start_dispatcher(self) -> None:
        self.dispatcher = Dispatcher(
            self.store, self.clock, self.rng, IdSource(random.Random(5)), project=project, manager_id="m1"
        )
        self.jobs["dispatcher"] = asyncio.ensure_future(self.dispatcher.run())

    def start_agent(self) -> None:
        agent = Agent(self.connect, self.executor, self.folder / "tasks.db", self.clock, self.rng)
        self.jobs["agent"] = asyncio.ensure_future(agent.run())

    async def connect(self, description: NodeDescription) -> Any:
        self.registrations.append(self.clock.monotonic())
        return await self.dispatcher.session("n1", description, "192.0.2.1")

    async def stop(self, name: str) -> None:
        job = self.jobs.pop(name)
        job.cancel()
        await asyncio.wait({job})
        if not job.cancelled():
            job.result()

    async def close(self) -> None:
        for name in list(self.jobs):
            await self.stop(name)

    async def assign(self, task_id: str, desired: TaskState = S.RUNNING, **fields: Any) -> None:
        spec = TaskSpec(container_spec=fields.pop("container", None))
        status = TaskStatus(state=S.ASSIGNED)
        task = Task(id=task_id, service_id="s", spec=spec, node_id="n1", desired_state=desired, status=status, **fields)
        await self.store.update(lambda tx: tx.create(task))

    async def want(self, task_id: str, desired: TaskState) -> None:
        await self.store.update(lambda tx: tx.update(replace(tx.get(Task, task_id), desired_state=desired)))

    async def delete(self, task_id: str) -> None:
        await self.store.update(lambda tx: tx.delete(Task, task_id))

    def task(self, task_id: str) -> Task:
        found = self.store.view().get(Task, task_id)
        assert found is not None
        return found

    def state(self, task_id: str) -> TaskState:
        return self.task(task_id).status.state

    def calls(self, task_id: str) -> list[str]:
        return [call for call, owner in self.executor.calls if owner == task_id]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    made = Lab(tmp_path)
    await made.open()
    yield made
    await made.close()


async def test_d14_an_agent_registers_its_node_and_stops_cleanly(lab: Lab) -> None:
    node = lab.store.view().get(Node, "n1")
    assert node is not None
    assert node.status.state == "ready"
    assert node.description == lab.executor.description
    await lab.stop("agent")
    await lab.clock.advance(60)
    assert lab.store.view().get(Node, "n1").status.state == "down"


async def test_an_assigned_task_runs_and_its_states_reach_the_manager(lab: Lab) -> None:
    await lab.assign("t1")
    await lab.clock.advance(2)
    assert lab.state("t1") is S.RUNNING
    assert lab.task("t1").status.applied_by == "m1"
    await lab.want("t1", S.SHUTDOWN)
    await lab.clock.advance(3)
    assert lab.state("t1") is S.SHUTDOWN
    assert lab.calls("t1") == ["prepare", "start", "wait", "shutdown"]


async def test_credentials_reach_the_executor_and_no_file(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = AuthConfig(username="alice", password="sesame")
    container = ContainerSpec(image="app:v1")
    service = Service(
        id="s",
        spec=ServiceSpec(name="s", task_template=TaskSpec(container_spec=container)),
        credentials=Credentials(base.to_json(auth)),
    )
    await lab.store.update(lambda tx: tx.create(service))
    seen: list[AuthConfig | None] = []
    make = lab.executor.controller

    def controller(task: Task, dependencies: Dependencies) -> Any:
        seen.append(dependencies.credentials)
        return make(task, dependencies)

    monkeypatch.setattr(lab.executor, "controller", controller)
    await lab.assign("t1", container=container)
    await lab.clock.advance(2)
    assert lab.state("t1") is S.RUNNING
    assert seen == [auth]
    for path in lab.folder.glob("tasks.db*"):
        assert b"sesame" not in path.read_bytes()
    await lab.delete("t1")
    await lab.clock.advance(3)
    assert seen == [auth]


async def test_an_agent_with_heartbeats_stays_ready_for_days(lab: Lab) -> None:
    await lab.clock.advance(2 * 3600)
    assert lab.store.view().get(Node, "n1").status.state == "ready"
    assert len(lab.registrations) == 1


async def test_d14_registrations_are_repeated_with_growing_waits(lab: Lab) -> None:
    await lab.assign("t1")
    await lab.clock.advance(2)
    await lab.stop("dispatcher")
    lab.registrations.clear()
    await lab.clock.advance(60)
    waits = [after - before for before, after in zip(lab.registrations, lab.registrations[1:], strict=False)]
    assert all(0.1 <= wait <= 12.1 for wait in waits)
    assert waits[0] < 1 < waits[-1]
    assert lab.executor.running()
    lab.start_dispatcher()
    await lab.clock.advance(15)
    assert lab.store.view().get(Node, "n1").status.state == "ready"
    assert lab.calls("t1") == ["prepare", "start", "wait"]


async def test_d14_a_changed_description_restarts_the_session(lab: Lab) -> None:
    lab.executor.description = replace(lab.executor.description, hostname="renamed")
    await lab.clock.advance(25)
    assert lab.store.view().get(Node, "n1").description.hostname == "renamed"
    assert len(lab.registrations) == 2


async def test_d17_what_happened_while_no_manager_was_in_reach_is_reported_later(lab: Lab) -> None:
    await lab.assign("t1")
    await lab.assign("t2")
    await lab.clock.advance(2)
    await lab.stop("dispatcher")
    lab.executor.kill("t1", 5)
    await lab.clock.advance(5)
    assert lab.state("t1") is S.RUNNING
    lab.start_dispatcher()
    await lab.clock.advance(15)
    assert lab.state("t1") is S.FAILED
    assert lab.task("t1").status.container_status.exit_code == 5
    assert lab.state("t2") is S.RUNNING


async def test_i20_a_restarted_agent_adopts_what_runs_and_doubles_nothing(lab: Lab) -> None:
    for name in ("t1", "t2", "t3"):
        await lab.assign(name)
    await lab.clock.advance(2)
    await lab.stop("agent")
    assert len(lab.executor.running()) == 3
    lab.executor.kill("t2", 7)
    lab.start_agent()
    await lab.clock.advance(2)
    assert [lab.state(name) for name in ("t1", "t2", "t3")] == [S.RUNNING, S.FAILED, S.RUNNING]
    assert lab.calls("t1") == ["prepare", "start", "wait", "wait"]
    assert len(lab.executor.running()) == 2


async def test_i20_running_tasks_are_watched_although_no_manager_is_in_reach(lab: Lab) -> None:
    await lab.assign("t1")
    await lab.clock.advance(2)
    await lab.stop("agent")
    await lab.stop("dispatcher")
    lab.start_agent()
    await lab.clock.advance(2)
    assert lab.calls("t1")[-1] == "wait"


async def test_a_task_that_was_being_prepared_waits_for_its_secrets_after_a_restart(lab: Lab) -> None:
    await lab.store.update(lambda tx: tx.create(Secret(id="sec", spec=SecretSpec(name="sec", data=b"x"))))
    lab.executor.behave = lambda task: Behaviour(prepare_s=5)
    await lab.assign("t1", container=ContainerSpec(secrets=[SecretReference(secret_id="sec")]))
    await lab.clock.advance(2)
    assert lab.state("t1") is S.PREPARING
    await lab.stop("agent")
    await lab.stop("dispatcher")
    lab.executor.dependencies.clear()
    lab.start_agent()
    await lab.clock.advance(10)
    assert lab.calls("t1") == ["prepare"]
    lab.start_dispatcher()
    await lab.clock.advance(15)
    assert lab.state("t1") is S.RUNNING
    assert lab.executor.dependencies["t1"].secrets["sec"].spec.data == b"x"


async def test_d15_a_task_that_left_the_assignments_is_stopped_and_taken_away(lab: Lab) -> None:
    await lab.assign("t1")
    await lab.assign("t2")
    await lab.clock.advance(2)
    await lab.delete("t1")
    await lab.clock.advance(3)
    assert lab.calls("t1")[-2:] == ["shutdown", "remove"]
    assert set(lab.executor.containers) == {"t2"}


async def test_d15_a_complete_set_removes_what_it_does_not_name(lab: Lab) -> None:
    await lab.assign("t1")
    await lab.clock.advance(2)
    await lab.stop("agent")
    await lab.delete("t1")
    lab.start_agent()
    await lab.clock.advance(5)
    assert lab.executor.containers == {}
    assert lab.calls("t1")[-2:] == ["shutdown", "remove"]


async def test_the_history_of_a_slot_keeps_its_containers(lab: Lab) -> None:
    lab.executor.behave = lambda task: Behaviour(exits_after_s=1)
    await lab.assign("t1")
    await lab.clock.advance(5)
    assert lab.state("t1") is S.COMPLETE
    await lab.stop("agent")
    lab.start_agent()
    await lab.clock.advance(5)
    assert set(lab.executor.containers) == {"t1"}
    await lab.delete("t1")
    await lab.clock.advance(2)
    assert lab.executor.containers == {}


async def test_leftovers_of_a_crash_are_swept_by_the_first_complete_set(lab: Lab) -> None:
    await lab.assign("t1")
    await lab.clock.advance(2)
    await lab.stop("agent")
    (lab.folder / "tasks.db").unlink()
    await lab.delete("t1")
    lab.start_agent()
    await lab.clock.advance(2)
    assert lab.executor.containers == {}


async def test_a_lost_database_does_not_double_tasks(lab: Lab) -> None:
    await lab.assign("t1")
    await lab.clock.advance(2)
    await lab.stop("agent")
    for file in lab.folder.iterdir():
        file.unlink()
    lab.start_agent()
    await lab.clock.advance(2)
    assert lab.state("t1") is S.RUNNING
    assert lab.calls("t1").count("start") == 1


async def test_names_and_ports_are_changed_before_a_task_is_told_to_stop(lab: Lab) -> None:
    await lab.assign("t1")
    await lab.clock.advance(3)
    assert [backend.task_id for backend in lab.executor.endpoints[-1].ports[0].backends] == ["t1"]
    lab.executor.calls.clear()
    await lab.want("t1", S.SHUTDOWN)
    await lab.clock.advance(0.9)
    assert lab.executor.endpoints[-1].ports[0].backends == []
    assert lab.executor.running()
    assert "shutdown" not in [call for call, _ in lab.executor.calls]
    await lab.clock.advance(1)
    assert [call for call, _ in lab.executor.calls] == ["endpoints", "shutdown"]


async def test_a_task_to_which_nothing_leads_stops_at_once(lab: Lab) -> None:
    lab.executor.behave = lambda task: Behaviour(start_s=30)
    await lab.assign("t1")
    await lab.clock.advance(5)
    await lab.want("t1", S.SHUTDOWN)
    await lab.clock.advance(0.5)
    assert lab.state("t1") is S.SHUTDOWN or lab.calls("t1")[-1] == "shutdown"


async def test_endpoints_that_could_not_be_set_are_tried_again_and_hold_up_no_task(lab: Lab) -> None:
    lab.executor.endpoints_error = errors.Unavailable("port 80 is taken")
    await lab.assign("t1")
    await lab.clock.advance(10)
    assert lab.state("t1") is S.RUNNING
    lab.executor.endpoints_error = None
    await lab.clock.advance(60)
    assert [backend.task_id for backend in lab.executor.endpoints[-1].ports[0].backends] == ["t1"]


async def test_networks_that_no_task_uses_any_more_are_swept(lab: Lab) -> None:
    network = NetworkObject(id="ov", spec=NetworkSpec(name="ov"))
    await lab.assign("t1", networks_attachments=[NetworkAttachment(network=network)])
    await lab.clock.advance(2)
    assert lab.executor.dependencies["t1"].networks["ov"].spec.name == "ov"
    await lab.delete("t1")
    await lab.clock.advance(5)
    assert lab.executor.retained[-1] == (set(), set())


async def test_a_task_that_the_manager_gave_up_is_stopped_here(lab: Lab) -> None:
    await lab.assign("t1")
    await lab.clock.advance(2)
    await lab.store.update(
        lambda tx: tx.update(replace(tx.get(Task, "t1"), status=TaskStatus(state=S.ORPHANED), desired_state=S.SHUTDOWN))
    )
    await lab.clock.advance(5)
    assert lab.executor.running() == []
    assert lab.state("t1") is S.ORPHANED


class Refusing:
    """A session that takes reports only after some failures, and never those of one task."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.stored: list[tuple[str, TaskState]] = []

    async def report(self, reports: list[TaskStatusReport]) -> None:
        if self.failures:
            self.failures -= 1
            raise errors.Unavailable("not now")
        if any(report.task_id == "foreign" for report in reports):
            raise errors.Denied("another node's")
        self.stored.extend((report.task_id, report.status.state) for report in reports)

    async def heartbeat(self) -> float:
        return 5.0

    def assignments(self) -> AsyncIterator[Assignments]:
        raise NotImplementedError


async def test_d17_failed_reports_are_sent_again_and_the_newest_status_wins() -> None:
    reporter, session = Reporter(), Refusing(failures=1)
    reporter.put("t1", TaskStatus(state=S.PREPARING))
    with pytest.raises(errors.Unavailable):
        await reporter.run(session)
    reporter.put("t1", TaskStatus(state=S.RUNNING))
    reporter.put("foreign", TaskStatus(state=S.RUNNING))
    reporter.put("t2", TaskStatus(state=S.READY))
    running = asyncio.ensure_future(reporter.run(session))
    for _ in range(20):
        await asyncio.sleep(0)
    assert session.stored == [("t1", S.RUNNING), ("t2", S.READY)]
    running.cancel()
    await asyncio.wait({running})
