"""Two commits of a repository, compared without any engine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gitops.cli import main

SERVICE = "apiVersion: gitops/v1\nkind: Service\nmetadata: {{name: web, stack: shop}}\nspec: {{image: 'nginx:{tag}'}}\n"
SECRET = "apiVersion: gitops/v1\nkind: Secret\nmetadata: {{name: key, stack: shop}}\nspec: {{content: {value}}}\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    root.mkdir()
    git(root, "init", "--quiet")
    for number in (1, 2):
        (root / "web.yaml").write_text(SERVICE.format(tag=number))
        (root / "key.yaml").write_text(SECRET.format(value=f"hunter{number}"))
        git(root, "add", ".")
        git(root, "commit", "--quiet", "--message", str(number))
    return root


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True)


def diff(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main.cli, ["diff", *arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    assert isinstance(done.return_value, int)
    return done.return_value, click.unstyle(done.output)


def test_two_commits_are_compared_and_the_work_tree_stays_as_it_is(repository: Path) -> None:
    (repository / "web.yaml").write_text("not a manifest")
    code, text = diff("HEAD~1..HEAD", "--", str(repository))
    assert code == 2 and "image" in text and "nginx:1  ->  nginx:2" in text and "hunter" not in text
    assert text.splitlines()[-1] == "2 to update. No engine was asked: no drift, digest or schedule is in this."
    assert (repository / "web.yaml").read_text() == "not a manifest"
    found = json.loads(diff("HEAD~1..HEAD", str(repository), "--format", "json")[1])
    assert {item["kind"]: item["action"] for item in found["changes"]} == {
        "Network": "no-op",
        "Secret": "update",
        "Service": "update",
    }
    assert diff("HEAD..HEAD", str(repository))[0] == 0


def test_what_no_commit_has_is_an_error(repository: Path) -> None:
    with pytest.raises(Exception, match="no commit 'nowhere' here"):
        diff("HEAD..nowhere", str(repository))
    with pytest.raises(Exception, match="one PATH, please"):
        diff("HEAD..HEAD", str(repository), "more")
