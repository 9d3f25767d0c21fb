"""The grammar of constraints, and what meets them (S19, S20)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops import errors
from gitops.objects.node import EngineDescription, Node, NodeDescription, NodeSpec, NodeStatus
from gitops.objects.service import Platform
from gitops.swarm.scheduling import constraints

NODE = Node(
    id="n1abc",
    spec=NodeSpec(role="worker", labels={"zone": "East", "Disk": "ssd"}),
    description=NodeDescription(
        hostname="Worker-1",
        platform=Platform(architecture="x86_64", os="linux"),
        engine=EngineDescription(labels={"storage": "fast"}),
    ),
    status=NodeStatus(state="ready", addr="192.0.2.17"),
)


@pytest.mark.parametrize(
    ("text", "is_met"),
    [
        ("node.id==n1abc", True),
        ("node.id == N1ABC", True),
        ("node.id!=n1abc", False),
        ("node.hostname==worker-1", True),
        ("node.hostname != worker-2", True),
        ("node.role==worker", True),
        ("NODE.ROLE==Worker", True),
        ("node.role==manager", False),
        ("node.platform.os==Linux", True),
        ("node.platform.arch==x86_64", True),
        ("node.platform.arch==amd64", True),
        ("node.platform.arch!=amd64", False),
        ("node.platform.arch==arm64", False),
        ("node.labels.zone==east", True),
        ("Node.Labels.zone==EAST", True),
        ("node.labels.ZONE==east", False),
        ("node.labels.Disk==ssd", True),
        ("node.labels.disk==ssd", False),
        ("node.labels.missing!=x", True),
        ("node.labels.missing==x", False),
        ("engine.labels.storage==FAST", True),
        ("engine.labels.storage!=fast", False),
        ("node.ip==192.0.2.17", True),
        ("node.ip==192.0.2.0/24", True),
        ("node.ip==192.0.2.16/28", True),
        ("node.ip!=192.0.2.0/24", False),
        ("node.ip==198.51.100.0/24", False),
        ("node.ip!=198.51.100.0/24", True),
        ("node.ip==2001:db8::/32", False),
        ("node.ip==nonsense", False),
        ("node.ip!=nonsense", False),
        ("node.unknown==x", False),
        ("node.unknown!=x", False),
        ("labels.zone==east", False),
    ],
)
def test_a_node_meets_a_constraint_or_not(text: str, is_met: bool) -> None:
    assert constraints.is_met(constraints.parse([text]), NODE) is is_met


def test_all_constraints_must_be_met() -> None:
    assert constraints.satisfies(["node.role==worker", "node.labels.zone==east"], NODE)
    assert not constraints.satisfies(["node.role==worker", "node.labels.zone==west"], NODE)
    assert constraints.satisfies([], NODE)


def test_an_address_of_version_6_meets_its_network() -> None:
    node = Node(id="n", status=NodeStatus(addr="2001:db8::7"))
    assert constraints.satisfies(["node.ip==2001:db8::/32"], node)
    assert not constraints.satisfies(["node.ip==192.0.2.0/24"], node)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("node.role", "constraint expected one operator from ==, !="),
        ("node.role=worker", "constraint expected one operator from ==, !="),
        ("==worker", "key '' is invalid"),
        ("no de==worker", "key 'no de' is invalid"),
        ("1node==worker", "key '1node' is invalid"),
        ("node.role==", "value '' is invalid"),
        ("node.labels.x==a;b", "value 'a;b' is invalid"),
        ("", "constraint expected one operator from ==, !="),
    ],
)
def test_a_text_that_is_no_constraint_is_refused_in_dockers_words(text: str, reason: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        constraints.parse([text])
    assert str(caught.value) == reason
    assert not constraints.satisfies([text], NODE)


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        (parsed,) = constraints.parse([text])
    except errors.Invalid:
        return
    assert parsed.key.strip() == parsed.key != ""
    assert parsed.value.strip() == parsed.value != ""
    constraints.is_met([parsed], NODE)


@given(st.sampled_from(["node.id", "node.role", "node.hostname", "node.labels.zone", "engine.labels.x"]), st.text())
def test_a_known_key_is_met_by_exactly_one_of_equal_and_unequal(key: str, value: str) -> None:
    pair = [constraints.Constraint(key, is_equal, value) for is_equal in (True, False)]
    assert [constraints.is_met([item], NODE) for item in pair].count(True) == 1
