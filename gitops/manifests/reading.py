"""The first half of a load: which files there are, and their texts, templates rendered. Nothing is parsed.

What this needs is imported in no time, so that parsing can begin in another process before this one imports what
checking needs (`gitops.manifests.ahead`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gitops import errors
from gitops.manifests import discovery
from gitops.manifests.memory import LoadMemory
from gitops.manifests.options import LoadOptions
from gitops.manifests.repository import Refused, Repository, root_of
from gitops.manifests.sourcetext import SourceText
from gitops.manifests.text.characters import TextProblem, check, decode, one_line

if TYPE_CHECKING:
    from gitops.manifests.templating.renderer import Renderer

MAX_FILE = 4 << 20
"""Bytes of one manifest or template."""


@dataclass(slots=True)
class ReadFile:
    """A file of a load. With a failure, `source` is the text as far as it got."""

    source: SourceText
    path: Path
    repository: Repository
    digest: str = ""
    """SHA-256 of its bytes, of a template of what it renders to; in hex."""
    failure: Refused | TextProblem | errors.Problem | None = None
    is_given: bool = False
    """It was named, and not found in a directory."""


@dataclass(frozen=True, slots=True)
class Found:
    """All files, and each given path with what it may read."""

    files: tuple[ReadFile, ...]
    repositories: tuple[tuple[Path, Repository], ...]


def read(paths: Sequence[Path], options: LoadOptions, memory: LoadMemory) -> Found:
    """Find and read everything at these paths.

    Raises:
        errors.NotFound: a path that was given doesn't exist.
        errors.InvalidManifest: the values of templates are wrong, or a Compose file that the user names.
    """
    repositories = _repositories(paths, options)
    return Found(tuple(_read(repositories, options, memory)), tuple(repositories))


def _repositories(paths: Sequence[Path], options: LoadOptions) -> list[tuple[Path, Repository]]:
    """Each given path with what it may read. Names are shown relative to the path, or to what all have in common."""
    real: list[Path] = []
    for path in paths:
        try:
            real.append(Path(os.path.realpath(path, strict=True)))
        except OSError as error:
            raise errors.NotFound(f"no such file or directory: {path}") from error
    directories = [path if path.is_dir() else path.parent for path in real]
    shown_from = Path(os.path.commonpath(directories)) if directories else Path()
    allowed = [Path(os.path.realpath(path)) for path in options.allow_host_paths]
    found = []
    for path in real:
        root = Path(os.path.realpath(options.root)) if options.root else root_of(path)
        found.append((path, Repository(root, shown_from, allowed)))
    return found


def _read(
    repositories: Sequence[tuple[Path, Repository]], options: LoadOptions, memory: LoadMemory
) -> Iterator[ReadFile]:
    seen: set[Path] = set()
    for given, repository in repositories:
        found = discovery.find(given, repository)
        for name, refused in found.refused:
            yield _broken(name, refused, given, repository)
        named = list(_named(given, repository, options))
        files = [(path, name) for path, name in dict.fromkeys((*named, *found.files)) if path not in seen]
        seen.update(path for path, _ in files)
        if any(discovery.is_template(name) for _, name in files):
            texts = _with_values(files, given, repository, options, memory)
        else:
            texts = (_file(path, name, repository, None, memory) for path, name in files)
        own = {given, *(path for path, _ in named)}
        for file in texts:
            file.is_given = file.path in own
            yield file


def _named(given: Path, repository: Repository, options: LoadOptions) -> Iterator[tuple[Path, str]]:
    """The Compose files that the user names, in their order, after the path if that is a file."""
    if given.is_file():
        yield given, repository.shown(given)
    directory = given if given.is_dir() else given.parent
    for name in options.compose_files:
        try:
            path = repository.resolve(str(directory), name, is_data=False)
        except Refused as error:
            raise errors.InvalidManifest([errors.Problem(name, 0, 0, "", error.reason, error.hint)]) from error
        yield path, repository.shown(path)


def _with_values(
    files: Sequence[tuple[Path, str]], given: Path, repository: Repository, options: LoadOptions, memory: LoadMemory
) -> Iterator[ReadFile]:
    from gitops.manifests.templating import values as template_values
    from gitops.manifests.templating.renderer import Renderer

    directory = given if given.is_dir() else given.parent
    try:
        found = template_values.load(directory, options.env, options.sets, repository)
    except template_values.ValuesProblems as error:
        raise errors.InvalidManifest(error.problems) from error
    with Renderer(found) as renderer:
        for path, name in files:
            yield _file(path, name, repository, renderer if discovery.is_template(name) else None, memory)


def _broken(name: str, refused: Refused, path: Path, repository: Repository) -> ReadFile:
    return ReadFile(SourceText(name, "gitops/v1"), path, repository, failure=refused)


def _file(path: Path, name: str, repository: Repository, renderer: Renderer | None, memory: LoadMemory) -> ReadFile:
    try:
        data = repository.read(path, MAX_FILE)
    except Refused as error:
        return _broken(name, error, path, repository)
    digest = repository.read_digests[repository.shown(path)]
    file = ReadFile(SourceText(name, "", directory=str(path.parent)), path, repository, digest)
    try:
        known = memory.text(digest) if renderer is None else None
        file.source = replace(file.source, text=decode(data) if known is None else known)
        if renderer is not None:
            _render(file, renderer)
    except TextProblem as error:
        if not file.source.text:
            file.source = replace(file.source, text=data.decode("utf-8", "replace"))
        file.failure = error
    return file


def _render(file: ReadFile, renderer: Renderer) -> None:
    """Put what a template renders to in the place of its text."""
    from gitops.manifests.templating.renderer import TemplateProblem

    try:
        rendered = renderer.render(file.source.text)
    except TemplateProblem as error:
        lines = file.source.text.split("\n")
        line = lines[error.line - 1] if 0 < error.line <= len(lines) else ""
        column, width = len(line) - len(line.lstrip()) + 1, max(len(line.strip()), 1)
        reason = one_line(f"template: {error.reason}")
        file.failure = errors.Problem(file.source.name, error.line, column, "", reason, error.hint, line, width)
        return
    file.source = replace(file.source, text=rendered, is_rendered=True)
    file.digest = hashlib.sha256(rendered.encode("utf-8", "surrogatepass")).hexdigest()
    check(rendered)
