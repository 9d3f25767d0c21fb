"""Networks are made, found, listed and refused as Docker does it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitops import errors
from gitops.config import EngineConfig
from gitops.engine.database import Database
from gitops.engine.networks import catalogue, firewalls, links, naming
from gitops.engine.networks.catalogue import Catalogue
from gitops.engine.networks.links import Route
from gitops.objects.network import IPAM, IPAMConfig, NetworkCreate, NetworkObject, NetworkSpec

ROUTES = [
    Route(ipaddress.IPv4Network("172.18.0.0/16"), "eth0", True),
    Route(ipaddress.IPv4Network("10.0.0.0/8"), "vpn0", False),
]


@pytest.fixture
def networks(tmp_path: Path) -> Iterator[Catalogue]:
    config = EngineConfig(data_root=tmp_path, local_pools=("172.18.0.0/16", "172.19.0.0/16"))
    with Database(tmp_path / "db") as database:
        yield Catalogue(config, database)


def add(networks: Catalogue, name: str, **fields: object) -> str:
    record = networks.plan(NetworkCreate(name=name, **fields), ROUTES)  # type: ignore[arg-type]
    networks.add(record)
    return record.id


def subnet(text: str) -> IPAM:
    return IPAM(config=[IPAMConfig(subnet=text)])


def test_networks_get_subnets_that_touch_no_route_of_the_host(networks: Catalogue) -> None:
    found = [networks.find(add(networks, name)).subnet for name in ("one", "two", "three")]
    assert found == ["172.19.0.0/20", "172.19.16.0/20", "172.19.32.0/20"]


def test_a_subnet_asked_for_may_overlap_a_far_route_but_no_near_one(networks: Catalogue) -> None:
    assert networks.find(add(networks, "far", ipam=subnet("10.9.0.0/16"))).gateway == "10.9.0.1"
    with pytest.raises(errors.Denied, match=r"overlaps 172.18.0.0/16, which this host reaches by eth0"):
        add(networks, "near", ipam=subnet("172.18.3.0/24"))
    with pytest.raises(errors.Denied, match="Pool overlaps with other one on this address space"):
        add(networks, "same", ipam=subnet("10.9.128.0/17"))


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (NetworkCreate(name=""), errors.Invalid, "invalid network name ''"),
        (NetworkCreate(name="a b"), errors.Invalid, "invalid network name 'a b'"),
        (NetworkCreate(name="host"), errors.Denied, "host is a pre-defined network and cannot be created"),
        (NetworkCreate(name="x", driver="host"), errors.Denied, 'only one instance of "host" network is allowed'),
        (NetworkCreate(name="x", driver="macvlan"), errors.NotFound, 'plugin "macvlan" not found'),
        (NetworkCreate(name="x", scope="swarm"), errors.Invalid, "overlay"),
        (NetworkCreate(name="x", enable_ipv6=True), errors.Unsupported, "EnableIPv6"),
        (NetworkCreate(name="x", enable_ipv4=False), errors.Unsupported, "EnableIPv4"),
        (NetworkCreate(name="x", config_only=True), errors.Unsupported, "ConfigOnly"),
        (NetworkCreate(name="x", options={"parent": "eth0"}), errors.Unsupported, "option 'parent'"),
        (NetworkCreate(name="x", options={"com.docker.network.driver.mtu": "9"}), errors.Invalid, "invalid value '9'"),
        (
            NetworkCreate(name="x", options={"com.docker.network.bridge.enable_icc": "perhaps"}),
            errors.Invalid,
            "invalid value 'perhaps'",
        ),
    ],
)
def test_what_cannot_be_made_is_refused(
    networks: Catalogue, body: NetworkCreate, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as caught:
        networks.plan(body, ROUTES)
    assert words in str(caught.value)


def test_a_name_is_given_once(networks: Catalogue) -> None:
    add(networks, "one")
    with pytest.raises(errors.Conflict, match="network with name one already exists"):
        add(networks, "one")


def test_options_are_honoured(networks: Catalogue) -> None:
    options = {
        "com.docker.network.bridge.enable_icc": "false",
        "com.docker.network.bridge.enable_ip_masquerade": "0",
        "com.docker.network.driver.mtu": "1400",
        "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
    }
    record = networks.find(add(networks, "x", options=options, labels={"a": "b"}, internal=True, attachable=True))
    assert (record.icc, record.masquerade, record.mtu, record.host_ip) == (False, False, 1400, "127.0.0.1")
    shown = record.resource({})
    assert shown.options == options and shown.labels == {"a": "b"} and shown.internal and shown.attachable
    assert shown.ipam.config == [IPAMConfig(subnet="172.19.0.0/20", gateway="172.19.0.1")]


def test_networks_are_found_by_name_id_and_prefix(networks: Catalogue) -> None:
    first, second = add(networks, "one"), add(networks, "two")
    assert networks.find("one").id == first and networks.find(second).name == "two"
    assert networks.find(first[:12]).name == "one"
    for name in ("three", ""):
        with pytest.raises(errors.NotFound, match=f"network {name} not found"):
            networks.find(name)
    while first[0] != second[0]:
        count = len(networks.all())  # an id's first digit is chance: the pools may be too small for the search
        second = add(networks, f"more-{count}", ipam=subnet(f"10.{count}.0.0/16"))
    with pytest.raises(errors.Invalid, match="ambiguous"):
        networks.find(first[0])


def test_networks_survive_a_restart(networks: Catalogue, tmp_path: Path) -> None:
    record = networks.find(add(networks, "one", labels={"a": "b"}))
    with Database(tmp_path / "db") as database:
        again = Catalogue(EngineConfig(data_root=tmp_path), database)
        again.load()
        assert again.all() == [record]
        assert str(again.pool(record.id).take()) == "172.19.0.2"
        again.remove(record)
        assert again.all() == [] and database.all("networks", dict) == {}


def test_docker_s_own_networks_look_as_docker_has_them(networks: Catalogue) -> None:
    for name in ("bridge", "host", "none", "docker_gwbridge"):
        networks.add(networks.plan_predefined(name, ROUTES))
    assert {record.name: record.driver for record in networks.all()} == {
        "bridge": "bridge",
        "host": "host",
        "none": "null",
        "docker_gwbridge": "bridge",
    }
    assert networks.find("docker_gwbridge").options["com.docker.network.bridge.enable_icc"] == "false"
    assert not networks.find("docker_gwbridge").icc and networks.find("bridge").icc
    assert networks.find("bridge").options["com.docker.network.bridge.default_bridge"] == "true"
    assert networks.find("host").resource({}).ipam.config == []


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["bridge", "none", "one", "two"]),
        ({"driver": ["null"]}, ["none"]),
        ({"driver": ["null", "bridge"]}, ["bridge", "none", "one", "two"]),
        ({"name": ["o"]}, ["none", "one", "two"]),
        ({"name": ["o"], "label": ["a"]}, ["one", "two"]),
        ({"label": ["a=b"]}, ["one"]),
        ({"label": ["a=b", "c"]}, []),
        ({"type": ["custom"]}, ["one", "two"]),
        ({"type": ["builtin"]}, ["bridge", "none"]),
        ({"scope": ["swarm"]}, []),
        ({"dangling": ["true"]}, ["two"]),
        ({"dangling": ["false"]}, ["bridge", "none", "one"]),
    ],
)
def test_networks_are_listed_by_filters(networks: Catalogue, filters: dict[str, list[str]], names: list[str]) -> None:
    for name in ("bridge", "none"):
        networks.add(networks.plan_predefined(name, ROUTES))
    used = add(networks, "one", labels={"a": "b"})
    add(networks, "two", labels={"a": "c"})
    test = catalogue.matches(filters, lambda network_id: network_id == used)
    assert sorted(record.name for record in networks.all() if test(record)) == names


def test_an_unknown_filter_is_refused() -> None:
    with pytest.raises(errors.Invalid, match="invalid filter 'colour'"):
        catalogue.matches({"colour": ["red"]}, lambda network_id: False)


def test_a_swarm_network_takes_what_the_allocator_gave(networks: Catalogue) -> None:
    ipam = IPAM(config=[IPAMConfig(subnet="10.0.3.0/24", gateway="10.0.3.1")])
    spec = NetworkSpec(name="stack_default", attachable=True, labels={"a": "b"})
    record = networks.plan_overlay(NetworkObject(id="net1", spec=spec, ipam_options=ipam))
    assert (record.driver, record.scope, record.subnet, record.mtu) == ("overlay", "swarm", "10.0.3.0/24", 1450)
    assert record.is_sealed and record.has_names and record.attachable
    with pytest.raises(errors.Invalid, match="has no subnet yet"):
        networks.plan_overlay(NetworkObject(id="net2", spec=spec))


def test_names_fit_and_carry_the_instance() -> None:
    bridge, veth = naming.bridge("abcdef", "n" * 64), naming.veth("abcdef", "e" * 64)
    assert len(bridge) == len(veth) == 15 and bridge != veth
    assert bridge.startswith("gabcdefb") and veth.startswith("gabcdefv")
    assert naming.mac("10.210.0.23") == "02:42:0a:d2:00:17"


def test_the_host_s_routes_are_read() -> None:
    text = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "tun0\t00000080\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "vpn0\t0000000A\t010200C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n"
    )
    assert links.parse_routes(text) == [
        Route(ipaddress.IPv4Network("192.0.2.0/24"), "eth0", True),
        Route(ipaddress.IPv4Network("10.0.0.0/8"), "vpn0", False),
    ]


def test_obstacles_are_forward_chains_that_drop() -> None:
    def chain(family: str, table: str, name: str, **more: str) -> dict[str, object]:
        return {"chain": {"family": family, "table": table, "name": name, **more}}

    drop = {"hook": "forward", "policy": "drop"}
    listing = {
        "nftables": [
            {"metainfo": {}},
            chain("ip", "filter", "FORWARD", **drop),
            chain("ip", "filter", "DOCKER-USER"),
            chain("ip6", "filter", "FORWARD", **drop),
            chain("inet", "fw", "fwd", **drop),
            chain("inet", "fw", "in", hook="input", policy="drop"),
            chain("ip", "quiet", "FORWARD", hook="forward", policy="accept"),
            chain("ip", "gitops_x", "forward", **drop),
        ]
    }
    assert [found.place for found in firewalls.obstacles(listing, "gitops_x")] == [
        "ip filter DOCKER-USER",
        "inet fw fwd",
    ]
