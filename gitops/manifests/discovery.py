"""Which files below a given path are manifests, templates and values."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from gitops.manifests.repository import Refused, Repository

_SUFFIXES = (".yaml", ".yml", ".j2")
_VALUES = re.compile(r"values(\.[A-Za-z0-9_-]+)?\.ya?ml")


@dataclass(slots=True)
class Found:
    """What was found. `files` in order of their names; `refused` are those that a link leads out of the repository."""

    files: list[tuple[Path, str]] = field(default_factory=list)
    """The real file, and its name as shown."""
    directories: list[Path] = field(default_factory=list)
    refused: list[tuple[str, Refused]] = field(default_factory=list)


def is_template(name: str) -> bool:
    """Whether a file is rendered before it is read."""
    return name.endswith(".j2")


def find(given: Path, repository: Repository) -> Found:
    """Every manifest at a path: the file itself, or all below a directory, without hidden ones and values files."""
    found = Found()
    if not given.is_dir():
        found.directories.append(given.parent)
        _add(found, given, repository)
        return found
    _search(found, given, given, repository, set())
    return found


def _search(found: Found, directory: Path, top: Path, repository: Repository, seen: set[str]) -> None:
    real = os.path.realpath(directory)
    if real in seen:
        return  # a link that leads back up
    seen.add(real)
    found.directories.append(directory)
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        path = directory / entry.name
        if entry.is_dir():
            if not entry.is_symlink() or _is_inside(found, path, repository):
                _search(found, path, top, repository, seen)
        elif entry.name.endswith(_SUFFIXES) and not (directory == top and _VALUES.fullmatch(entry.name)):
            _add(found, path, repository)


def _is_inside(found: Found, path: Path, repository: Repository) -> bool:
    try:
        repository.resolve(str(path.parent), path.name, is_data=False)
    except Refused as error:
        found.refused.append((repository.shown(path), error))
        return False
    return True


def _add(found: Found, path: Path, repository: Repository) -> None:
    try:
        found.files.append((repository.resolve(str(path.parent), path.name, is_data=False), repository.shown(path)))
    except Refused as error:
        found.refused.append((repository.shown(path), error))
