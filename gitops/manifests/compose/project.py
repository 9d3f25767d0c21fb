"""A Compose project: its files read, filled in, extended, included and merged into one.

Promises: every value of the result is known with file, line and column; a problem names the file that it is in; the
chain is named where files or services lead back to themselves. What the values mean is `objects`' work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gitops import errors
from gitops.manifests import documents, problems
from gitops.manifests.compose import inputs as reading
from gitops.manifests.compose import interpolation, ledger, relocation
from gitops.manifests.compose.inputs import Inputs, Variables
from gitops.manifests.compose.shapes import Report
from gitops.manifests.compose.weaving import Unmergeable, Weave, entry, get, has_tags, text_of
from gitops.manifests.documents import SourceText
from gitops.manifests.problems import Issue
from gitops.manifests.repository import Refused
from gitops.manifests.text import construct, graph
from gitops.manifests.text.graph import MappingNode, Node, ScalarNode, SequenceNode

_REMOTE = ("git@", "github.com/", "http://", "https://", "ssh://", "git://", "oci://")


@dataclass(slots=True)
class _File:
    """One file: its root, with `!reset` and `!override` still in it, and its values where they are plain."""

    source: SourceText
    root: Node
    values: dict[str, Any] | None


@dataclass(slots=True)
class Project:
    """The result. `values` are as the ledger leaves them; None where something is wrong."""

    directory: str
    variables: Variables
    inputs: Inputs
    root: Node | None = None
    weave: Weave = field(default_factory=lambda: Weave(SourceText("", "")))
    values: dict[str, Any] | None = None
    problems: list[errors.Problem] = field(default_factory=list)
    warnings: list[errors.Problem] = field(default_factory=list)
    places: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    """Line and column of the objects by section and name, where there are no nodes."""
    remake: Callable[[], Project] | None = None
    """Makes the project with its nodes, where it was made without."""

    def place(self, section: str, name: str) -> tuple[SourceText, int, int]:
        """File, line and column of an object's name, also where an anchor brings it."""
        found = self.places.get(section, {}).get(name)
        if found is not None:
            return (self.weave.main, *found)
        key, node, _ = construct.locate(self._nodes(), (section, name))
        mark = (key or node).start_mark
        return self.weave.owner(key or node), mark.line + 1, mark.column + 1

    def problem(self, issue: Issue) -> errors.Problem:
        """An issue at a path of the merged file, pinned to the line that it comes from."""
        return _pinned(self._nodes(), issue, self.weave)

    def _nodes(self) -> Node:
        if self.root is None and self.remake is not None:
            whole = self.remake()
            self.root, self.weave = whole.root, whole.weave
        assert self.root is not None
        return self.root


def load(inputs: Inputs, directory: str, files: Sequence[str], variables: Variables) -> Project:
    """Make a project of its files, laid over each other in order; paths in them start from `directory`."""
    loader = _Loader(inputs, variables)
    project = Project(directory, variables, inputs)
    project.root = loader.project(directory, files, variables, ())
    project.weave, project.problems, project.warnings = loader.weave, loader.problems, loader.warnings
    if project.root is not None and not project.problems:
        project.values = loader.values or loader.whole(project.root)
        if loader.values is not None:
            project.places = construct.entry_places(project.root)
    if project.problems:
        project.values = None
    return project


def of_values(
    inputs: Inputs,
    directory: str,
    variables: Variables,
    source: SourceText,
    data: Any,
    places: dict[str, dict[str, tuple[int, int]]],
    remake: Callable[[], Project],
) -> Project | None:
    """The project of one plain file whose values are there; None if there is anything to say about them."""
    report = Report()
    values = ledger.FILE.check(data, (), report)
    if report.issues or report.warnings:
        return None
    return Project(directory, variables, inputs, None, Weave(source), values, places=places, remake=remake)


def _pinned(root: Node, issue: Issue, weave: Weave) -> errors.Problem:
    key, node, depth = construct.locate(root, issue.path)
    at = issue.node
    if at is None:
        at = key if key is not None and (issue.on_key or (issue.is_missing and depth < len(issue.path))) else node
        if isinstance(at, ScalarNode) and at.value == "" and not at.style and key is not None:
            at = key
    return documents.pinned(
        weave.owner(at), at, problems.field_name(issue.path), issue.reason, issue.hint, _is_secret(issue.path)
    )


def _is_secret(path: construct.Path) -> bool:
    return path[:1] == ("secrets",)


class _Loader:
    """Reads the files of a project and of those that it includes."""

    def __init__(self, inputs: Inputs, variables: Variables) -> None:
        self.inputs, self.variables = inputs, variables
        self.weave = Weave(SourceText("", ""))
        self.problems: list[errors.Problem] = []
        self.warnings: list[errors.Problem] = []
        self.values: dict[str, Any] | None = None
        self._unset: set[str] = set()
        self._circles: set[frozenset[tuple[str, str]]] = set()

    def project(
        self, directory: str, files: Sequence[str], variables: Variables, chain: tuple[str, ...]
    ) -> Node | None:
        """The merged root of some files and what they include; None where one of them can't be read."""
        result: Node | None = None
        for name in files:
            file = self._file(directory, name, variables)
            if file is None:
                continue
            root = self._extended(file, directory, variables)
            if file.values is not None and len(files) == 1 and not chain and get(root, "include") is None:
                self.values = file.values
                return root
            result = root if result is None else self._merged(result, root)
        if result is None:
            return None
        return self._included(self.weave.clean(result) or result, directory, variables, chain)

    def whole(self, root: Node) -> dict[str, Any] | None:
        """The values of a merged root, checked once more."""
        builder, report = construct.Builder(), Report()
        values = ledger.FILE.check(builder.build(root), (), report)
        for issue in report.issues:
            self.problems.append(_pinned(root, issue, self.weave))
        return values if not report.issues else None

    def _file(self, directory: str, name: str, variables: Variables) -> _File | None:
        try:
            source = self.inputs.text(directory, name)
        except Refused as error:
            self.problems.append(errors.Problem(name, 0, 0, "", error.reason, error.hint))
            return None
        return self._parsed(source, variables)

    def _parsed(self, source: SourceText, variables: Variables) -> _File | None:
        try:
            roots = graph.compose(source.text)
        except graph.TextProblem as error:
            self.problems.append(documents.text_problem(source, error))
            return None
        if not self.weave.main.name:
            self.weave.main = source
        result: _File | None = None
        for root in roots:
            if source is not self.weave.main:
                self.weave.adopt(root, source)
            if "$" in source.text:
                self._fill(source, root, variables)
            file = self._checked(source, root)
            if file is None:
                return None
            if result is not None:
                file = _File(source, self._merged(result.root, file.root), None)
            result = file
        if result is None:
            self.problems.append(errors.Problem(source.name, 1, 1, "", "the file is empty", "begin with services:"))
        return result

    def _fill(self, source: SourceText, root: Node, variables: Variables) -> None:
        """Fill the variables of all values in; keys are left alone, as Compose does."""
        seen: set[int] = set()
        todo = [root]
        while todo:
            node = todo.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, MappingNode):
                todo.extend(value for _, value in node.value)
            elif isinstance(node, SequenceNode):
                todo.extend(node.value)
            elif "$" in node.value:
                try:
                    node.value, node.style = interpolation.fill(node.value, self._lookup(source, node, variables)), '"'
                except interpolation.BadVariable as error:
                    path = construct.path_of(root, node)
                    self.problems.append(_pinned(root, Issue(path, error.reason, error.hint, node=node), self.weave))
                    node.value, node.style = "", '"'

    def _lookup(self, source: SourceText, node: Node, variables: Variables) -> interpolation.Lookup:
        def lookup(name: str) -> str | None:
            value = variables.get(name)
            if value is None and name not in self._unset:
                self._unset.add(name)
                reason = f"the variable {name} isn't set, and stands for nothing"
                hint = f"set it in .env, or write ${{{name}:-default}}"
                self.warnings.append(documents.pinned(source, node, "", reason, hint, False))
            return value

        return lookup

    def _checked(self, source: SourceText, root: Node) -> _File | None:
        """A file whose every key and value is one of the specification's."""
        clean = root
        if has_tags(source.text):
            try:
                clean = self.weave.clean(root) or root
            except Unmergeable as error:
                self._report(error.node, (), error.reason, error.hint)
                return None
        builder, report = construct.Builder(), Report()
        data = builder.build(clean)
        for found in builder.problems:
            path = construct.path_of(clean, found.node)
            issue = Issue(path, found.reason, found.hint, on_key=True, node=found.node)
            self.problems.append(_pinned(clean, issue, self.weave))
        if builder.problems:
            return None
        values = ledger.FILE.check(data, (), report)
        for issue in report.issues:
            self.problems.append(_pinned(clean, issue, self.weave))
        for issue in report.warnings:
            self.warnings.append(_pinned(clean, issue, self.weave))
        if report.issues:
            return None
        is_plain = clean is root and "extends" not in source.text
        return _File(source, self.weave.flat(root) if "<<" in source.text and not is_plain else root,
                     values if is_plain else None)  # fmt: skip

    def _merged(self, base: Node, over: Node) -> Node:
        try:
            return self.weave.merge(self.weave.flat(base), self.weave.flat(over))
        except Unmergeable as error:
            self.problems.append(
                documents.pinned(self.weave.owner(error.node), error.node, "", error.reason, error.hint, False)
            )
            return base

    # extends

    def _extended(self, file: _File, directory: str, variables: Variables) -> Node:
        if "extends" not in file.source.text:
            return file.root
        root = self.weave.flat(file.root)
        pairs: list[tuple[Node, Node]] = []
        for key, value in root.value if isinstance(root, MappingNode) else ():
            if text_of(key) == "services" and isinstance(value, MappingNode):
                services: list[tuple[Node, Node]] = [
                    (name, self._service(root, file.source, text_of(name), node, directory, variables, ()))
                    for name, node in value.value
                ]
                value = self.weave.mapping(services, value)
            pairs.append((key, value))
        return self.weave.mapping(pairs, root)

    def _service(
        self,
        root: Node,
        source: SourceText,
        name: str,
        node: Node,
        directory: str,
        variables: Variables,
        chain: tuple[tuple[str, str], ...],
    ) -> Node:
        """A service with what it extends below it."""
        found = entry(node, "extends")
        if found is None or not isinstance(node, MappingNode):
            return node
        key, extends = found
        chain = (*chain, (source.name, name))
        own = self.weave.mapping([pair for pair in node.value if pair[0] is not key], node)
        base = self._base(root, source, extends, directory, variables, chain)
        if base is None:
            return own
        try:
            return self.weave.merge(base, own, ("services", name))
        except Unmergeable as error:
            self._report(error.node, ("services", name), error.reason, error.hint)
            return own

    def _base(
        self,
        root: Node,
        source: SourceText,
        extends: Node,
        directory: str,
        variables: Variables,
        chain: tuple[tuple[str, str], ...],
    ) -> Node | None:
        wanted = get(extends, "service") or extends
        name, at = text_of(wanted), ("services", chain[-1][1], "extends")
        other = get(extends, "file")
        base_directory = directory
        if other is not None:
            if text_of(other).startswith(_REMOTE):
                self._report(other, at, "a file of another repository isn't fetched", "copy it into this one")
                return None
            file = self._other(other, directory, variables, at)
            if file is None:
                return None
            root, source, base_directory = self.weave.flat(file.root), file.source, file.source.directory
        if (source.name, name) in chain:
            circle = frozenset(chain[chain.index((source.name, name)) :])
            if circle in self._circles:
                return None
            self._circles.add(circle)
            steps = " -> ".join(f"{service} ({file})" for file, service in (*chain, (source.name, name)))
            self._report(wanted, at, f"a service can't extend itself: {steps}", "cut the chain")
            return None
        node = get(get(root, "services"), name)
        if node is None:
            near = problems.closest(name, list(_names(get(root, "services"))))
            hint = f'did you mean "{near}"?' if near else ""
            self._report(wanted, at, f"no service {name!r} in {source.name}", hint)
            return None
        node = self._service(root, source, name, node, base_directory, variables, chain)
        return relocation.service(self.weave, node, base_directory) if base_directory != directory else node

    def _other(self, name: Node, directory: str, variables: Variables, at: construct.Path) -> _File | None:
        try:
            source = self.inputs.text(directory, text_of(name))
        except Refused as error:
            self._report(name, at, error.reason, error.hint)
            return None
        return self._parsed(source, variables)

    def _report(self, node: Node, path: construct.Path, reason: str, hint: str) -> None:
        place = problems.field_name(path)
        self.problems.append(documents.pinned(self.weave.owner(node), node, place, reason, hint, False))

    # include

    def _included(self, root: Node, directory: str, variables: Variables, chain: tuple[str, ...]) -> Node:
        include = get(root, "include")
        if include is None or not isinstance(root, MappingNode):
            return root
        rest: Node = self.weave.mapping([pair for pair in root.value if text_of(pair[0]) != "include"], root)
        chain = (*chain, self.weave.owner(root).name)
        for item in include.value if isinstance(include, SequenceNode) else ():
            below = self._include(item, directory, variables, chain)
            if below is not None:
                rest = self._joined(rest, below, item)
        return rest

    def _include(self, item: Node, directory: str, variables: Variables, chain: tuple[str, ...]) -> Node | None:
        paths = _texts(get(item, "path") or item)
        if any(text_of(path).startswith(_REMOTE) for path in paths):
            self._report(item, ("include",), "a file of another repository isn't fetched", "copy it into this one")
            return None
        names = []
        try:
            names = [self.inputs.text(directory, text_of(path)) for path in paths]
        except Refused as error:
            self._report(item, ("include",), error.reason, error.hint)
            return None
        for source in names:
            if source.name in chain:
                steps = " -> ".join((*chain, source.name))
                self._report(item, ("include",), f"a file can't include itself: {steps}", "cut the chain")
                return None
        given = get(item, "project_directory")
        place = os.path.normpath(os.path.join(directory, text_of(given))) if given else names[0].directory
        try:
            own = self._include_env(item, directory, place, variables)
        except Refused as error:
            self._report(item, ("include",), error.reason, error.hint)
            return None
        files = [
            os.path.join(source.directory, os.path.basename(text_of(path)))
            for source, path in zip(names, paths, strict=True)
        ]
        found = self.project(place, files, variables.below(own), chain)
        return relocation.file(self.weave, found, place) if found is not None and place != directory else found

    def _include_env(self, item: Node, directory: str, place: str, variables: Variables) -> dict[str, str]:
        given = get(item, "env_file")
        if given is None:
            return reading.dot_env(self.inputs, place, variables)
        found: dict[str, str] = {}
        for file in _texts(given):
            found |= reading.env_file(self.inputs, directory, text_of(file), variables.below(found))
        return found

    def _joined(self, root: Node, below: Node, item: Node) -> Node:
        """The objects of an included project beside the own ones; two of one name must be the same."""
        sections = dict(_pairs(root))
        for section, (key, value) in _pairs(below):
            if section not in ("services", "networks", "volumes", "secrets", "configs"):
                continue
            if section not in sections or not isinstance(sections[section][1], MappingNode):
                sections[section] = (key, value)
                continue
            own = sections[section][1]
            names = dict(_pairs(own))
            for name, (name_key, node) in _pairs(value):
                if name not in names:
                    names[name] = (name_key, node)
                elif _plain(names[name][1]) != _plain(node):
                    there = f"{self.weave.owner(name_key).name}:{name_key.start_mark.line + 1}"
                    reason = f"{section}.{name} of an included file stands here too, and differs"
                    self._report(names[name][0], (section, name), reason, f"the other is at {there}: rename one")
            sections[section] = (sections[section][0], self.weave.mapping(list(names.values()), own))
        return self.weave.mapping(list(sections.values()), root)


def _texts(node: Node) -> list[Node]:
    return list(node.value) if isinstance(node, SequenceNode) else [node]


def _names(node: Node | None) -> Iterator[str]:
    return (name for name, _ in _pairs(node))


def _pairs(node: Node | None) -> Iterator[tuple[str, tuple[Node, Node]]]:
    for key, value in node.value if isinstance(node, MappingNode) else ():
        yield text_of(key), (key, value)


def _plain(node: Node) -> Any:
    return construct.Builder().build(node)
