"""The objects of a Compose project, each as the document of a manifest.

A document made here stands in for a written one: the same models check it, and what is said about it is said with the
place in the Compose file that it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gitops import errors
from gitops.manifests import documents, problems
from gitops.manifests.compose import services
from gitops.manifests.compose.project import Project
from gitops.manifests.compose.services import Context, Translation
from gitops.manifests.desired import Position
from gitops.manifests.documents import Document, Parsed, SourceText
from gitops.manifests.kinds import registry
from gitops.manifests.kinds.base import API_VERSION
from gitops.manifests.problems import Issue
from gitops.manifests.text import construct
from gitops.manifests.text.construct import Path
from gitops.manifests.text.graph import Node

_SECTIONS = {
    "networks": "Network",
    "volumes": "Volume",
    "secrets": "Secret",
    "configs": "Config",
    "services": "Service",
}
_OPTIONS = ("com.docker.network.driver.mtu", "encrypted")
"""Of a network: what its manifest judges. One that should be encrypted and isn't would be no small thing."""
_IPV4 = re.compile(r"[0-9.]+(/[0-9]+)?")


@dataclass(slots=True)
class Source:
    """Where a project's nodes come from. They are made again when a place is asked for, since they take thirty times
    the memory of their texts; those that were made last are kept.
    """

    remake: Callable[[], Project]

    def project(self) -> Project:
        """The project with its nodes."""
        global _last
        last = _last
        if last is None or last[0] is not self:
            last = _last = (self, self.remake())
        return last[1]


_last: tuple[Source, Project] | None = None


@dataclass(frozen=True, slots=True)
class ComposeDocument(Document):
    """An object of a Compose file."""

    origin: Source
    base: Path
    """Where it stands: `services`, `web`."""
    moves: Mapping[Path, Path]
    """Of paths below `spec` to paths below `base`, where they differ."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Those of the project's files: what `environment` of a secret or config may name, too."""
    data: Mapping[str, Any] | None = field(default=None, repr=False)
    """The manifest that it is, where that was asked for."""

    @property
    def root(self) -> Node:
        """The nodes of the project."""
        root = self.origin.project().root
        assert root is not None
        return root

    @property
    def position(self) -> Position:
        """Where the object begins."""
        return Position(self.source.name, self.parsed.line, self.parsed.column)

    @property
    def positions(self) -> Mapping[str, tuple[int, int]]:  # type: ignore[override]
        """Where its fields are, by the manifest's names."""
        return Places(self)

    def problem(self, issue: Issue) -> errors.Problem:
        """An issue of the manifest, where the Compose file says what led to it."""
        project = self.origin.project()
        path = self.place(issue.path)
        return project.problem(Issue(path, issue.reason, issue.hint, issue.on_key, issue.is_missing))

    def place(self, path: Path) -> Path:
        """The path in the Compose file of a path in the manifest."""
        if path[:1] != ("spec",):
            return self.base
        rest = path[1:]
        for depth in range(len(rest), 0, -1):
            moved = self.moves.get(rest[:depth])
            if moved is not None:
                return (*self.base, *moved, *(rest[depth:] if moved else ()))
        return (*self.base, *rest)


class Places(problems.Places):
    """Line and column of an object's fields by their names in the manifest."""

    __slots__ = ("_document",)

    def __init__(self, document: ComposeDocument) -> None:
        super().__init__()
        self._document = document

    def _find(self) -> Iterator[tuple[str, tuple[int, int]]]:
        document = self._document
        project = document.origin.project()
        _, node, depth = construct.locate(document.root, document.base)
        if depth < len(document.base):
            return
        back = {place: path for path, place in document.moves.items() if place}
        for path, at in construct.walk(node):
            if project.weave.owner(at).name != document.source.name:
                continue
            for length in range(len(path), 0, -1):
                if path[:length] in back:
                    path = (*back[path[:length]], *path[length:])
                    break
            yield problems.field_name(("spec", *path)), (at.start_mark.line + 1, at.start_mark.column + 1)


@dataclass(slots=True)
class Made:
    """What became of a project."""

    documents: list[ComposeDocument]
    problems: list[errors.Problem]
    warnings: list[errors.Problem]


def make(project: Project, stack: str, profiles: frozenset[str], origin: Source, *, keeps_data: bool = False) -> Made:
    """The objects of a project that was read without problems; `keeps_data`: their documents keep what they are made
    of."""
    assert project.values is not None
    made = Made([], [], [])
    values = project.values
    active, inactive = _active(values.get("services") or {}, profiles)
    for circle in _circles(active):
        made.warnings.append(project.problem(circle))
    context = Context(stack, project.directory, project.inputs, project.variables, active, frozenset(inactive))
    for name in inactive:
        if "provider" in (values["services"] or {})[name]:
            found = Issue(("services", name, "provider"), "is not honoured: the service is left out", "", on_key=True)
            made.warnings.append(project.problem(found))
    for section, kind in _SECTIONS.items():
        for name, value in (values.get(section) or {}).items():
            if section == "services":
                if name not in active:
                    continue
                translation = services.translate(name, active[name], context)
            else:
                translation = _TRANSLATE[section](name, value or {})
            _add(made, project, origin, stack, kind, section, name, translation, keeps_data)
    return made


def _active(found: dict[str, dict[str, Any]], profiles: frozenset[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    active, inactive = {}, []
    for name, service in found.items():
        wanted = service.get("profiles") or ()
        is_on = not wanted or "*" in profiles or any(profile in profiles for profile in wanted)
        if is_on and "provider" not in service:
            active[name] = service
        else:
            inactive.append(name)
    return active, inactive


def _circles(found: dict[str, dict[str, Any]]) -> Iterator[Issue]:
    """What closes a circle of `depends_on` is taken out: nobody can wait for himself, and swarms start all at once."""
    done: set[str] = set()
    for start in found:
        path: list[str] = []
        todo = [(start, True)]
        while todo:
            name, is_entry = todo.pop()
            if not is_entry:
                done.add(path.pop())
                continue
            if name in done or name in path or name not in found:
                continue
            path.append(name)
            todo.append((name, False))
            given = found[name].get("depends_on") or ()
            closing = [other for other in given if other in path]
            for other in closing:
                chain = " -> ".join([*path[path.index(other) :], other])
                reason = f"is left out: services can't wait for each other: {chain}"
                yield Issue(("services", name, "depends_on", other), reason, "cut the circle", on_key=True)
            if closing:
                kept = [other for other in given if other not in closing]
                found[name] = {**found[name], "depends_on": kept if isinstance(given, list) else
                               {other: given[other] for other in kept}}  # fmt: skip
            todo += [(other, True) for other in given if other not in closing]


def _add(
    made: Made,
    project: Project,
    origin: Source,
    stack: str,
    kind: str,
    section: str,
    name: str,
    translation: Translation,
    keeps_data: bool,
) -> None:
    base: Path = (section, name)
    for issue in translation.issues:
        made.problems.append(project.problem(_below(base, issue)))
    for issue in translation.warnings:
        made.warnings.append(project.problem(_below(base, issue)))
    if section != "services" and not translation.spec.get("name"):
        translation.spec.pop("name", None)
    data = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "stack": stack},
        "spec": translation.spec,
    }
    model, issues = documents.check_model(registry.KINDS[kind](), data, kind, names="compose")
    source, line, column = project.place(section, name)
    parsed = Parsed(
        line=line,
        column=column,
        kind=kind,
        name=name,
        stack=stack,
        model=model,
        issues=issues,
        is_ours=True,
    )
    source = SourceText(source.name, source.text, directory=project.directory)
    kept = data if keeps_data else None
    variables = project.variables.files
    made.documents.append(ComposeDocument(source, 0, parsed, origin, base, translation.moves, variables, kept))


def _below(base: Path, issue: Issue) -> Issue:
    return Issue((*base, *issue.path), issue.reason, issue.hint, issue.on_key)


def _external(value: dict[str, Any], found: Translation) -> bool:
    """Whether an object is said to exist; then its name is all that counts."""
    external = value.get("external")
    if not external and not isinstance(external, dict):
        found.spec.pop("external", None)
        return False
    name = (external.get("name") if isinstance(external, dict) else None) or value.get("name")
    for key in value:
        if key not in ("external", "name"):
            found.warn((key,), "has no meaning with external", "it is only looked up, never made")
    found.spec = {"external": True, **({"name": name} if name else {})}
    return True


def _network(name: str, value: dict[str, Any]) -> Translation:
    found = Translation(dict(value))
    if _external(value, found):
        return found
    spec = found.spec
    if spec.get("driver") in ("bridge", "default", ""):
        del spec["driver"]
    options = spec.pop("driver_opts", None) or {}
    kept = {option: value for option, value in options.items() if option in _OPTIONS}
    for option in options:
        if option not in kept:
            found.warn(("driver_opts", option), "is not honoured", f"{_OPTIONS[0]} is")
    if kept:
        spec["driver_opts"] = kept
    if "ipam" in spec:
        pools = list(_pools(found, spec.pop("ipam")))
        if pools:
            spec["ipam"] = {"config": pools}
    return found


def _pools(found: Translation, ipam: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if ipam.get("driver") not in (None, "", "default"):
        found.warn(("ipam", "driver"), "is not honoured", "addresses are the swarm's to give")
    has_one = False
    for index, pool in enumerate(ipam.get("config") or ()):
        if has_one or not _IPV4.fullmatch(pool.get("subnet") or ""):
            found.warn(("ipam", "config", index), "is not honoured", "one IPv4 subnet is")
            continue
        has_one = True
        found.moves["ipam", "config", 0] = ("ipam", "config", index)
        yield pool


def _volume(name: str, value: dict[str, Any]) -> Translation:
    found = Translation(dict(value))
    if _external(value, found):
        return found
    spec = found.spec
    driver, options = spec.pop("driver", None), spec.pop("driver_opts", None) or {}
    if driver not in (None, "", "local", "default"):
        reason = f"the driver {driver} isn't there: a plain local volume stands in"
        found.warn(("driver",), reason, "make the volume before, and write external: true")
        return found
    for option in options:
        if option not in ("type", "o", "device"):
            found.warn(("driver_opts", option), "is not honoured", "type, o and device are")
    kept = {key: options[key] for key in ("type", "o", "device") if key in options}
    if kept:
        spec["driver_opts"] = kept
    return found


def _file(name: str, value: dict[str, Any]) -> Translation:
    found = Translation(dict(value))
    _external(value, found)
    return found


_TRANSLATE: dict[str, Callable[[str, dict[str, Any]], Translation]] = {
    "networks": _network,
    "volumes": _volume,
    "secrets": _file,
    "configs": _file,
}
