"""Whatever stands in a place of a Compose file, the answer is a problem with a place, never another exception."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gitops import errors, manifests
from gitops.manifests.text import construct, emit, graph
from gitops.manifests.text.construct import Path as Place

PROJECT = Path(__file__).parent / "projects" / "every-key"
DATA = construct.Builder().build(graph.compose((PROJECT / "compose.yaml").read_text())[0])
ENVIRON = {"EVERY_KEY_TOKEN": "t", "EVERY_KEY_LEVEL": "l"}
VALUES: list[Any] = [
    *(None, "", 0, -1, 1.5, True, [], {}, ["a"], [None], [[]], [{}], {"a": None}, {"a": {}}, {"": 1}, "a b", "a:b:c:d"),
    *(
        "/",
        "..",
        "{{.X}}",
        10**30,
        float("inf"),
        float("nan"),
        "\x07",
        "é",
        ["a", "a"],
        "${A",
        "$$",
        "${EVERY_KEY_LEVEL}",
    ),
]


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def changed(place: Place, value: Any) -> dict[str, Any]:
    result: dict[str, Any] = copy.deepcopy(DATA)
    inner: Any = result
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    return result


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(shutil.copytree(PROJECT, Path(directory, "project")))


def problems(project: Path) -> tuple[errors.Problem, ...]:
    options = manifests.LoadOptions(root=project, environ=ENVIRON, profiles=("all",))
    try:
        manifests.load(project, options)
    except errors.InvalidManifest as error:
        return tuple(error.problems)
    return ()


@pytest.mark.timeout(300)
@settings(max_examples=150)
@given(st.sampled_from(list(places(DATA))), st.sampled_from(VALUES))
@example(("services", "cache", "pids_limit"), float("inf"))
@example(("services", "web", "healthcheck", "retries"), float("nan"))
def test_any_value_in_any_place_is_taken_or_refused_with_its_line(project: Path, place: Place, value: Any) -> None:
    (project / "compose.yaml").write_text(emit.document(changed(place, value)))
    assert all(problem.line > 0 for problem in problems(project))


@pytest.mark.timeout(300)
@settings(max_examples=60)
@given(st.sampled_from(list(places(DATA))), st.sampled_from(VALUES))
def test_so_is_what_is_laid_over_a_file(project: Path, place: Place, value: Any) -> None:
    (project / "compose.yaml").write_text(emit.document(DATA))
    (project / "compose.override.yaml").write_text(emit.document(changed(place, value)))
    try:
        assert all(problem.line > 0 for problem in problems(project))
    finally:
        (project / "compose.override.yaml").unlink()
