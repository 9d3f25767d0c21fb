"""Texts parsed in a child while the parent imports: what comes out is what one process alone gives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitops import errors, manifests
from gitops.manifests import ahead
from gitops.manifests.text import scalars

SERVICE = """\
apiVersion: gitops/v1
kind: Service
metadata: {{name: web-{number}, stack: shop}}
spec:
  image: nginx
  environment: &environment {{LEVEL: info, RATIO: 1.10, MODE: 0440}}
  labels: *environment
  deploy: {{replicas: 3, resources: {{limits: {{cpus: 0.50, memory: 64M}}}}}}
"""
BROKEN = {
    "twice": "apiVersion: gitops/v1\nkind: Service\nkind: Service\n",
    "no-yaml": "apiVersion: gitops/v1\nkind: [\n",
    "unknown-key": SERVICE.format(number=1).replace("image:", "imag:"),
    "endless": "apiVersion: gitops/v1\nkind: Service\nmetadata: &a {name: x, b: *a}\n",
}


@pytest.fixture(autouse=True)
def _always_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_WORTH_IT", 0)
    monkeypatch.setattr(ahead, "_may_fork", lambda: True)


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The children that were made."""
    made: list[int] = []
    real = os.fork

    def fork() -> int:
        child = real()
        made.append(child)
        return child

    monkeypatch.setattr(os, "fork", fork)
    yield made
    for child in made:
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)  # none is left behind


def lay_out(directory: Path, count: int = 20) -> Path:
    for number in range(count):
        (directory / f"{number:03}.yaml").write_text(SERVICE.format(number=number))
    return directory


def alone(directory: Path, monkeypatch: pytest.MonkeyPatch) -> manifests.DesiredSet:
    with monkeypatch.context() as changed:
        changed.setattr(ahead, "_may_fork", lambda: False)
        return manifests.load(directory)


def test_a_set_is_what_one_process_makes_of_it(
    tmp_path: Path, forks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = manifests.load(lay_out(tmp_path))
    assert len(forks) == 1
    assert found == alone(tmp_path, monkeypatch)
    assert dict(found.of("Service")[3].positions) == dict(alone(tmp_path, monkeypatch).of("Service")[3].positions)


def test_numbers_keep_their_spelling_on_their_way(forks: list[int]) -> None:
    with ahead.parsing({"a": "x: 1.10\n", "b": "y: 1\n---\nz: 2\n"}) as parsed:
        ((_, _, value),) = parsed.take("a") or []
        assert isinstance(value["x"], scalars.SpelledFloat) and str(value["x"]) == "1.10"
        assert parsed.take("b") == [(1, 1, {"y": 1}), (3, 1, {"z": 2})]
        assert parsed.take("never given") is None


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_has_its_place_and_its_words(
    tmp_path: Path, forks: list[int], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (lay_out(tmp_path) / "broken.yaml").write_text(BROKEN[name])
    with pytest.raises(errors.InvalidManifest) as ahead_of:
        manifests.load(tmp_path)
    with pytest.raises(errors.InvalidManifest) as by_itself:
        alone(tmp_path, monkeypatch)
    assert ahead_of.value.problems == by_itself.value.problems and len(forks) == 1


def test_a_child_that_dies_costs_nothing_but_time(
    tmp_path: Path, forks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        os._exit(1)

    monkeypatch.setattr(ahead, "_work", die)
    assert manifests.load(lay_out(tmp_path)) == alone(tmp_path, monkeypatch)
    assert len(forks) == 1


def test_a_parent_that_gives_up_leaves_no_child(forks: list[int]) -> None:
    texts = {str(number): SERVICE.format(number=number) for number in range(2000)}
    with pytest.raises(KeyError), ahead.parsing(texts):
        raise KeyError
    assert len(forks) == 1


def test_small_sets_are_parsed_in_place(tmp_path: Path, forks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_WORTH_IT", 50_000)
    manifests.load(lay_out(tmp_path, 2))
    assert forks == []
