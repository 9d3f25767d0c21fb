"""The node graph of a YAML text, from libyaml, with bounds that its C code lacks and errors that people understand.

Every node has its start and end (`start_mark.line`, `.column`, from 0). A node without a tag of its own has `tag` None,
a plain scalar an empty `style`; nothing is resolved here. Two things of libyaml are mended. It recurses unbounded: a
deep text would crash the process. And the version in the wheel knows YAML 1.1's plain scalars only, so that
`[curl, http://localhost/]` is refused: such a text is parsed a second time with the marks inside words replaced, and
the words are put back.

The parser's binding makes ruamel's own nodes, in Python, in twice the time of all else that it does. Here it makes ours
instead: a load makes a hundred nodes for each service.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Protocol

import _ruamel_yaml as binding  # type: ignore[import-not-found]
import msgspec
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gitops.manifests.text.characters import TextProblem as TextProblem
from gitops.manifests.text.characters import check as check
from gitops.manifests.text.characters import decode as decode

MAX_DEPTH = 64
"""Collections within collections. The deepest field of any kind is at 9."""


class Mark(Protocol):
    """A place in a text; line and column from 0."""

    line: int
    column: int


class ScalarNode(msgspec.Struct, eq=False, gc=False):
    """A scalar as it is written. The order of the fields is that in which the binding gives them."""

    tag: str | None
    value: str
    start_mark: Mark
    end_mark: Mark
    style: str


class SequenceNode(msgspec.Struct, eq=False):
    """A list."""

    tag: str | None
    value: list[Node]
    start_mark: Mark
    end_mark: Mark
    is_flow: bool


class MappingNode(msgspec.Struct, eq=False):
    """A map, with its keys in the order in which they are written, second ones included."""

    tag: str | None
    value: list[tuple[Node, Node]]
    start_mark: Mark
    end_mark: Mark
    is_flow: bool


Node = ScalarNode | SequenceNode | MappingNode

# The binding looks its classes up in its module, whose only user we are.
binding.ScalarNode, binding.SequenceNode, binding.MappingNode = ScalarNode, SequenceNode, MappingNode

_INNER = re.compile(r"(?<=[^\s,\[\]{}\"'])[:?](?=[^\s,\[\]{}])|(?<=[\s,\[])::?(?=[0-9A-Za-z])")
_STAND_INS = "".join(map(chr, range(0xE100, 0xE140)))


class _Parser(binding.CParser):  # type: ignore[misc]
    """The C parser with no tags resolved. It recurses: for texts that can't nest deep."""

    def __init__(self, text: str) -> None:
        binding.CParser.__init__(self, text)

    def resolve(self, kind: type[Any], value: object, implicit: object) -> None:
        return None

    # Called with every node. Types are called sooner than functions of ours, and nobody looks at what they make.
    descend_resolver = staticmethod(slice)
    ascend_resolver = staticmethod(tuple)


class _BoundedParser(_Parser):
    """The same with a bound on depth."""

    def __init__(self, text: str) -> None:
        _Parser.__init__(self, text)
        self.depth = 0

    def descend_resolver(self, parent: Node | None, index: object) -> None:  # type: ignore[override]
        self.depth += 1
        if self.depth > MAX_DEPTH and parent is not None:
            raise TextProblem(parent.start_mark.line, parent.start_mark.column, f"nested more than {MAX_DEPTH} deep")

    def ascend_resolver(self) -> None:  # type: ignore[override]
        self.depth -= 1


_MAX_INDENT = 20
_MAX_BRACKETS = MAX_DEPTH - 2 * _MAX_INDENT - 2
_INDENTED = re.compile(rf"\n[ \t?:-]{{{_MAX_INDENT}}}")
_NEXT_DOCUMENT = re.compile(r"\n---[ \t\n]")
_OTHER_BREAKS = "\r\x85\u2028\u2029\ufeff"


def _is_shallow(text: str) -> bool:
    """Whether no document can nest deeper than MAX_DEPTH, by a rough look that errs on the safe side.

    A block collection begins right of the one around it, or (a list in a map) in the same column, and before it in its
    line stand only blanks and the marks of other collections. A flow collection needs a bracket, and none goes on
    beyond the end of its document.
    """
    if any(mark in text for mark in _OTHER_BREAKS) or _INDENTED.search("\n" + text):
        return False
    return all(flow_depth(part) <= _MAX_BRACKETS for part in _NEXT_DOCUMENT.split(text))


_QUOTED = r"""(?:"[^"\\\[\]{}\n]*+"|'[^'\[\]{}\n]*+')\x20*+"""
_PLAIN = r"""[^\[\]{}"'#\n,\x20][^\[\]{}"'#\n,]*+"""
_ITEM = rf"(?:(?:[\w.-]++:\x20++)?+{_QUOTED}|{_PLAIN})"
_FLAT = re.compile(rf"[\[{{]\x20*+(?:{_ITEM}(?:,\x20*+{_ITEM})*+)?+,?\x20*+[\]}}]", re.ASCII)
"""A list or map in one line that holds none: if its bracket is one, it closes here, for all that stands in it are plain
texts or whole quoted ones; and if its bracket is none, no other one is lost by taking it out."""
_FLAT_DEPTH = 2
"""A list of `key: value` holds maps without brackets."""
_FLAT_PASSES = 2
"""What holds only what was taken out is flat, too."""


def flow_depth(text: str) -> int:
    """How deep collections in brackets may nest in a document, at most: a rough bound."""
    depth = 0
    for _ in range(_FLAT_PASSES):
        if (count := text.count("[") + text.count("{")) <= _MAX_BRACKETS - depth:
            return depth + count
        text, depth = _FLAT.sub("", text), depth + _FLAT_DEPTH
    return depth + text.count("[") + text.count("{")


def compose(text: str) -> list[Node]:
    """The root node of each document that isn't empty.

    Raises:
        TextProblem: not YAML, or nested too deep.
    """
    try:
        return _compose(text)
    except YAMLError as error:
        again = _with_stand_ins(text)
        if again is None:
            raise _problem(error, text) from error
        first = error
    stand_ins, patched = again
    try:
        nodes = _compose(patched)
    except YAMLError as error:
        raise _problem(first, text) from error
    back = str.maketrans(stand_ins, ":?")
    seen: set[int] = set()
    for node in nodes:
        _put_back(node, back, seen)
    return nodes


def _compose(text: str) -> list[Node]:
    parser = _Parser(text) if _is_shallow(text) else _BoundedParser(text)
    nodes: list[Node] = []
    while parser.check_node():
        node = parser.get_node()
        if not (isinstance(node, ScalarNode) and not node.value and not node.style and node.tag is None):
            nodes.append(node)
    return nodes


def _with_stand_ins(text: str) -> tuple[str, str] | None:
    """The text with `:` and `?` inside words replaced, one character for one, so that positions hold."""
    free = [mark for mark in _STAND_INS if mark not in text][:2]
    if len(free) < 2 or not _INNER.search(text):
        return None
    table = str.maketrans(":?", "".join(free))
    return "".join(free), _INNER.sub(lambda found: found.group().translate(table), text)


def _put_back(root: Node, table: dict[int, int], seen: set[int]) -> None:
    todo: list[Node] = [root]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, ScalarNode):
            node.value = node.value.translate(table)
            if node.tag is not None:
                node.tag = node.tag.translate(table)
        else:
            todo.extend(children(node))


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below: keys and values, or items."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, SequenceNode):
        yield from node.value


_REASONS = {
    "mapping values are not allowed in this context": (
        'a ":" that isn\'t expected here',
        "quote the value, or check the indentation",
    ),
    "did not find expected key": ("a key is expected here", "check the indentation and the quotes above"),
    "could not find expected ':'": ('a key without ":"', "write `key: value`"),
    "did not find expected '-' indicator": ("a list item is expected here", "check the indentation"),
    "block sequence entries are not allowed in this context": ("a list item isn't allowed here", "begin a new line"),
    "found undefined alias": ("no anchor of this name stands above", "define it with &name first"),
    "found a tab character where an indentation space is expected": ("a tab", "YAML is indented with spaces"),
    "did not find expected node content": ("a value is expected here", "close the bracket, or write a value"),
}

_OPENED = {
    "found unexpected end of stream": ("a quoted text isn't closed", "close the quote"),
    "did not find expected ',' or ']'": ("a list isn't closed", 'a "," or "]" is missing in it'),
    "did not find expected ',' or '}'": ("a map isn't closed", 'a "," or "}" is missing in it'),
}
"""Pointed at where the thing begins: where the parser gave up may be far below."""


def _problem(error: YAMLError, text: str) -> TextProblem:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    if mark is None:
        return TextProblem(0, 0, f"not YAML: {error}")
    reason, hint = _REASONS.get(error.problem, (error.problem, ""))
    line, column = mark.line, mark.column
    lines = text.splitlines()
    here = lines[line] if line < len(lines) else ""
    if here[column : column + 1] == "\t" or "\t" in here[: len(here) - len(here.lstrip())]:
        reason, hint = "a tab", "YAML is indented with spaces"
        column = here.index("\t")
    elif error.problem in _OPENED and error.context_mark is not None:
        reason, hint = _OPENED[error.problem]
        line, column = error.context_mark.line, error.context_mark.column
    elif error.problem == "found character that cannot start any token":
        reason, hint = f"a value can't begin with {here[column : column + 1]!r}", "quote it"
    elif "{{" in here or "{%" in here:
        hint = "a template's name must end in .j2"
    if line >= len(lines) and lines:
        line, column = len(lines) - 1, max(len(lines[-1]) - 1, 0)
    return TextProblem(line, column, f"not YAML: {reason}", hint)
