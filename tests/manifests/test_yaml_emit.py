"""What is written as YAML is read back as the same values, texts as texts and numbers as numbers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops.manifests.text import construct, emit, graph
from gitops.manifests.text.scalars import SpelledFloat, SpelledInt

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.sampled_from(
        ["", "~", "null", "true", "0440", "1.10", "0x1F", ".inf", "<<", "=", "a: b", "a #b", "- a", "a\nb", "a\n\nb\n"]
    ),
    st.lists(st.sampled_from(["a", " a", "a ", "", "#", "\t", "x: y", "---", "é"]), max_size=5).map("\n".join),
)
NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
    st.sampled_from([SpelledInt(288, "0440"), SpelledInt(31, "0x1F"), SpelledFloat(1.1, "1.10")]),
)
VALUES = st.recursive(
    TEXTS | NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def read(text: str) -> Any:
    graph.check(text)
    (root,) = graph.compose(text)
    builder = construct.Builder()
    value = builder.build(root)
    assert builder.problems == []
    return value


def typed(value: Any) -> Any:
    """With the types of scalars, so that a text isn't taken for the number that it looks like."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return bool if value is True or value is False else isinstance(value, str), str(value)


@given(st.dictionaries(TEXTS.filter(lambda key: key != "<<"), VALUES, min_size=1, max_size=5))
def test_what_is_written_is_read_back(value: dict[str, Any]) -> None:
    assert typed(read(emit.document(value))) == typed(value)


def test_documents_stand_apart_and_texts_of_several_lines_as_they_are() -> None:
    text = emit.documents([{"a": {"b": ["x", {"c": 1, "d": [[2]]}]}, "page": "one\n  two\n"}, {"e": [], "f": {}}])
    assert text == (
        "---\na:\n  b:\n    - x\n    - c: 1\n      d:\n        - - 2\npage: |\n  one\n    two\n---\ne: []\nf: {}\n"
    )
    assert len(graph.compose(text)) == 2


@pytest.mark.parametrize("text", ["nginx:1.27", "/srv/data", "node.role", "CMD-SHELL", "a b"])
def test_plain_words_need_no_quotes(text: str) -> None:
    assert emit.document({"a": text}) == f"a: {text}\n"
