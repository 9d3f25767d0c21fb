"""From the Compose files among those of a load to the documents of their objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gitops import errors
from gitops.manifests.ahead import Ahead
from gitops.manifests.compose import discovery, inputs, objects, project
from gitops.manifests.compose.inputs import Inputs, Variables
from gitops.manifests.compose.objects import ComposeDocument, Source
from gitops.manifests.documents import SourceText
from gitops.manifests.options import LoadOptions
from gitops.manifests.problems import Issue
from gitops.manifests.repository import Refused, Repository
from gitops.objects.memory import Memory

_STACK = re.compile(r"[a-z0-9][a-z0-9_-]*")
_NAME = re.compile(r"^name:[ \t]*[\"']?([a-z0-9][a-z0-9_-]*)[\"']?[ \t]*(?:#.*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file of a load that is a Compose file."""

    path: Path
    source: SourceText
    repository: Repository
    is_given: bool
    """It was named itself, not found in a directory."""
    digest: str
    """Of its text, by which it may have been parsed ahead."""


@dataclass(slots=True)
class Loaded:
    """What became of the Compose files of a load."""

    documents: list[tuple[ComposeDocument, Repository]] = field(default_factory=list)
    problems: list[errors.Problem] = field(default_factory=list)
    warnings: list[errors.Problem] = field(default_factory=list)


@dataclass(slots=True)
class _Group:
    """The files of one project, the first being what the others are laid over."""

    directory: str
    files: list[Candidate]
    beside: list[Candidate] = field(default_factory=list)
    """Compose files of the same directory that are no part of it."""


@dataclass(frozen=True, slots=True)
class Project:
    """What a load leaves of a project for the next one, with all that it was made of."""

    options: LoadOptions
    inputs: Inputs
    variables: Variables
    loaded: Loaded

    def is_as_before(self, now: Inputs, options: LoadOptions, environ: Mapping[str, str]) -> bool:
        """Whether it would come out the same."""
        return self.options == options and self.inputs.are_as_in(now) and self.variables.are_as_in(environ)


def load(
    candidates: Sequence[Candidate],
    options: LoadOptions,
    environ: Mapping[str, str],
    memory: Memory[Project],
    ahead: Ahead,
    *,
    keeps_data: bool = False,
) -> Loaded:
    """Every project, the ones nearest to the top first: what they include or extend is no project of its own.
    `keeps_data`: documents keep what they are made of."""
    loaded = Loaded()
    consumed: set[Path] = set()
    results: list[tuple[_Group, Loaded]] = []
    for group in _groups(candidates, options):
        if group.files[0].path in consumed:
            continue
        result, read = _load(group, options, environ, memory, ahead, keeps_data)
        consumed |= read - {file.path for file in group.files}
        results.append((group, result))
    stacks: dict[tuple[str, str], _Group] = {}
    for group, result in results:
        if group.files[0].path in consumed:
            continue
        loaded.documents += result.documents
        loaded.problems += result.problems
        loaded.warnings += result.warnings
        loaded.warnings += _left_out(group, consumed)
        for document, _ in result.documents[:1]:
            first = stacks.setdefault((group.directory, document.parsed.stack), group)
            if first is not group:
                loaded.problems.append(_second(document, first))
    return loaded


def _groups(candidates: Sequence[Candidate], options: LoadOptions) -> Iterator[_Group]:
    given = [candidate for candidate in candidates if candidate.is_given]
    if options.compose_files and given:
        yield _Group(given[0].source.directory, given)
        return
    yield from (_Group(candidate.source.directory, [candidate]) for candidate in given)
    by_directory: dict[str, dict[str, Candidate]] = {}
    for candidate in candidates:
        if not candidate.is_given:
            name = candidate.path.name.removesuffix(".j2")
            by_directory.setdefault(candidate.source.directory, {})[name] = candidate
    for directory in sorted(by_directory, key=lambda path: (path.count("/"), path)):
        found = by_directory[directory]
        for names in discovery.group(list(found)):
            is_main = discovery.is_main(names[0])
            beside = [other for name, other in found.items() if name not in names] if is_main else []
            yield _Group(directory, [found[name] for name in names], beside)


def _left_out(group: _Group, consumed: set[Path]) -> Iterator[errors.Problem]:
    for other in group.beside:
        if other.path not in consumed:
            reason = f"is no part of the project of {group.files[0].source.name}, and left out"
            hint = f"name it, as in --compose-file {group.files[0].path.name} --compose-file {other.path.name}"
            yield errors.Problem(other.source.name, 1, 1, "", reason, hint)


def _second(document: ComposeDocument, first: _Group) -> errors.Problem:
    reason = f"a second Compose file of the stack {document.parsed.stack}; the first is {first.files[0].source.name}"
    hint = "give each a name: of its own, or lay one over the other by --compose-file"
    return errors.Problem(document.source.name, 1, 1, "name", reason, hint)


def _load(
    group: _Group,
    options: LoadOptions,
    environ: Mapping[str, str],
    memory: Memory[Project],
    ahead: Ahead,
    keeps_data: bool,
) -> tuple[Loaded, set[Path]]:
    """The project of a group, as it was before where nothing has changed, and the files that it read."""
    repository = group.files[0].repository
    reader = _reader(group)
    key = (group.directory, *(str(file.path) for file in group.files))
    kept = memory.get(*key)
    if kept is not None and kept.is_as_before(reader, options, environ):
        documents = [(document, repository) for document, _ in kept.loaded.documents]
        return Loaded(documents, warnings=kept.loaded.warnings), kept.inputs.paths
    reader, variables = _reader(group), Variables(environ)
    loaded = _made(group, reader, options, variables, ahead, keeps_data)
    if not loaded.problems:
        memory.put(Project(options, reader, variables, loaded), *key)
    return loaded, reader.paths


def _reader(group: _Group) -> Inputs:
    reader = Inputs(group.files[0].repository)
    for file in group.files:
        reader.seed(group.directory, str(file.path), file.path, file.source)
    return reader


def _made(
    group: _Group, reader: Inputs, options: LoadOptions, variables: Variables, ahead: Ahead, keeps_data: bool
) -> Loaded:
    main, loaded = group.files[0], Loaded()
    try:
        variables = variables.below(_variables(reader, group.directory, options, variables))
    except Refused as error:
        name = ", ".join(options.env_files) or ".env"
        loaded.problems.append(errors.Problem(name, 0, 0, "", error.reason, error.hint))
        return loaded
    names = [str(file.path) for file in group.files]
    stack = _default_stack(group, options, variables)
    variables = variables.below({"COMPOSE_PROJECT_NAME": stack})

    def made() -> project.Project:
        return project.load(reader, group.directory, names, variables)

    found = _ahead(group, reader, variables, ahead, made) or made()
    loaded.problems += found.problems
    loaded.warnings += found.warnings
    if found.values is None:
        return loaded
    written = found.values.get("name")
    if written and not options.project_name:
        stack = written
        if not _STACK.fullmatch(stack):
            issue = Issue(("name",), f"{stack[:60]!r} is no name of a project", "lower-case letters, digits, - and _")
            loaded.problems.append(found.problem(issue))
    result = objects.make(found, stack, _profiles(options, variables), Source(made), keeps_data=keeps_data)
    loaded.problems += result.problems
    loaded.warnings += result.warnings
    loaded.documents = [(document, main.repository) for document in result.documents]
    return loaded


def _ahead(
    group: _Group, reader: Inputs, variables: Variables, ahead: Ahead, remake: Callable[[], project.Project]
) -> project.Project | None:
    """The project of a single plain file that was parsed already, if there is nothing to say about it."""
    built = ahead.take(group.files[0].digest) if len(group.files) == 1 else None
    if built is None or len(built) != 1:
        return None
    data, places = built[0][2]
    return project.of_values(reader, group.directory, variables, group.files[0].source, data, places, remake)


def _variables(reader: Inputs, directory: str, options: LoadOptions, variables: Variables) -> dict[str, str]:
    """Those of the project's `.env`, or of the files that the user names in its place, the last one winning."""
    if not options.env_files:
        return inputs.dot_env(reader, directory, variables)
    found: dict[str, str] = {}
    for name in options.env_files:
        found |= inputs.env_file(reader, directory, name, variables.below(found))
    return found


def _default_stack(group: _Group, options: LoadOptions, variables: Variables) -> str:
    """The stack's name, if the file gives none that holds variables."""
    if options.project_name:
        return options.project_name
    for file in reversed(group.files):
        text = file.source.text
        written = _NAME.search(text) if text.startswith("name:") or "\nname:" in text else None
        if written:
            return written[1]
    asked = discovery.project_name(variables.get("COMPOSE_PROJECT_NAME") or "")
    return asked or discovery.directory_name(group.directory)


def _profiles(options: LoadOptions, variables: Variables) -> frozenset[str]:
    given = options.profiles or (variables.get("COMPOSE_PROFILES") or "").split(",")
    return frozenset(filter(None, (name.strip() for name in given)))
