"""One task's way through its states."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from gitops import errors
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.simulation.clock import VirtualClock
from gitops.simulation.executor import Behaviour, FakeExecutor
from gitops.swarm.agent.driver import TaskDriver, merge
from gitops.swarm.agent.executor import Dependencies

S = TaskState


class Stage:
    """A driver on a fake host, with what it recorded."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.clock = VirtualClock()
        self.behaviour = behaviour
        self.executor = FakeExecutor(self.clock, behave=lambda task: self.behaviour)
        self.statuses: list[TaskStatus] = []
        self.running: asyncio.Task[None] | None = None

    def drive(self, desired: TaskState = S.RUNNING, state: TaskState = S.ASSIGNED) -> TaskDriver:
        task = Task(id="t1", desired_state=desired)
        status = TaskStatus(state=state)
        controller = self.executor.controller(task, Dependencies())
        self.driver = TaskDriver(task, status, controller, self._record, self.clock, random.Random(1))
        self.running = asyncio.ensure_future(self.driver.run())
        return self.driver

    def want(self, desired: TaskState) -> None:
        self.driver.update(replace(self.driver.task, desired_state=desired))

    def states(self) -> list[TaskState]:
        return [status.state for status in self.statuses]

    def calls(self) -> list[str]:
        return [call for call, _ in self.executor.calls]

    def _record(self, task_id: str, status: TaskStatus) -> None:
        self.statuses.append(status)

    async def close(self) -> None:
        if self.running is not None:
            self.running.cancel()
            await asyncio.wait({self.running})


@pytest.fixture
async def stage() -> AsyncIterator[Any]:
    made = Stage(Behaviour(prepare_s=1, start_s=1, stop_s=1))
    yield made
    await made.close()


async def test_d18_a_task_walks_through_every_state(stage: Any) -> None:
    stage.behaviour = Behaviour(exits_after_s=5)
    stage.drive()
    await stage.clock.advance(10)
    assert stage.states() == [S.ACCEPTED, S.PREPARING, S.READY, S.STARTING, S.RUNNING, S.COMPLETE]
    assert [status.message for status in stage.statuses][-2:] == ["started", "finished"]
    assert stage.statuses[-1].container_status.container_id == "c-t1"
    times = [status.timestamp for status in stage.statuses]
    assert times == sorted(times)


async def test_a_task_waits_in_ready_until_it_is_wanted_running(stage: Any) -> None:
    stage.drive(desired=S.READY)
    await stage.clock.advance(60)
    assert stage.states()[-1] is S.READY
    assert "start" not in stage.calls()
    stage.want(S.RUNNING)
    await stage.clock.advance(2)
    assert stage.states()[-1] is S.RUNNING


async def test_d18_a_task_that_can_not_be_prepared_is_rejected(stage: Any) -> None:
    stage.behaviour = Behaviour(prepare_error=errors.NotFound("No such image: x"))
    stage.drive()
    await stage.clock.advance(60)
    last = stage.statuses[-1]
    assert (last.state, last.err) == (S.REJECTED, "No such image: x")
    assert stage.calls().count("prepare") == 1


async def test_d18_a_task_that_can_not_be_started_has_failed(stage: Any) -> None:
    stage.behaviour = Behaviour(start_error=errors.RuntimeFailure("exec format error"))
    stage.drive()
    await stage.clock.advance(60)
    assert (stage.statuses[-1].state, stage.statuses[-1].err) == (S.FAILED, "exec format error")


async def test_d18_an_exit_with_an_error_is_a_failure_with_its_code(stage: Any) -> None:
    stage.behaviour = Behaviour(exits_after_s=3, exit_code=42)
    stage.drive()
    await stage.clock.advance(10)
    last = stage.statuses[-1]
    assert (last.state, last.container_status.exit_code) == (S.FAILED, 42)
    assert last.err == "task: non-zero exit (42)"


async def test_a_container_that_is_taken_away_behind_the_agents_back_is_a_failure(stage: Any) -> None:
    stage.drive()
    await stage.clock.advance(5)
    stage.executor.take_away("t1")
    await stage.clock.advance(1)
    assert stage.states()[-1] is S.FAILED


async def test_a_temporary_error_is_tried_again_without_a_change_of_state(stage: Any) -> None:
    stage.behaviour = Behaviour(prepare_error=errors.Unavailable("not now"))
    stage.drive()
    await stage.clock.advance(60)
    assert stage.states() == [S.ACCEPTED, S.PREPARING]
    assert 3 <= stage.calls().count("prepare") <= 8
    stage.behaviour = Behaviour()
    await stage.clock.advance(60)
    assert stage.states()[-1] is S.RUNNING


async def test_a_defect_in_a_controller_ends_the_task_and_nothing_else(stage: Any) -> None:
    stage.behaviour = Behaviour(prepare_error=ZeroDivisionError("a defect"))
    stage.drive()
    await stage.clock.advance(5)
    assert stage.states()[-1] is S.REJECTED
    assert stage.running.done() and stage.running.exception() is None


@pytest.mark.parametrize("moment", [0.5, 1.5, 5.0])
async def test_a_task_is_shut_down_in_the_middle_of_any_step(stage: Any, moment: float) -> None:
    stage.drive()
    await stage.clock.advance(moment)
    stage.want(S.SHUTDOWN)
    await stage.clock.advance(2)
    assert stage.states()[-1] is S.SHUTDOWN
    assert stage.executor.running() == []
    assert stage.running.done()


async def test_a_task_that_is_to_be_removed_is_shut_down_too(stage: Any) -> None:
    stage.drive()
    await stage.clock.advance(5)
    stage.want(S.REMOVE)
    await stage.clock.advance(2)
    assert stage.states()[-1] is S.SHUTDOWN


async def test_d18_a_task_that_is_over_keeps_its_state_when_it_is_to_be_removed(stage: Any) -> None:
    stage.behaviour = Behaviour(exits_after_s=1)
    stage.drive()
    await stage.clock.advance(5)
    stage.want(S.REMOVE)
    await stage.clock.advance(5)
    assert stage.states()[-1] is S.COMPLETE


async def test_a_hold_delays_the_stop_signal(stage: Any) -> None:
    stage.drive()
    await stage.clock.advance(5)
    stage.driver.hold(3)
    stage.want(S.SHUTDOWN)
    await stage.clock.advance(2.9)
    assert "shutdown" not in stage.calls()
    await stage.clock.advance(1.2)
    assert stage.states()[-1] is S.SHUTDOWN


async def test_a_task_that_can_not_be_stopped_is_not_said_to_be_over(stage: Any, monkeypatch: Any) -> None:
    stage.drive()
    await stage.clock.advance(5)

    async def refuse(self: Any) -> None:
        raise errors.RuntimeFailure("it won't die")

    with monkeypatch.context() as patched:
        patched.setattr("gitops.simulation.executor.FakeController.shutdown", refuse)
        stage.want(S.SHUTDOWN)
        await stage.clock.advance(120)
        assert stage.states()[-1] is S.RUNNING
    await stage.clock.advance(60)
    assert stage.states()[-1] is S.SHUTDOWN


async def test_a_task_that_failed_after_its_start_does_not_run_on(stage: Any, monkeypatch: Any) -> None:
    async def refuse(self: Any) -> None:
        raise errors.RuntimeFailure("the ports can't be read")

    monkeypatch.setattr("gitops.simulation.executor.FakeController.port_status", refuse)
    stage.drive()
    await stage.clock.advance(10)
    assert stage.statuses[-1].err == "the ports can't be read"
    assert stage.states()[-1] is S.FAILED
    assert stage.executor.running() == []


async def test_a_desired_state_never_goes_back(stage: Any) -> None:
    stage.drive()
    await stage.clock.advance(5)
    stage.want(S.SHUTDOWN)
    stage.want(S.RUNNING)
    await stage.clock.advance(5)
    assert stage.states()[-1] is S.SHUTDOWN


async def test_cancelling_a_driver_leaves_the_container_running_and_another_one_adopts_it(stage: Any) -> None:
    stage.drive()
    await stage.clock.advance(5)
    await stage.close()
    assert [task.id for task in stage.executor.running()] == ["t1"]
    stage.drive(state=S.RUNNING)
    await stage.clock.advance(5)
    assert stage.calls().count("prepare") == stage.calls().count("start") == 1
    stage.executor.kill("t1", 9)
    await stage.clock.advance(1)
    assert stage.statuses[-1].container_status.exit_code == 9


@pytest.mark.parametrize("state", [S.PREPARING, S.STARTING])
async def test_d18_steps_that_were_done_before_a_restart_are_repeated_without_harm(stage: Any, state: S) -> None:
    stage.drive()
    await stage.clock.advance(5)
    await stage.close()
    stage.drive(state=state)
    await stage.clock.advance(5)
    assert stage.states()[-1] is S.RUNNING
    assert len(stage.executor.containers) == 1


async def test_retiring_stops_what_runs_and_takes_it_away(stage: Any) -> None:
    stage.drive()
    await stage.clock.advance(5)
    await stage.close()
    retiring = asyncio.ensure_future(stage.driver.retire())
    await stage.clock.advance(5)
    await retiring
    assert stage.calls()[-2:] == ["shutdown", "remove"]
    assert stage.executor.containers == {}


@pytest.mark.parametrize(
    ("recorded", "assigned", "merged"),
    [
        (None, S.ASSIGNED, S.ASSIGNED),
        (S.PREPARING, S.ASSIGNED, S.PREPARING),
        (S.ACCEPTED, S.RUNNING, S.RUNNING),
        (S.RUNNING, S.REJECTED, S.RUNNING),
        (S.RUNNING, S.ORPHANED, S.RUNNING),
        (S.FAILED, S.RUNNING, S.FAILED),
        (None, S.COMPLETE, S.COMPLETE),
    ],
)
def test_a_nodes_record_and_the_managers_are_merged(recorded: S | None, assigned: S, merged: S) -> None:
    own = None if recorded is None else TaskStatus(state=recorded)
    assert merge(own, TaskStatus(state=assigned)).state is merged
