"""An engine works beside a firewall that drops forwarded packets, says so, and mends what a reload took away."""

from __future__ import annotations

from typing import Any

import pytest

from gitops.engine.networks import Attachment, NetworkService, PublishedPort, Sandbox, namespaces
from gitops.objects.network import NetworkCreate

pytestmark = pytest.mark.e2e
CLIENT = "198.51.100.10"
HOST = "198.51.100.1"

DOCKER = """
table ip filter {
 chain DOCKER-USER {
  counter return
 }
 chain FORWARD { type filter hook forward priority filter; policy drop;
  counter jump DOCKER-USER
 }
}
"""
NATIVE = """
table inet firewall {
 chain forward { type filter hook forward priority filter; policy drop;
  ct state established accept
 }
}
"""


async def published(service: NetworkService) -> Sandbox:
    await service.create(NetworkCreate(name="front"))
    sandbox = await service.create_sandbox("a" * 64, [Attachment("front")], name="web")
    await service.publish("a" * 64, [PublishedPort(80, "tcp", 8080)])
    return sandbox


def works(world: Any, sandbox: Sandbox) -> bool:
    with world.serve(sandbox.path, 80, "web"), world.serve(world.client, 7000, "outside"):
        # Patient: a machine may be busy.
        comes_in = not world.fails(world.client, HOST, 8080, timeout_s=5)
        goes_out = not world.fails(sandbox.path, CLIENT, 7000, timeout_s=5)
    return comes_in and goes_out


@pytest.mark.parametrize(
    ("rules", "target"),
    [(DOCKER, "ip filter DOCKER-USER"), (NATIVE, "inet firewall forward")],
    ids=["docker", "native"],
)
async def test_a_firewall_that_drops_is_opened_and_told(world: Any, any_bridge: str, rules: str, target: str) -> None:
    (world.root / "rules").write_text(rules)
    world.run("nft", "-f", str(world.root / "rules"))
    service = await world.start()
    sandbox = await published(service)
    assert works(world, sandbox)
    assert len(service.warnings) == 1 and target.split()[-1] in service.warnings[0]
    assert world.run("nft", "list", "chain", *target.split()).count(f"gitops_{world.config.instance}") == 2
    await service._watch.look_at_firewalls()
    assert world.run("nft", "list", "chain", *target.split()).count(f"gitops_{world.config.instance}") == 2
    await service.destroy()
    assert "gitops" not in world.run("nft", "list", "ruleset")


async def test_iptables_can_still_show_its_chains(world: Any) -> None:
    world.run("iptables-nft", "-P", "FORWARD", "DROP")
    service = await world.start()
    sandbox = await published(service)
    assert works(world, sandbox)
    shown = world.run("iptables-nft", "-S", "FORWARD")
    assert (
        f"-A FORWARD -i g{world.config.instance}+ -m comment --comment gitops_{world.config.instance} -j ACCEPT"
        in shown
    )
    assert f"-A FORWARD -o g{world.config.instance}+ -m comment" in shown
    # Another program goes on adding rules there.
    world.run("iptables-nft", "-I", "FORWARD", "-s", "192.0.2.1", "-j", "DROP")
    assert works(world, sandbox)


async def test_old_iptables_are_opened_too(world: Any) -> None:
    try:
        world.run("iptables-legacy", "-P", "FORWARD", "DROP")
    except (AssertionError, FileNotFoundError):
        assert namespaces.read_sysctl("ipv4/ip_forward") is not None
        return
    service = await world.start()
    sandbox = await published(service)
    assert works(world, sandbox)
    assert "iptables-legacy" in service.warnings[0]
    await service.destroy()
    assert "ACCEPT" not in world.run("iptables-legacy", "-S", "FORWARD")


async def test_a_firewall_that_comes_later_and_a_flushed_table_are_noticed(world: Any) -> None:
    service = await world.start()
    sandbox = await published(service)
    await service._watch.look()
    assert works(world, sandbox) and service.warnings == ()
    world.run("nft", "flush", "ruleset")
    world.run("iptables-nft", "-P", "FORWARD", "DROP")
    assert not works(world, sandbox)
    assert await service.audit() == [f"nft table gitops_{world.config.instance} is missing"]
    await service._watch.look()
    assert works(world, sandbox) and len(service.warnings) == 1 and await service.audit() == []


async def test_changes_in_our_table_are_seen_and_mended(world: Any) -> None:
    service = await world.start()
    sandbox = await published(service)
    table = f"gitops_{world.config.instance}"
    world.run("nft", "delete", "element", "ip", table, "puball", "{ tcp . 8080 }")
    world.run("nft", "add", "element", "ip", table, "puball", "{ udp . 53 : 10.1.1.1 . 53 }")
    world.run("nft", "flush", "chain", "ip", table, "raw")
    assert await service.audit() == [
        "nft puball: tcp . 8080 is missing",
        "nft puball: udp . 53 should not be there",
        "nft chain raw has 0 rules instead of 1",
    ]
    # A change that stumbles over what is gone writes the whole table.
    await service.unpublish("a" * 64)
    assert await service.audit() == []
    await service.publish("a" * 64, [PublishedPort(80, "tcp", 8080)])
    assert works(world, sandbox)


async def test_a_daemon_that_switches_bridge_filtering_on_changes_nothing_for_containers(world: Any) -> None:
    if not namespaces.write_sysctl("bridge/bridge-nf-call-iptables", "0"):
        return
    service = await world.start()
    sandbox = await published(service)
    with world.serve(sandbox.path, 80, "web"):
        assert world.ask(sandbox.path, HOST, 8080)[0] == "web"
        namespaces.write_sysctl("bridge/bridge-nf-call-iptables", "1")
        await service._watch.look()
        assert world.ask(sandbox.path, HOST, 8080)[0] == "web"
