"""A Compose project that is loaded again is the same where nothing changed, and else as if it were loaded first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitops import errors, manifests
from gitops.manifests import LoadMemory, LoadOptions

FILES = {
    "compose.yaml": """\
name: shop
include: [db/compose.yaml]
services:
  web: {image: "web:${TAG}", extends: {file: base.yaml, service: base}, env_file: [{path: more.env, required: false}]}
  extra: {image: extra, profiles: [more]}
secrets: {key: {file: key.txt}, token: {environment: TOKEN}}
""",
    "base.yaml": "services: {base: {environment: {A: 1}, label_file: a.labels, secrets: [key, token]}}\n",
    "a.labels": "a=b\n",
    ".env": "TAG=1\nTOKEN=t\n",
    "key.txt": "hush",
    "db/compose.yaml": "services: {db: {image: 'db:${VERSION:-1}'}}\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def load(root: Path, memory: LoadMemory | None, **more: Any) -> manifests.DesiredSet:
    return manifests.load(root, LoadOptions(root=root, secret_key=b"k", **({"environ": {}} | more)), memory)


def said(root: Path, memory: LoadMemory | None, **more: Any) -> Any:
    try:
        found = load(root, memory, **more)
    except errors.InvalidManifest as error:
        return [problem.headline() for problem in error.problems]
    return found.objects, found.externals, dict(found.files_read), found.warnings


def test_what_did_not_change_is_the_same(root: Path) -> None:
    memory = LoadMemory()
    first, second = load(root, memory), load(root, memory)
    assert first == second and first.of("Service")
    assert all(old.spec is new.spec for old, new in zip(first.of("Service"), second.of("Service"), strict=True))


Change = Callable[[Path], dict[str, Any] | None]


def rewrite(name: str, text: str) -> Change:
    return lambda root: (root / name).write_text(text) and None  # type: ignore[func-returns-value]


CHANGES: dict[str, Change] = {
    "the file": lambda root: rewrite("compose.yaml", FILES["compose.yaml"].replace("web:", "www:"))(root),
    "a variable of a file": rewrite(".env", "TAG=2\nTOKEN=t\n"),
    "a secret's variable": rewrite(".env", "TAG=1\nTOKEN=other\n"),
    "a secret's file": rewrite("key.txt", "other"),
    "what is extended": rewrite("base.yaml", "services: {base: {environment: {A: 2}}}\n"),
    "labels": rewrite("a.labels", "a=c\n"),
    "what is included": rewrite("db/compose.yaml", "services: {db: {image: other}}\n"),
    "variables of what is included": rewrite("db/.env", "VERSION=7\n"),
    "a file that needn't be there": rewrite("more.env", "B=1\n"),
    "an override": rewrite("compose.override.yaml", "services: {web: {hostname: h}}\n"),
    "nothing but a file that goes": lambda root: (root / "base.yaml").unlink(),
    "a mistake": rewrite("db/compose.yaml", "services: {db: {imag: other}}\n"),
    "the environment": lambda root: {"environ": {"TAG": "9"}},
    "the environment, of what isn't asked for": lambda root: {"environ": {"OTHER": "9"}},
    "profiles": lambda root: {"profiles": ("more",)},
    "profiles of the environment": lambda root: {"environ": {"COMPOSE_PROFILES": "more"}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_after_any_change_it_is_as_if_it_were_loaded_first(name: str, root: Path) -> None:
    memory = LoadMemory()
    before = said(root, memory)
    more = CHANGES[name](root) or {}
    after = said(root, memory, **more)
    assert after == said(root, None, **more)
    is_same = name == "the environment, of what isn't asked for"
    assert (after == before) is is_same
    assert said(root, memory, **more) == after
