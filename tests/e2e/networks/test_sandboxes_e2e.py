"""Containers of a network reach each other by address and by name, and nothing else does."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from gitops import errors
from gitops.engine.networks import Attachment, DNSOptions, NetworkService, Sandbox, namespaces
from gitops.objects.network import IPAM, IPAMConfig, NetworkCreate, NetworkObject, NetworkSpec

pytestmark = pytest.mark.e2e
CLIENT = "198.51.100.10"
HOST = "198.51.100.1"


async def two(service: NetworkService, network: str) -> tuple[Sandbox, Sandbox]:
    return (
        await service.create_sandbox("a" * 64, [Attachment(network, aliases=("first",))], name="alpha"),
        await service.create_sandbox("b" * 64, [Attachment(network)], name="beta", hostname="beta-host"),
    )


def address(sandbox: Sandbox, network: str) -> str:
    return sandbox.endpoints[network].ip_address


async def test_two_containers_talk_by_name(world: Any, any_bridge: str) -> None:
    service = await world.start()
    await service.create(NetworkCreate(name="front"))
    alpha, beta = await two(service, "front")
    with world.serve(beta.path, 80, "beta"):
        world.run("nsenter", f"--net={alpha.path}", "busybox", "ping", "-c1", "-W2", address(beta, "front"))
        assert world.ask(alpha.path, address(beta, "front"), 80) == ("beta", address(alpha, "front"))
    assert await world.resolve(alpha, "beta") == [address(beta, "front")]
    assert await world.resolve(alpha, "BETA-HOST") == [address(beta, "front")]
    assert await world.resolve(beta, "first") == [address(alpha, "front")]
    assert await world.resolve(beta, "a" * 12) == [address(alpha, "front")]
    await service.rename("b" * 64, "gamma")
    assert await world.resolve(alpha, "gamma") == [address(beta, "front")]
    assert await world.resolve(alpha, "beta") == []
    await service.remove_sandbox("b" * 64)
    assert await world.resolve(alpha, "gamma") == []
    assert await service.audit() == []


async def test_the_endpoint_tells_what_docker_tells(world: Any) -> None:
    service = await world.start()
    body = NetworkCreate(name="front", ipam=IPAM(config=[IPAMConfig(subnet="10.77.0.0/24", gateway="10.77.0.254")]))
    network = await service.create(body)
    alpha = await service.create_sandbox(
        "a" * 64, [Attachment("front", address="10.77.0.9", aliases=("one",))], name="alpha"
    )
    endpoint = alpha.endpoints["front"]
    assert (endpoint.ip_address, endpoint.ip_prefix_len, endpoint.gateway) == ("10.77.0.9", 24, "10.77.0.254")
    assert endpoint.mac_address == "02:42:0a:4d:00:09" and endpoint.network_id == network.id
    assert endpoint.aliases == ["one"] and endpoint.dns_names == ["alpha", "one", "a" * 12]
    shown = service.get("front").containers["a" * 64]
    assert (shown.name, shown.ipv4_address) == ("alpha", "10.77.0.9/24")
    inside = world.run("nsenter", f"--net={alpha.path}", "ip", "-br", "addr")
    assert "eth0" in inside and "10.77.0.9/24" in inside and "fe80" not in inside
    assert "default via 10.77.0.254 dev eth0" in world.run("nsenter", f"--net={alpha.path}", "ip", "route")
    with pytest.raises(errors.Conflict, match=r"10.77.0.9 is already in use"):
        await service.create_sandbox("b" * 64, [Attachment("front", address="10.77.0.9")])
    with pytest.raises(errors.Denied, match=r'network front has active endpoints \(name:"alpha"'):
        await service.remove("front")
    assert await service.audit() == []


async def test_containers_reach_the_outside_and_only_their_own_network(world: Any, any_bridge: str) -> None:
    service = await world.start()
    await service.create(NetworkCreate(name="front"))
    await service.create(NetworkCreate(name="back"))
    await service.create(NetworkCreate(name="vault", internal=True))
    front = await service.create_sandbox("a" * 64, [Attachment("front")], name="front")
    back = await service.create_sandbox("b" * 64, [Attachment("back")], name="back")
    vault = await service.create_sandbox("c" * 64, [Attachment("vault")], name="vault")
    other = await service.create_sandbox("d" * 64, [Attachment("vault")], name="other")
    both = await service.create_sandbox("e" * 64, [Attachment("front"), Attachment("back")], name="both")
    with (
        world.serve(world.client, 7000, "outside"),
        world.serve(back.path, 80, "back"),
        world.serve(vault.path, 80, "vault"),
    ):
        assert world.ask(front.path, CLIENT, 7000) == ("outside", HOST)
        assert world.fails(front.path, address(back, "back"), 80)
        assert world.fails(front.path, address(vault, "vault"), 80)
        assert world.fails(vault.path, CLIENT, 7000)
        assert world.fails(world.client, address(back, "back"), 80)
        assert world.ask(other.path, address(vault, "vault"), 80)[0] == "vault"
        assert world.ask(both.path, address(back, "back"), 80) == ("back", address(both, "back"))
        assert world.ask(None, address(back, "back"), 80)[0] == "back"
    assert await world.resolve(both, "back") == [address(back, "back")]
    assert await world.resolve(front, "back") == []


async def test_swarm_tasks_meet_on_their_network_and_nowhere_else(world: Any, any_bridge: str) -> None:
    service = await world.start()
    network = NetworkObject(
        id="net1",
        spec=NetworkSpec(name="stack_default"),
        ipam_options=IPAM(config=[IPAMConfig(subnet="10.0.1.0/24", gateway="10.0.1.1")]),
    )
    await service.set_names("net1", {"web": ["10.0.1.7"]})
    assert (await service.ensure_overlay(network)).scope == "swarm"
    await service.ensure_overlay(network)
    assert service.overlays() == ["net1"]
    one = await service.create_sandbox(
        "a" * 64, [Attachment("net1", address="10.0.1.7/24")], gateway_leg=True, name="web.1.x"
    )
    two = await service.create_sandbox("b" * 64, [Attachment("net1")], gateway_leg=True, name="web.2.y")
    assert one.gateway_address and two.gateway_address and set(one.endpoints) == {"stack_default"}
    routes = world.run("nsenter", f"--net={one.path}", "ip", "route")
    assert "dev eth1" in routes.splitlines()[0] and "10.0.1.0/24 dev eth0" in routes
    with world.serve(one.path, 80, "one"), world.serve(world.client, 7000, "outside"):
        assert world.ask(two.path, "10.0.1.7", 80) == ("one", address(two, "stack_default"))
        assert world.ask(two.path, CLIENT, 7000) == ("outside", HOST)
        assert world.fails(two.path, one.gateway_address, 80)
        assert world.ask(None, one.gateway_address, 80)[0] == "one"
    assert await world.resolve(two, "web") == ["10.0.1.7"]
    assert await world.resolve(two, "web.1.x") == ["10.0.1.7"]
    await service.set_names("net1", {"web": ["10.0.1.7", "10.0.1.8"], "tasks.web": ["10.0.1.8"]})
    assert await world.resolve(two, "WEB") == ["10.0.1.7", "10.0.1.8"]
    with pytest.raises(errors.Denied, match="active endpoints"):
        await service.release_overlay("net1")
    await service.remove_sandbox("a" * 64)
    await service.remove_sandbox("b" * 64)
    await service.release_overlay("net1")
    await service.release_overlay("net1")
    assert service.overlays() == [] and await service.audit() == []


async def test_a_container_may_serve_port_53_itself(world: Any) -> None:
    service = await world.start()
    await service.create(NetworkCreate(name="front"))
    alpha, beta = await two(service, "front")
    with world.serve(beta.path, 53, "udp", protocol="udp"), world.serve(beta.path, 53, "tcp"):
        assert world.ask(alpha.path, address(beta, "front"), 53, protocol="udp")[0] == "udp"
        assert world.ask(alpha.path, address(beta, "front"), 53)[0] == "tcp"
        assert await world.resolve(beta, "alpha") == [address(alpha, "front")]


async def test_other_names_are_asked_of_the_containers_own_server(world: Any) -> None:
    service = await world.start()
    await service.create(NetworkCreate(name="front"))
    await service.create(NetworkCreate(name="vault", internal=True))
    dns = DNSOptions(nameservers=(CLIENT,))
    alpha = await service.create_sandbox("a" * 64, [Attachment("front")], dns=dns)
    sealed = await service.create_sandbox("b" * 64, [Attachment("vault")], dns=dns)
    with world.serve(world.client, 53, "asked", protocol="udp") as server:
        server.reply = lambda data: (
            data[:2]
            + b"\x81\x80"
            + data[4:6]
            + b"\0\1\0\0\0\0"
            + data[12:]
            + (b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x07")
        )
        assert await world.resolve(alpha, "example.org") == ["192.0.2.7"]
        assert await world.resolve(sealed, "example.org") == []


async def test_a_restart_takes_up_what_lives_and_removes_the_rest(world: Any) -> None:
    first = await world.start()
    await first.create(NetworkCreate(name="front"))
    alpha, beta = await two(first, "front")
    await first.create_sandbox("c" * 64, [Attachment("front")], name="dead")
    with world.serve(beta.path, 80, "beta"):
        kept = world.connect(alpha.path, address(beta, "front"), 80)
        await world.stop(first)
        links = set(os.listdir("/proc/self/net/dev_snmp6"))
        stray = next(name for name in links if name.startswith(f"g{world.config.instance}v"))
        world.run("ip", "link", "add", stray[:8] + "0000000", "type", "bridge")
        world.run("ip", "link", "add", "gffffffv000000", "type", "bridge")
        (world.config.run_root / "netns" / "stray").touch()
        second = await world.start({"a" * 64, "b" * 64})
        assert await second.audit() == []
        assert "gffffffv000000" in world.run("ip", "-br", "link")
        assert sorted(path.name for path in (world.config.run_root / "netns").iterdir()) == ["a" * 64, "b" * 64]
        assert kept.makefile().readline().startswith("beta")
        kept.close()
        assert world.ask(alpha.path, address(beta, "front"), 80)[0] == "beta"
    assert await world.resolve(alpha, "beta") == [address(beta, "front")]
    assert await world.resolve(alpha, "dead") == []
    gamma = await second.create_sandbox("d" * 64, [Attachment("front")], name="gamma")
    assert address(gamma, "front") not in (address(alpha, "front"), address(beta, "front"))
    assert second.sandbox("a" * 64) == alpha
    await second.destroy()
    assert world.config.instance not in world.run("ip", "-br", "link") + world.run("nft", "list", "ruleset")
    assert list((world.config.run_root / "netns").iterdir()) == []


async def test_what_failed_leaves_nothing(world: Any) -> None:
    service = await world.start()
    await service.create(NetworkCreate(name="front"))
    with pytest.raises(errors.NotFound, match="network nowhere not found"):
        await service.create_sandbox("a" * 64, [Attachment("front"), Attachment("nowhere")])
    bridge = next(name for name in os.listdir("/proc/self/net/dev_snmp6") if name.startswith("g"))
    assert bridge
    for link in world.run("ip", "-br", "link", "show", "type", "bridge").splitlines():
        world.run("ip", "link", "del", link.split()[0])
    with pytest.raises(errors.RuntimeFailure, match="is gone"):
        await service.create_sandbox("a" * 64, [Attachment("front")])
    assert service.sandbox("a" * 64) is None
    assert list((world.config.run_root / "netns").iterdir()) == []
    assert len(await service.audit()) == 2


async def test_two_engines_on_one_host_share_nothing(world: Any, tmp_path: Path) -> None:
    first = await world.start()
    await first.create(NetworkCreate(name="front"))
    alpha, _ = await two(first, "front")
    other_world = type(world)(tmp_path / "other")
    second = await other_world.start()
    await second.create(NetworkCreate(name="front"))
    gamma = await second.create_sandbox("a" * 64, [Attachment("front")], name="gamma")
    try:
        assert first.get("front").ipam.config != second.get("front").ipam.config
        assert await first.audit() == [] and await second.audit() == []
        assert await world.resolve(gamma, "beta") == []
        with world.serve(alpha.path, 80, "alpha"):
            assert world.fails(gamma.path, address(alpha, "front"), 80)
        await second.destroy()
        assert await first.audit() == []
    finally:
        await other_world.close()
        namespaces.remove(gamma.path)


async def test_many_sandboxes_come_and_go_at_once(world: Any) -> None:
    service = await world.start()
    await service.create(NetworkCreate(name="front"))
    made = await asyncio.gather(
        *(service.create_sandbox(f"{n:064x}", [Attachment("front")], gateway_leg=True, name=f"c{n}") for n in range(20))
    )
    assert len({address(sandbox, "front") for sandbox in made}) == 20
    assert await service.audit() == []
    assert await world.resolve(made[0], "c19") == [address(made[19], "front")]
    await asyncio.gather(*(service.remove_sandbox(f"{n:064x}") for n in range(20)))
    await asyncio.gather(*(service.remove_sandbox(f"{n:064x}") for n in range(20)))
    assert await service.audit() == []
    assert world.run("ip", "-br", "link", "show", "type", "veth").count("\n") == 1
