"""What a clone's manifests may read: files of that commit, and nothing else of the host."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import cast

import pytest

from gitops import errors, manifests
from gitops.client import EngineClient
from gitops.reconciler.origins import RepositoryOrigin
from gitops.reconciler.reconcile import Options, Reconciler

CONFIG = "apiVersion: gitops/v1\nkind: Config\nmetadata: {{name: c, stack: app}}\nspec: {{file: {file}}}\n"


def git(directory: Path, *arguments: str) -> None:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", "-C", str(directory), *arguments]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / "manifests").mkdir(parents=True)
    (root / "shared.txt").write_text("shared\n")
    git(root, "init", "-q", "-b", "main")
    return root


async def load(repository: Path, state: Path, directory: str = "manifests") -> manifests.DesiredSet:
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "one")
    origin = RepositoryOrigin(f"file://{repository}", "main", directory, state)
    options = Options(manifests.LoadOptions(allow_host=False, secret_key=b"k" * 32))
    reconciler = Reconciler(cast(EngineClient, None), options)  # reading manifests takes no engine
    return reconciler._load(await origin.refresh())


async def test_a_file_of_the_repository_outside_the_path_can_be_read(repository: Path, tmp_path: Path) -> None:
    (repository / "manifests" / "c.yaml").write_text(CONFIG.format(file="../shared.txt"))
    found = await load(repository, tmp_path / "state")
    assert found.objects[0].spec.data == b"shared\n"  # type: ignore[union-attr]


async def test_a_work_tree_around_the_clone_is_not_the_repository(repository: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    git(home, "init", "-q")
    (home / "id_rsa").write_text("private\n")
    up = "../" * 5
    (repository / "manifests" / "c.yaml").write_text(CONFIG.format(file=f"{up}id_rsa"))
    with pytest.raises(errors.InvalidManifest, match="outside"):
        await load(repository, home / "state")


async def test_a_path_that_is_a_link_out_of_the_repository_is_refused(repository: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "c.yaml").write_text(CONFIG.format(file="secret"))
    (outside / "secret").write_text("private\n")
    (repository / "link").symlink_to(outside)
    with pytest.raises(errors.GitopsError):
        await load(repository, tmp_path / "state", "link")
