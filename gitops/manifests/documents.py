"""Files as texts, their documents, and problems pinned to a line of them.

Parsing a text and checking it against its kind depend on nothing but the text, so `gitops.manifests.memory` keeps what
comes of both by its hash: what a `watch` reads again costs a digest. A node graph is kept only while its text is being
read: it takes thirty times the text's memory, and what needs it later (a problem between objects, the place of a
change) is rare enough to parse again.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gitops import errors
from gitops.manifests import problems
from gitops.manifests.ahead import Built
from gitops.manifests.desired import Position
from gitops.manifests.kinds import registry
from gitops.manifests.kinds.base import API_VERSION, Manifest
from gitops.manifests.problems import Issue
from gitops.manifests.sourcetext import SourceText as SourceText
from gitops.manifests.text.characters import TextProblem

if TYPE_CHECKING:
    from gitops.manifests.text.fieldpath import Path
    from gitops.manifests.text.graph import Node

_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Parsed:
    """One document, apart from the file that it stands in. `model` is None where something is wrong with it."""

    line: int
    column: int
    """Where it begins, from 1."""
    kind: str
    name: str
    stack: str
    """These three as far as they can be read, for references to a document that has a problem."""
    model: Manifest | None
    issues: tuple[Issue, ...]
    is_ours: bool
    """It says `apiVersion: gitops/…`, so that it is no other program's file."""


@functools.lru_cache(maxsize=2)
def _roots(text: str) -> tuple[Node, ...]:
    """The documents' nodes. Two texts: a problem between objects has places in both of theirs."""
    from gitops.manifests.text import graph  # with the parser, which a set that was parsed ahead doesn't need here

    return tuple(graph.compose(text))


class Positions(problems.Places):
    """Line and column of each written field."""

    __slots__ = ("_index", "_text")

    def __init__(self, text: str, index: int) -> None:
        super().__init__()
        self._text, self._index = text, index

    def _find(self) -> Iterator[tuple[str, tuple[int, int]]]:
        from gitops.manifests.text import construct

        for path, at in construct.walk(_roots(self._text)[self._index]):
            yield problems.field_name(path), (at.start_mark.line + 1, at.start_mark.column + 1)


@dataclass(frozen=True, slots=True)
class Document:
    """A document in its file."""

    source: SourceText
    index: int
    """Its place among the documents of its text."""
    parsed: Parsed

    @property
    def root(self) -> Node:
        """Its nodes, parsed again where they are no longer there."""
        return _roots(self.source.text)[self.index]

    @property
    def position(self) -> Position:
        """Where it begins."""
        return Position(self.source.name, self.parsed.line, self.parsed.column)

    @property
    def positions(self) -> Positions:
        """Where its fields are."""
        return Positions(self.source.text, self.index)

    def problems(self) -> Iterator[errors.Problem]:
        """What is wrong with it by itself."""
        for issue in self.parsed.issues:
            yield self.problem(issue)

    def problem(self, issue: Issue) -> errors.Problem:
        """An issue, pinned to its line."""
        from gitops.manifests.text import construct, graph

        key, node, depth = construct.locate(self.root, issue.path)
        path = issue.path if issue.is_missing or issue.on_key else issue.path[:depth]
        at = key if key is not None and (issue.on_key or (issue.is_missing and depth < len(issue.path))) else node
        if isinstance(at, graph.ScalarNode) and at.value == "" and not at.style and key is not None:
            at = key  # an empty value has no width: point at its key
        if issue.node is not None:
            at = issue.node
        name = problems.field_name(path if path or issue.is_missing else issue.path)
        return pinned(self.source, at, name, issue.reason, issue.hint, self.parsed.kind == "Secret")


def pinned(source: SourceText, node: Node, field_path: str, reason: str, hint: str, is_secret: bool) -> errors.Problem:
    """A problem at a node of a text."""
    start, end = node.start_mark, node.end_mark
    line = _line(source.text, start.line)
    width = end.column - start.column if end.line == start.line else len(line.rstrip()) - start.column
    return errors.Problem(
        file=source.name,
        line=start.line + 1,
        column=start.column + 1,
        field=field_path,
        reason=problems.one_line(reason) + (" (line of the rendered text)" if source.is_rendered else ""),
        hint=problems.one_line(hint),
        source="" if is_secret else line,
        width=max(width, 1),
    )


def _line(text: str, number: int) -> str:
    lines = text.split("\n", number + 1)
    return lines[number].rstrip("\r") if number < len(lines) else ""


def text_problem(source: SourceText, found: TextProblem) -> errors.Problem:
    """A text that can't be read, pinned to its line."""
    is_secret = "kind: Secret" in source.text
    return errors.Problem(
        file=source.name,
        line=found.line + 1,
        column=found.column + 1,
        field="",
        reason=problems.one_line(found.reason) + (" (line of the rendered text)" if source.is_rendered else ""),
        hint=found.hint,
        source="" if is_secret else _FORBIDDEN.sub("\ufffd", _line(source.text, found.line))[:400],
        width=found.width,
    )


def parse(source: SourceText) -> list[Document]:
    """The documents of a text.

    Raises:
        TextProblem: the text is no YAML.
    """
    return [Document(source, index, parsed) for index, parsed in enumerate(parse_text(source.text))]


def parse_text(text: str) -> tuple[Parsed, ...]:
    """The same, apart from any file: what comes of it depends on the text alone, so that it can be kept by its hash.

    Raises:
        TextProblem: the text is no YAML.
    """
    return tuple(_parse(root) for root in _roots(text))


def checked(built: Iterable[Built]) -> tuple[Parsed, ...]:
    """The documents of a text that was parsed elsewhere."""
    return tuple(_checked(line, column, data, ()) for line, column, data in built)


def _parse(root: Node) -> Parsed:
    from gitops.manifests.text import construct

    builder = construct.Builder()
    data = builder.build(root)
    issues = tuple(
        Issue(construct.path_of(root, item.node), item.reason, item.hint, on_key=True, node=item.node)
        for item in builder.problems
    )
    return _checked(root.start_mark.line + 1, root.start_mark.column + 1, data, issues)


def _checked(line: int, column: int, data: Any, issues: tuple[Issue, ...]) -> Parsed:
    kind, model = _text_at(data, "kind"), None
    if not issues and (frame := _frame(data)) is not None:
        issues = (frame,)
    if not issues:
        model, issues = check_model(registry.KINDS[kind](), data, kind, _text_at(data, "metadata", "naming"))
    return Parsed(
        line=line,
        column=column,
        kind=kind,
        name=_text_at(data, "metadata", "name"),
        stack=_text_at(data, "metadata", "stack"),
        model=model,
        issues=issues,
        is_ours=_text_at(data, "apiVersion").startswith("gitops/"),
    )


def _text_at(data: Any, *path: str) -> str:
    """The text at a path; "" where there is none."""
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data if isinstance(data, str) else ""


def _frame(data: Any) -> Issue | None:
    """What keeps a document from being of a kind."""
    if not isinstance(data, dict):
        return Issue((), "a manifest is a map", "with apiVersion, kind, metadata and spec")
    version, kind = data.get("apiVersion"), data.get("kind")
    if version is None and kind is None:
        if "services" in data:
            return Issue(
                ("services",), "this is a Compose file: known, but not supported yet", "write a Service for each", True
            )
        return Issue((), "no manifest: apiVersion and kind are missing", f"begin with apiVersion: {API_VERSION}")
    if version is None:
        return Issue(("apiVersion",), "is missing", f"write apiVersion: {API_VERSION}", is_missing=True)
    if version != API_VERSION:
        return Issue(("apiVersion",), f"must be {API_VERSION}")
    if kind is None:
        return Issue(("kind",), "is missing", f"one of {', '.join(registry.KINDS)}", is_missing=True)
    if not isinstance(kind, str) or kind not in registry.KINDS:
        if kind in registry.NOT_YET:
            return Issue(("kind",), f"the kind {kind} is known, but not supported yet")
        near = problems.closest(str(kind).capitalize(), list(registry.KINDS)) or _kind_by_case(str(kind))
        hint = f'did you mean "{near}"?' if near else f"one of {', '.join(registry.KINDS)}"
        return Issue(("kind",), f"no such kind: {str(kind)[:40]!r}", hint)
    return None


def _kind_by_case(kind: str) -> str:
    import difflib

    lower = {name.lower(): name for name in registry.KINDS}
    near = difflib.get_close_matches(kind.lower(), lower, 1, 0.7)
    return lower[near[0]] if near else ""


def check_model(
    model: type[Manifest], data: dict[str, Any], kind: str, names: str = ""
) -> tuple[Manifest | None, tuple[Issue, ...]]:
    """A manifest's data as its model, or what is wrong with it. `names`: by whose rule names are checked, "" ours."""
    try:
        return model.model_validate(data, context={"names": names} if names else None), ()
    except ValidationError as error:
        found = problems.extensions(error)
        if found:
            return check_model(model, _without(data, found), kind, names)
        return None, tuple(problems.issues(error, model, is_secret=kind == "Secret"))


def _without(data: Any, paths: list[Path]) -> Any:
    """A copy without the entries at these paths."""
    if not paths:
        return data
    here = {path[0] for path in paths if len(path) == 1}
    below: dict[str | int, list[Path]] = {}
    for path in paths:
        if len(path) > 1:
            below.setdefault(path[0], []).append(path[1:])
    if isinstance(data, list):
        return [_without(item, below.get(index, [])) for index, item in enumerate(data)]
    return {key: _without(item, below.get(key, [])) for key, item in data.items() if key not in here}
