"""Plain values from a node graph, and the way back from a value's path to its node.

Keys are text as written. Merge keys (`<<`) are honoured: what is written beside them wins, earlier maps win over later
ones. Duplicate keys, unknown tags, anchors that contain themselves or expand beyond a bound are problems; an alias
costs nothing until somebody walks through it, so the bound counts what a walk would see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gitops.manifests.text import scalars
from gitops.manifests.text.fieldpath import Path as Path
from gitops.manifests.text.graph import MAX_DEPTH, MappingNode, Node, ScalarNode, SequenceNode

MAX_EXPANSION = 50_000
"""Nodes that aliases may stand for in one document."""

_TAG = "tag:yaml.org,2002:"
_MERGE = "<<"
_PENDING = object()


@dataclass(frozen=True, slots=True)
class NodeProblem:
    """Something wrong at a node."""

    node: Node
    reason: str
    hint: str = ""


class _TooBig(Exception):
    pass


@dataclass(slots=True)
class Builder:
    """Builds one document; `problems` holds what was wrong (the value is then not to be used)."""

    problems: list[NodeProblem] = field(default_factory=list)
    _known: dict[int, tuple[Any, int]] = field(default_factory=dict)
    _count: int = 0
    _expanded: int = 0

    def build(self, root: Node) -> Any:
        """The document's value."""
        try:
            return self._build(root)
        except _TooBig:
            return None

    def _build(self, node: Node) -> Any:
        if isinstance(node, ScalarNode):
            if node.tag is None:
                return scalars.plain(node.value) if not node.style else node.value
            return self._tagged(node)
        identity = id(node)
        known = self._known.get(identity)
        if known is not None:
            return self._alias(node, *known)
        self._known[identity] = (_PENDING, 0)
        before = self._count
        self._count += len(node.value)
        if node.tag is not None and node.tag != (_TAG + ("map" if type(node) is MappingNode else "seq")):
            self._problem(node, f"the tag {_shown(node.tag)} isn't known here", "remove it")
        if isinstance(node, MappingNode):
            value: Any = self._mapping(node)
        else:
            value = [self._build(item) for item in node.value]
        self._known[identity] = (value, self._count - before)
        return value

    def _alias(self, node: Node, value: Any, size: int) -> Any:
        if value is _PENDING:
            self._problem(node, "an anchor contains itself", "remove the alias")
            raise _TooBig
        self._expanded += size + 1
        self._count += size
        if self._expanded > MAX_EXPANSION:
            self._problem(node, f"aliases of anchors expand to more than {MAX_EXPANSION} values", "write less by alias")
            raise _TooBig
        return value

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merges: list[Node] = []
        build = self._build
        for key, value in node.value:
            if type(key) is not ScalarNode:
                self._problem(key, "a key must be a text", "quote it (and a template's name must end in .j2)")
                continue
            name = key.value
            if name == _MERGE and key.tag is None and not key.style:
                merges.append(value)
            elif name in result:
                first = next(other for other, _ in node.value if type(other) is ScalarNode and other.value == name)
                hint = f"it stands already in line {first.start_mark.line + 1}"
                self._problem(key, f"the key {name!r} is given twice", hint)
            else:
                result[name] = build(value)
        for value in merges:
            self._merge(result, value)
        return result

    def _merge(self, result: dict[str, Any], node: Node) -> None:
        sources = node.value if type(node) is SequenceNode else [node]
        for source in sources:
            value = self._build(source)
            if not isinstance(value, dict):
                self._problem(source, "`<<` merges maps only", "give it an alias of a map, or a list of them")
                continue
            self._expanded += len(value)
            for key, item in value.items():
                result.setdefault(key, item)

    def _tagged(self, node: ScalarNode) -> Any:
        text, tag = node.value, node.tag or ""
        kind = tag.removeprefix(_TAG)
        if kind == "str":
            return text
        value = scalars.plain(text)
        if (
            (kind == "int" and isinstance(value, int) and not isinstance(value, bool))
            or (kind == "bool" and isinstance(value, bool))
            or (kind == "null" and value is None)
        ):
            return value
        if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if tag.startswith(_TAG) and kind in ("int", "bool", "null", "float"):
            self._problem(node, f"{text!r} is no {kind}")
        else:
            self._problem(node, f"the tag {_shown(tag)} isn't known here", "remove it")
        return None

    def _problem(self, node: Node, reason: str, hint: str = "") -> None:
        self.problems.append(NodeProblem(node, reason, hint))


def _shown(tag: str) -> str:
    return "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag


def locate(root: Node, path: Sequence[str | int]) -> tuple[Node | None, Node, int]:
    """The key node (of a map's entry) and the value node at a path, as deep as it leads, and how deep that was."""
    key: Node | None = None
    node = root
    for depth, part in enumerate(path):
        found = _step(node, part)
        if found is None:
            return key, node, depth
        key, node = found
    return key, node, len(path)


def entry_places(root: Node) -> dict[str, dict[str, tuple[int, int]]]:
    """Line and column, from 1, of each key of the maps that stand in a map."""
    return {
        section.value: {
            key.value: (key.start_mark.line + 1, key.start_mark.column + 1)
            for key, _ in node.value
            if isinstance(key, ScalarNode)
        }
        for section, node in (root.value if isinstance(root, MappingNode) else ())
        if isinstance(section, ScalarNode) and isinstance(node, MappingNode)
    }


def _step(node: Node, part: str | int) -> tuple[Node | None, Node] | None:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value == part:
                return key, value
        return _merged(node, part)
    if isinstance(node, SequenceNode):
        if isinstance(part, int):
            return (None, node.value[part]) if part < len(node.value) else None
        # `environment` and the like may be written as a list of KEY=VALUE
        for item in node.value:
            if isinstance(item, ScalarNode) and item.value.partition("=")[0] == part:
                return item, item
    return None


def _merged(node: MappingNode, part: str | int) -> tuple[Node | None, Node] | None:
    for key, value in node.value:
        if isinstance(key, ScalarNode) and key.value == _MERGE:
            for source in value.value if isinstance(value, SequenceNode) else [value]:
                found = _step(source, part) if isinstance(source, MappingNode) else None
                if found is not None:
                    return found
    return None


def walk(node: Node, path: Path = (), depth: int = 0) -> Iterator[tuple[Path, Node]]:
    """Every written field below a node, with its key, or with the item of a list."""
    if depth > MAX_DEPTH:
        return
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode):
                below = (*path, key.value)
                yield below, key
                yield from walk(value, below, depth + 1)
    elif not isinstance(node, ScalarNode):
        for index, item in enumerate(node.value):
            yield (*path, index), item
            yield from walk(item, (*path, index), depth + 1)


def path_of(root: Node, wanted: Node) -> Path:
    """Where a node stands; () if it doesn't."""
    seen: set[int] = set()

    def search(node: Node, path: Path) -> Path | None:
        if node is wanted:
            return path
        if id(node) in seen or isinstance(node, ScalarNode):
            return None
        seen.add(id(node))
        if isinstance(node, MappingNode):
            for key, value in node.value:
                part = key.value if isinstance(key, ScalarNode) else "?"
                if key is wanted:
                    return (*path, part)
                if (found := search(value, (*path, part))) is not None:
                    return found
            return None
        for index, item in enumerate(node.value):
            if (found := search(item, (*path, index))) is not None:
                return found
        return None

    return search(root, ()) or ()
