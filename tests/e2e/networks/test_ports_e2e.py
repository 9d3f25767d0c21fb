"""Ports of the host lead to containers, with the client's address kept, evenly, and without breaking connections."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gitops import errors
from gitops.engine.networks import Attachment, NetworkService, PublishedPort, Sandbox, SharedPort
from gitops.objects.network import IPAM, IPAMConfig, NetworkCreate, NetworkObject, NetworkSpec

pytestmark = pytest.mark.e2e
CLIENT = "198.51.100.10"
HOST = "198.51.100.1"
HOST_TOO = "203.0.113.1"


async def plain(service: NetworkService, name: str, network: str = "front", number: int = 1) -> Sandbox:
    return await service.create_sandbox(f"{number:064x}", [Attachment(network)], name=name)


async def task(service: NetworkService, number: int) -> Sandbox:
    network = NetworkObject(
        id="net1",
        spec=NetworkSpec(name="stack_default"),
        ipam_options=IPAM(config=[IPAMConfig(subnet="10.0.1.0/24", gateway="10.0.1.1")]),
    )
    await service.ensure_overlay(network)
    return await service.create_sandbox(f"{number:064x}", [Attachment("net1")], gateway_leg=True, name=f"web.{number}")


def leg(sandbox: Sandbox) -> str:
    assert sandbox.gateway_address
    return sandbox.gateway_address


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_a_published_port_leads_to_its_container(world: Any, any_bridge: str, protocol: str) -> None:
    service = await world.start()
    await service.create(NetworkCreate(name="front"))
    await service.create(NetworkCreate(name="back"))
    web = await plain(service, "web")
    same = await plain(service, "same", number=2)
    other = await plain(service, "other", "back", number=3)
    taken = await service.publish(f"{1:064x}", [PublishedPort(80, protocol, 8080)])
    assert taken == [PublishedPort(80, protocol, 8080)]
    with world.serve(web.path, 80, "web", protocol=protocol):
        assert world.ask(world.client, HOST, 8080, protocol=protocol) == ("web", CLIENT)
        assert world.ask(world.client, HOST_TOO, 8080, protocol=protocol) == ("web", CLIENT)
        for where in (None, same.path, other.path, web.path):
            assert world.ask(where, HOST, 8080, protocol=protocol)[0] == "web"
        assert world.ask(None, "127.0.0.1", 8080, protocol=protocol)[0] == "web"
        assert world.ask(None, HOST_TOO, 8080, protocol=protocol)[0] == "web"
        gateway = web.endpoints["front"].gateway
        assert world.ask(web.path, gateway, 8080, protocol=protocol)[0] == "web"
        assert world.ask(other.path, gateway, 8080, protocol=protocol)[0] == "web"
        await service.unpublish(f"{1:064x}")
        assert world.fails(world.client, HOST, 8080, protocol=protocol)
        assert world.fails(None, "127.0.0.1", 8080, protocol=protocol)
    assert await service.audit() == []


async def test_a_port_on_loopback_is_the_hosts_alone(world: Any) -> None:
    service = await world.start()
    await service.create(NetworkCreate(name="front"))
    web = await plain(service, "web")
    await service.publish(f"{1:064x}", [PublishedPort(80, "tcp", 8080, "127.0.0.1"), PublishedPort(80, "tcp", 0, HOST)])
    free = service.sandbox(f"{1:064x}")
    assert free is not None
    world.run("nsenter", f"--net={world.client}", "ip", "route", "add", "127.0.0.9/32", "via", HOST, "dev", "up0")
    world.run("nsenter", f"--net={world.client}", "ip", "route", "add", "127.0.0.1/32", "via", HOST, "table", "7")
    with world.serve(web.path, 80, "web"):
        assert world.ask(None, "127.0.0.1", 8080)[0] == "web"
        assert world.fails(world.client, HOST, 8080)
        assert world.fails(None, HOST, 8080)


async def test_a_neighbour_cannot_reach_loopback_ports_by_our_translation(world: Any) -> None:
    service = await world.start()
    await service.create(NetworkCreate(name="front"))
    web = await plain(service, "web")
    await service.publish(f"{1:064x}", [PublishedPort(80, "tcp", 8080, "127.0.0.2")])
    # The neighbour sends 127.0.0.2 over the wire, as a hostile one can.
    client = f"--net={world.client}"
    world.run("nsenter", client, "busybox", "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    world.run("nsenter", client, "ip", "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local")
    world.run("nsenter", client, "ip", "route", "add", "127.0.0.2/32", "via", HOST, "dev", "up0", "src", CLIENT)
    with world.serve(web.path, 80, "web"):
        assert world.ask(None, "127.0.0.2", 8080)[0] == "web"
        assert world.fails(world.client, "127.0.0.2", 8080)


async def test_a_port_that_is_taken_is_refused_in_dockers_words(world: Any) -> None:
    service = await world.start()
    await service.create(NetworkCreate(name="front"))
    await plain(service, "web")
    await plain(service, "other", number=2)
    await service.publish(f"{1:064x}", [PublishedPort(80, "tcp", 8080)])
    with pytest.raises(errors.Conflict) as caught:
        await service.publish(
            f"{2:064x}", [PublishedPort(80, "tcp", 9090), PublishedPort(80, "tcp", 8080, "127.0.0.1")]
        )
    text = str(caught.value)
    assert text.startswith("driver failed programming external connectivity on endpoint other (")
    assert text.endswith("Bind for 127.0.0.1:8080 failed: port is already allocated")
    with world.serve(None, 7000, "foreign"):
        with pytest.raises(
            errors.Conflict, match=r"Bind for 0\.0\.0\.0:7000 failed: address already in use by another"
        ):
            await service.publish(f"{2:064x}", [PublishedPort(80, "tcp", 7000)])
        failures = await service.apply_ports(
            [SharedPort("tcp", 7000, 80, ("172.18.0.9",)), SharedPort("tcp", 7001, 80)]
        )
        assert [failure.port.published_port for failure in failures] == [7000]
        assert "another program" in failures[0].reason
        assert world.ask(None, HOST, 7000)[0] == "foreign"
    again = [SharedPort("tcp", 7000, 80, ("172.18.0.9",)), SharedPort("tcp", 8080, 80), SharedPort("tcp", 7001, 80)]
    assert [failure.port.published_port for failure in await service.apply_ports(again)] == [8080]
    with socket.socket() as sock, pytest.raises(OSError) as refused:
        sock.bind(("0.0.0.0", 7000))
    assert refused.value.errno == errno.EADDRINUSE
    # What failed half-way was given back.
    taken = await service.publish(f"{2:064x}", [PublishedPort(80, "tcp", 9090), PublishedPort(81, "udp", 0)])
    assert taken[0].host_port == 9090 and taken[1].host_port > 1024
    assert await service.audit() == []


async def test_what_cannot_be_published_is_refused(world: Any) -> None:
    service = await world.start()
    await service.create(NetworkCreate(name="vault", internal=True))
    await plain(service, "web", "vault")
    with pytest.raises(errors.Invalid, match="no network with a way to the outside"):
        await service.publish(f"{1:064x}", [PublishedPort(80)])
    with pytest.raises(errors.NotFound, match="no network sandbox"):
        await service.publish("nobody", [PublishedPort(80)])
    await plain(service, "web", "bridge")
    with pytest.raises(errors.Unsupported, match="IPv6"):
        await service.publish(f"{1:064x}", [PublishedPort(80, host_ip="::1")])
    with pytest.raises(errors.Invalid, match="protocol 'icmp'"):
        await service.publish(f"{1:064x}", [PublishedPort(80, "icmp")])
    with pytest.raises(errors.Conflict, match=r"this host has no address 192\.0\.2\.99"):
        await service.publish(f"{1:064x}", [PublishedPort(80, "tcp", 80, "192.0.2.99")])


@contextlib.asynccontextmanager
async def three(world: Any, service: NetworkService, protocol: str = "tcp") -> AsyncIterator[list[Sandbox]]:
    sandboxes = [await task(service, number) for number in (1, 2, 3)]
    with contextlib.ExitStack() as stack:
        for number, sandbox in enumerate(sandboxes, 1):
            stack.enter_context(world.serve(sandbox.path, 7000, f"t{number}", protocol=protocol))
        yield sandboxes


def shared(sandboxes: list[Sandbox], protocol: str = "tcp") -> list[SharedPort]:
    return [SharedPort(protocol, 8080, 7000, tuple(leg(sandbox) for sandbox in sandboxes))]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_a_shared_port_is_spread_evenly_over_its_containers(world: Any, any_bridge: str, protocol: str) -> None:
    service = await world.start()
    async with three(world, service, protocol) as sandboxes:
        assert await service.apply_ports(shared(sandboxes, protocol)) == []
        for where, target, seen in (
            (world.client, HOST, {CLIENT}),
            (world.client, HOST_TOO, {CLIENT}),
            (None, HOST, {HOST}),
            (None, "127.0.0.1", None),
            (None, "127.0.0.5", None),
            (sandboxes[0].path, HOST, None),
        ):
            answers = [world.ask(where, target, 8080, protocol=protocol) for _ in range(90)]
            counts = Counter(label for label, _ in answers)
            # 90 draws of one in three: 12 or fewer of a kind come once in a hundred million runs.
            assert set(counts) == {"t1", "t2", "t3"} and min(counts.values()) > 12, (target, counts)
            if seen:
                assert {address for _, address in answers} == seen
        assert await service.apply_ports(shared(sandboxes[1:2], protocol)) == []
        assert {world.ask(world.client, HOST, 8080, protocol=protocol)[0] for _ in range(20)} == {"t2"}
        assert await service.apply_ports([SharedPort(protocol, 8080, 7000)]) == []
        assert world.fails(world.client, HOST, 8080, protocol=protocol)
        assert await service.audit() == []


async def test_connections_live_on_while_containers_come_and_go(world: Any) -> None:
    service = await world.start()
    async with three(world, service) as sandboxes:
        await service.apply_ports(shared(sandboxes))
        kept = []
        for _ in range(12):
            sock = world.connect(world.client, HOST, 8080)
            kept.append((sock, sock.makefile("rw")))
            assert kept[-1][1].readline().split()[1] == CLIENT
        failed = 0
        for number in range(12):
            await service.apply_ports(shared(sandboxes[: 1 + number % 3]))
            if number == 6:
                await service._rules.load()
            failed += await asyncio.to_thread(world.fails, world.client, HOST, 8080)
        await service.apply_ports([])
        assert failed == 0
        for sock, stream in kept:
            sock.sendall(b"still there?\n")
            sock.settimeout(0.05)
            with pytest.raises(TimeoutError):
                sock.recv(1)
            stream.close()
            sock.close()


async def test_a_container_that_is_gone_is_led_to_no_more(world: Any) -> None:
    service = await world.start()
    async with three(world, service) as sandboxes:
        await service.apply_ports(shared(sandboxes))
        kept = {}
        while set(kept) != {"t1", "t2"}:
            sock = world.connect(world.client, HOST, 8080)
            label = sock.makefile().readline().split()[0]
            if label == "t3" or label in kept:
                sock.close()
            else:
                kept[label] = sock
        await service.remove_sandbox(f"{1:064x}")
        assert {world.ask(world.client, HOST, 8080)[0] for _ in range(40)} == {"t2", "t3"}
        assert await service.audit() == []
        kept["t1"].sendall(b"hello\n")
        with pytest.raises(ConnectionResetError):
            kept["t1"].recv(1)
        kept["t2"].sendall(b"hello\n")
        kept["t2"].settimeout(0.05)
        with pytest.raises(TimeoutError):
            kept["t2"].recv(1)
        for sock in kept.values():
            sock.close()


async def test_a_udp_client_that_never_pauses_is_led_to_who_is_left(world: Any) -> None:
    service = await world.start()
    async with three(world, service, "udp") as sandboxes:
        with world.raw_socket(world.client, socket.SOCK_DGRAM) as sock:
            sock.settimeout(3)
            sock.connect((HOST, 8080))
            sock.settimeout(0.3)
            with contextlib.suppress(OSError):
                # Before anything is published: the kernel remembers a flow that leads to the host itself.
                sock.send(b"?")
                sock.recv(100)
            await service.apply_ports(shared(sandboxes[:1], "udp"))
            sock.settimeout(3)
            sock.send(b"?")
            assert sock.recv(100).startswith(b"t1")
            await service.apply_ports(shared(sandboxes[1:2], "udp"))
            sock.send(b"?")
            assert sock.recv(100).startswith(b"t2")


async def test_ports_work_without_the_daemon_and_after_its_return(world: Any) -> None:
    first = await world.start()
    await first.create(NetworkCreate(name="front"))
    web = await plain(first, "web", number=9)
    async with three(world, first) as sandboxes:
        await first.apply_ports(shared(sandboxes))
        await first.publish(f"{9:064x}", [PublishedPort(80, "tcp", 9090)])
        with world.serve(web.path, 80, "web"):
            await world.stop(first)
            assert world.ask(world.client, HOST, 8080)[0] in ("t1", "t2", "t3")
            assert world.ask(world.client, HOST, 9090) == ("web", CLIENT)
            kept = world.connect(world.client, HOST, 8080)
            second = await world.start({f"{number:064x}" for number in (1, 2, 3, 9)})
            assert {world.ask(world.client, HOST, 8080)[0] for _ in range(40)} == {"t1", "t2", "t3"}
            assert world.ask(world.client, HOST, 9090) == ("web", CLIENT)
            assert kept.makefile().readline().split()[1] == CLIENT
            kept.close()
        assert await second.audit() == []
        for port in (8080, 9090):
            with socket.socket() as sock, pytest.raises(OSError, match="in use"):
                sock.bind(("0.0.0.0", port))
        await second.remove_sandbox(f"{9:064x}")
        with socket.socket() as sock:
            sock.bind(("0.0.0.0", 9090))
        assert await second.audit() == []


async def test_a_port_that_was_lost_while_the_daemon_was_away_is_told(world: Any) -> None:
    first = await world.start()
    await plain(first, "web", "bridge")
    await first.publish(f"{1:064x}", [PublishedPort(80, "tcp", 8080)])
    await world.stop(first)
    with world.serve(None, 8080, "thief"):
        second = await world.start({f"{1:064x}"})
        assert any("0.0.0.0:8080" in warning for warning in second.warnings)
        assert await second.audit() == []


async def test_many_shared_ports_with_many_containers(world: Any) -> None:
    service = await world.start()
    await service.ensure_gateway()
    ports = [
        SharedPort("tcp", 20000 + number, 80, tuple(f"172.18.{n // 250}.{n % 250 + 2}" for n in range(1 + number % 90)))
        for number in range(200)
    ]
    assert await service.apply_ports(ports) == []
    assert await service.audit() == []
    assert await service.apply_ports(ports[50:]) == []
    assert await service.audit() == []
