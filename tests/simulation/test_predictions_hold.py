"""What a plan predicts is what then happens: random clusters and changes, with the running loops as the judge."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from gitops.objects import base
from gitops.objects.node import Node
from gitops.objects.service import Service, ServiceSpec
from gitops.objects.task import Task, TaskState
from gitops.reconciler.live import Live
from gitops.reconciler.prediction import Prediction, predict
from gitops.simulation import worlds
from gitops.simulation.swarm import SimulatedSwarm
from gitops.simulation.witness import Witness

REST_S = 30.0
"""Virtual seconds without a change of any task or service, after which nothing more is held to happen."""


@dataclass
class Changes:
    """What is sent: services by name, and those that are removed."""

    specs: dict[str, ServiceSpec]
    removed: list[str]


async def at_rest(swarm: SimulatedSwarm, *witnesses: Witness) -> None:
    """Let time pass until nothing changes any more."""
    version, since = -1, 0.0
    while swarm.clock.monotonic() - since < REST_S or swarm.store.view().version != version:
        if swarm.store.view().version != version:
            version, since = swarm.store.view().version, swarm.clock.monotonic()
        await swarm.clock.advance(1.0)
        for witness in witnesses:
            witness.look()


def live(swarm: SimulatedSwarm) -> Live:
    """The swarm as a client sees it: over the wire and back."""
    view = swarm.store.view()
    return Live(
        services={it.spec.name: base.from_json(base.to_json(it), Service) for it in view.all(Service)},
        nodes=tuple(base.from_json(base.to_json(it), Node) for it in view.all(Node)),
        tasks=tuple(base.from_json(base.to_json(it), Task) for it in view.all(Task)),
    )


async def build(swarm: SimulatedSwarm, rng: random.Random) -> None:
    """A cluster with some services that run, or wait for room."""
    await swarm.start_manager()
    for host in worlds.hosts(rng, rng.randint(1, 6)):
        await swarm.add_node(host.id, host.spec, host.resources)
    behaviour = worlds.behaviour(rng)
    for node in swarm.nodes.values():
        node.executor.behave = lambda task: behaviour
    await swarm.clock.advance(1)
    assert swarm.manager is not None
    for number, name in enumerate(worlds.names(rng.randint(1, 4))):
        await swarm.manager.control.create_service(worlds.service(rng, name, 8000 + number))
        await swarm.clock.advance(rng.choice([0.0, 0.3, 10.0]))
    await at_rest(swarm)


def changes(swarm: SimulatedSwarm, rng: random.Random) -> Changes:
    """One service changed, made or removed."""
    services = swarm.store.view().all(Service)
    chosen = rng.choice(services)
    kind = rng.random()
    if kind < 0.1:
        return Changes({"new": worlds.service(rng, "new", 9000)}, [])
    if kind < 0.15:
        return Changes({}, [chosen.spec.name])
    return Changes({chosen.spec.name: worlds.change(rng, chosen.spec)}, [])


async def carry_out(swarm: SimulatedSwarm, wanted: Changes) -> dict[str, Witness]:
    """Send the changes as a client does, and watch from the first moment."""
    assert swarm.manager is not None
    control, found = swarm.manager.control, {}
    for name, spec in wanted.specs.items():
        stored = swarm.store.view().by_name(Service, name)
        if stored is None:
            stored = await control.create_service(spec)
            found[name] = Witness(swarm.store, stored.id)
        else:
            found[name] = Witness(swarm.store, stored.id)
            await control.update_service(stored.id, stored.version.index, spec)
    for name in wanted.removed:
        stored = control.service(name)
        found[name] = Witness(swarm.store, stored.id)
        await control.remove_service(stored.id)
    return found


def compare(predicted: Prediction, seen: dict[str, Witness], swarm: SimulatedSwarm) -> list[str]:
    """Where the prediction and the swarm differ."""
    found = []
    unplaced = {item.service: item.count for item in predicted.unplaced}
    for name, witness in seen.items():
        told = predicted.forecast.services[name]
        for what, expected, actual in (
            ("placements", dict(told.after), witness.placements()),
            ("batches", [list(batch) for batch in told.batches], witness.batches),
            ("least healthy", told.min_healthy, witness.min_healthy),
            ("waiting", unplaced.get(name, 0), witness.waiting()),
        ):
            if expected != actual:
                found.append(f"{name}: {what}: predicted {expected}, happened {actual}")
    states = {node.hostname: node for node in predicted.forecast.nodes}
    for node in swarm.store.view().all(Node) if states else ():
        tasks = swarm.store.view().tasks_of_node(node.id)
        count = sum(task.desired_state.rank <= TaskState.RUNNING.rank for task in tasks)
        if states[node.id].tasks != count:
            found.append(f"{node.id}: predicted {states[node.id].tasks} tasks, has {count}")
    return found


async def judge(seed: int, folder: Path) -> list[str]:
    """Run one seed; what differs."""
    rng, swarm = random.Random(seed), SimulatedSwarm(seed, folder)
    try:
        await build(swarm, rng)
        wanted = changes(swarm, rng)
        predicted = predict(wanted.specs, set(wanted.removed), live(swarm))
        seen = await carry_out(swarm, wanted)
        await at_rest(swarm, *seen.values())
        for witness in seen.values():
            witness.close()
        return compare(predicted, seen, swarm)
    finally:
        await swarm.close()


@pytest.mark.parametrize("seed", range(200))
async def test_what_is_predicted_is_what_happens(seed: int, tmp_path: Path) -> None:
    assert await judge(seed, tmp_path) == [], f"seed {seed}"


@pytest.mark.soak
@pytest.mark.parametrize("start", range(200, 4200, 100))
async def test_what_is_predicted_is_what_happens_many_times(start: int, tmp_path: Path) -> None:
    wrong = {}
    for seed in range(start, start + 100):
        (tmp_path / str(seed)).mkdir()
        if differences := await judge(seed, tmp_path / str(seed)):
            wrong[seed] = differences
    assert wrong == {}
