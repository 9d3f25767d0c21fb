"""Where names and published ports lead, from the table of tasks."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gitops.objects.network import NetworkCreate
from gitops.objects.node import Node, NodeStatus
from gitops.objects.service import PortConfig, Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.manager import projection

PORT = PortConfig(target_port=80, published_port=8080)


@pytest.fixture
async def web(swarm: Any) -> Service:
    await swarm.open()
    for node_id in ("n1", "n2"):
        node = Node(id=node_id, status=NodeStatus(state="ready"))
        await swarm.store.update(lambda tx, node=node: tx.create(node))
    await swarm.control.create_network(NetworkCreate(name="ingress", ingress=True))
    for name in ("front", "back"):
        await swarm.control.create_network(NetworkCreate(name=name))
    spec = swarm.spec("Stack_Web", networks=("front",), ports=(PORT,), replicas=2)
    joined = [replace(item, aliases=["Web", "www"]) for item in spec.task_template.networks]
    spec = replace(spec, task_template=replace(spec.task_template, networks=joined))
    made: Service = await swarm.control.create_service(spec)
    return made


async def run(swarm: Any, service: Service, slot: int, node_id: str, state: TaskState = TaskState.RUNNING) -> Task:
    task = await swarm.add_task(service, slot)
    await swarm.allocate()
    stored = await swarm.change(task, node_id=node_id)
    made: Task = await swarm.set_state(stored, state)
    return made


def names(swarm: Any, node_id: str = "n1") -> dict[str, list[str]]:
    (found,) = projection.endpoints(swarm.store.view(), node_id).networks
    return dict(found.names)


async def test_a_service_is_known_by_its_name_its_aliases_and_its_tasks(swarm: Any, web: Service) -> None:
    one = await run(swarm, web, 1, "n1")
    two = await run(swarm, web, 2, "n2")
    both = ["10.0.1.2", "10.0.1.3"]
    assert names(swarm) == {
        "stack_web": both,
        "tasks.stack_web": both,
        "web": both,
        "www": both,
        f"stack_web.1.{one.id}": ["10.0.1.2"],
        f"stack_web.2.{two.id}": ["10.0.1.3"],
    }
    assert names(swarm, "n2") == names(swarm)


async def test_names_are_told_only_where_tasks_are_on_the_network(swarm: Any, web: Service) -> None:
    await run(swarm, web, 1, "n1")
    assert projection.endpoints(swarm.store.view(), "n2").networks == []
    other = await swarm.control.create_service(swarm.spec("db", networks=("back",)))
    await run(swarm, other, 1, "n2", TaskState.PREPARING)
    (found,) = projection.endpoints(swarm.store.view(), "n2").networks
    assert (found.network_id, found.names) == (swarm.control.network("back").id, {})


async def test_ports_are_told_to_every_node_with_the_addresses_in_the_mesh(swarm: Any, web: Service) -> None:
    one = await run(swarm, web, 1, "n1")
    two = await run(swarm, web, 2, "n2")
    for node_id in ("n1", "n2", "elsewhere"):
        (port,) = projection.endpoints(swarm.store.view(), node_id).ports
        assert (port.service_id, port.protocol, port.published_port, port.target_port) == (web.id, "tcp", 8080, 80)
        assert [(item.task_id, item.node_id, item.address) for item in port.backends] == [
            (one.id, "n1", "10.0.0.2"),
            (two.id, "n2", "10.0.0.3"),
        ]


@pytest.mark.parametrize(
    ("state", "desired"),
    [
        (TaskState.STARTING, TaskState.RUNNING),
        (TaskState.READY, TaskState.READY),
        (TaskState.FAILED, TaskState.RUNNING),
        (TaskState.RUNNING, TaskState.SHUTDOWN),
        (TaskState.RUNNING, TaskState.REMOVE),
    ],
)
async def test_only_tasks_that_run_and_are_meant_to_are_led_to(
    swarm: Any, web: Service, state: TaskState, desired: TaskState
) -> None:
    await run(swarm, web, 1, "n1")
    other = await run(swarm, web, 2, "n1", state)
    await swarm.change(other, desired_state=desired)
    assert names(swarm)["web"] == ["10.0.1.2"]
    (port,) = projection.endpoints(swarm.store.view(), "n1").ports
    assert [item.address for item in port.backends] == ["10.0.0.2"]


async def test_tasks_on_a_node_that_is_down_are_not_led_to(swarm: Any, web: Service) -> None:
    await run(swarm, web, 1, "n1")
    await run(swarm, web, 2, "n2")
    await swarm.change(Node(id="n2"), status=NodeStatus(state="down"))
    assert names(swarm)["web"] == ["10.0.1.2"]


async def test_a_port_without_tasks_stays_known_and_host_ports_are_no_matter_of_the_mesh(
    swarm: Any, web: Service
) -> None:
    await swarm.allocate()
    (port,) = projection.endpoints(swarm.store.view(), "n1").ports
    assert (port.published_port, port.target_port, port.backends) == (8080, 80, [])
    await swarm.control.create_service(
        swarm.spec("host", ports=(PortConfig(target_port=1, published_port=1, publish_mode="host"),))
    )
    await swarm.allocate()
    assert projection.endpoints(swarm.store.view(), "n1").ports == [port]


async def test_while_an_update_changes_the_port_inside_the_old_tasks_serve_until_a_new_one_can(
    swarm: Any, web: Service
) -> None:
    old = await run(swarm, web, 1, "n1")
    await run(swarm, web, 2, "n1")
    spec = swarm.spec("Stack_Web", networks=("front",), ports=(replace(PORT, target_port=81),), replicas=2)
    web = await swarm.control.update_service(web.id, swarm.control.service(web.id).version.index, spec)
    await swarm.allocate()
    (port,) = projection.endpoints(swarm.store.view(), "n1").ports
    assert (port.target_port, len(port.backends)) == (80, 2)
    await swarm.change(old, desired_state=TaskState.SHUTDOWN)
    new = await run(swarm, swarm.control.service(web.id), 1, "n1")
    (port,) = projection.endpoints(swarm.store.view(), "n1").ports
    assert (port.target_port, [item.task_id for item in port.backends]) == (81, [new.id])


async def test_two_services_that_share_an_alias_are_both_behind_it(swarm: Any, web: Service) -> None:
    await run(swarm, web, 1, "n1")
    spec = swarm.spec("other", networks=("front",))
    joined = [replace(item, aliases=["web"]) for item in spec.task_template.networks]
    spec = replace(spec, task_template=replace(spec.task_template, networks=joined))
    await run(swarm, await swarm.control.create_service(spec), 1, "n1")
    assert names(swarm)["web"] == ["10.0.1.2", "10.0.1.3"]


async def test_the_projection_carries_the_version_that_it_is_of(swarm: Any, web: Service) -> None:
    assert projection.endpoints(swarm.store.view(), "n1").version == swarm.store.view().version
