"""Waiting tasks get nodes, or reasons; what placement decides is tested with it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from gitops.objects.base import Version
from gitops.objects.node import Node
from gitops.objects.service import ResourceRequirements, Resources
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.swarm.manager import scheduler
from gitops.swarm.manager.scheduler import Scheduler


async def pending(world: Any, task_id: str, **changes: Any) -> Task:
    """A task that waits for a node."""
    service = world.spec()
    task = Task(
        id=task_id,
        service_id=changes.pop("service_id", "s1"),
        spec=replace(service.task_template, **changes.pop("template", {})),
        spec_version=Version(index=changes.pop("version", 1)),
        status=TaskStatus(state=TaskState.PENDING),
    )
    return await world.store.update(lambda tx: tx.create(replace(task, **changes)))


def task_of(world: Any, task_id: str) -> Task:
    found = world.store.view().get(Task, task_id)
    assert found is not None
    return found


def start(world: Any) -> Scheduler:
    loop = Scheduler(world.store, world.clock, world.rng)
    world.start(loop)
    return loop


async def test_s01_pending_tasks_get_nodes_and_a_new_node_takes_those_that_waited(world: Any) -> None:
    await world.store.update(lambda tx: tx.delete(Node, "n1"))
    await pending(world, "t1")
    start(world)
    await world.clock.advance(1)
    assert task_of(world, "t1").status.state is TaskState.PENDING
    await world.node("n9")
    await world.clock.advance(0.1)
    task = task_of(world, "t1")
    assert (task.status.state, task.node_id, task.status.err) == (TaskState.ASSIGNED, "n9", "")


async def test_s02_a_task_that_no_node_takes_says_why_and_the_reason_is_written_once(world: Any) -> None:
    await world.change_node("n1", lambda node: replace(node, spec=replace(node.spec, availability="drain")))
    await pending(world, "t1")
    loop = start(world)
    await world.clock.advance(1)
    task = task_of(world, "t1")
    assert task.status.err.startswith("no suitable node (")
    version, passes = task.version, loop.passes
    await world.clock.advance(50)
    assert task_of(world, "t1").version == version
    assert loop.passes == passes


async def test_s08_a_node_on_which_a_service_keeps_failing_is_avoided_for_five_minutes(world: Any) -> None:
    await world.node("n2")
    start(world)
    for number in range(5):
        task = await pending(world, f"f{number}")
        await world.set_state(task, TaskState.FAILED, node_id="n1")
        await world.clock.advance(1)
    # n2 has more tasks than n1, and is preferred all the same.
    busy = await pending(world, "busy")
    await world.set_state(busy, TaskState.RUNNING, node_id="n2")
    await pending(world, "t1")
    await pending(world, "other", service_id="s2")
    await world.clock.advance(1)
    assert task_of(world, "t1").node_id == "n2"
    assert task_of(world, "other").node_id == "n1"
    await world.clock.advance(300)
    await pending(world, "t2")
    await world.clock.advance(1)
    assert task_of(world, "t2").node_id == "n1"


async def test_s08_failures_are_known_to_a_manager_that_takes_over(world: Any) -> None:
    await world.node("n2")
    for number in range(5):
        await world.set_state(await pending(world, f"f{number}"), TaskState.FAILED, node_id="n1")
    await world.set_state(await pending(world, "busy"), TaskState.RUNNING, node_id="n2")
    await pending(world, "t1")
    start(world)
    await world.clock.advance(1)
    assert task_of(world, "t1").node_id == "n2"


async def test_s09_a_task_that_waits_for_room_is_placed_when_another_ended(world: Any) -> None:
    room = Resources(nano_cpus=1_000_000_000, memory_bytes=1 << 30)
    await world.change_node("n1", lambda node: replace(node, description=replace(node.description, resources=room)))
    template = {"resources": ResourceRequirements(reservations=Resources(nano_cpus=600_000_000))}
    first = await pending(world, "t1", template=template)
    await pending(world, "t2", template=template, service_id="s2")
    start(world)
    await world.clock.advance(1)
    assert task_of(world, "t1").node_id == "n1"
    assert "insufficient resources" in task_of(world, "t2").status.err
    await world.set_state(first, TaskState.FAILED)
    await world.clock.advance(1)
    assert task_of(world, "t2").status.state is TaskState.ASSIGNED


async def test_s17_a_task_that_has_its_node_is_only_checked_against_it(world: Any) -> None:
    await world.node("n2", availability="pause")
    await pending(world, "t1", node_id="n2")
    start(world)
    await world.clock.advance(1)
    assert task_of(world, "t1").status.state is TaskState.PENDING
    assert task_of(world, "t1").status.err
    await world.change_node("n2", lambda node: replace(node, spec=replace(node.spec, availability="active")))
    await world.clock.advance(1)
    assert task_of(world, "t1").status.state is TaskState.ASSIGNED


async def test_s18_s21_a_waiting_task_that_is_not_wanted_any_more_is_shut_down(world: Any) -> None:
    await pending(world, "t1", desired_state=TaskState.SHUTDOWN)
    await pending(world, "t2", desired_state=TaskState.REMOVE)
    await pending(world, "t3", desired_state=TaskState.SHUTDOWN, status=TaskStatus(state=TaskState.NEW))
    await pending(world, "t4", status=TaskStatus(state=TaskState.NEW))
    start(world)
    await world.clock.advance(1)
    assert {task_of(world, name).status.state for name in ("t1", "t2", "t3")} == {TaskState.SHUTDOWN}
    assert {task_of(world, name).node_id for name in ("t1", "t2", "t3")} == {""}
    assert task_of(world, "t4").status.state is TaskState.NEW


async def test_s23_a_decision_is_made_anew_when_the_node_changed_in_between(world: Any, monkeypatch: Any) -> None:
    await world.node("n2")
    await pending(world, "t1")
    original, changes = scheduler.place, []

    def place(state: Any, tasks: Any) -> Any:
        outcome = original(state, tasks)
        if not changes:
            changes.append(outcome.assignments["t1"])
            # What a watcher of nodes does between the snapshot and the write.
            _, draft = world.store.run(world.store.snapshot, lambda tx: tx.update(_paused(tx.get(Node, changes[0]))))
            world.store.publish(draft)
        return outcome

    monkeypatch.setattr(scheduler, "place", place)
    start(world)
    await world.clock.advance(1)
    assert changes == ["n1"]
    assert task_of(world, "t1").node_id == "n2"


def _paused(node: Any) -> Any:
    return replace(node, spec=replace(node.spec, availability="pause"))


async def test_a_burst_of_tasks_is_placed_in_one_pass(world: Any) -> None:
    loop = start(world)
    await world.clock.settle()
    before = loop.passes
    for number in range(20):
        await pending(world, f"t{number}")
    await world.clock.advance(0.04)
    assert task_of(world, "t0").status.state is TaskState.PENDING
    await world.clock.advance(0.2)
    assert {task_of(world, f"t{number}").status.state for number in range(20)} == {TaskState.ASSIGNED}
    assert loop.passes - before <= 3
