"""A task on each node that fits; ids of behaviours are those of the swarm's acceptance list."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gitops.objects.base import SECOND
from gitops.objects.node import Node
from gitops.objects.service import Global, Platform, RestartPolicy, Service, ServiceMode, UpdateConfig
from gitops.objects.task import Task, TaskState
from gitops.swarm.manager import reaper

GLOBAL = ServiceMode(global_=Global())


def nodes_of(world: Any, service: Service) -> list[str]:
    """The nodes with a wanted task."""
    return sorted(task.node_id for task in world.tasks(service))


async def running(world: Any, count: int = 3, **fields: Any) -> Service:
    """A global service that runs on nodes n1, n2 and so on."""
    for number in range(2, count + 1):
        await world.node(f"n{number}")
    service: Service = await world.service(mode=GLOBAL, **fields)
    world.orchestrator()
    world.start(world.nodes)
    await world.clock.advance(1)
    return service


async def availability(world: Any, node_id: str, word: str) -> None:
    await world.change_node(node_id, lambda node: replace(node, spec=replace(node.spec, availability=word)))


async def state(world: Any, node_id: str, word: str) -> None:
    await world.change_node(node_id, lambda node: replace(node, status=replace(node.status, state=word)))


async def test_g01_each_eligible_node_gets_one_task_and_a_new_node_its_own_at_once(world: Any) -> None:
    service = await running(world)
    assert nodes_of(world, service) == ["n1", "n2", "n3"]
    assert {(task.slot, task.is_by_node) for task in world.tasks(service)} == {(0, True)}
    assert {task.name for task in world.tasks(service)} == {
        f"web.{task.node_id}.{task.id}" for task in world.tasks(service)
    }
    await world.node("n4")
    await world.clock.settle()
    assert nodes_of(world, service) == ["n1", "n2", "n3", "n4"]


async def test_g02_a_deleted_node_takes_its_tasks_along(world: Any) -> None:
    service = await running(world)
    world.start(reaper.Reaper(world.store, world.clock, world.rng))
    (gone,) = [task for task in world.tasks(service) if task.node_id == "n2"]
    # As control does it: the tasks of a node that is removed are orphans.
    await world.set_state(gone, TaskState.ORPHANED)
    await world.store.update(lambda tx: tx.delete(Node, "n2"))
    await world.clock.advance(1)
    assert {task.node_id for task in world.tasks(service, runnable=False)} == {"n1", "n3"}


async def test_g03_a_drained_node_has_no_task_until_it_is_active_again(world: Any) -> None:
    service = await running(world)
    await availability(world, "n2", "drain")
    await world.clock.advance(300)
    (old,) = [task for task in world.tasks(service, runnable=False) if task.node_id == "n2"]
    assert (old.desired_state, old.status.state) == (TaskState.SHUTDOWN, TaskState.SHUTDOWN)
    await availability(world, "n2", "active")
    await world.clock.advance(10)
    assert len(world.running(service)) == 3


async def test_g04_a_paused_node_keeps_its_task_and_gets_none(world: Any) -> None:
    service = await running(world, 2)
    await availability(world, "n2", "pause")
    await world.clock.advance(10)
    assert nodes_of(world, service) == ["n1", "n2"]
    other = await world.service(name="other", mode=GLOBAL)
    await world.clock.advance(10)
    assert nodes_of(world, other) == ["n1"]


async def test_a_paused_node_is_left_out_of_an_update_and_caught_up_when_it_is_active(world: Any) -> None:
    service = await running(world, 2, update=UpdateConfig(parallelism=0, monitor=SECOND))
    await availability(world, "n2", "pause")
    await world.update(service, mode=GLOBAL, image="app:v2", update=UpdateConfig(parallelism=0, monitor=SECOND))
    await world.clock.advance(30)
    assert world.status(service) == "completed"
    assert sorted(world.images(service)) == ["app:v1", "app:v2"]
    await availability(world, "n2", "active")
    await world.clock.advance(30)
    assert world.images(service) == ["app:v2", "app:v2"]


async def test_a_task_that_fails_on_a_paused_node_is_followed_when_the_node_is_active(world: Any) -> None:
    service = await running(world, 2)
    await availability(world, "n2", "pause")
    (failed,) = [task for task in world.tasks(service) if task.node_id == "n2"]
    await world.set_state(failed, TaskState.FAILED)
    await world.clock.advance(60)
    assert nodes_of(world, service) == ["n1"]
    await availability(world, "n2", "active")
    await world.clock.advance(10)
    assert nodes_of(world, service) == ["n1", "n2"]


async def test_g05_the_task_of_a_node_that_is_down_stops_and_gets_a_successor_when_it_is_back(world: Any) -> None:
    service = await running(world, 2)
    await state(world, "n2", "down")
    await world.clock.advance(60)
    (old,) = [task for task in world.tasks(service, runnable=False) if task.node_id == "n2"]
    assert old.desired_state is TaskState.SHUTDOWN
    await state(world, "n2", "ready")
    await world.clock.settle()
    (new,) = [task for task in world.tasks(service) if task.node_id == "n2"]
    # The old container may still run there: the new one waits for its end.
    assert (new.desired_state, new.id != old.id) == (TaskState.READY, True)
    await world.clock.advance(10)
    assert len(world.running(service)) == 2


async def test_o12_a_node_that_is_unknown_keeps_its_task(world: Any) -> None:
    service = await running(world, 2)
    before = {task.id for task in world.tasks(service)}
    await state(world, "n2", "unknown")
    await world.clock.advance(60)
    assert {task.id for task in world.tasks(service)} == before


async def test_g06_services_are_handled_independently(world: Any) -> None:
    first = await running(world, 2)
    second = await world.service(name="other", mode=GLOBAL)
    await world.clock.advance(1)
    await world.store.update(lambda tx: tx.delete(Service, first.id))
    await world.clock.advance(1)
    assert world.tasks(first) == []
    assert nodes_of(world, second) == ["n1", "n2"]


async def test_g07_a_deleted_task_object_is_made_anew_on_its_node(world: Any) -> None:
    service = await running(world, 2)
    (gone,) = [task for task in world.tasks(service) if task.node_id == "n2"]
    await world.store.update(lambda tx: tx.delete(Task, gone.id))
    await world.clock.advance(1)
    assert nodes_of(world, service) == ["n1", "n2"]


@pytest.mark.parametrize(("condition", "expected"), [("any", ["n1", "n2"]), ("none", ["n1"])])
async def test_g08_a_failed_task_is_restarted_on_its_node_as_the_policy_says(
    world: Any, condition: str, expected: list[str]
) -> None:
    service = await running(world, 2, restart=RestartPolicy(condition=condition))
    (failed,) = [task for task in world.tasks(service) if task.node_id == "n2"]
    await world.set_state(failed, TaskState.FAILED)
    await world.clock.advance(60)
    assert nodes_of(world, service) == expected


async def test_g09_a_new_spec_makes_tasks_anew_that_are_not_restarted(world: Any) -> None:
    service = await running(world, 1, restart=RestartPolicy(condition="none"))
    await world.set_state(world.tasks(service)[0], TaskState.COMPLETE)
    await world.clock.advance(60)
    assert world.tasks(service) == []
    await world.update(service, mode=GLOBAL, image="app:v2", restart=RestartPolicy(condition="none"))
    await world.clock.advance(30)
    assert world.images(service) == ["app:v2"]


async def test_a_node_that_was_drained_gets_its_task_back_although_nothing_is_restarted(world: Any) -> None:
    service = await running(world, 1, restart=RestartPolicy(condition="none"))
    await availability(world, "n1", "drain")
    await world.clock.advance(10)
    assert world.tasks(service) == []
    await availability(world, "n1", "active")
    await world.clock.advance(10)
    assert len(world.running(service)) == 1


async def test_g10_constraints_and_labels_say_which_nodes_have_a_task(world: Any) -> None:
    await world.node("n2", labels={"disk": "ssd"})
    service = await world.service(mode=GLOBAL, constraints=["node.labels.disk==ssd"])
    world.orchestrator()
    world.start(world.nodes)
    await world.clock.advance(1)
    assert nodes_of(world, service) == ["n2"]
    await world.change_node("n1", lambda node: replace(node, spec=replace(node.spec, labels={"disk": "ssd"})))
    await world.change_node("n2", lambda node: replace(node, spec=replace(node.spec, labels={})))
    await world.clock.advance(10)
    assert nodes_of(world, service) == ["n1"]


async def test_nodes_of_another_platform_are_none_of_the_services(world: Any) -> None:
    def becomes_arm(node: Node) -> Node:
        description = replace(node.description, platform=Platform(architecture="aarch64", os="linux"))
        return replace(node, description=description)

    await world.node("n2")
    await world.change_node("n2", becomes_arm)
    service = await world.service(mode=GLOBAL, platforms=[Platform(architecture="arm64", os="linux")])
    world.orchestrator()
    await world.clock.settle()
    assert nodes_of(world, service) == ["n2"]


async def test_g11_a_new_leader_cleans_up_what_it_finds(world: Any) -> None:
    service = await running(world, 4)
    by_node = {task.node_id: task for task in world.tasks(service)}
    world.nodes.is_paused = True
    for key in [key for key in world.loops if key != id(world.nodes)]:
        world.loops.pop(key).cancel()
    await world.clock.settle()
    await world.set_state(by_node["n1"], TaskState.REJECTED)
    duplicate = replace(by_node["n2"], id="duplicate")
    await world.store.update(lambda tx: tx.create(duplicate))
    await availability(world, "n3", "drain")
    await world.store.update(lambda tx: tx.delete(Node, "n4"))
    world.nodes.is_paused = False
    world.orchestrator()
    await world.clock.advance(30)
    assert nodes_of(world, service) == ["n1", "n2"]
    assert len(world.running(service)) == 2


async def test_g12_attempts_are_counted_from_the_history_by_a_new_leader(world: Any) -> None:
    service = await running(world, 1, restart=RestartPolicy(max_attempts=2, delay=SECOND))
    first = world.tasks(service)[0]
    await world.set_state(first, TaskState.FAILED)
    await world.clock.advance(5)
    for key in [key for key in world.loops if key != id(world.nodes)]:
        world.loops.pop(key).cancel()
    world.orchestrator()
    for _ in range(2):
        for task in world.running(service):
            await world.set_state(task, TaskState.FAILED)
        await world.clock.advance(5)
    assert world.tasks(service) == []
    assert len(world.tasks(service, runnable=False)) == 3


async def test_u02_an_update_goes_over_the_nodes_a_few_at_a_time(world: Any) -> None:
    config = UpdateConfig(parallelism=2, monitor=SECOND)
    service = await running(world, 5, update=config)
    await world.update(service, mode=GLOBAL, image="app:v2", update=config)
    least = 5
    for _ in range(200):
        await world.clock.advance(0.05)
        least = min(least, len(world.running(service)))
    assert least == 3
    assert world.status(service) == "completed"
    assert world.images(service) == ["app:v2"] * 5
    assert nodes_of(world, service) == ["n1", "n2", "n3", "n4", "n5"]


async def test_u06_start_first_keeps_the_old_task_until_the_new_one_runs(world: Any) -> None:
    config = UpdateConfig(order="start-first", monitor=SECOND)
    service = await running(world, 3, update=config)
    await world.update(service, mode=GLOBAL, image="app:v2", update=config)
    least = 3
    for _ in range(200):
        await world.clock.advance(0.05)
        least = min(least, len({task.node_id for task in world.running(service)}))
    assert least == 3
    assert world.images(service) == ["app:v2"] * 3


async def test_u12_a_failing_update_of_a_global_service_is_rolled_back(world: Any) -> None:
    config = UpdateConfig(parallelism=1, monitor=SECOND, failure_action="rollback")
    service = await running(world, 3, update=config, restart=RestartPolicy(condition="none"))
    world.nodes.broken.add("app:bad")
    spec = world.spec(mode=GLOBAL, image="app:bad", update=config, restart=RestartPolicy(condition="none"))
    await world.update(service, spec)
    await world.clock.advance(60)
    assert world.status(service) == "rollback_completed"
    assert world.images(service) == ["app:v1"] * 3


async def test_an_update_goes_on_without_a_node_that_goes_down_under_it(world: Any) -> None:
    config = UpdateConfig(monitor=SECOND)
    service = await running(world, 3, update=config)
    world.nodes.is_paused = True
    await world.update(service, mode=GLOBAL, image="app:v2", update=config)
    await world.clock.advance(1)
    (busy,) = [task for task in world.tasks(service) if task.spec.container_spec.image == "app:v2"]
    await state(world, busy.node_id, "down")
    world.nodes.is_paused = False
    await world.clock.advance(30)
    assert world.status(service) == "completed"
    assert world.images(service) == ["app:v2"] * 2


async def test_e06_a_node_keeps_its_last_tasks(world: Any) -> None:
    await world.cluster(history=2)
    service = await running(world, 2, restart=RestartPolicy(delay=0))
    world.start(reaper.Reaper(world.store, world.clock, world.rng))
    for _ in range(5):
        for task in world.running(service):
            await world.set_state(task, TaskState.FAILED)
        await world.clock.advance(2)
    kept = [task.node_id for task in world.tasks(service, runnable=False)]
    assert sorted(kept) == ["n1", "n1", "n2", "n2"]
