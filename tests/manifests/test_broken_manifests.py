"""Each directory of `broken/` is a set of manifests with `expected.txt`: all its problems as headlines, in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops import errors, manifests

BROKEN = Path(__file__).parent / "broken"
CASES = sorted(path for path in BROKEN.iterdir() if path.is_dir())


def problems_of(directory: Path) -> tuple[errors.Problem, ...]:
    with pytest.raises(errors.InvalidManifest) as caught:
        manifests.load(directory, manifests.LoadOptions(environ={}, root=directory))
    return caught.value.problems


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_a_broken_manifest_is_reported_with_file_line_column_field_and_reason(case: Path) -> None:
    expected = (case / "expected.txt").read_text().splitlines()
    assert [problem.headline() for problem in problems_of(case)] == expected


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_the_caret_stands_under_what_is_wrong(case: Path) -> None:
    for problem in problems_of(case):
        if problem.source:
            assert 1 <= problem.column <= len(problem.source) + 1
            assert problem.column + problem.width - 1 <= max(len(problem.source), problem.column)
            assert not any(ord(mark) < 32 and mark != "\t" for mark in problem.source)


def test_there_are_at_least_thirty_of_them() -> None:
    assert len(CASES) >= 30


@pytest.mark.parametrize("case", ["secrets-and-configs", "not-yaml-secret-is-not-shown"])
def test_no_value_of_a_secret_is_in_an_error(case: str) -> None:
    for problem in problems_of(BROKEN / case):
        assert "hunter2" not in str(problem) and "hunter2" not in repr(problem)
        assert "abc" not in repr(problem)
