"""Whole swarms, disturbed at random from a seed, come to rest as they should, with nothing forbidden on the way."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gitops.objects.base import SECOND, Version
from gitops.objects.service import (
    ContainerSpec,
    Global,
    Replicated,
    RestartPolicy,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from gitops.objects.task import Task, TaskState
from gitops.simulation.executor import Behaviour
from gitops.simulation.swarm import SimulatedSwarm, Watchman

STEPS = 40
Make = Callable[[int, str, str], ServiceSpec]


def spec(replicas: int, image: str, order: str) -> ServiceSpec:
    return ServiceSpec(
        name="web",
        task_template=TaskSpec(container_spec=ContainerSpec(image=image), restart_policy=RestartPolicy(delay=SECOND)),
        mode=ServiceMode(replicated=Replicated(replicas=replicas)),
        update_config=UpdateConfig(parallelism=2, monitor=SECOND, failure_action="continue", order=order),
    )


async def submit(swarm: SimulatedSwarm, wanted: ServiceSpec) -> None:
    """Create or update the service as the control API does."""

    def change(tx: Any) -> None:
        stored = tx.get(Service, "web")
        if stored is None:
            tx.create(Service(id="web", spec=wanted, spec_version=Version(index=tx.version)))
            return
        version = Version(index=tx.version)
        tx.update(replace(stored, spec=wanted, spec_version=version, previous_spec=stored.spec, update_status=None))

    await swarm.store.update(change)


def on_each(replicas: int, image: str, order: str) -> ServiceSpec:
    """The same by node; `replicas` don't count."""
    return replace(spec(replicas, image, order), mode=ServiceMode(global_=Global()))


async def disturb(swarm: SimulatedSwarm, order: str, *, with_nodes: bool, make: Make = spec) -> None:
    """One thing that happens to a swarm."""
    rng, running = swarm.rng, sorted(swarm.running(), key=lambda task: task.id)
    node = swarm.nodes[rng.choice(sorted(swarm.nodes))]
    choice = rng.randrange(8 if with_nodes else 5)
    if choice in (0, 1) and running:
        victim = rng.choice(running)
        executor = swarm.nodes[victim.node_id].executor
        executor.kill(victim.id) if choice == 0 else executor.take_away(victim.id)
    elif choice == 2:
        await submit(swarm, make(rng.randint(0, 8), f"app:v{rng.randint(1, 3)}", order))
    elif choice == 3:
        await node.stop()
        await swarm.clock.advance(rng.random() * 3)
        node.start()
    elif choice == 4:
        await swarm.stop_manager()
        await swarm.clock.advance(rng.random() * 5)
        await swarm.start_manager()
    elif choice == 5 and swarm.store.view().all(Task):
        victim = rng.choice(swarm.store.view().all(Task))
        await swarm.store.update(lambda tx: tx.delete(Task, victim.id))
    elif choice == 6:
        swarm.cut_off(node.id)
    elif choice == 7:
        swarm.mend(node.id)


def behaviours(swarm: SimulatedSwarm) -> None:
    """Hosts that are slow, and containers that sometimes fail by themselves."""
    for node in swarm.nodes.values():
        node.executor.behave = lambda task: Behaviour(
            prepare_s=swarm.rng.random(),
            start_s=swarm.rng.random() * 2,
            stop_s=swarm.rng.random() * 3,
            exits_after_s=swarm.rng.choice([None, None, None, 5.0]),
            exit_code=swarm.rng.randint(0, 1),
        )


def calm(swarm: SimulatedSwarm) -> None:
    for node in swarm.nodes.values():
        swarm.mend(node.id)
        node.executor.behave = lambda task: Behaviour()


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("make", [spec, on_each])
async def test_a_disturbed_swarm_converges(
    tmp_path: Path, seed: int, order: str, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    swarm = SimulatedSwarm(seed, tmp_path)
    await swarm.open(3)
    watchman = Watchman(swarm)
    behaviours(swarm)
    # A node that is cut off runs what is replaced elsewhere, and a task whose object is deleted stops a moment after
    # it was replaced: slots are watched where neither happens.
    with_nodes = seed % 2 == 1
    try:
        await submit(swarm, make(5, "app:v1", order))
        for _ in range(STEPS):
            await disturb(swarm, order, with_nodes=with_nodes, make=make)
            for _ in range(10):
                await swarm.clock.advance(swarm.rng.random() * 0.4)
                watchman.look(with_slots=order == "stop-first" and not with_nodes)
        calm(swarm)
        await submit(swarm, make(6, "app:final", order))
        await swarm.clock.advance(300)
        watchman.look(with_slots=False)
        assert watchman.findings == []
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
        assert_converged(swarm, 6 if make is spec else 3)
    finally:
        watchman.close()
        await swarm.close()


def assert_converged(swarm: SimulatedSwarm, count: int) -> None:
    tasks = swarm.store.view().all(Task)
    wanted = [task for task in tasks if task.desired_state.rank <= TaskState.RUNNING.rank]
    assert sorted(task.place for task in wanted) == sorted({task.place for task in wanted})
    assert [task.status.state for task in wanted] == [TaskState.RUNNING] * count
    assert {task.spec.container_spec.image for task in wanted if task.spec.container_spec} == {"app:final"}
    # What runs is what is wanted, where it is wanted, once.
    assert sorted((task.id, task.node_id) for task in swarm.running()) == sorted((t.id, t.node_id) for t in wanted)
    held = [task_id for node in swarm.nodes.values() for task_id in node.executor.containers]
    assert set(held) <= {task.id for task in tasks}
    assert max(Counter((task.service_id, task.place) for task in tasks).values()) <= 5


async def test_the_same_seed_gives_the_same_history(tmp_path: Path) -> None:
    histories = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        swarm = SimulatedSwarm(99, tmp_path / name)
        await swarm.open(2)
        behaviours(swarm)
        await submit(swarm, spec(4, "app:v1", "stop-first"))
        for _ in range(10):
            await disturb(swarm, "stop-first", with_nodes=True)
            await swarm.clock.advance(2)
        tasks = swarm.store.view().all(Task)
        histories.append([(task.id, task.slot, task.status.state, task.node_id, task.updated_at) for task in tasks])
        await swarm.close()
    assert histories[0] == histories[1]
    assert len(histories[0]) > 4
