"""YAML text to values: the rules for scalars, keys, anchors and depth, and that no text breaks the process."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops.manifests.text import construct, graph, scalars


def value_of(text: str) -> Any:
    builder = construct.Builder()
    (root,) = graph.compose(text)
    value = builder.build(root)
    assert not builder.problems, builder.problems
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("on", "on"),
        ("~", None),
        ("", None),
        ("null", None),
        ("12", 12),
        ("-3", -3),
        ("0o17", 15),
        ("0440", 0o440),
        ("0x1F", 31),
        ("089", "089"),
        ("22:22", "22:22"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("1_000", "1_000"),
        ("2026-01-31", "2026-01-31"),
        ("+", "+"),
        (".", "."),
        ("1.2.3", "1.2.3"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_plain_scalars_follow_the_core_schema_and_old_octals(text: str, value: object) -> None:
    found = scalars.plain(text)
    assert found == value and type(found) in (type(value), scalars.SpelledInt, scalars.SpelledFloat)


@pytest.mark.parametrize("text", ["1.10", "0440", "0x1F", "+5", "1e3", "12", "1.5"])
def test_a_number_keeps_the_spelling_that_it_was_written_with(text: str) -> None:
    number = scalars.plain(text)
    assert scalars.to_text(number) == text
    assert str(pickle.loads(pickle.dumps(number))) == text


def test_quoted_and_tagged_scalars_are_what_they_say() -> None:
    assert value_of('["12", \'true\', !!str 12, !!int 12, !!float 3, "~"]') == [
        "12",
        "true",
        "12",
        12,
        3.0,
        "~",
    ]


def test_merge_keys_give_way_to_what_is_written_and_to_earlier_maps() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd:\n  x: 4\n  <<: *b\n"
    value = value_of(text)
    assert value["c"] == {"x": 3, "y": 1, "z": 2}
    assert value["d"] == {"x": 4, "y": 2, "z": 2}
    assert value_of('{"<<": 1}') == {"<<": 1}


def test_words_with_colons_and_question_marks_need_no_quotes_in_flow_lists() -> None:
    assert value_of("[curl, http://localhost:80/?q=1, ::1, a:b]") == ["curl", "http://localhost:80/?q=1", "::1", "a:b"]
    assert value_of('{url: http://x/?a, b: "c:d", "k":v}') == {"url": "http://x/?a", "b": "c:d", "k": "v"}


def test_positions_survive_the_second_try() -> None:
    (root,) = graph.compose("a: [x:y, http://z]\nb: {c: d:e}\n")
    _, node, depth = construct.locate(root, ("b", "c"))
    assert (node.start_mark.line, node.start_mark.column, node.value, depth) == (1, 7, "d:e", 2)


def test_a_place_is_found_through_merges_and_pairs_in_lists() -> None:
    (root,) = graph.compose("base: &b {x: 1}\nuse: {<<: *b}\nenvironment: [A=1, B=2]\n")
    assert construct.locate(root, ("use", "x"))[1].value == "1"
    assert construct.locate(root, ("environment", "B"))[1].value == "B=2"
    assert construct.locate(root, ("use", "missing", "deeper"))[2] == 1


def test_empty_documents_are_passed_over() -> None:
    assert graph.compose("") == []
    assert graph.compose("# nothing\n---\n---\n# more\n") == []
    assert len(graph.compose("---\na: 1\n---\n...\n---\nb: 2\n")) == 2


@pytest.mark.parametrize("unit", ["[", "{a: ", "- ", "? ", "[{a: "])
def test_a_very_deep_text_is_refused_and_not_a_crash(unit: str) -> None:
    with pytest.raises(graph.TextProblem):
        graph.compose(unit * 200_000)


def test_deep_texts_within_the_bound_are_read() -> None:
    depth = graph.MAX_DEPTH - 1
    value = value_of("[" * depth + "]" * depth)
    for _ in range(depth - 1):
        (value,) = value
    assert value == []


def stairs(steps: int) -> str:
    """The most collections for its indentation: a list in the column of its map, and in it a map one to the right."""
    return "".join(f"{' ' * step}a:\n{' ' * step}-\n" for step in range(steps)) + " " * steps + "a: b\n"


def depth_of(node: graph.Node) -> int:
    return 1 + max(map(depth_of, graph.children(node)), default=0)


@pytest.mark.parametrize(
    ("text", "is_shallow"),
    [
        (stairs(19), True),
        (stairs(20), False),
        ("- " * 9 + "[" * 22 + "]" * 22, True),
        ("[" * 23 + "]" * 23, False),
        ("---\na: [[]]\n" * 500, True),
        ("[" * 20 + "\n---a,\n" + "[" * 20 + "]" * 40, False),
        ("a: b\r\n", False),
        ("\ufeff" + "- " * 30 + "a", False),
    ],
)
def test_only_what_cannot_be_deep_is_parsed_without_a_bound(text: str, is_shallow: bool) -> None:
    assert graph._is_shallow(text) is is_shallow
    for root in graph.compose(text):
        assert depth_of(root) <= graph.MAX_DEPTH


def test_deeper_than_the_bound_is_refused_where_it_begins_to_be() -> None:
    with pytest.raises(graph.TextProblem, match="nested more than 64 deep") as raised:
        graph.compose(stairs(33))
    assert (raised.value.line, raised.value.column) == (63, 31)


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert graph.decode(b"\xef\xbb\xbfa: 1\n") == "a: 1\n"


@pytest.mark.parametrize("data", [b"a: \x07\n", b"a\x00", b"\xff\xfea\x00", b"a: \xc3\x28", "a: \ufffe".encode()])
def test_what_is_no_text_is_refused(data: bytes) -> None:
    with pytest.raises(graph.TextProblem):
        graph.decode(data)


@given(st.text(alphabet="ab:?-[]{}&*!|>'\"#%@`,<\n \t0.1~é\ue100", max_size=60))
def test_no_text_does_worse_than_a_problem(text: str) -> None:
    try:
        roots = graph.compose(text)
    except graph.TextProblem:
        return
    for root in roots:
        builder = construct.Builder()
        builder.build(root)
        for problem in builder.problems:
            construct.path_of(root, problem.node)


@given(
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.text(alphabet="abc :?-#é'\"\n", max_size=12)
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(st.text(alphabet="abcd", min_size=1, max_size=4), inner, max_size=4),
        ),
        max_leaves=12,
    )
)
def test_json_is_read_as_what_it_says(value: Any) -> None:
    import json

    if value is None:
        return
    assert value_of(json.dumps(value)) == value
