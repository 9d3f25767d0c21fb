"""Services become tasks; ids of behaviours are those of the swarm's acceptance list."""

from __future__ import annotations

from collections import Counter
from typing import Any

from msgspec.structs import replace

from gitops.objects.node import Node
from gitops.objects.service import Replicated, RestartPolicy, Service, ServiceMode
from gitops.objects.task import Task, TaskState
from gitops.swarm.manager import reaper
from gitops.swarm.scheduling import replicated, slots


def slots_of(world: Any, service: Service) -> list[int]:
    return sorted(task.slot for task in world.tasks(service))


async def test_o01_a_service_gets_its_number_of_tasks_in_slots_from_one_on(world: Any) -> None:
    service = await world.service(replicas=3)
    world.orchestrator()
    await world.clock.settle()
    tasks = world.tasks(service)
    assert [task.slot for task in tasks] == [1, 2, 3]
    assert {task.status.state for task in tasks} == {TaskState.NEW}
    assert {task.desired_state for task in tasks} == {TaskState.RUNNING}
    assert {task.service_name for task in tasks} == {"web"}


async def test_o02_a_deleted_task_object_is_replaced_in_its_slot(world: Any) -> None:
    service = await world.service(replicas=3)
    world.orchestrator()
    await world.clock.settle()
    gone = world.tasks(service, slot=2)[0]
    await world.store.update(lambda tx: tx.delete(Task, gone.id))
    await world.clock.settle()
    assert slots_of(world, service) == [1, 2, 3]
    assert world.tasks(service, slot=2)[0].id != gone.id


async def test_o03_scaling_up_leaves_existing_tasks_untouched(world: Any) -> None:
    service = await world.service(replicas=2)
    world.orchestrator()
    world.start(world.nodes)
    await world.clock.advance(1)
    before = {task.id: task.version for task in world.tasks(service)}
    await world.update(service, replicas=5)
    await world.clock.advance(1)
    after = {task.id: task.version for task in world.tasks(service)}
    assert slots_of(world, service) == [1, 2, 3, 4, 5]
    assert all(after[task_id] == version for task_id, version in before.items())


async def test_o04_scaling_down_takes_slots_without_a_node_first(world: Any) -> None:
    service = await world.service(replicas=4)
    world.orchestrator()
    await world.clock.settle()
    for slot in (2, 4):
        await world.set_state(world.tasks(service, slot=slot)[0], TaskState.RUNNING, node_id="n1")
    await world.update(service, replicas=2)
    await world.clock.settle()
    assert slots_of(world, service) == [2, 4]


async def test_o05_scaling_down_leaves_the_nodes_balanced(world: Any) -> None:
    for node_id in ("n2", "n3"):
        await world.node(node_id)
    service = await world.service(replicas=6)
    world.orchestrator()
    await world.clock.settle()
    placed = {1: "n1", 2: "n1", 3: "n1", 4: "n1", 5: "n2", 6: "n3"}
    for slot, node_id in placed.items():
        await world.set_state(world.tasks(service, slot=slot)[0], TaskState.RUNNING, node_id=node_id)
    await world.update(service, replicas=3)
    await world.clock.settle()
    assert Counter(task.node_id for task in world.tasks(service)) == {"n1": 1, "n2": 1, "n3": 1}


async def test_o06_running_tasks_survive_others_and_lower_slots_survive_higher_ones(world: Any) -> None:
    service = await world.service(replicas=4)
    world.orchestrator()
    await world.clock.settle()
    for slot in (1, 2, 3, 4):
        state = TaskState.STARTING if slot == 1 else TaskState.RUNNING
        await world.set_state(world.tasks(service, slot=slot)[0], state, node_id=f"n{slot}")
    for slot in (2, 3, 4):
        await world.node(f"n{slot}")
    await world.update(service, replicas=2)
    await world.clock.settle()
    assert slots_of(world, service) == [2, 3]


async def test_o07_scaled_to_zero_no_task_object_is_left(world: Any) -> None:
    service = await world.service(replicas=3)
    world.orchestrator()
    world.start(world.nodes)
    world.start(reaper.Reaper(world.store, world.clock, world.rng))
    await world.clock.advance(1)
    await world.update(service, replicas=0)
    await world.clock.settle()
    assert {task.desired_state for task in world.tasks(service, runnable=False)} == {TaskState.REMOVE}
    await world.clock.advance(2)
    assert world.tasks(service, runnable=False) == []


async def test_e07_tasks_of_a_removed_service_disappear_once_they_stopped(world: Any) -> None:
    service = await world.service(replicas=2)
    world.orchestrator()
    world.start(world.nodes)
    world.start(reaper.Reaper(world.store, world.clock, world.rng))
    await world.clock.advance(1)
    world.nodes.is_paused = True
    await world.store.update(lambda tx: tx.delete(Service, service.id))
    await world.clock.advance(5)
    assert len(world.tasks(service, runnable=False)) == 2
    world.nodes.is_paused = False
    await world.store.update(lambda tx: tx.create(Node(id="wake")))
    await world.clock.advance(2)
    assert world.tasks(service, runnable=False) == []


async def test_o08_tasks_that_failed_while_no_manager_ran_are_restarted(world: Any) -> None:
    service = await world.service(replicas=2)
    loop = world.orchestrator()
    await world.clock.settle()
    await world.stop(loop)
    failed, rejected = world.tasks(service)
    await world.set_state(failed, TaskState.FAILED, node_id="n1")
    await world.set_state(rejected, TaskState.REJECTED, node_id="n1")
    world.orchestrator()
    world.start(world.nodes)
    await world.clock.advance(6)
    assert [task.status.state for task in world.tasks(service)] == [TaskState.RUNNING] * 2
    assert not {failed.id, rejected.id} & {task.id for task in world.tasks(service)}


async def test_o09_o13_tasks_of_a_node_that_is_down_or_gone_are_replaced(world: Any) -> None:
    for node_id in ("n2", "n3"):
        await world.node(node_id)
    service = await world.service(replicas=2)
    loop = world.orchestrator()
    await world.clock.settle()
    first, second = world.tasks(service)
    await world.set_state(first, TaskState.RUNNING, node_id="n2")
    await world.set_state(second, TaskState.RUNNING, node_id="n3")
    await world.stop(loop)
    await world.change_node("n2", lambda node: replace(node, status=replace(node.status, state="down")))
    world.orchestrator()
    await world.clock.settle()
    await world.store.update(lambda tx: tx.delete(Node, "n3"))
    world.start(world.nodes)
    await world.clock.advance(6)
    assert len(world.running(service)) == 2
    assert {task.node_id for task in world.tasks(service)} == {"n1"}


async def test_o11_draining_replaces_at_once_and_pausing_does_not(world: Any) -> None:
    service = await world.service(replicas=1)
    world.orchestrator()
    world.start(world.nodes)
    await world.clock.advance(1)
    (before,) = world.tasks(service)
    await world.node("n2")
    world.nodes.node_id = "n2"
    await world.change_node("n1", lambda node: replace(node, spec=replace(node.spec, availability="pause")))
    await world.clock.advance(1)
    assert [task.id for task in world.tasks(service)] == [before.id]
    await world.change_node("n1", lambda node: replace(node, spec=replace(node.spec, availability="drain")))
    await world.clock.advance(1)
    (after,) = world.running(service)
    assert after.node_id == "n2"


async def test_o12_an_unknown_node_keeps_its_tasks(world: Any) -> None:
    service = await world.service(replicas=1)
    world.orchestrator()
    world.start(world.nodes)
    await world.clock.advance(1)
    (before,) = world.tasks(service)
    await world.change_node("n1", lambda node: replace(node, status=replace(node.status, state="unknown")))
    await world.clock.advance(60)
    assert [task.id for task in world.tasks(service)] == [before.id]


async def test_o26_tasks_are_ordered_by_what_was_last_observed_then_by_creation_then_by_id() -> None:
    def task(task_id: str, timestamp: str, created: str = "") -> Task:
        blank = Task(id=task_id, created_at=created)
        return replace(blank, status=replace(blank.status, timestamp=timestamp))

    early, late = "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z"
    tasks = [task("d", late), task("c", early, late), task("b", early, early), task("a", early, early)]
    assert [item.id for item in sorted(tasks, key=slots.sort_key)] == ["a", "b", "c", "d"]


async def test_o27_desired_states_never_go_back_when_two_orchestrators_write(world: Any) -> None:
    service = await world.service(replicas=4, restart=RestartPolicy(delay=0))
    highest: dict[str, int] = {}
    world.orchestrator()
    world.orchestrator()
    world.start(world.nodes)
    watch = world.store.watch()
    for image in ("app:v2", "app:v3", "app:v4"):
        await world.update(service, image=image, replicas=4, restart=RestartPolicy(delay=0))
        await world.clock.advance(3)
    with watch:
        for commit in watch.drain():
            for change in commit.changes:
                if isinstance(change.object, Task):
                    rank = change.object.desired_state.rank
                    assert rank >= highest.get(change.object.id, 0)
                    highest[change.object.id] = rank
    assert len(highest) >= 12


async def test_o28_no_mode_at_all_is_one_replica(world: Any) -> None:
    service = await world.service(replicas=None)
    unset = await world.service(
        spec=replace(world.spec(name="unset"), mode=ServiceMode(replicated=Replicated(replicas=None)))
    )
    world.orchestrator()
    await world.clock.settle()
    assert slots_of(world, service) == [1]
    assert slots_of(world, unset) == [1]


async def test_a_slot_that_is_filled_again_waits_for_its_former_task_to_stop(world: Any) -> None:
    service = await world.service(replicas=2)
    world.orchestrator()
    world.start(world.nodes)
    await world.clock.advance(1)
    old = world.tasks(service, slot=2)[0]
    world.nodes.stubborn.add(old.id)
    await world.update(service, replicas=1)
    await world.clock.advance(1)
    await world.update(service, replicas=2)
    await world.clock.advance(10)
    (new,) = world.tasks(service, slot=2)
    assert new.desired_state is TaskState.READY
    world.nodes.stubborn.clear()
    await world.set_state(old, TaskState.SHUTDOWN)
    await world.clock.advance(1)
    assert world.running(service)[-1].id == new.id


async def test_one_service_that_cannot_be_reconciled_does_not_hold_up_the_others(world: Any, monkeypatch: Any) -> None:
    bad = await world.service(name="bad")
    good = await world.service(name="good")
    original = replicated.occupied_slots

    def failing(service: Service, tasks: list[Task]) -> list[Task]:
        if service.spec.name == "bad":
            raise ZeroDivisionError("a defect")
        return original(service, tasks)

    loop = world.orchestrator()
    await world.clock.settle()
    monkeypatch.setattr(replicated, "occupied_slots", failing)
    await world.update(bad, name="bad", replicas=2)
    await world.update(good, name="good", replicas=2)
    await world.clock.advance(1)
    assert slots_of(world, good) == [1, 2]
    assert slots_of(world, bad) == [1]
    monkeypatch.setattr(replicated, "occupied_slots", original)
    await world.clock.advance(60)
    assert slots_of(world, bad) == [1, 2]
    assert loop.passes < 200
