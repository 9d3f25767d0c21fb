"""What a Compose project reads: its files, and the variables that fill its values in.

Everything read is remembered, so that the same project can be made again (for the places of its values) from the very
same texts, and so that a load knows what its result depends on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gitops.manifests.convert import dotenv
from gitops.manifests.documents import SourceText
from gitops.manifests.repository import Refused, Repository
from gitops.manifests.text import graph

MAX_FILE = 4 << 20


@dataclass(slots=True)
class Inputs:
    """The files of one project."""

    repository: Repository
    _read: dict[tuple[str, str], SourceText | Refused] = field(default_factory=dict)
    _there: dict[str, bool] = field(default_factory=dict)
    paths: set[Path] = field(default_factory=set)
    """Every file that was read."""

    def seed(self, directory: str, name: str, path: Path, source: SourceText) -> None:
        """Take a file that was read already."""
        self._read[directory, name] = source
        self.paths.add(path)

    def text(self, directory: str, name: str) -> SourceText:
        """The text of a file, `name` being relative to a directory or absolute.

        Raises:
            Refused: it can't be read, or isn't text.
        """
        found = self._look(directory, name)
        if isinstance(found, Refused):
            raise found
        return found

    def exists(self, directory: str, name: str) -> bool:
        """Whether there is anything of that name."""
        path = os.path.join(directory, name)
        return self._there.setdefault(path, os.path.lexists(path))

    def are_as_in(self, now: Inputs) -> bool:
        """Whether all that was looked at is the same now; it is looked at again through `now`."""
        return all(now._look(*key) == found for key, found in self._read.items()) and all(
            os.path.lexists(path) == was for path, was in self._there.items()
        )

    def _look(self, directory: str, name: str) -> SourceText | Refused:
        key = (directory, name)
        found = self._read.get(key)
        if found is None:
            found = self._read[key] = self._text(directory, name)
        return found

    def _text(self, directory: str, name: str) -> SourceText | Refused:
        shown = name
        try:
            path = self.repository.resolve(directory, name)
            shown = self.repository.shown(path)
            text = graph.decode(self.repository.read(path, MAX_FILE))
        except Refused as error:
            return error
        except graph.TextProblem as error:
            return Refused(f"{shown}:{error.line + 1}: {error.reason}", error.hint)
        self.paths.add(path)
        return SourceText(shown, text, directory=str(path.parent))


@dataclass(slots=True)
class Variables:
    """What `${NAME}` stands for: the operator's environment first, then the files `.env` of the project."""

    environ: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    used: dict[str, str | None] = field(default_factory=dict)
    """What the environment said to each that was asked for."""

    def get(self, name: str) -> str | None:
        """The value of a variable; None where it isn't set."""
        value = self.used[name] = self.environ.get(name)
        return self.files.get(name) if value is None else value

    def are_as_in(self, environ: Mapping[str, str]) -> bool:
        """Whether another environment says the same to all that was asked for."""
        return all(environ.get(name) == value for name, value in self.used.items())

    def below(self, files: Mapping[str, str]) -> Variables:
        """These variables with more of them, for what doesn't set its own."""
        return Variables(self.environ, {**files, **self.files}, self.used)


def env_file(
    inputs: Inputs, directory: str, name: str, variables: Variables, *, is_raw: bool = False
) -> dict[str, str]:
    """The variables of a file, those in its values filled in.

    Raises:
        Refused: it can't be read, or a line of it can't.
    """
    source = inputs.text(directory, name)
    try:
        return dotenv.parse(source.text, is_raw=is_raw, lookup=variables.get)
    except dotenv.BadLine as error:
        raise Refused(f"{source.name}, {error}") from error


def dot_env(inputs: Inputs, directory: str, variables: Variables) -> dict[str, str]:
    """The variables of a project's `.env`; none where there is no such file.

    Raises:
        Refused: it is there, and can't be read.
    """
    if not inputs.exists(directory, ".env"):
        return {}
    return env_file(inputs, directory, ".env", variables)
