"""Ports of the host are held by bound sockets, against others and against ourselves."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from gitops import errors
from gitops.engine.networks.ports import Claim, Reservations, Taken


@pytest.fixture
def reservations() -> Iterator[Reservations]:
    found = Reservations()
    yield found
    found.close()


def bind(port: int, *, is_reusing: bool) -> socket.socket:
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(is_reusing))
        sock.bind(("0.0.0.0", port))
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_held_port_can_be_had_by_nobody_else(reservations: Reservations, protocol: str) -> None:
    claim = reservations.take(Claim(protocol, 0))
    assert claim.number > 0
    with pytest.raises(errors.Conflict, match=f"Bind for 0.0.0.0:{claim.number} failed: port is already allocated"):
        reservations.take(claim)
    with pytest.raises(errors.Conflict, match="already allocated"):
        reservations.take(Claim(protocol, claim.number, "127.0.0.1"))
    other = Reservations()
    for wanted in (claim, Claim(protocol, claim.number, "127.0.0.1")):
        with pytest.raises(Taken, match="another program"):
            other.take(wanted)


@pytest.mark.parametrize("is_reusing", [False, True])
def test_no_program_can_listen_on_a_held_port(reservations: Reservations, is_reusing: bool) -> None:
    claim = reservations.take(Claim("tcp", 0))
    with pytest.raises(OSError, match="in use"):
        bind(claim.number, is_reusing=is_reusing)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", claim.number))


def test_a_released_port_is_free(reservations: Reservations) -> None:
    claim = reservations.take(Claim("tcp", 0))
    reservations.release(claim)
    reservations.release(claim)
    bind(claim.number, is_reusing=False).close()


def test_a_listening_program_keeps_its_port(reservations: Reservations) -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("0.0.0.0", 0))
        sock.listen()
        with pytest.raises(Taken, match="another program"):
            reservations.take(Claim("tcp", sock.getsockname()[1]))


@pytest.mark.parametrize("is_reusing", [False, True])
def test_connections_that_ended_do_not_keep_a_port(reservations: Reservations, is_reusing: bool) -> None:
    with bind(0, is_reusing=True) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()
            assert client.recv(1) == b""
    claim = reservations.take(Claim("tcp", port))
    with pytest.raises(OSError, match="in use"):
        bind(claim.number, is_reusing=is_reusing)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_different_addresses_and_protocols_do_not_collide(reservations: Reservations) -> None:
    claim = reservations.take(Claim("tcp", 0, "127.0.0.1"))
    reservations.take(Claim("tcp", claim.number, "127.0.0.2"))
    reservations.take(Claim("udp", claim.number, "127.0.0.1"))
    assert reservations.collides(Claim("tcp", claim.number))


def test_an_address_of_another_host_is_refused(reservations: Reservations) -> None:
    with pytest.raises(Taken, match=r"this host has no address 203.0.113.9"):
        reservations.take(Claim("tcp", 8080, "203.0.113.9"))


def test_a_port_that_could_not_be_bound_may_be_held_in_name(reservations: Reservations) -> None:
    reservations.hold(Claim("tcp", 8080))
    assert reservations.collides(Claim("tcp", 8080, "127.0.0.1"))
    reservations.release(Claim("tcp", 8080))
    assert Claim("tcp", 8080) not in reservations
