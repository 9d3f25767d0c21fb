"""WWW-Authenticate headers, honest and not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gitops.engine.registry import challenge
from gitops.engine.registry.challenge import Challenge


def test_a_bearer_challenge_is_read_with_its_quoted_commas() -> None:
    header = 'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push"'
    assert challenge.parse(header) == [
        Challenge(
            "bearer",
            {
                "realm": "https://auth.example/token",
                "service": "registry.example",
                "scope": "repository:a/b:pull,push",
            },
        )
    ]


def test_several_challenges_in_one_header_are_told_apart() -> None:
    found = challenge.parse('Basic realm="x", Bearer realm="https://a", service=b')
    assert [one.scheme for one in found] == ["basic", "bearer"]
    assert found[1].parameters == {"realm": "https://a", "service": "b"}


def test_escapes_in_quotes_are_undone() -> None:
    assert challenge.parse(r'Basic realm="a \"b\" \\c"')[0].parameters == {"realm": r'a "b" \c'}


def test_bearer_is_chosen_before_basic() -> None:
    chosen = challenge.choose(['Basic realm="x"', 'Bearer realm="https://a"'])
    assert chosen is not None and chosen.scheme == "bearer"
    assert challenge.choose(["Negotiate"]) is None
    assert challenge.choose([]) is None


@given(st.text(max_size=200))
def test_any_header_ends_in_a_list(header: str) -> None:
    for found in challenge.parse(header):
        assert found.scheme == found.scheme.lower()
