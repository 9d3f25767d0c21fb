"""Tasks that run to their end; ids of behaviours are those of the swarm's acceptance list."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from gitops.objects.base import SECOND, Version
from gitops.objects.node import Node
from gitops.objects.service import GlobalJob, ReplicatedJob, RestartPolicy, Service, ServiceMode
from gitops.objects.task import Task, TaskState
from gitops.swarm.manager import reaper
from gitops.swarm.scheduling import jobs, modes

GLOBAL = ServiceMode(global_job=GlobalJob())


def job(concurrent: int | None = None, total: int | None = None) -> ServiceMode:
    return ServiceMode(replicated_job=ReplicatedJob(max_concurrent=concurrent, total_completions=total))


def wanted(world: Any, service: Service) -> list[Task]:
    """Tasks that are still to end."""
    return [task for task in world.tasks(service) if not task.status.state.is_terminal]


def slots_of(tasks: list[Task]) -> list[int]:
    return sorted(task.slot for task in tasks)


async def start(world: Any, mode: ServiceMode, *, nodes: int = 1, **fields: Any) -> Service:
    for number in range(2, nodes + 1):
        await world.node(f"n{number}")
    service: Service = await world.service(mode=mode, **fields)
    world.orchestrator()
    world.start(world.nodes)
    await world.clock.advance(1)
    return service


async def end(world: Any, tasks: list[Task], state: TaskState = TaskState.COMPLETE) -> None:
    for task in tasks:
        await world.set_state(task, state)
    await world.clock.advance(1)


async def test_j01_a_job_starts_as_many_tasks_as_may_run_at_a_time(world: Any) -> None:
    service = await start(world, job(3, 5))
    tasks = world.tasks(service)
    assert slots_of(tasks) == [0, 1, 2]
    assert {task.desired_state for task in tasks} == {TaskState.COMPLETE}
    assert {task.job_iteration for task in tasks} == {Version(0)}
    assert not any(task.is_by_node for task in tasks)
    assert len(world.running(service)) == 3


async def test_j02_what_completes_makes_room_until_all_have(world: Any) -> None:
    service = await start(world, job(2, 5))
    for expected in ([0, 1], [2, 3], [4], []):
        assert slots_of(wanted(world, service)) == expected
        await end(world, wanted(world, service))
    tasks = world.tasks(service, runnable=False)
    assert slots_of(tasks) == [0, 1, 2, 3, 4]
    assert {task.status.state for task in tasks} == {TaskState.COMPLETE}


async def test_j03_no_more_are_started_than_are_missing(world: Any) -> None:
    service = await start(world, job(4, 2))
    assert slots_of(world.tasks(service)) == [0, 1]


async def test_a_job_without_numbers_runs_once(world: Any) -> None:
    service = await start(world, job())
    assert slots_of(world.tasks(service)) == [0]
    await end(world, world.tasks(service))
    await world.clock.advance(300)
    assert len(world.tasks(service, runnable=False)) == 1


async def test_j04_tasks_that_are_told_to_stop_do_not_count(world: Any) -> None:
    service = await start(world, job(2, 2))
    (first, _) = sorted(world.tasks(service), key=lambda task: task.slot)
    await world.store.update(lambda tx: tx.update(replace(tx.get(Task, first.id), desired_state=TaskState.SHUTDOWN)))
    await world.clock.advance(10)
    assert slots_of(wanted(world, service)) == [0, 1]
    assert first.id not in {task.id for task in wanted(world, service)}


async def test_j05_slots_of_completed_tasks_are_not_used_again_but_those_of_removed_ones(world: Any) -> None:
    service = await start(world, job(2, 4))
    first, second = sorted(world.tasks(service), key=lambda task: task.slot)
    await end(world, [first])
    await world.store.update(lambda tx: tx.delete(Task, second.id))
    await world.clock.advance(1)
    assert slots_of(wanted(world, service)) == [1, 2]


async def test_j06_a_task_that_fails_is_replaced_in_its_slot_after_the_delay(world: Any) -> None:
    service = await start(world, job(2, 2), restart=RestartPolicy(condition="any", delay=10 * SECOND))
    failed = world.tasks(service)[1]
    await end(world, [failed], TaskState.FAILED)
    (new,) = [task for task in wanted(world, service) if task.slot == failed.slot]
    assert new.desired_state is TaskState.READY
    await world.clock.advance(10)
    (new,) = [task for task in world.running(service) if task.slot == failed.slot]
    assert (new.desired_state, new.job_iteration) == (TaskState.COMPLETE, Version(0))


async def test_j07_tasks_beyond_the_total_are_left_and_none_is_made(world: Any) -> None:
    service = await start(world, job(1, 1))
    extra = replace(world.tasks(service)[0], id="extra", slot=7)
    await world.store.update(lambda tx: tx.create(extra))
    await world.clock.advance(10)
    assert slots_of(world.tasks(service)) == [0, 7]


async def test_j08_an_update_begins_a_new_iteration_from_zero(world: Any) -> None:
    service = await start(world, job(2, 3))
    world.start(reaper.Reaper(world.store, world.clock, world.rng))
    await end(world, world.tasks(service)[:1])
    await world.update(service, mode=job(2, 3), force=1)
    await world.clock.settle()
    former = [task for task in world.tasks(service, runnable=False) if task.job_iteration == Version(0)]
    assert {task.desired_state for task in former} == {TaskState.REMOVE}
    await world.clock.advance(10)
    tasks = world.tasks(service, runnable=False)
    assert slots_of(tasks) == [0, 1]
    assert {task.job_iteration for task in tasks} == {Version(1)}
    assert world.status(service) == ""


async def test_j08_a_slot_of_the_new_iteration_waits_for_the_old_ones_end(world: Any) -> None:
    service = await start(world, job(1, 1))
    (old,) = world.tasks(service)
    world.nodes.is_paused = True
    await world.update(service, mode=job(1, 1), force=1)
    await world.clock.advance(5)
    (new,) = world.tasks(service)
    assert (new.id != old.id, new.desired_state) == (True, TaskState.READY)
    world.nodes.is_paused = False
    await world.set_state(old, TaskState.SHUTDOWN)
    await world.clock.advance(2)
    (new,) = world.running(service)
    assert new.desired_state is TaskState.COMPLETE


async def test_j09_a_global_job_runs_once_on_each_node_that_fits(world: Any) -> None:
    await world.node("n2", labels={"x": "1"})
    await world.node("n3", availability="drain", labels={"x": "1"})
    await world.node("n4", availability="pause", labels={"x": "1"})
    service = await start(world, GLOBAL, constraints=["node.labels.x==1"])
    assert [task.node_id for task in world.running(service)] == ["n2"]
    await end(world, world.running(service))
    await world.node("n5", labels={"x": "1"})
    await world.clock.advance(300)
    assert [task.node_id for task in world.running(service)] == ["n5"]
    done = [task for task in world.tasks(service, runnable=False) if task.status.state is TaskState.COMPLETE]
    assert [task.node_id for task in done] == ["n2"]


async def test_j09_what_a_drained_node_did_not_end_it_does_when_it_is_active_again(world: Any) -> None:
    service = await start(world, GLOBAL, nodes=2)
    first = next(task for task in world.tasks(service) if task.node_id == "n1")
    await end(world, [first])
    for node_id in ("n1", "n2"):
        await world.change_node(node_id, lambda node: replace(node, spec=replace(node.spec, availability="drain")))
    await world.clock.advance(10)
    assert world.running(service) == []
    for node_id in ("n1", "n2"):
        await world.change_node(node_id, lambda node: replace(node, spec=replace(node.spec, availability="active")))
    await world.clock.advance(10)
    assert [task.node_id for task in world.running(service)] == ["n2"]


@pytest.mark.parametrize("mode", [job(2, 2), GLOBAL])
@pytest.mark.parametrize(
    ("policy", "tries"), [(RestartPolicy(condition="none"), 1), (RestartPolicy(max_attempts=2), 3)]
)
async def test_j10_a_job_that_fails_ends_when_its_attempts_do(
    world: Any, mode: ServiceMode, policy: RestartPolicy, tries: int
) -> None:
    world.nodes.broken.add("app:bad")
    service = await start(world, mode, nodes=2, image="app:bad", restart=policy)
    await world.clock.advance(300)
    assert wanted(world, service) == []
    assert len(world.tasks(service, runnable=False)) == 2 * tries
    assert {task.status.state for task in world.tasks(service, runnable=False)} == {TaskState.FAILED}


async def test_j10_a_slot_that_failed_for_good_takes_the_place_of_a_completion(world: Any) -> None:
    service = await start(world, job(1, 3), restart=RestartPolicy(condition="none"))
    await end(world, wanted(world, service), TaskState.FAILED)
    await end(world, wanted(world, service))
    await end(world, wanted(world, service))
    assert wanted(world, service) == []
    assert slots_of(world.tasks(service, runnable=False)) == [0, 1, 2]


async def test_j11_a_removed_job_takes_its_tasks_along(world: Any) -> None:
    service = await start(world, job(2, 4))
    world.start(reaper.Reaper(world.store, world.clock, world.rng))
    await end(world, world.tasks(service)[:1])
    await world.store.update(lambda tx: tx.delete(Service, service.id))
    await world.clock.advance(2)
    assert world.tasks(service, runnable=False) == []


async def test_j11_a_job_that_cannot_be_looked_at_does_not_stop_others(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = jobs.slot_states
    broken = await world.service(name="broken", mode=job(1, 1))

    def failing(service: Service, tasks: Any) -> Any:
        if service.id == broken.id:
            raise RuntimeError("no")
        return original(service, tasks)

    monkeypatch.setattr(jobs, "slot_states", failing)
    service = await start(world, job(1, 1))
    assert slots_of(world.tasks(service)) == [0]


async def test_a_drained_nodes_tasks_run_elsewhere(world: Any) -> None:
    service = await start(world, job(1, 2), nodes=2)
    (first,) = world.running(service)
    world.nodes.node_id = "n2"
    await world.change_node("n1", lambda node: replace(node, spec=replace(node.spec, availability="drain")))
    await world.clock.advance(5)
    assert [(task.slot, task.node_id) for task in world.running(service)] == [(first.slot, "n2")]


async def test_the_history_keeps_what_was_completed(world: Any) -> None:
    await world.cluster(history=1)
    service = await start(world, job(5, 40))
    world.start(reaper.Reaper(world.store, world.clock, world.rng))
    while left := wanted(world, service):
        await end(world, left)
    assert len(world.tasks(service, runnable=False)) == 40


@pytest.mark.parametrize("seed", range(10))
async def test_a_disturbed_job_completes_each_slot_once_and_never_runs_too_many(world: Any, seed: int) -> None:
    rng = random.Random(seed)
    concurrent, total = rng.randint(1, 4), rng.randint(1, 12)
    service = await start(world, job(concurrent, total), nodes=3, restart=RestartPolicy(delay=0))
    for _ in range(400):
        tasks = world.running(service)
        assert len(tasks) <= concurrent
        if tasks and rng.random() < 0.5:
            state = rng.choice([TaskState.COMPLETE, TaskState.COMPLETE, TaskState.FAILED])
            await world.set_state(rng.choice(tasks), state)
        if rng.random() < 0.05:
            for key in [key for key in world.loops if key != id(world.nodes)]:
                world.loops.pop(key).cancel()
            world.orchestrator()
        if rng.random() < 0.1:
            word = rng.choice(["active", "drain", "pause"])
            node_id = f"n{rng.randint(1, 3)}"

            def change(node: Node, word: str = word) -> Node:
                return replace(node, spec=replace(node.spec, availability=word))

            await world.change_node(node_id, change)
            active = [node for node in world.store.view().all(Node) if modes.takes_tasks(node)]
            world.nodes.is_paused = not active
            world.nodes.node_id = rng.choice(active).id if active else "n1"
        await world.clock.advance(rng.random())
    done = [task for task in world.tasks(service, runnable=False) if task.status.state is TaskState.COMPLETE]
    assert max(Counter(task.slot for task in done).values(), default=0) <= 1
    for number in (1, 2, 3):
        await world.change_node(
            f"n{number}", lambda node: replace(node, spec=replace(node.spec, availability="active"))
        )
    world.nodes.is_paused = False
    while left := wanted(world, service):
        await end(world, [task for task in left if task.status.state is TaskState.RUNNING])
    done = [task for task in world.tasks(service, runnable=False) if task.status.state is TaskState.COMPLETE]
    assert slots_of(done) == list(range(total))
