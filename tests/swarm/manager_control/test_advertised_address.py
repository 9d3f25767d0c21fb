"""What `docker swarm init --advertise-addr` may say."""

from __future__ import annotations

import ipaddress

import pytest

from gitops import errors
from gitops.swarm import advertising


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("192.0.2.9", "192.0.2.9"),
        ("192.0.2.9:2377", "192.0.2.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:2377", "2001:db8::1"),
        ("::1", "::1"),
        ("lo", "127.0.0.1"),
        ("lo:2377", "127.0.0.1"),
    ],
)
def test_an_address_or_an_interface_is_taken(given: str, address: str) -> None:
    assert advertising.address_of(given) == address


@pytest.mark.parametrize("given", ["nowhere.example", "no-such-interface", "300.1.1.1", "lo0000000000000000000"])
def test_anything_else_is_refused(given: str) -> None:
    with pytest.raises(errors.Invalid, match=f"invalid advertise address '{given}'"):
        advertising.address_of(given)


def test_where_nothing_is_said_the_host_s_own_address_counts() -> None:
    assert ipaddress.ip_address(advertising.address_of("")).version == 4
