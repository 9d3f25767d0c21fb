"""Variables in values, case by case, as Compose fills them in."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops.manifests.compose.interpolation import BadVariable, fill

VARIABLES = {"A": "a", "EMPTY": "", "NAME": "B", "B": "b", "DOLLAR": "$A"}

FILLED = [
    ("plain", "plain"),
    ("$A", "a"),
    ("${A}", "a"),
    ("x${A}y$A-$A.", "xaya-a."),
    ("$$A", "$A"),
    ("$${A}", "${A}"),
    ("$$$A", "$a"),
    ("${MISSING}", ""),
    ("$MISSING!", "!"),
    ("${A:-d}", "a"),
    ("${EMPTY:-d}", "d"),
    ("${EMPTY-d}", ""),
    ("${MISSING:-d}", "d"),
    ("${MISSING-d}", "d"),
    ("${MISSING:-}", ""),
    ("${A:?no}", "a"),
    ("${EMPTY?no}", ""),
    ("${A:+r}", "r"),
    ("${EMPTY:+r}", ""),
    ("${EMPTY+r}", "r"),
    ("${MISSING+r}", ""),
    ("${MISSING:-${B}}", "b"),
    ("${MISSING:-${OTHER:-$A}}", "a"),
    ("${A:+${B}c}", "bc"),
    ("${MISSING:-http://x:80/a?b=c}", "http://x:80/a?b=c"),
    ("${MISSING:-a-b+c}", "a-b+c"),
    ("${MISSING:-$2y$05$hash}", "$2y$05$hash"),
    ("${DOLLAR}", "$A"),
]


@pytest.mark.parametrize(("text", "filled"), FILLED)
def test_variables_are_filled_in(text: str, filled: str) -> None:
    assert fill(text, VARIABLES.get) == filled


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("$5", "a $ that begins no variable"),
        ("cost: $", "a $ that begins no variable"),
        ("${A", "a ${ that isn't closed"),
        ("${}", "'' is no name of a variable"),
        ("${1A}", "'1A' is no name of a variable"),
        ("${A!b}", "'!b' follows the name of a variable"),
        ("${MISSING:?say it}", "the variable MISSING must be set: say it"),
        ("${EMPTY:?}", "the variable EMPTY must be set: it is required"),
        ("${MISSING?$A}", "the variable MISSING must be set: a"),
    ],
)
def test_what_is_no_variable_is_refused(text: str, reason: str) -> None:
    with pytest.raises(BadVariable) as caught:
        fill(text, VARIABLES.get)
    assert caught.value.reason == reason


@given(st.text())
def test_a_text_with_doubled_dollars_is_the_text(text: str) -> None:
    assert fill(text.replace("$", "$$"), VARIABLES.get) == text


@given(st.text(alphabet="${}:-?+AB 1"))
def test_any_text_is_filled_in_or_refused(text: str) -> None:
    with contextlib.suppress(BadVariable):
        assert isinstance(fill(text, VARIABLES.get), str)
