"""Networks of host and swarm side by side: one name for one of them, who may join, who takes what away."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gitops import errors
from gitops.api import networks
from gitops.objects.container import ContainerCreate, EndpointSettings, HostConfig, NetworkingConfig
from gitops.objects.network import NetworkCreate, NetworkResource
from gitops.simulation.clock import VirtualClock
from gitops.swarm.clock import IdSource
from gitops.swarm.manager.control import Control
from gitops.swarm.store.memory import MemoryStore


class _Engine:
    """The networks of a host in small."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.released: list[str] = []
        self.networks: Any = self

    def list(self) -> list[NetworkResource]:
        return [NetworkResource(name=name, id=f"id of {name}", created="") for name in self.names]

    async def remove(self, network_id: str) -> None:
        self.names.remove(network_id.removeprefix("id of "))

    async def release_overlay(self, network_id: str) -> None:
        self.released.append(network_id)


class _Node:
    """A host's place in a swarm."""

    def __init__(self) -> None:
        self.state = "active"
        clock = VirtualClock()
        self.control = Control(MemoryStore(clock), clock, IdSource(random.Random(1)))


@pytest.fixture
async def node() -> Any:
    made = _Node()
    await made.control.create_network(NetworkCreate(name="back"))
    await made.control.create_network(NetworkCreate(name="open", attachable=True))
    return made


def _joining(name: str, *, as_mode: bool = False) -> ContainerCreate:
    if as_mode:
        return ContainerCreate(image="a", host_config=HostConfig(network_mode=name))
    endpoints = NetworkingConfig(endpoints_config={name: EndpointSettings()})
    return ContainerCreate(image="a", networking_config=endpoints)


async def test_one_name_is_one_network_s(node: Any) -> None:
    engine: Any = _Engine("bridge", "mine")
    networks.check_name_is_free(engine, node, "other")
    for name in ("mine", "back"):
        with pytest.raises(errors.Conflict, match=f"^network with name {name} already exists$"):
            networks.check_name_is_free(engine, node, name)
    networks.check_name_is_free(engine, node, "bridge")


@pytest.mark.parametrize("as_mode", [True, False])
async def test_a_plain_container_joins_only_what_is_attachable(node: Any, as_mode: bool) -> None:
    networks.check_attachments(node, _joining("open", as_mode=as_mode))
    networks.check_attachments(node, _joining("mine", as_mode=as_mode))
    networks.check_attachments(node, ContainerCreate(image="a"))
    for name in ("back", node.control.network("back").id):
        with pytest.raises(errors.Denied, match="network back not manually attachable"):
            networks.check_attachments(node, _joining(name, as_mode=as_mode))


async def test_each_network_is_removed_by_whose_it_is(node: Any) -> None:
    engine: Any = _Engine("mine")
    (local,) = engine.list()
    await networks.remove(engine, node, local)
    assert engine.names == []
    swarm = networks.find(engine, node, "back", "")
    await networks.remove(engine, node, swarm)
    assert [item.name for item in networks.of_swarm(node)] == ["open"]
    assert engine.released == []


async def test_what_a_swarm_left_behind_can_be_removed_without_it(node: Any) -> None:
    engine: Any = _Engine()
    left = networks.find(engine, node, "open", "")
    node.state = "inactive"
    await networks.remove(engine, node, left)
    assert engine.released == [left.id]
