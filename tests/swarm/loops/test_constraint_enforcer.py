"""Tasks leave nodes that stopped qualifying, and only those."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from gitops.objects.base import SECOND
from gitops.objects.node import Node
from gitops.objects.service import ResourceRequirements, Resources, Service, UpdateConfig
from gitops.objects.task import TaskState
from gitops.swarm.manager.enforcer import Enforcer

SSD = ["node.labels.disk==ssd"]


async def on_nodes(world: Any, **fields: Any) -> Service:
    """A service that runs on n1, where n2 qualifies too; an enforcer runs."""
    await label(world, "n1", "ssd")
    await world.node("n2", labels={"disk": "ssd"})
    service = await world.service(**fields)
    world.orchestrator()
    world.start(world.nodes)
    world.start(Enforcer(world.store, world.clock, world.rng))
    await world.clock.advance(1)
    assert {task.node_id for task in world.running(service)} == {"n1"}
    world.nodes.node_id = "n2"
    return service


async def label(world: Any, node_id: str, disk: str) -> None:
    await world.change_node(node_id, lambda node: replace(node, spec=replace(node.spec, labels={"disk": disk})))


async def test_e01_a_task_whose_node_lost_its_label_is_rejected_and_replaced_elsewhere(world: Any) -> None:
    service = await on_nodes(world, constraints=SSD)
    (old,) = world.tasks(service)
    await label(world, "n1", "hdd")
    await world.clock.advance(10)
    assert [task.node_id for task in world.running(service)] == ["n2"]
    (rejected,) = [task for task in world.tasks(service, runnable=False) if task.id == old.id]
    assert rejected.status.state is TaskState.REJECTED
    assert rejected.status.err == "assigned node no longer meets constraints"


async def test_e02_a_node_that_shrank_keeps_the_oldest_tasks_that_fit(world: Any) -> None:
    spec = world.spec(replicas=3)
    reserved = ResourceRequirements(reservations=Resources(memory_bytes=100))
    big = Resources(nano_cpus=0, memory_bytes=300)
    await world.change_node("n1", lambda node: replace(node, description=replace(node.description, resources=big)))
    service = await on_nodes(world, spec=replace(spec, task_template=replace(spec.task_template, resources=reserved)))
    oldest = world.tasks(service)[0]
    small = Resources(nano_cpus=0, memory_bytes=150)
    await world.change_node("n1", lambda node: replace(node, description=replace(node.description, resources=small)))
    await world.clock.settle()
    kept = [task for task in world.tasks(service) if task.node_id == "n1" and not task.status.state.is_terminal]
    assert [task.id for task in kept] == [oldest.id]


async def test_e03_the_services_present_constraints_count(world: Any) -> None:
    service = await on_nodes(world, constraints=SSD)
    (task,) = world.tasks(service)
    await world.update(service)
    await world.clock.advance(1)
    await label(world, "n1", "hdd")
    await world.clock.advance(10)
    assert [item.id for item in world.running(service)] == [task.id]


async def test_a_paused_node_keeps_its_tasks_and_tasks_that_stop_are_left_alone(world: Any) -> None:
    service = await on_nodes(world, constraints=SSD)
    (task,) = world.tasks(service)
    await world.change_node(
        "n1", lambda node: replace(node, spec=replace(node.spec, availability="pause", labels={"disk": "hdd"}))
    )
    await world.clock.advance(10)
    assert [item.id for item in world.running(service)] == [task.id]


async def test_a_change_that_was_missed_is_found_on_the_first_pass(world: Any) -> None:
    service = await world.service(constraints=SSD)
    world.orchestrator()
    world.start(world.nodes)
    await world.clock.advance(1)
    assert world.store.view().get(Node, "n1").spec.labels == {}
    await world.node("n2", labels={"disk": "ssd"})
    world.nodes.node_id = "n2"
    world.start(Enforcer(world.store, world.clock, world.rng))
    await world.clock.advance(10)
    assert [task.node_id for task in world.running(service)] == ["n2"]


async def test_what_a_tightened_constraint_makes_out_of_place_is_left_to_the_update(world: Any) -> None:
    await world.node("n2", labels={"disk": "ssd"})
    slow = UpdateConfig(parallelism=1, delay=200 * SECOND)
    service = await world.service(replicas=3, update=slow)
    world.orchestrator()
    world.start(world.nodes)
    world.start(Enforcer(world.store, world.clock, world.rng))
    await world.clock.advance(1)
    assert [task.node_id for task in world.running(service)] == ["n1"] * 3
    world.nodes.node_id = "n2"
    await world.update(service, replicas=3, update=slow, constraints=SSD)
    # Over a full pass of the enforcer.
    await world.clock.advance(100)
    assert sorted(task.node_id for task in world.running(service)) == ["n1", "n1", "n2"]
