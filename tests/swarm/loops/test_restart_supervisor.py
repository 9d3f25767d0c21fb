"""What follows when a task ends while it is wanted."""

from __future__ import annotations

from typing import Any

import pytest

from gitops.objects.base import SECOND
from gitops.objects.service import RestartPolicy
from gitops.objects.task import TaskState


async def running(world: Any, **fields: Any) -> Any:
    service = await world.service(**fields)
    world.orchestrator()
    world.start(world.nodes)
    await world.clock.advance(1)
    assert world.running(service)
    return service


@pytest.mark.parametrize("state", [TaskState.COMPLETE, TaskState.FAILED, TaskState.REJECTED])
async def test_o14_any_end_is_followed_by_a_replacement(world: Any, state: TaskState) -> None:
    service = await running(world)
    (old,) = world.tasks(service)
    await world.set_state(old, state)
    await world.clock.advance(6)
    (new,) = world.running(service)
    assert new.id != old.id
    assert new.slot == old.slot


async def test_o15_on_failure_leaves_success_alone_and_replaces_failure(world: Any) -> None:
    service = await running(world, replicas=2, restart=RestartPolicy(condition="on-failure"))
    done, failed = world.tasks(service)
    await world.set_state(done, TaskState.COMPLETE)
    await world.set_state(failed, TaskState.FAILED)
    await world.clock.advance(10)
    assert [task.slot for task in world.running(service)] == [failed.slot]
    assert len(world.tasks(service, slot=done.slot, runnable=False)) == 1


async def test_o16_none_replaces_nothing_and_the_slot_counts_as_filled(world: Any) -> None:
    service = await running(world, replicas=2, restart=RestartPolicy(condition="none"))
    for task in world.tasks(service):
        await world.set_state(task, TaskState.FAILED)
    await world.clock.advance(120)
    assert world.tasks(service) == []
    assert len(world.tasks(service, runnable=False)) == 2


async def test_o17_a_replacement_is_ready_at_once_and_running_after_the_delay(world: Any) -> None:
    service = await running(world, restart=RestartPolicy(delay=10 * SECOND))
    (old,) = world.tasks(service)
    await world.set_state(old, TaskState.FAILED)
    await world.clock.advance(9.5)
    (new,) = world.tasks(service)
    assert (new.desired_state, new.status.state) == (TaskState.READY, TaskState.READY)
    await world.clock.advance(1)
    (new,) = world.tasks(service)
    assert (new.desired_state, new.status.state) == (TaskState.RUNNING, TaskState.RUNNING)


async def test_o10_a_manager_that_takes_over_goes_on_with_the_rest_of_a_delay(world: Any) -> None:
    service = await world.service(restart=RestartPolicy(delay=10 * SECOND))
    loop = world.orchestrator()
    world.start(world.nodes)
    await world.clock.advance(1)
    await world.set_state(world.tasks(service)[0], TaskState.FAILED)
    await world.clock.advance(4)
    await world.stop(loop)
    await world.clock.advance(2)
    world.orchestrator()
    await world.clock.advance(3.5)
    assert world.tasks(service)[0].desired_state is TaskState.READY
    await world.clock.advance(1)
    assert world.tasks(service)[0].desired_state is TaskState.RUNNING


async def test_a_wall_clock_that_is_set_back_does_not_stretch_a_delay(world: Any, monkeypatch: Any) -> None:
    service = await running(world)
    await world.set_state(world.tasks(service)[0], TaskState.FAILED)
    await world.clock.advance(1)
    monkeypatch.setattr(world.clock, "now_ns", lambda: 1_600_000_000 * SECOND)
    await world.clock.advance(5)
    assert world.tasks(service)[0].desired_state is TaskState.RUNNING


@pytest.mark.parametrize("takes_over", [False, True])
async def test_o18_there_are_exactly_as_many_restarts_as_attempts(world: Any, takes_over: bool) -> None:
    service = await world.service(restart=RestartPolicy(delay=SECOND, max_attempts=3))
    world.nodes.broken.add("app:v1")
    loop = world.orchestrator()
    world.start(world.nodes)
    await world.clock.advance(2.5)
    if takes_over:
        await world.stop(loop)
        world.orchestrator()
    await world.clock.advance(60)
    assert len(world.tasks(service, runnable=False)) == 4
    assert world.tasks(service) == []


async def test_o19_attempts_older_than_the_window_are_forgotten(world: Any) -> None:
    policy = RestartPolicy(delay=SECOND, max_attempts=2, window=20 * SECOND)
    service = await running(world, restart=policy)
    for _ in range(5):
        (task,) = world.running(service)
        await world.set_state(task, TaskState.FAILED)
        await world.clock.advance(15)
    assert len(world.running(service)) == 1
    for _ in range(3):
        for task in world.running(service):
            await world.set_state(task, TaskState.FAILED)
        await world.clock.advance(3)
    assert world.tasks(service) == []


async def test_o20_a_no_op_update_revives_nothing_and_a_change_does(world: Any) -> None:
    none = RestartPolicy(condition="none")
    service = await running(world, restart=none)
    await world.set_state(world.tasks(service)[0], TaskState.COMPLETE)
    await world.clock.advance(1)
    await world.update(service, restart=none)
    await world.clock.advance(10)
    assert world.tasks(service) == []
    await world.update(service, restart=none, image="app:v2")
    await world.clock.advance(10)
    assert [task.status.state for task in world.tasks(service)] == [TaskState.RUNNING]


async def test_o21_attempts_are_counted_anew_for_a_new_spec(world: Any) -> None:
    policy = RestartPolicy(delay=SECOND, max_attempts=1)
    service = await running(world, restart=policy)
    world.nodes.broken.add("app:v1")
    await world.set_state(world.tasks(service)[0], TaskState.FAILED)
    await world.clock.advance(30)
    assert world.tasks(service) == []
    await world.update(service, restart=policy, image="app:v2")
    await world.clock.advance(3)
    (task,) = world.running(service)
    await world.set_state(task, TaskState.FAILED)
    await world.clock.advance(3)
    assert len(world.running(service)) == 1


async def test_o22_a_replacement_waits_for_the_old_task_to_stop_a_minute_at_most(world: Any) -> None:
    service = await running(world)
    (old,) = world.tasks(service)
    world.nodes.stubborn.add(old.id)
    await world.node("n2")
    world.nodes.node_id = "n2"
    await world.change_node("n1", lambda node: _drained(node))
    await world.clock.advance(58)
    assert world.tasks(service)[0].desired_state is TaskState.READY
    await world.clock.advance(3)
    assert world.running(service)[0].node_id == "n2"


async def test_o22_a_node_that_is_down_is_not_waited_for(world: Any) -> None:
    service = await running(world)
    (old,) = world.tasks(service)
    world.nodes.stubborn.add(old.id)
    await world.node("n2")
    world.nodes.node_id = "n2"
    await world.change_node("n1", lambda node: _down(node))
    await world.clock.advance(6)
    assert world.running(service)[0].node_id == "n2"


async def test_o23_a_failure_during_the_delay_makes_no_extra_task(world: Any) -> None:
    service = await running(world, restart=RestartPolicy(delay=10 * SECOND))
    await world.set_state(world.tasks(service)[0], TaskState.FAILED)
    await world.clock.advance(1)
    (replacement,) = world.tasks(service)
    await world.set_state(replacement, TaskState.REJECTED)
    await world.clock.advance(8)
    assert len(world.tasks(service, runnable=False)) == 2
    await world.clock.advance(2)
    assert len(world.tasks(service, runnable=False)) == 3
    assert world.tasks(service)[0].desired_state is TaskState.READY
    await world.clock.advance(10)
    assert len(world.running(service)) == 1


async def test_a_restart_after_a_scale_keeps_its_delay(world: Any) -> None:
    service = await running(world)
    await world.update(service, replicas=2)
    await world.clock.advance(1)
    (old,) = world.tasks(service, slot=1)
    await world.set_state(old, TaskState.FAILED)
    await world.clock.advance(3)
    assert world.tasks(service, slot=1)[0].desired_state is TaskState.READY
    await world.clock.advance(3)
    assert world.tasks(service, slot=1)[0].desired_state is TaskState.RUNNING


def _drained(node: Any) -> Any:
    from msgspec.structs import replace

    return replace(node, spec=replace(node.spec, availability="drain"))


def _down(node: Any) -> Any:
    from msgspec.structs import replace

    return replace(node, status=replace(node.status, state="down"))
