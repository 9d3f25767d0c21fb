"""Names of a container's networks are answered, everything else is passed on, and no packet is an exception."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops.engine.networks.resolver import Directory, Forwarder, Server, View, message
from gitops.engine.networks.resolver.server import sockets
from gitops.engine.networks.resolver.upstream import nameservers

FRONT, BACK = "front-id", "back-id"


def directory() -> Directory:
    found = Directory()
    found.open(FRONT, "front", "10.0.1.0/24")
    found.open(BACK, "Back", "10.0.2.0/24")
    found.set_container(FRONT, "c1", "10.0.1.2", ("web", "alias", "0123456789ab"))
    found.set_container(FRONT, "c2", "10.0.1.3", ("web2", "alias"))
    found.set_container(BACK, "c3", "10.0.2.2", ("web", "db"))
    found.set_names(BACK, {"Stack_API": ["10.0.2.10", "10.0.2.11", "10.0.2.12"], "idle": []})
    return found


def ask(
    name: str, kind: str = "A", *, edns: int = 0, networks: tuple[str, ...] = (FRONT, BACK)
) -> dnslib.DNSRecord | None:
    record = dnslib.DNSRecord.question(name, kind)
    if edns:
        record.add_ar(dnslib.EDNS0(udp_len=edns))
    data = bytes(record.pack())
    query = message.parse(data)
    assert query is not None
    reply = View(directory(), networks).answer(query, query.payload)
    if reply is None:
        return None
    answer = dnslib.DNSRecord.parse(reply)
    assert answer.header.id == record.header.id and answer.header.qr == 1 and answer.header.ra == 1
    assert reply[12 : 12 + len(query.question)] == query.question
    return answer


def addresses(answer: dnslib.DNSRecord | None) -> list[str]:
    assert answer is not None
    return sorted(str(record.rdata) for record in answer.rr)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("web2", ["10.0.1.3"]),
        ("WEB2.", ["10.0.1.3"]),
        ("web", ["10.0.1.2"]),
        ("web.back", ["10.0.2.2"]),
        ("web.Front", ["10.0.1.2"]),
        ("alias", ["10.0.1.2", "10.0.1.3"]),
        ("0123456789ab", ["10.0.1.2"]),
        ("stack_api", ["10.0.2.10", "10.0.2.11", "10.0.2.12"]),
        ("STACK_api.BACK", ["10.0.2.10", "10.0.2.11", "10.0.2.12"]),
    ],
)
def test_a_name_leads_to_its_addresses(name: str, found: list[str]) -> None:
    assert addresses(ask(name)) == found


def test_answers_live_shortly() -> None:
    answer = ask("web")
    assert answer is not None and answer.rr[0].ttl == message.TTL_S


@pytest.mark.parametrize("name", ["nobody", "example.org", "web.elsewhere", "front", ".", "web.front.front"])
def test_an_unknown_name_is_passed_on(name: str) -> None:
    assert ask(name) is None


def test_only_the_networks_of_the_sandbox_count() -> None:
    assert addresses(ask("web", networks=(BACK,))) == ["10.0.2.2"]
    assert ask("alias", networks=(BACK,)) is None
    assert ask("web", networks=("gone",)) is None


@pytest.mark.parametrize("kind", ["AAAA", "MX", "SRV", "TXT"])
def test_a_known_name_without_such_a_record_is_no_error(kind: str) -> None:
    answer = ask("web", kind)
    assert answer is not None and answer.header.rcode == 0 and not answer.rr


def test_a_name_without_addresses_is_known() -> None:
    answer = ask("idle")
    assert answer is not None and answer.header.rcode == 0 and not answer.rr


@pytest.mark.parametrize(("address", "name"), [("10.0.1.3", "web2.front."), ("10.0.2.11", "stack_api.back.")])
def test_an_address_leads_to_its_name(address: str, name: str) -> None:
    answer = ask(".".join(reversed(address.split("."))) + ".in-addr.arpa", "PTR")
    assert answer is not None and str(answer.rr[0].rdata).lower() == name


def test_an_address_of_our_networks_without_a_name_does_not_exist() -> None:
    answer = ask("99.1.0.10.in-addr.arpa", "PTR")
    assert answer is not None and answer.header.rcode == message.NXDOMAIN


@pytest.mark.parametrize("name", ["8.8.8.8.in-addr.arpa", "x.in-addr.arpa", "1.10.in-addr.arpa", "a.ip6.arpa"])
def test_other_addresses_are_passed_on(name: str) -> None:
    assert ask(name, "PTR") is None


def test_many_addresses_fill_the_datagram_and_say_that_there_are_more() -> None:
    found = Directory()
    found.open(FRONT, "front")
    found.set_names(FRONT, {"many": [f"10.0.0.{n}" for n in range(200)]})
    query = message.parse(bytes(dnslib.DNSRecord.question("many").pack()))
    assert query is not None
    view = View(found, (FRONT,))
    short = view.answer(query, query.payload)
    assert short is not None and len(short) <= 512
    answer = dnslib.DNSRecord.parse(short)
    assert answer.header.tc == 1 and len(answer.rr) == 30
    whole = view.answer(query, 65535)
    assert whole is not None
    assert len(dnslib.DNSRecord.parse(whole).rr) == 200 and dnslib.DNSRecord.parse(whole).header.tc == 0
    orders = {view.answer(query, 65535) for _ in range(5)}
    assert len(orders) > 1


def test_the_asker_says_what_it_takes() -> None:
    for edns, payload in ((0, 512), (100, 512), (1232, 1232), (65535, 4096)):
        record = dnslib.DNSRecord.question("web")
        if edns:
            record.add_ar(dnslib.EDNS0(udp_len=edns))
        query = message.parse(bytes(record.pack()))
        assert query is not None and query.payload == payload


def test_a_container_that_left_is_forgotten() -> None:
    found = directory()
    found.drop_container(FRONT, "c1")
    assert found.lookup((FRONT,), "web") is None
    assert found.lookup((FRONT,), "alias") == ("10.0.1.3",)
    found.set_names(BACK, {})
    assert found.lookup((BACK,), "stack_api") is None
    found.drop(BACK)
    found.set_names(BACK, {"x": ["10.0.2.9"]})
    assert found.lookup((BACK,), "x") is None


@given(st.binary(max_size=600))
def test_no_packet_raises(data: bytes) -> None:
    query = message.parse(data)
    if query is not None:
        reply = View(directory(), (FRONT, BACK)).answer(query, query.payload)
        assert reply is None or len(reply) >= 12
    message.answers(data, data, 1)


LABELS = st.lists(st.binary(min_size=0, max_size=70), max_size=12)


@given(
    LABELS,
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.sampled_from([0, 0x0100, 0x8180, 0x2000]),
    st.lists(st.integers(0, 3), min_size=4, max_size=4),
    st.binary(max_size=40),
)
def test_nearly_right_packets_are_answered_or_dropped(
    labels: list[bytes], kind: int, klass: int, flags: int, counts: list[int], tail: bytes
) -> None:
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    data = struct.pack(">6H", 7, flags, *counts) + name + struct.pack(">2H", kind, klass) + tail
    query = message.parse(data)
    if query is None:
        return
    assert data[12 : 12 + len(query.question)] == query.question
    assert bytes(message.empty(query))[12:] == query.question
    assert len(message.addresses(query, ["10.0.0.1"], 512)) <= 12 + len(query.question) + 16 + len(name)


@given(st.sampled_from(["web", "alias", "idle", "2.1.0.10.in-addr.arpa"]), st.integers(0, 300), st.integers(0, 40))
def test_a_damaged_question_raises_nothing(name: str, kind: int, cut: int) -> None:
    data = bytes(dnslib.DNSRecord(q=dnslib.DNSQuestion(name, kind)).pack())
    damaged = data[: max(0, len(data) - cut)]
    query = message.parse(damaged)
    assert (query is None) == (cut > 0)


def test_resolv_conf_is_read_as_the_c_library_does() -> None:
    text = (
        "# x\nnameserver 10.0.0.1 # a\n nameserver 10.0.0.2\nnameserver nonsense\nsearch a b\nnameserver fe80::1%eth0\n"
    )
    assert nameservers(text + "nameserver 10.0.0.4\n") == ("10.0.0.1", "10.0.0.2", "fe80::1%eth0")
    assert nameservers("") == ()


class Upstream(asyncio.DatagramProtocol):
    """A server that answers every question in a way of its own."""

    def __init__(self, reply: Callable[[bytes], list[bytes]]) -> None:
        self.reply = reply
        self.asked: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked.append(data)
        for reply in self.reply(data):
            self.transport.sendto(reply, addr)


def resolved(data: bytes) -> bytes:
    record = dnslib.DNSRecord.parse(data).reply()
    record.add_answer(*dnslib.RR.fromZone("example.org 60 A 192.0.2.7"))
    return bytes(record.pack())


def lies(data: bytes) -> list[bytes]:
    other = bytes(dnslib.DNSRecord.question("evil.example").reply().pack())
    wrong_id = struct.pack(">H", (int.from_bytes(data[:2]) + 1) % 65536) + resolved(data)[2:]
    wrong_question = data[:2] + other[2:]
    return [b"", b"\0", data, wrong_id, wrong_question, resolved(data)]


@asynccontextmanager
async def serving(
    upstream: Upstream, tmp_path: Path, *, may_forward: bool = True, timeout_s: float = 2.0
) -> AsyncIterator[tuple[int, int]]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: upstream, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 127.0.0.1\n")
    udp, tcp = sockets("127.0.0.1")
    ports = udp.getsockname()[1], tcp.getsockname()[1]
    forwarder = Forwarder(resolv_conf=resolv_conf, port=port, timeout_s=timeout_s)
    server = Server(udp, tcp, View(directory(), (FRONT,), may_forward=may_forward), forwarder)
    await server.start()
    try:
        yield ports
    finally:
        await server.close()
        transport.close()


async def exchange(port: int, data: bytes) -> dnslib.DNSRecord:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, data)
        async with asyncio.timeout(5):
            return dnslib.DNSRecord.parse(await loop.sock_recv(sock, 4096))


async def test_the_server_answers_and_passes_on(tmp_path: Path) -> None:
    upstream = Upstream(lambda data: [resolved(data)])
    async with serving(upstream, tmp_path) as (udp, _):
        assert addresses(await exchange(udp, bytes(dnslib.DNSRecord.question("web").pack()))) == ["10.0.1.2"]
        assert upstream.asked == []
        question = dnslib.DNSRecord.question("example.org")
        answer = await exchange(udp, bytes(question.pack()))
        assert addresses(answer) == ["192.0.2.7"] and answer.header.id == question.header.id


async def test_what_does_not_answer_the_question_is_ignored(tmp_path: Path) -> None:
    async with serving(Upstream(lies), tmp_path) as (udp, _):
        assert addresses(await exchange(udp, bytes(dnslib.DNSRecord.question("example.org").pack()))) == ["192.0.2.7"]


async def test_a_silent_upstream_is_a_server_failure(tmp_path: Path) -> None:
    async with serving(Upstream(lambda data: []), tmp_path, timeout_s=0.05) as (udp, _):
        answer = await exchange(udp, bytes(dnslib.DNSRecord.question("example.org").pack()))
        assert answer.header.rcode == message.SERVFAIL


async def test_a_container_without_a_way_out_asks_nobody(tmp_path: Path) -> None:
    upstream = Upstream(lambda data: [resolved(data)])
    async with serving(upstream, tmp_path, may_forward=False) as (udp, _):
        answer = await exchange(udp, bytes(dnslib.DNSRecord.question("example.org").pack()))
        assert answer.header.rcode == message.NXDOMAIN and upstream.asked == []


async def test_several_questions_come_by_one_connection(tmp_path: Path) -> None:
    async with serving(Upstream(lambda data: []), tmp_path, timeout_s=0.05) as (_, tcp):
        reader, writer = await asyncio.open_connection("127.0.0.1", tcp)
        for name, found in (("web", ["10.0.1.2"]), ("alias", ["10.0.1.2", "10.0.1.3"])):
            data = bytes(dnslib.DNSRecord.question(name).pack())
            writer.write(len(data).to_bytes(2) + data)
            size = int.from_bytes(await reader.readexactly(2))
            assert addresses(dnslib.DNSRecord.parse(await reader.readexactly(size))) == found
        writer.write(b"\0\x02ab")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_garbage_does_not_stop_the_server(tmp_path: Path) -> None:
    async with serving(Upstream(lambda data: []), tmp_path) as (udp, _):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for data in (b"", b"x", b"\xff" * 512, struct.pack(">6H", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1"):
                sock.sendto(data, ("127.0.0.1", udp))
        assert addresses(await exchange(udp, bytes(dnslib.DNSRecord.question("web").pack()))) == ["10.0.1.2"]


async def test_closing_ends_what_is_under_way(tmp_path: Path) -> None:
    async with serving(Upstream(lambda data: []), tmp_path, timeout_s=60) as (udp, tcp):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(bytes(dnslib.DNSRecord.question("example.org").pack()), ("127.0.0.1", udp))
        _, writer = await asyncio.open_connection("127.0.0.1", tcp)
    writer.close()
