"""Docker's rules of `rmi`, as tables."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gitops import errors
from gitops.engine.images import removal
from gitops.oci import reference as references

ID = "sha256:" + "ab" * 32
DIGEST = "sha256:" + "cd" * 32


@dataclass(frozen=True)
class User:
    id: str
    is_running: bool


RUNNING, STOPPED = User("1" * 64, True), User("2" * 64, False)


def names(*texts: str) -> list[references.Reference]:
    return [references.parse(text) for text in texts]


def plan(given: str | None, has: list[str], users: list[User] | None = None, force: bool = False) -> removal.Plan:
    reference = references.parse(given) if given else None
    return removal.plan(ID, reference, names(*has), users or [], force=force)


@pytest.mark.parametrize(
    ("given", "has", "untagged", "is_deleted"),
    [
        ("app:1", ["app:1"], ["app:1"], True),
        ("app:1", ["app:1", "app:2"], ["app:1"], False),
        ("app:1", ["app:1", "other:1"], ["app:1"], False),
        ("app:1", ["app:1", f"app@{DIGEST}"], ["app:1", f"app@{DIGEST}"], True),
        ("app:1", ["app:1", f"app@{DIGEST}", "other:1"], ["app:1", f"app@{DIGEST}"], False),
        ("app:1", ["app:1", f"other@{DIGEST}"], ["app:1"], False),
        (f"app@{DIGEST}", ["app:1", f"app@{DIGEST}"], [f"app@{DIGEST}"], False),
        (f"app@{DIGEST}", [f"app@{DIGEST}"], [f"app@{DIGEST}"], True),
        (None, ["app:1", f"app@{DIGEST}"], ["app:1", f"app@{DIGEST}"], True),
        (None, [], [], True),
    ],
)
def test_what_goes(given: str | None, has: list[str], untagged: list[str], is_deleted: bool) -> None:
    assert plan(given, has) == removal.Plan(tuple(names(*untagged)), is_deleted)


@pytest.mark.parametrize(
    ("given", "has", "users", "force", "text"),
    [
        ("app:1", ["app:1"], [STOPPED], False, '"app:1" .must force. - container 222222222222 is using'),
        ("app:1", ["app:1"], [RUNNING], True, "cannot be forced. - image is being used by running container 1111"),
        (None, ["app:1"], [RUNNING], True, "cannot be forced"),
        (None, ["app:1"], [STOPPED], False, "must be forced. - image is being used by stopped container 2222"),
        (None, ["app:1", "app:2"], [], False, "must be forced. - image is referenced in multiple repositories"),
        (None, ["app:1", "other:1"], [], False, "referenced in multiple repositories"),
    ],
)
def test_what_forbids_it(given: str | None, has: list[str], users: list[User], force: bool, text: str) -> None:
    with pytest.raises(errors.Conflict, match=text):
        plan(given, has, users, force)


@pytest.mark.parametrize(
    ("given", "has", "users"), [("app:1", ["app:1"], [STOPPED]), (None, ["app:1", "other:1"], [STOPPED])]
)
def test_what_force_allows(given: str | None, has: list[str], users: list[User]) -> None:
    assert plan(given, has, users, force=True).is_deleted


def test_a_name_among_several_goes_even_while_the_image_runs() -> None:
    assert plan("app:1", ["app:1", "app:2"], [RUNNING]) == removal.Plan(tuple(names("app:1")), False)
