"""How deep a text may nest is never guessed too low, whatever quotes and brackets stand in it."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gitops.manifests.text import graph

PIECES = [
    "[",
    "]",
    "{",
    "}",
    ",",
    ", ",
    ": ",
    ":",
    '"',
    "'",
    " ",
    "#",
    " #",
    "a",
    "b-c",
    "\\",
    '"d"',
    "'e'",
    "[f]",
    "x: y",
]


class Recorder(graph._BoundedParser):
    """Notes the greatest depth that it comes to, up to an error."""

    deepest = 0

    def descend_resolver(self, parent: object, index: object) -> None:  # type: ignore[override]
        self.depth += 1
        self.deepest = max(self.deepest, self.depth)


def real_depth(text: str) -> int:
    parser = Recorder(text)
    try:
        while parser.check_node():
            parser.get_node()
    except graph.YAMLError:
        pass
    return parser.deepest


@settings(max_examples=500)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
@example('["a", b"c, "d]e", [["a", b"c, "d]e", ["a", b"c, "d]e", [1]]]]')
@example("""["x [ "y" ] z", {'a': "]"}, [ "b" ]]""")
def test_the_bound_holds(inner: str) -> None:
    text = f"[{inner}]"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "_MAX_BRACKETS", 0)  # so that each way of counting is gone
        bound = graph.flow_depth(text)
    # Each pair of brackets may hold a map of `key: value` beside the list; and there are the root and the scalars.
    assert real_depth(text) <= 2 * bound + 2


def test_a_thousand_flat_lists_are_shallow() -> None:
    line = '  - {command: [serve, --port, "8080"], ports: ["80:80", \'81:81\'], user: "${USER}", check: [CMD, a: b]}\n'
    assert graph.flow_depth("services:\n" + line * 1000) <= 4
    assert graph.flow_depth("a: " + "[" * 1000 + "]" * 1000) > 900
