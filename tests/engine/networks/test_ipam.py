"""Addresses are given once, within their subnet, and local networks avoid what is taken."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops import errors
from gitops.engine.networks import ipam
from gitops.objects.network import IPAM, IPAMConfig

Network = ipaddress.IPv4Network
Address = ipaddress.IPv4Address


def pool(subnet: str, **config: object) -> ipam.Pool:
    return ipam.Pool(ipam.layout(IPAMConfig(**config), Network(subnet)))  # type: ignore[arg-type]


def subnets(min_prefix: int = 8, max_prefix: int = 30) -> st.SearchStrategy[Network]:
    return st.builds(
        lambda number, prefix: Network((number >> (32 - prefix) << (32 - prefix), prefix)),
        st.integers(0, 2**32 - 1),
        st.integers(min_prefix, max_prefix),
    )


@given(subnets(24), st.lists(st.one_of(st.just("take"), st.integers(0, 300)), max_size=120))
def test_an_address_is_never_given_twice(subnet: Network, steps: list[str | int]) -> None:
    addresses = pool(str(subnet))
    held: list[Address] = []
    for step in steps:
        if step == "take":
            try:
                address = addresses.take()
            except errors.Unavailable:
                assert len(held) == subnet.num_addresses - 3
                continue
            assert address not in held
            assert address in subnet
            assert address not in (subnet.network_address, subnet.broadcast_address, addresses.layout.gateway)
            held.append(address)
        elif held:
            addresses.release(held.pop(int(step) % len(held)))
    assert addresses.taken == frozenset(held)


@given(subnets(24), st.integers(0, 255))
def test_an_address_asked_for_is_given_or_refused(subnet: Network, offset: int) -> None:
    addresses = pool(str(subnet))
    wanted = Address(int(subnet.network_address) + offset % subnet.num_addresses)
    if wanted in (subnet.network_address, subnet.broadcast_address):
        with pytest.raises(errors.Invalid):
            addresses.take(wanted)
    elif wanted == addresses.layout.gateway:
        with pytest.raises(errors.Conflict):
            addresses.take(wanted)
    else:
        assert addresses.take(wanted) == wanted
        with pytest.raises(errors.Conflict, match="already in use"):
            addresses.take(wanted)


def test_a_released_address_comes_last() -> None:
    addresses = pool("10.0.0.0/29")
    first = addresses.take()
    addresses.release(first)
    assert [str(addresses.take()) for _ in range(5)] == [f"10.0.0.{n}" for n in (3, 4, 5, 6, 2)]
    with pytest.raises(errors.Unavailable, match="no available IPv4 addresses"):
        addresses.take()


def test_the_range_limits_only_what_nobody_asked_for() -> None:
    addresses = pool("10.0.0.0/24", ip_range="10.0.0.128/30")
    assert str(addresses.take()) == "10.0.0.128"
    assert str(addresses.take(Address("10.0.0.9"))) == "10.0.0.9"


def test_auxiliary_addresses_are_kept_free() -> None:
    addresses = pool("10.0.0.0/29", auxiliary_addresses={"router": "10.0.0.1", "printer": "10.0.0.3"})
    assert str(addresses.layout.gateway) == "10.0.0.2"
    assert str(addresses.take()) == "10.0.0.4"
    with pytest.raises(errors.Conflict):
        addresses.take(Address("10.0.0.3"))


@given(st.lists(subnets(8, 30), max_size=30))
def test_a_cut_network_overlaps_nothing_that_is_taken(taken: list[Network]) -> None:
    pools = [Network("172.18.0.0/16"), Network("172.20.0.0/14"), Network("192.168.0.0/16")]
    try:
        found = ipam.cut(pools, taken)
    except errors.Unavailable:
        pieces = [piece for net in pools for piece in net.subnets(new_prefix=20)]
        assert all(ipam.overlapping(piece, taken) for piece in pieces)
        return
    assert any(found.subnet_of(net) for net in pools)
    assert ipam.overlapping(found, taken) is None


def test_networks_are_cut_one_after_the_other() -> None:
    pools = [Network("172.18.0.0/19"), Network("10.9.9.0/24")]
    taken: list[Network] = []
    while len(taken) < 3:
        taken.append(ipam.cut(pools, taken))
    assert [str(net) for net in taken] == ["172.18.0.0/20", "172.18.16.0/20", "10.9.9.0/24"]
    with pytest.raises(errors.Unavailable, match="non-overlapping"):
        ipam.cut(pools, taken)


@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        ({"gateway": "10.1.0.1"}, errors.Invalid, "gateway 10.1.0.1 is no host address of the subnet 10.0.0.0/24"),
        ({"gateway": "10.0.0.0"}, errors.Invalid, "gateway 10.0.0.0"),
        ({"gateway": "nonsense"}, errors.Invalid, "invalid gateway 'nonsense'"),
        ({"gateway": "fd00::1"}, errors.Unsupported, "IPv6"),
        ({"ip_range": "10.0.1.0/25"}, errors.Invalid, "ip-range 10.0.1.0/25"),
        ({"ip_range": "10.0.0.1/25"}, errors.Invalid, "it should be 10.0.0.0/25"),
        ({"auxiliary_addresses": {"a": "1.2.3.4"}}, errors.Invalid, "auxiliary address 1.2.3.4"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(config: dict[str, object], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        pool("10.0.0.0/24", **config)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("ipam_object", "words"),
    [
        (IPAM(driver="dhcp"), "IPAM driver 'dhcp'"),
        (IPAM(options={"a": "b"}), "IPAM options are not supported: a"),
        (IPAM(config=[IPAMConfig(subnet="10.0.0.0/24"), IPAMConfig(subnet="10.0.1.0/24")]), "one subnet"),
    ],
)
def test_what_we_do_not_have_is_refused(ipam_object: IPAM, words: str) -> None:
    with pytest.raises(errors.Unsupported, match=words):
        ipam.only_config(ipam_object)


def test_networks_are_read_strictly() -> None:
    assert ipam.parse_network("10.1.0.0/16", "subnet") == Network("10.1.0.0/16")
    with pytest.raises(errors.Invalid, match=r"invalid subnet 10.1.0.1/16: it should be 10.1.0.0/16"):
        ipam.parse_network("10.1.0.1/16", "subnet")
    with pytest.raises(errors.Invalid, match="CIDR"):
        ipam.parse_network("10.1.0.0/33", "subnet")
    with pytest.raises(errors.Unsupported, match="IPv6"):
        ipam.parse_network("fd00::/64", "subnet")


def test_a_subnet_without_room_is_refused() -> None:
    with pytest.raises(errors.Invalid, match="too small"):
        pool("10.0.0.0/31")
    with pytest.raises(errors.Invalid, match="is left for its gateway"):
        pool("10.0.0.0/30", auxiliary_addresses={"a": "10.0.0.1", "b": "10.0.0.2"})


@pytest.mark.parametrize("text", ["10.0.0.1/garbage", "10.0.0.1/33", "10.0.0.1/", "10.0.0.1/-1", "010.0.0.1", ""])
def test_addresses_are_read_strictly(text: str) -> None:
    assert ipam.parse_address("10.0.0.1/24", "address") == Address("10.0.0.1")
    with pytest.raises(errors.Invalid, match="invalid address"):
        ipam.parse_address(text, "address")
