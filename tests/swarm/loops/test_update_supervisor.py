"""Rolling updates: pace, order, failures, rollback, and what a change in the middle does."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gitops.objects.base import SECOND
from gitops.objects.node import Node
from gitops.objects.service import (
    EndpointSpec,
    Placement,
    PortConfig,
    RestartPolicy,
    Service,
    UpdateConfig,
)
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling.tasks import is_runnable

V1, V2, V3 = "app:v1", "app:v2", "app:v3"


def settings(**fields: Any) -> UpdateConfig:
    """Update settings in seconds."""
    for key in ("delay", "monitor"):
        if key in fields:
            fields[key] = round(fields[key] * SECOND)
    return UpdateConfig(**fields)


async def converged(world: Any, **fields: Any) -> Service:
    """A service whose tasks all run."""
    service = await world.service(**fields)
    world.loop = world.orchestrator()
    world.start(world.nodes)
    await world.clock.advance(2)
    assert len(world.running(service)) == fields.get("replicas", 1)
    return service


def in_flux(world: Any, service: Service) -> int:
    """How many slots don't have a running, wanted task."""
    return len({task.slot for task in world.tasks(service)} - {task.slot for task in world.running(service)})


async def test_u01_an_image_change_reaches_every_slot(world: Any) -> None:
    service = await converged(world, replicas=4)
    await world.update(service, replicas=4, image=V2)
    await world.clock.settle()
    status = world.get(service).update_status
    assert (status.state, status.message) == ("updating", "update in progress")
    assert status.started_at and not status.completed_at
    await world.clock.until(lambda: world.status(service) == "completed")
    assert world.images(service) == [V2] * 4
    assert len(world.running(service)) == 4
    status = world.get(service).update_status
    assert status.message == "update completed"
    assert status.completed_at > status.started_at


@pytest.mark.parametrize(("parallelism", "most"), [(1, 1), (2, 2), (0, 6)])
async def test_u02_no_more_slots_change_at_once_than_the_parallelism(world: Any, parallelism: int, most: int) -> None:
    service = await converged(world, replicas=6, update=settings(parallelism=parallelism))
    await world.update(service, replicas=6, image=V2, update=settings(parallelism=parallelism))
    seen = 0
    while world.status(service) != "completed":
        await world.clock.advance(0.01)
        seen = max(seen, in_flux(world, service))
    assert seen == most


async def test_u03_each_worker_pauses_between_its_slots(world: Any) -> None:
    config = settings(parallelism=2, delay=20, monitor=5)
    service = await converged(world, replicas=6, update=config)
    start = world.clock.monotonic()
    await world.update(service, replicas=6, image=V2, update=config)
    reached: list[float] = []
    while world.status(service) != "completed":
        await world.clock.advance(0.5)
        updated = sum(1 for task in world.running(service) if task.spec.container_spec.image == V2)
        reached.extend([world.clock.monotonic() - start] * (updated - len(reached)))
    assert [round(moment / 20) for moment in reached] == [0, 0, 1, 1, 2, 2]
    # The delay is longer than the monitor time: the last slots are watched for one more delay.
    assert 60 < world.clock.monotonic() - start < 63


async def test_u05_a_new_placement_moves_only_tasks_whose_node_does_not_fit(world: Any) -> None:
    await world.change_node("n1", lambda node: replace(node, spec=replace(node.spec, labels={"disk": "ssd"})))
    await world.node("n2")
    service = await converged(world, replicas=1)
    second = await converged_on(world, "n2")
    (kept,) = world.tasks(service)
    (moved,) = world.tasks(second)
    await world.update(service, constraints=["node.labels.disk==ssd"])
    await world.update(second, name="other", constraints=["node.labels.disk==ssd"])
    await world.clock.advance(20)
    assert [task.id for task in world.tasks(service)] == [kept.id]
    assert [task.id for task in world.tasks(second)] != [moved.id]


async def converged_on(world: Any, node_id: str) -> Service:
    world.nodes.node_id = node_id
    service = await world.service(name="other")
    await world.clock.advance(2)
    world.nodes.node_id = "n1"
    return service


async def test_u06_stop_first_never_wants_two_running_tasks_in_a_slot(world: Any) -> None:
    service = await converged(world, replicas=3, update=settings(parallelism=0))
    watch = world.store.watch()
    await world.update(service, replicas=3, image=V2, update=settings(parallelism=0))
    await world.clock.advance(10)
    live: dict[str, Task] = {task.id: task for task in world.tasks(service)}
    with watch:
        for commit in watch.drain():
            for change in commit.changes:
                if isinstance(change.object, Task):
                    live[change.object.id] = change.object
            running = [task.slot for task in live.values() if task.desired_state is TaskState.RUNNING]
            assert len(running) == len(set(running))
            observed = [task.slot for task in live.values() if task.status.state is TaskState.RUNNING]
            assert len(observed) == len(set(observed))


async def test_u06_start_first_keeps_the_old_task_until_the_new_one_runs(world: Any) -> None:
    config = settings(order="start-first", parallelism=2)
    service = await converged(world, replicas=3, update=config)
    await world.update(service, replicas=3, image=V2, update=config)
    while world.status(service) != "completed":
        await world.clock.advance(0.01)
        assert {task.slot for task in world.running(service)} == {1, 2, 3}
    assert world.images(service) == [V2] * 3


async def test_start_first_gives_way_where_two_tasks_can_not_be_on_one_node(world: Any) -> None:
    config = settings(order="start-first")
    spec = world.spec(replicas=1, update=config)
    port = PortConfig(target_port=80, published_port=8080, publish_mode="host")
    service = await world.service(spec=replace(spec, endpoint_spec=EndpointSpec(ports=[port])))
    world.orchestrator()
    world.start(world.nodes)
    await world.clock.advance(1)
    new = world.spec(replicas=1, update=config, image=V2)
    await world.update(service, spec=replace(new, endpoint_spec=EndpointSpec(ports=[port])))
    await world.clock.settle()
    old, made = world.tasks(service, runnable=False)
    assert (old.desired_state, made.desired_state) == (TaskState.SHUTDOWN, TaskState.READY)
    exclusive = world.spec(replicas=1, update=config, image=V3)
    template = replace(exclusive.task_template, placement=Placement(max_replicas=1))
    await world.clock.advance(10)
    await world.update(service, spec=replace(exclusive, task_template=template))
    await world.clock.settle()
    assert world.tasks(service)[-1].desired_state is TaskState.READY


async def test_u07_a_new_order_in_the_middle_holds_from_then_on(world: Any) -> None:
    slow = settings(delay=30, monitor=40)
    service = await converged(world, replicas=3, update=slow)
    await world.update(service, replicas=3, image=V2, update=slow)
    await world.clock.advance(5)
    assert world.images(service).count(V2) == 1
    await world.update(service, replicas=3, image=V2, update=settings(order="start-first", parallelism=0))
    while world.status(service) != "completed":
        await world.clock.advance(0.01)
        assert len({task.slot for task in world.running(service)}) == 3
    assert world.images(service) == [V2] * 3


async def test_u08_pause_keeps_the_rest_of_the_slots_as_they_were(world: Any) -> None:
    service = await converged(world, replicas=4)
    world.nodes.broken.add(V2)
    await world.update(service, replicas=4, image=V2)
    await world.clock.advance(60)
    status = world.get(service).update_status
    assert status.state == "paused"
    failed = [task for task in world.tasks(service, runnable=False) if task.status.state is TaskState.FAILED]
    assert status.message == f"update paused due to failure or early termination of task {failed[0].id}"
    assert world.images(service).count(V1) == 3
    assert {task.slot for task in failed} == {1}


async def test_u09_continue_takes_every_slot_to_the_new_spec(world: Any) -> None:
    config = settings(failure_action="continue")
    service = await converged(world, replicas=4, update=config)
    world.nodes.broken.add(V2)
    await world.update(service, replicas=4, image=V2, update=config)
    await world.clock.until(lambda: world.status(service) == "completed", limit_s=120)
    assert world.images(service) == [V2] * 4


async def test_u10_a_ratio_of_a_half_of_ten_tolerates_five_failures(world: Any) -> None:
    config = settings(parallelism=1, max_failure_ratio=0.5, monitor=5)
    never = RestartPolicy(condition="none")
    service = await converged(world, replicas=10, update=config, restart=never)
    world.nodes.broken.add(V2)
    await world.update(service, replicas=10, image=V2, update=config, restart=never)
    await world.clock.until(lambda: world.status(service) == "paused", limit_s=120)
    new = [task for task in world.tasks(service, runnable=False) if task.spec.container_spec.image == V2]
    assert len(new) == 6


async def test_u11_a_failure_counts_within_the_monitor_time_and_not_after(world: Any) -> None:
    config = settings(delay=15, monitor=20)
    service = await converged(world, replicas=3, update=config)
    await world.update(service, replicas=3, image=V2, update=config)
    await world.clock.advance(25)
    (first,), (second,) = world.tasks(service, slot=1), world.tasks(service, slot=2)
    assert world.images(service) == [V2, V2, V1]
    await world.set_state(first, TaskState.FAILED)
    await world.clock.advance(0.5)
    assert world.status(service) == "updating"
    await world.set_state(second, TaskState.FAILED)
    await world.clock.advance(0.5)
    assert world.status(service) == "paused"


async def test_u12_automatic_rollback_restores_the_spec(world: Any) -> None:
    config = settings(failure_action="rollback")
    service = await converged(world, replicas=3, labels={"tier": "old"}, update=config)
    before = world.get(service).spec
    world.nodes.broken.add(V2)
    await world.update(service, replicas=5, image=V2, labels={"tier": "new"}, update=config)
    await world.clock.until(lambda: world.status(service) == "rollback_started", limit_s=60)
    message = world.get(service).update_status.message
    assert message.startswith("update rolled back due to failure or early termination of task ")
    await world.clock.until(lambda: world.status(service) == "rollback_completed", limit_s=120)
    await world.clock.advance(10)
    assert world.get(service).spec == before
    assert world.get(service).previous_spec is None
    assert world.get(service).update_status.message == "rollback completed"
    assert world.images(service) == [V1] * 3
    assert len(world.running(service)) == 3


async def test_u13_a_rollback_has_settings_of_its_own(world: Any) -> None:
    update, back = settings(parallelism=1), settings(parallelism=0, order="start-first")
    service = await converged(world, replicas=4, update=update, rollback=back)
    await world.update(service, replicas=4, image=V2, update=update, rollback=back)
    await world.clock.until(lambda: world.status(service) == "completed")
    await world.roll_back(service)
    await world.clock.settle()
    old = [task for task in world.tasks(service) if task.spec.container_spec.image == V2]
    new = [task for task in world.tasks(service) if task.spec.container_spec.image == V1]
    assert len(old) == 4
    assert {task.desired_state for task in new} == {TaskState.RUNNING}
    assert len(new) == 4
    await world.clock.until(lambda: world.status(service) == "rollback_completed")
    assert world.images(service) == [V1] * 4


@pytest.mark.parametrize("action", ["pause", "rollback"])
async def test_u14_a_rollback_that_fails_pauses(world: Any, action: str) -> None:
    config = settings(failure_action="rollback")
    service = await converged(world, replicas=2, update=config, rollback=settings(failure_action=action))
    world.nodes.broken.update({V1, V2})
    await world.update(service, replicas=2, image=V2, update=config)
    await world.clock.until(lambda: world.status(service) == "rollback_paused", limit_s=120)
    message = world.get(service).update_status.message
    assert message.startswith("rollback paused due to failure or early termination of task ")
    await world.clock.advance(120)
    assert world.status(service) == "rollback_paused"


async def test_an_update_that_can_not_be_rolled_back_pauses(world: Any) -> None:
    config = settings(failure_action="rollback")
    service = await converged(world, update=config)
    world.nodes.broken.add(V2)
    updated = await world.update(service, image=V2, update=config)
    await world.store.update(lambda tx: tx.update(replace(tx.get(Service, updated.id), previous_spec=None)))
    await world.clock.advance(30)
    assert world.status(service) == "paused"


async def test_u15_a_rollback_by_hand_works_while_paused_and_a_second_one_swaps_back(world: Any) -> None:
    service = await converged(world, replicas=2)
    world.nodes.broken.add(V2)
    await world.update(service, replicas=2, image=V2)
    await world.clock.until(lambda: world.status(service) == "paused")
    await world.roll_back(service)
    await world.clock.until(lambda: world.status(service) == "rollback_completed")
    assert world.images(service) == [V1] * 2
    world.nodes.broken.clear()
    await world.roll_back(service)
    await world.clock.until(lambda: world.status(service) == "rollback_completed" and V1 not in world.images(service))
    assert world.images(service) == [V2] * 2


async def test_u17_a_newer_update_replaces_one_under_way(world: Any) -> None:
    slow = settings(delay=60)
    service = await converged(world, replicas=3, update=slow)
    await world.update(service, replicas=3, image=V2, update=slow)
    await world.clock.advance(5)
    await world.update(service, replicas=3, image=V3, update=settings())
    await world.clock.until(lambda: world.status(service) == "completed", limit_s=60)
    assert world.images(service) == [V3] * 3


async def test_u18_the_same_spec_again_does_not_restart_an_update(world: Any) -> None:
    slow = settings(delay=10, monitor=5)
    service = await converged(world, replicas=3, update=slow)
    await world.update(service, replicas=3, image=V2, update=slow)
    await world.clock.advance(2)
    assert world.images(service).count(V2) == 1
    await world.update(service, replicas=3, image=V2, update=slow)
    await world.clock.advance(5)
    assert world.images(service).count(V2) == 1
    assert world.status(service) == "updating"
    await world.clock.until(lambda: world.status(service) == "completed", limit_s=60)


async def test_u19_an_old_task_that_refuses_to_stop_holds_a_slot_up_for_a_minute(world: Any) -> None:
    service = await converged(world)
    world.nodes.stubborn.add(world.tasks(service)[0].id)
    await world.update(service, image=V2)
    await world.clock.advance(59)
    assert world.running(service) == []
    await world.clock.advance(2)
    assert [task.spec.container_spec.image for task in world.running(service)] == [V2]


async def test_u20_a_paused_update_stays_so_over_a_change_of_managers(world: Any) -> None:
    service = await converged(world, replicas=3)
    world.nodes.broken.add(V2)
    await world.update(service, replicas=3, image=V2)
    await world.clock.until(lambda: world.status(service) == "paused")
    await world.stop(world.loop)
    world.nodes.broken.clear()
    world.orchestrator()
    await world.clock.advance(120)
    assert world.status(service) == "paused"
    assert world.images(service).count(V1) == 2


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
@pytest.mark.parametrize("moment", [0.02, 0.07, 0.12, 3.0, 10.5])
async def test_u20_an_update_under_way_goes_on_with_another_manager(world: Any, order: str, moment: float) -> None:
    config = settings(delay=10, monitor=5, order=order)
    service = await converged(world, replicas=3, update=config)
    await world.update(service, replicas=3, image=V2, update=config)
    await world.clock.advance(moment)
    await world.stop(world.loop)
    await world.clock.advance(1)
    world.orchestrator()
    await world.clock.until(lambda: world.status(service) == "completed", limit_s=120)
    await world.clock.advance(10)
    assert world.images(service) == [V2] * 3
    assert len(world.running(service)) == 3


async def test_u21_slots_that_a_scale_adds_during_an_update_have_the_new_spec(world: Any) -> None:
    slow = settings(delay=30, monitor=5)
    service = await converged(world, replicas=3, update=slow)
    await world.update(service, replicas=3, image=V2, update=slow)
    await world.clock.advance(5)
    await world.update(service, replicas=5, image=V2, update=slow)
    await world.clock.advance(1)
    assert world.images(service)[3:] == [V2, V2]
    await world.clock.until(lambda: world.status(service) == "completed", limit_s=200)
    assert world.images(service) == [V2] * 5


async def test_u22_a_scale_alone_is_no_update(world: Any) -> None:
    service = await converged(world, replicas=2)
    await world.update(service, replicas=4)
    await world.clock.advance(20)
    assert world.get(service).update_status is None
    assert len(world.running(service)) == 4


async def test_u23_a_service_deleted_in_the_middle_ends_its_update(world: Any) -> None:
    service = await converged(world, replicas=3, update=settings(delay=30))
    await world.update(service, replicas=3, image=V2, update=settings(delay=30))
    await world.clock.advance(5)
    await world.store.update(lambda tx: tx.delete(Service, service.id))
    await world.clock.advance(120)
    assert world.tasks(service) == []
    assert not world.loop._rollouts


async def test_a_task_that_is_meant_to_end_is_no_failure_of_its_update(world: Any) -> None:
    once = RestartPolicy(condition="on-failure")
    service = await converged(world, replicas=2, restart=once)
    world.nodes.broken.add(V2)
    world.nodes.broken_state = TaskState.COMPLETE
    await world.update(service, replicas=2, image=V2, restart=once)
    await world.clock.until(lambda: world.status(service) == "completed", limit_s=60)


async def test_a_task_that_ends_although_it_should_not_is_one(world: Any) -> None:
    service = await converged(world, replicas=2)
    world.nodes.broken.add(V2)
    world.nodes.broken_state = TaskState.COMPLETE
    await world.update(service, replicas=2, image=V2)
    await world.clock.until(lambda: world.status(service) == "paused", limit_s=60)


async def test_a_drained_node_during_an_update_is_no_failure_of_it(world: Any) -> None:
    config = settings(delay=10, monitor=30)
    service = await converged(world, replicas=2, update=config)
    await world.update(service, replicas=2, image=V2, update=config)
    await world.clock.advance(3)
    await world.node("n2")
    world.nodes.node_id = "n2"
    await world.store.update(
        lambda tx: tx.update(replace(tx.get(Node, "n1"), spec=replace(tx.get(Node, "n1").spec, availability="drain")))
    )
    await world.clock.until(lambda: world.status(service) == "completed", limit_s=120)
    assert world.images(service) == [V2] * 2


async def test_an_update_that_went_on_regardless_leaves_restarts_their_delay(world: Any) -> None:
    config = settings(order="start-first", failure_action="continue")
    service = await converged(world, replicas=1, update=config)
    world.nodes.broken.add(V2)
    await world.update(service, replicas=1, image=V2, update=config)
    await world.clock.until(lambda: world.status(service) == "completed", limit_s=60)
    await world.clock.advance(50)
    assert world.status(service) == "completed"
    assert V1 in [task.spec.container_spec.image for task in world.running(service)]
    assert 8 <= len(world.tasks(service, runnable=False)) <= 13
    world.nodes.broken.clear()
    await world.clock.advance(10)
    assert world.images(service) == [V2]


async def test_what_start_first_left_beside_a_task_is_stopped_once_it_runs(world: Any) -> None:
    config = settings(order="start-first")
    service = await converged(world, replicas=1, update=config)
    world.nodes.broken.add(V2)
    await world.update(service, replicas=1, image=V2, update=config)
    await world.clock.until(lambda: world.status(service) == "paused", limit_s=60)
    assert [task.spec.container_spec.image for task in world.running(service)] == [V1]
    world.nodes.broken.clear()
    await world.clock.advance(20)
    assert [task.spec.container_spec.image for task in world.tasks(service)] == [V2]


def test_only_wanted_tasks_are_runnable() -> None:
    assert [is_runnable(Task(desired_state=state)) for state in (TaskState.READY, TaskState.RUNNING)] == [True, True]
    assert [is_runnable(Task(desired_state=state)) for state in (TaskState.SHUTDOWN, TaskState.REMOVE)] == [False] * 2
