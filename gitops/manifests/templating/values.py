"""Values of templates: `values.yaml`, over it `values.<env>.yaml`, over it what `--set` says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gitops import errors
from gitops.manifests.repository import Refused, Repository
from gitops.manifests.text import construct, graph, scalars

_LIMIT = 1 << 20


class ValuesProblems(Exception):
    """What is wrong with values."""

    def __init__(self, problems: Sequence[errors.Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = tuple(problems)


def load(directory: Path, env: str, sets: Sequence[str], repository: Repository) -> dict[str, Any]:
    """The values for templates of a directory.

    Raises:
        ValuesProblems: a file or a `--set` is wrong, or there is no file for `env`.
    """
    problems: list[errors.Problem] = []
    result: dict[str, Any] = {}
    for name, is_needed in (("values", False), (f"values.{env}", True)) if env else (("values", False),):
        try:
            path = _find(directory, name)
            if path is not None:
                result = merge(result, _read(path, repository))
            elif is_needed:
                hint = f"make it in {repository.shown(directory) or '.'}, or leave out --env"
                problems.append(errors.Problem(f"{name}.yaml", 0, 0, "", "no such values file", hint))
        except ValuesProblems as error:
            problems += error.problems
    for text in sets:
        key, mark, value = text.partition("=")
        path_parts = key.split(".")
        if not mark or not all(path_parts):
            problems.append(errors.Problem(f"--set {text}", 0, 0, "", "is no assignment", "as in --set web.replicas=3"))
            continue
        nested: Any = scalars.plain(value)
        for part in reversed(path_parts):
            nested = {part: nested}
        result = merge(result, nested)
    if problems:
        raise ValuesProblems(problems)
    return result


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`: maps are merged, everything else replaced."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def _find(directory: Path, name: str) -> Path | None:
    return next((path for end in (".yaml", ".yml") if (path := directory / f"{name}{end}").exists()), None)


def _read(path: Path, repository: Repository) -> dict[str, Any]:
    name = repository.shown(path)
    try:
        data = repository.read(repository.resolve(str(path.parent), path.name, is_data=False), _LIMIT)
        text = graph.decode(data)
        roots = graph.compose(text)
    except Refused as error:
        raise ValuesProblems([errors.Problem(name, 0, 0, "", error.reason, error.hint)]) from error
    except graph.TextProblem as error:
        problem = errors.Problem(name, error.line + 1, error.column + 1, "", error.reason, error.hint)
        raise ValuesProblems([problem]) from error
    if not roots:
        return {}
    builder = construct.Builder()
    value = builder.build(roots[0])
    found = list(_problems(name, builder))
    if len(roots) > 1:
        mark = roots[1].start_mark
        found.append(errors.Problem(name, mark.line + 1, mark.column + 1, "", "a values file is one document"))
    elif not found and not isinstance(value, dict):
        found.append(errors.Problem(name, 1, 1, "", "a values file is a map"))
    if found:
        raise ValuesProblems(found)
    return dict(value)


def _problems(name: str, builder: construct.Builder) -> Iterator[errors.Problem]:
    for item in builder.problems:
        mark = item.node.start_mark
        yield errors.Problem(name, mark.line + 1, mark.column + 1, "", item.reason, item.hint)
