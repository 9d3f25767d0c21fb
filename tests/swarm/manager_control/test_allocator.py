"""Subnets, ports and addresses: given, kept, refused with a reason, healed (A13, A14)."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from gitops.objects.network import IPAM, IPAMConfig, NetworkCreate, NetworkObject
from gitops.objects.node import Node, NodeStatus
from gitops.objects.service import EndpointSpec, PortConfig, Service
from gitops.objects.task import Task, TaskState
from gitops.simulation.clock import VirtualClock
from gitops.swarm.manager import addresses, allocation
from gitops.swarm.manager.allocator import Allocator
from gitops.swarm.manager.control.networks import predefined
from gitops.swarm.store.memory import MemoryStore

ANY_80 = PortConfig(target_port=80)
FIXED_80 = PortConfig(target_port=80, published_port=80)


async def network(swarm: Any, name: str, **ipam: Any) -> NetworkObject:
    config = IPAM(config=[IPAMConfig(**ipam)]) if ipam else None
    made: NetworkObject = await swarm.control.create_network(NetworkCreate(name=name, ipam=config))
    return made


def subnets(swarm: Any) -> dict[str, str]:
    return {
        item.spec.name: ",".join(entry.subnet for entry in item.ipam_options.config) if item.ipam_options else ""
        for item in swarm.control.networks()
    }


def addresses_of(swarm: Any, task: Task) -> list[str]:
    stored = swarm.store.view().get(Task, task.id)
    return [address for item in stored.networks_attachments for address in item.addresses]


def err_of(swarm: Any, task: Task) -> str:
    stored = swarm.store.view().get(Task, task.id)
    assert stored.status.state is TaskState.NEW
    return str(stored.status.err)


def ports_of(swarm: Any, name: str = "web") -> list[int]:
    return [port.published_port for port in swarm.control.service(name).endpoint.ports]


async def update(swarm: Any, name: str, **fields: Any) -> Service:
    service = swarm.control.service(name)
    made: Service = await swarm.control.update_service(name, service.version.index, swarm.spec(name, **fields))
    return made


# Networks


async def test_networks_get_the_next_free_24_with_a_gateway_and_an_id(swarm: Any) -> None:
    await swarm.open()
    for name in ("a", "b", "c"):
        await network(swarm, name)
    await swarm.allocate()
    assert subnets(swarm) == {"a": "10.0.0.0/24", "b": "10.0.1.0/24", "c": "10.0.2.0/24"}
    found = swarm.control.network("b")
    assert found.ipam_options.config[0].gateway == "10.0.1.1"
    assert found.driver_state.name == "overlay"
    assert found.driver_state.options == {addresses.VNI_OPTION: "4097"}
    await swarm.control.remove_network("b")
    await network(swarm, "d")
    await swarm.allocate()
    assert subnets(swarm)["d"] == "10.0.1.0/24"
    assert swarm.control.network("d").driver_state.options == {addresses.VNI_OPTION: "4097"}


async def test_explicit_subnets_are_kept_and_passed_over_by_the_others(swarm: Any) -> None:
    await swarm.open()
    await network(swarm, "a")
    await network(swarm, "b", subnet="10.0.0.0/23", gateway="10.0.0.9", ip_range="10.0.1.0/28")
    await network(swarm, "c")
    await swarm.allocate()
    assert subnets(swarm) == {"a": "10.0.2.0/24", "b": "10.0.0.0/23", "c": "10.0.3.0/24"}
    entry = swarm.control.network("b").ipam_options.config[0]
    assert (entry.gateway, entry.ip_range) == ("10.0.0.9", "10.0.1.0/28")


async def test_the_clusters_pools_and_subnet_size_count(swarm: Any) -> None:
    await swarm.open(default_addr_pool=["192.168.0.0/25", "172.30.0.0/16"], subnet_size=26)
    for name in ("a", "b", "c"):
        await network(swarm, name)
    await swarm.allocate()
    assert subnets(swarm) == {"a": "192.168.0.0/26", "b": "192.168.0.64/26", "c": "172.30.0.0/26"}


async def test_no_network_lies_over_a_nodes_own_address(swarm: Any) -> None:
    await swarm.open()
    for node_id, address in (("n1", "10.0.0.7"), ("n2", "10.0.2.1"), ("n3", "2001:db8::1"), ("n4", "")):
        node = Node(id=node_id, status=NodeStatus(addr=address))
        await swarm.store.update(lambda tx, node=node: tx.create(node))
    for name in ("a", "b"):
        await network(swarm, name)
    await swarm.allocate()
    assert subnets(swarm) == {"a": "10.0.1.0/24", "b": "10.0.3.0/24"}


async def test_an_exhausted_pool_is_said_on_the_task_and_healed_when_a_network_goes(swarm: Any) -> None:
    await swarm.open(default_addr_pool=["10.9.0.0/24"])
    await network(swarm, "first")
    await swarm.allocate()
    await network(swarm, "second")
    task = await swarm.add_task(await swarm.control.create_service(swarm.spec(networks=("second",))))
    await swarm.allocate()
    assert err_of(swarm, task) == (
        "network second can't be set up: no free /24 is left in the address pool 10.9.0.0/24"
    )
    await swarm.control.remove_network("first")
    await swarm.allocate()
    assert addresses_of(swarm, task) == ["10.9.0.2/24"]
    assert swarm.control.task(task.id).status.err == ""


@given(st.lists(st.tuples(st.integers(8, 30), st.integers(0, 2**32 - 1)), max_size=12), st.integers(16, 29))
def test_a_free_subnet_is_in_the_pool_overlaps_none_and_is_missed_only_when_there_is_none(
    taken: list[tuple[int, int]], prefix: int
) -> None:
    pool = ipaddress.IPv4Network("10.0.0.0/14")
    used = [
        ipaddress.IPv4Network((int(pool.network_address) + number % 2**18, length), strict=False)
        for length, number in taken
    ]
    found = addresses.free_subnet([str(pool)], prefix, used)
    if found is not None:
        assert found.prefixlen == prefix and found.subnet_of(pool)
        assert not any(found.overlaps(other) for other in used)
        lower = [subnet for subnet in _first(pool, prefix, 64) if subnet < found]
        assert all(any(subnet.overlaps(other) for other in used) for subnet in lower)
    else:
        assert all(any(subnet.overlaps(other) for other in used) for subnet in _first(pool, prefix, 64))


def _first(pool: ipaddress.IPv4Network, prefix: int, count: int) -> list[ipaddress.IPv4Network]:
    source = pool.subnets(new_prefix=prefix)
    return [subnet for _, subnet in zip(range(count), source, strict=False)]


# Addresses


async def test_a_task_gets_an_address_on_each_network_and_is_pending(swarm: Any) -> None:
    await swarm.open()
    first, second = await network(swarm, "a"), await network(swarm, "b")
    service = await swarm.control.create_service(swarm.spec(networks=("a", "b")))
    task = await swarm.add_task(service)
    await swarm.allocate()
    stored = swarm.control.task(task.id)
    assert (stored.status.state, stored.status.message) == (TaskState.PENDING, "pending task scheduling")
    assert addresses_of(swarm, task) == ["10.0.0.2/24", "10.0.1.2/24"]
    assert [item.network.id for item in stored.networks_attachments] == [first.id, second.id]
    assert stored.networks_attachments[0].network.ipam_options is not None


async def test_a_task_without_networks_is_pending_at_once(swarm: Any) -> None:
    task = await swarm.add_task(await swarm.control.create_service(swarm.spec()))
    await swarm.allocate()
    assert swarm.control.task(task.id).status.state is TaskState.PENDING
    assert addresses_of(swarm, task) == []


async def test_a_network_that_every_host_has_gives_no_address(swarm: Any) -> None:
    await swarm.store.update(lambda tx: tx.create(predefined("host", "h1")))
    task = await swarm.add_task(await swarm.control.create_service(swarm.spec(networks=("host",))))
    await swarm.allocate()
    (attachment,) = swarm.control.task(task.id).networks_attachments
    assert (attachment.network.spec.name, attachment.addresses) == ("host", [])


async def test_aliases_go_along(swarm: Any) -> None:
    await swarm.open()
    await network(swarm, "a")
    spec = swarm.spec(networks=("a",))
    joined = [replace(item, aliases=["w"]) for item in spec.task_template.networks]
    spec = replace(spec, task_template=replace(spec.task_template, networks=joined))
    task = await swarm.add_task(await swarm.control.create_service(spec))
    await swarm.allocate()
    assert swarm.control.task(task.id).networks_attachments[0].aliases == ["w"]


async def test_an_address_is_free_when_its_task_ended_and_comes_back_last(swarm: Any) -> None:
    await swarm.open()
    await network(swarm, "a", subnet="10.9.0.0/29")
    service = await swarm.control.create_service(swarm.spec(networks=("a",)))
    tasks = []
    for slot in range(1, 4):
        tasks.append(await swarm.add_task(service, slot))
        await swarm.allocate()
    assert [addresses_of(swarm, task) for task in tasks] == [[f"10.9.0.{n}/29"] for n in (2, 3, 4)]
    await swarm.set_state(tasks[0], TaskState.SHUTDOWN)
    for expected in ("10.9.0.5/29", "10.9.0.6/29", "10.9.0.2/29"):
        task = await swarm.add_task(service, 9)
        await swarm.allocate()
        assert addresses_of(swarm, task) == [expected]


async def test_a13_exhausted_addresses_are_said_on_the_task_and_given_when_one_is_free(swarm: Any) -> None:
    await swarm.open()
    await network(swarm, "wide")
    await network(swarm, "tiny", subnet="10.9.0.0/29", auxiliary_addresses={"router": "10.9.0.6"})
    service = await swarm.control.create_service(swarm.spec(networks=("wide", "tiny")))
    tasks = [await swarm.add_task(service, slot) for slot in range(1, 6)]
    await swarm.allocate()
    assert err_of(swarm, tasks[4]) == "network tiny has no free address left in 10.9.0.0/29"
    version = swarm.store.view().version
    await swarm.allocate()
    assert swarm.store.view().version == version, "a reason that stays the same is written once"
    await swarm.set_state(tasks[0], TaskState.FAILED)
    await swarm.allocate()
    # What it had got on the other network before was given back.
    assert addresses_of(swarm, tasks[4]) == ["10.0.0.6/24", "10.9.0.2/29"]


async def test_no_two_live_tasks_have_one_address_over_a_restart(swarm: Any) -> None:
    await swarm.open()
    await network(swarm, "a")
    service = await swarm.control.create_service(swarm.spec(networks=("a",)))
    tasks = []
    for slot in range(1, 21):
        tasks.append(await swarm.add_task(service, slot))
        await swarm.allocate()
        if slot % 5 == 0:
            swarm.last.clear()
            await swarm.set_state(tasks[slot - 3], TaskState.FAILED)
    live = [
        address
        for task in swarm.store.view().all(Task)
        if not task.status.state.is_terminal
        for address in addresses_of(swarm, task)
    ]
    assert len(live) == len(set(live)) == 16
    assert "10.0.0.1/24" not in live


async def test_a_task_that_is_not_wanted_gets_nothing(swarm: Any) -> None:
    service = await swarm.control.create_service(swarm.spec())
    task = await swarm.add_task(service, desired_state=TaskState.SHUTDOWN)
    orphan = await swarm.add_task(replace(service, id="gone"))
    await swarm.allocate()
    assert swarm.control.task(task.id).status.state is TaskState.NEW
    assert swarm.control.task(orphan.id).status.state is TaskState.NEW


async def test_a_network_that_is_gone_is_said_on_the_task(swarm: Any) -> None:
    await swarm.open()
    await network(swarm, "a")
    service = await swarm.control.create_service(swarm.spec(networks=("a",)))
    await swarm.store.update(lambda tx: tx.delete(NetworkObject, service.spec.task_template.networks[0].target))
    task = await swarm.add_task(service)
    await swarm.allocate()
    assert err_of(swarm, task) == f"network {service.spec.task_template.networks[0].target} not found"


# Ports


async def test_a_service_with_ports_joins_the_ingress_network(swarm: Any) -> None:
    await swarm.open()
    service = await swarm.control.create_service(swarm.spec(ports=(FIXED_80,)))
    task = await swarm.add_task(service)
    await swarm.allocate()
    assert err_of(swarm, task) == "service needs ingress network, but no ingress network is present"
    await swarm.control.create_network(NetworkCreate(name="ingress", ingress=True))
    await swarm.allocate()
    assert addresses_of(swarm, task) == ["10.0.0.2/24"]
    stored = swarm.control.task(task.id)
    assert stored.endpoint.ports == [FIXED_80] and stored.endpoint.spec == service.spec.endpoint_spec
    assert swarm.control.service("web").endpoint.virtual_ips == []


async def test_a14_dynamic_ports_are_in_their_range_and_stay_over_updates(swarm: Any) -> None:
    await swarm.control.create_service(swarm.spec("other", ports=(ANY_80,)))
    await swarm.control.create_service(swarm.spec(ports=(ANY_80, PortConfig(target_port=443))))
    await swarm.allocate()
    assert (ports_of(swarm, "other"), ports_of(swarm)) == ([30000], [30001, 30002])
    await update(swarm, "web", ports=(PortConfig(target_port=9000), PortConfig(target_port=443), ANY_80))
    await swarm.allocate()
    assert ports_of(swarm) == [30003, 30002, 30001]
    await update(swarm, "web", ports=(ANY_80,), image="tu-demo:v2")
    await swarm.allocate()
    assert ports_of(swarm) == [30001]


async def test_dynamic_ports_pass_over_explicit_ones_by_protocol(swarm: Any) -> None:
    explicit = PortConfig(target_port=80, published_port=30000)
    await swarm.control.create_service(swarm.spec("a", ports=(ANY_80, PortConfig("", "udp", 53))))
    await swarm.control.create_service(swarm.spec("b", ports=(explicit,)))
    await swarm.allocate()
    assert ports_of(swarm, "a") == [30001, 30000]
    assert ports_of(swarm, "b") == [30000]


async def test_a14_ports_swap_places_within_one_update(swarm: Any) -> None:
    await swarm.control.create_service(swarm.spec(ports=(FIXED_80, PortConfig(target_port=81, published_port=81))))
    await swarm.allocate()
    swapped = (PortConfig(target_port=80, published_port=81), PortConfig(target_port=81, published_port=80))
    await update(swarm, "web", ports=swapped)
    await swarm.allocate()
    assert ports_of(swarm) == [81, 80]


async def test_a_number_that_was_chosen_yields_to_one_that_is_declared(swarm: Any) -> None:
    await swarm.control.create_service(swarm.spec(ports=(ANY_80,)))
    await swarm.allocate()
    await update(swarm, "web", ports=(ANY_80, PortConfig(target_port=81, published_port=30000)))
    await swarm.allocate()
    assert ports_of(swarm) == [30001, 30000]


async def test_ports_change_hands_between_services_in_one_pass(swarm: Any) -> None:
    await swarm.control.create_service(swarm.spec("a", ports=(FIXED_80,)))
    await swarm.allocate()
    await update(swarm, "a", ports=(PortConfig(target_port=80, published_port=81),))
    await swarm.control.create_service(swarm.spec("b", ports=(FIXED_80,)))
    await swarm.allocate()
    assert (ports_of(swarm, "a"), ports_of(swarm, "b")) == ([81], [80])


async def test_a_port_that_is_taken_is_said_on_the_task_and_healed(swarm: Any) -> None:
    await swarm.open()
    await swarm.control.create_network(NetworkCreate(name="ingress", ingress=True))
    first = await swarm.control.create_service(swarm.spec("a", ports=(FIXED_80,)))
    await swarm.allocate()
    # Past the control API, as a restored or a raced object would be.
    spec = swarm.spec("b", ports=(FIXED_80,))
    second = await swarm.store.update(lambda tx: tx.create(Service(id="b", spec=spec)))
    task = await swarm.add_task(second)
    await swarm.allocate()
    assert err_of(swarm, task) == f"port '80' is already in use by service 'a' ({first.id}) as an ingress port"
    await swarm.control.remove_service("a")
    await swarm.allocate()
    assert ports_of(swarm, "b") == [80]
    assert swarm.control.task(task.id).status.state is TaskState.PENDING


async def test_host_ports_are_left_to_the_nodes(swarm: Any) -> None:
    ports = (PortConfig(target_port=80, publish_mode="host"), replace(FIXED_80, publish_mode="host"))
    await swarm.control.create_service(swarm.spec(ports=ports))
    await swarm.allocate()
    assert swarm.control.service("web").endpoint.ports == list(ports)
    task = await swarm.add_task(swarm.control.service("web"))
    await swarm.allocate()
    assert swarm.control.task(task.id).endpoint.ports == list(ports)


async def test_ports_that_are_no_more_declared_are_given_back(swarm: Any) -> None:
    await swarm.control.create_service(swarm.spec(ports=(ANY_80,)))
    await swarm.allocate()
    await update(swarm, "web")
    await swarm.allocate()
    assert swarm.control.service("web").endpoint.ports == []
    assert swarm.control.service("web").endpoint.spec is None


async def test_all_dynamic_ports_taken_is_said(swarm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "DYNAMIC_PORTS", range(30000, 30002))
    service = await swarm.control.create_service(
        swarm.spec(ports=tuple(PortConfig(target_port=number) for number in (1, 2, 3)))
    )
    task = await swarm.add_task(service)
    await swarm.allocate()
    assert err_of(swarm, task) == ("all tcp ports from 30000 to 30001 are in use: publish a port by its number")


@given(st.lists(st.lists(st.tuples(st.sampled_from(["tcp", "udp"]), st.sampled_from([0, 0, 30000, 30001, 80])))))
@example([[("tcp", 30000), ("tcp", 30000)]])
async def test_no_two_services_ever_have_one_port(declared: list[list[tuple[str, int]]]) -> None:
    store = MemoryStore(VirtualClock())
    for number, ports in enumerate(declared):
        endpoint = EndpointSpec(
            ports=[PortConfig("", protocol, index + 1, port) for index, (protocol, port) in enumerate(ports)]
        )
        service = Service(id=f"s{number}")
        service = replace(service, spec=replace(service.spec, name=f"s{number}", endpoint_spec=endpoint))
        await store.update(lambda tx, service=service: tx.create(service))  # type: ignore[misc]
        if number % 2:
            await store.update(lambda tx: allocation.Allocation(tx, 0, {}).run())
    await store.update(lambda tx: allocation.Allocation(tx, 0, {}).run())
    given_out = [
        (port.protocol, port.published_port) for item in store.view().all(Service) for port in item.endpoint.ports
    ]
    assert len(given_out) == len(set(given_out))
    assert all(number for _, number in given_out)


# The loop


async def test_the_loop_gives_what_is_missing_when_it_starts_and_when_something_changes(swarm: Any) -> None:
    await swarm.open()
    await network(swarm, "a", subnet="10.9.0.0/29")
    service = await swarm.control.create_service(swarm.spec(networks=("a",)))
    tasks = [await swarm.add_task(service, slot) for slot in range(1, 7)]
    loop = Allocator(swarm.store, swarm.clock, random.Random(1))
    running = asyncio.create_task(loop.run())
    await swarm.clock.settle()
    assert [bool(addresses_of(swarm, task)) for task in tasks] == [True] * 5 + [False]
    passes = loop.passes
    await swarm.set_state(tasks[1], TaskState.RUNNING)
    await swarm.clock.settle()
    assert "no free address" in err_of(swarm, tasks[5])
    await swarm.store.update(lambda tx: tx.delete(Task, tasks[1].id))
    await swarm.clock.settle()
    assert addresses_of(swarm, tasks[5]) == ["10.9.0.3/29"]
    assert loop.passes > passes
    await swarm.store.close()
    await running
