"""Rules follow from networks and ports, and a change is the difference of two states."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops.engine.networks import ruleset
from gitops.engine.networks.boundary import SharedPort
from gitops.engine.networks.records import NetworkRecord
from gitops.engine.networks.ruleset import Publication, Rules


def network(name: str, **fields: object) -> NetworkRecord:
    values = {"bridge": f"g{name}", "subnet": "172.18.0.0/20", "gateway": "172.18.0.1"} | fields
    return NetworkRecord(name, name, 1, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("record", "members"),
    [
        (network("plain"), {"bridges", "peers", "own", "masq"}),
        (network("vault", internal=True), {"bridges", "peers", "own", "sealed"}),
        (network("apart", icc=False), {"bridges", "own", "masq"}),
        (network("routed", masquerade=False), {"bridges", "peers", "own"}),
        (network("swarm", driver="overlay"), {"bridges", "peers", "sealed"}),
        (network("host", bridge="", subnet="", driver="host"), set()),
    ],
)
def test_a_network_is_a_member_of_sets(record: NetworkRecord, members: set[str]) -> None:
    rules = ruleset.build([record], [], [])
    assert {name for name, elements in rules.elements.items() if elements} == members


def test_ports_are_elements_of_maps() -> None:
    rules = ruleset.build(
        [],
        [Publication("", "tcp", 80, "172.18.0.2", 8080), Publication("127.0.0.1", "udp", 53, "172.18.0.3", 5353)],
        [SharedPort("tcp", 90, 9000, ("10.0.0.1", "10.0.0.2")), SharedPort("sctp", 91, 9000)],
    )
    assert rules.elements["puball"] == {"tcp . 80": "172.18.0.2 . 8080"}
    assert rules.elements["pub"] == {"127.0.0.1 . udp . 53": "172.18.0.3 . 5353"}
    assert rules.elements["svc"] == {"tcp . 90": "goto lb2"}
    assert rules.elements["be"] == {
        "tcp . 90 . 0x67690000": "10.0.0.1 . 9000",
        "tcp . 90 . 0x67690001": "10.0.0.2 . 9000",
    }
    assert rules.sizes == {2}


def test_the_whole_table_is_replaced_in_one_transaction() -> None:
    rules = ruleset.build([network("plain")], [], [SharedPort("tcp", 90, 9000, ("10.0.0.1",))])
    text = ruleset.full("gitops_x", rules)
    assert text.startswith("table ip gitops_x\ndelete table ip gitops_x\ntable ip gitops_x {\n")
    assert "chain lb1 {" in text and 'add element ip gitops_x bridges { "gplain" }' in text
    assert text.count("{") == text.count("}")
    assert "flags owner" not in text


def test_nothing_changed_is_no_command() -> None:
    rules = ruleset.build([network("plain")], [], [SharedPort("tcp", 90, 9000, ("10.0.0.1",))])
    assert ruleset.update("t", rules, rules) == ""


def test_one_backend_less_is_three_elements() -> None:
    old = ruleset.build([], [], [SharedPort("tcp", 90, 80, ("10.0.0.1", "10.0.0.2", "10.0.0.3"))])
    new = ruleset.build([], [], [SharedPort("tcp", 90, 80, ("10.0.0.1", "10.0.0.3"))])
    assert ruleset.update("t", old, new).splitlines() == [
        "add chain ip t lb2",
        f"add rule ip t lb2 {ruleset.balance(2)}",
        "delete element ip t be { tcp . 90 . 0x67690001 : 10.0.0.2 . 80, tcp . 90 . 0x67690002 : 10.0.0.3 . 80 }",
        "delete element ip t svc { tcp . 90 : goto lb3 }",
        "add element ip t be { tcp . 90 . 0x67690001 : 10.0.0.3 . 80 }",
        "add element ip t svc { tcp . 90 : goto lb2 }",
    ]
    merged = ruleset.merge_sizes(new, old.sizes)
    assert "chain" not in ruleset.update("t", merged, old)


PORTS = st.lists(
    st.builds(
        SharedPort,
        st.sampled_from(["tcp", "udp"]),
        st.integers(1, 20),
        st.integers(1, 3),
        st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), max_size=4).map(tuple),
    ),
    max_size=12,
    unique_by=lambda port: (port.protocol, port.published_port),
)


def play(elements: dict[str, dict[str, str]], commands: str) -> None:
    """Carry out element commands as the kernel would: adding what is there, or deleting what isn't, is an error."""
    for line in commands.splitlines():
        match = re.fullmatch(r"(add|delete) element ip t (\w+) \{ (.*) \}", line)
        if match is None:
            assert line.startswith(("add chain", "add rule"))
            continue
        verb, name, items = match.groups()
        for item in items.split(", "):
            key, _, value = item.partition(" : ")
            if verb == "add":
                assert key not in elements[name]
                elements[name][key] = value
            else:
                assert elements[name].pop(key) == value


@given(PORTS, PORTS)
def test_the_difference_leads_from_one_state_to_the_other(before: list[SharedPort], after: list[SharedPort]) -> None:
    old, new = ruleset.build([], [], before), ruleset.build([], [], after)
    state = {name: dict(found) for name, found in old.elements.items()}
    play(state, ruleset.update("t", old, new))
    assert state == new.elements


def test_many_elements_are_cut_into_commands() -> None:
    ports = [SharedPort("tcp", number, 80, ("10.0.0.1",)) for number in range(1, 2501)]
    text = ruleset.update("t", Rules(), ruleset.build([], [], ports))
    assert text.count("add element ip t svc") == 3


def test_a_listing_is_read_in_the_words_of_build() -> None:
    listing = {
        "nftables": [
            {"metainfo": {}},
            {"table": {"family": "ip", "name": "t"}},
            {"set": {"name": "bridges", "elem": ["g1"]}},
            {"set": {"name": "peers", "elem": [{"concat": ["g1", "g1"]}]}},
            {"set": {"name": "own", "elem": [{"prefix": {"addr": "172.18.0.0", "len": 20}}]}},
            {"map": {"name": "svc", "elem": [[{"concat": ["tcp", 90]}, {"goto": {"target": "lb2"}}]]}},
            {
                "map": {
                    "name": "be",
                    "elem": [[{"concat": ["tcp", 90, 0x67690001]}, {"concat": ["10.0.0.2", 80]}]],
                }
            },
            {"chain": {"name": "lb2"}},
            {"rule": {"chain": "lb2"}},
        ]
    }
    rules, counts = ruleset.read(listing)
    assert rules.elements["bridges"] == {'"g1"': ""} and rules.elements["peers"] == {'"g1" . "g1"': ""}
    assert rules.elements["own"] == {"172.18.0.0/20": ""}
    assert rules.elements["svc"] == {"tcp . 90": "goto lb2"}
    assert rules.elements["be"] == {"tcp . 90 . 0x67690001": "10.0.0.2 . 80"}
    assert rules.sizes == {2} and counts == {"lb2": 1}


def test_differences_are_told_in_sentences() -> None:
    wanted = Rules({"svc": {"tcp . 1": "goto lb1", "tcp . 2": "goto lb1"}})
    found = Rules({"svc": {"tcp . 2": "goto lb2", "tcp . 3": "goto lb1"}})
    assert ruleset.differences(wanted, found) == [
        "nft svc: tcp . 1 is missing",
        "nft svc: tcp . 2 leads to goto lb2 instead of goto lb1",
        "nft svc: tcp . 3 should not be there",
    ]
