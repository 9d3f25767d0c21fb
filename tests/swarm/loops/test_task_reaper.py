"""History is kept to its limit, and what is to go goes."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from gitops.objects.base import SECOND
from gitops.objects.node import Cluster, Orchestration
from gitops.objects.service import RestartPolicy, Service
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.swarm.manager.reaper import Reaper, surplus


async def churned(world: Any, failures: int, **fields: Any) -> Service:
    """A service whose task failed some times; a reaper runs."""
    policy = fields.pop("restart", RestartPolicy(delay=SECOND))
    service = await world.service(restart=policy, **fields)
    world.orchestrator()
    world.start(world.nodes)
    world.reaper = Reaper(world.store, world.clock, world.rng)
    world.start(world.reaper)
    await world.clock.advance(1)
    for _ in range(failures):
        for task in world.running(service):
            await world.set_state(task, TaskState.FAILED)
        await world.clock.advance(3)
    return service


async def test_e06_a_slot_keeps_its_last_tasks_up_to_the_limit(world: Any) -> None:
    await world.cluster(history=3)
    service = await churned(world, failures=7)
    tasks = world.tasks(service, runnable=False)
    assert len(tasks) == 3
    assert [task.status.state for task in tasks] == [TaskState.FAILED, TaskState.FAILED, TaskState.RUNNING]


async def test_e06_without_a_cluster_object_the_limit_is_five(world: Any) -> None:
    service = await churned(world, failures=9)
    assert len(world.tasks(service, runnable=False)) == 5


async def test_e06_live_tasks_are_never_taken(world: Any) -> None:
    await world.cluster(history=0)
    service = await churned(world, failures=3)
    assert [task.status.state for task in world.tasks(service, runnable=False)] == [TaskState.RUNNING]


async def test_e06_a_negative_limit_keeps_everything(world: Any) -> None:
    await world.cluster(history=-1)
    service = await churned(world, failures=8)
    assert len(world.tasks(service, runnable=False)) == 9


async def test_e06_attempts_need_their_history(world: Any) -> None:
    await world.cluster(history=1)
    service = await churned(world, failures=6, restart=RestartPolicy(delay=SECOND, max_attempts=3))
    assert len(world.tasks(service, runnable=False)) == 4
    assert world.tasks(service) == []


async def test_e06_a_limit_of_one_does_not_shorten_a_delay(world: Any) -> None:
    await world.cluster(history=1)
    service = await churned(world, failures=0, restart=RestartPolicy(delay=10 * SECOND))
    await world.set_state(world.tasks(service)[0], TaskState.FAILED)
    await world.clock.advance(9)
    assert world.tasks(service)[0].desired_state is TaskState.READY
    await world.clock.advance(2)
    assert world.tasks(service)[0].desired_state is TaskState.RUNNING
    assert len(world.tasks(service, runnable=False)) == 1


async def test_e06_the_end_of_a_task_that_is_not_restarted_stays_on_record(world: Any) -> None:
    await world.cluster(history=0)
    service = await churned(world, failures=1, restart=RestartPolicy(condition="none"))
    await world.clock.advance(120)
    assert [task.status.state for task in world.tasks(service, runnable=False)] == [TaskState.FAILED]


async def test_e08_a_new_limit_applies_to_what_is_there(world: Any) -> None:
    await world.cluster(history=5)
    service = await churned(world, failures=6)
    assert len(world.tasks(service, runnable=False)) == 5

    def lower(tx: Any) -> None:
        cluster = tx.get(Cluster, "default")
        spec = replace(cluster.spec, orchestration=Orchestration(task_history_retention_limit=2))
        tx.update(replace(cluster, spec=spec))

    await world.store.update(lower)
    await world.clock.advance(1)
    assert len(world.tasks(service, runnable=False)) == 2


async def test_e09_work_is_gathered_for_a_quarter_of_a_second_or_a_thousand_changes(world: Any) -> None:
    reaper = Reaper(world.store, world.clock, world.rng)
    world.start(reaper)
    await world.clock.settle()

    def create(first: int, count: int) -> Any:
        def change(tx: Any) -> None:
            for number in range(first, first + count):
                tx.create(Task(id=f"t{number}", service_id="s", desired_state=TaskState.REMOVE))

        return change

    await world.store.update(create(0, 10))
    await world.clock.advance(0.2)
    assert len(world.store.view().all(Task)) == 10
    await world.clock.advance(0.1)
    assert world.store.view().all(Task) == []
    await world.store.update(create(100, 1001))
    await world.clock.settle()
    assert world.store.view().all(Task) == []


async def test_e10_the_first_pass_clears_what_a_former_manager_left(world: Any) -> None:
    service = await world.service()
    ended, alive = TaskStatus(state=TaskState.SHUTDOWN), TaskStatus(state=TaskState.RUNNING)
    left = [
        Task(id="removed", service_id=service.id, desired_state=TaskState.REMOVE, status=ended),
        Task(id="never-started", service_id=service.id, desired_state=TaskState.REMOVE),
        Task(id="stopping", service_id=service.id, desired_state=TaskState.REMOVE, status=alive),
        Task(id="attachment-gone", status=ended),
        Task(id="attachment", status=alive),
    ]
    await world.store.update(lambda tx: [tx.create(task) for task in left])
    world.start(Reaper(world.store, world.clock, world.rng))
    await world.clock.settle()
    assert {task.id for task in world.store.view().all(Task)} == {"stopping", "attachment"}


def test_what_waits_for_its_predecessor_keeps_it_on_record() -> None:
    old = Task(id="old", desired_state=TaskState.SHUTDOWN, status=TaskStatus(state=TaskState.FAILED))
    new = Task(id="new", desired_state=TaskState.READY)
    assert surplus([old, new], 1) == []
    assert surplus([old, replace(new, desired_state=TaskState.RUNNING)], 1) == [old]
