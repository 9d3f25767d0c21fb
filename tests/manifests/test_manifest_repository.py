"""What a manifest may read: inside its repository, links resolved, regular files, up to a limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gitops import errors, manifests
from gitops.manifests.repository import Refused, Repository, root_of

CONFIG = "apiVersion: gitops/v1\nkind: Config\nmetadata: {{name: a}}\nspec: {{file: {}}}\n"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    root = tmp_path / "repository"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("outside")
    return Repository(root, root)


def read(repository: Repository, text: str, limit: int = 100) -> bytes:
    return repository.read(repository.resolve(str(repository.root), text), limit)


def test_a_file_inside_is_read_and_its_digest_kept(repository: Repository) -> None:
    (repository.root / "a.txt").write_text("inside")
    assert read(repository, "./a.txt") == b"inside"
    assert list(repository.read_digests) == ["a.txt"]


@pytest.mark.parametrize("text", ["../outside/secret.txt", "/etc/passwd", "~/.profile", "../missing", "", "a\0b", "."])
def test_what_lies_outside_or_is_no_file_is_refused(repository: Repository, text: str) -> None:
    with pytest.raises(Refused):
        read(repository, text)


def test_a_link_that_leads_outside_is_refused_and_one_that_stays_inside_is_followed(repository: Repository) -> None:
    root = repository.root
    (root / "a.txt").write_text("inside")
    (root / "out").symlink_to("../outside/secret.txt")
    (root / "dir").symlink_to("../outside")
    (root / "in").symlink_to("a.txt")
    assert read(repository, "in") == b"inside"
    for text in ("out", "dir/secret.txt"):
        with pytest.raises(Refused, match="outside"):
            read(repository, text)


def test_a_link_that_is_swapped_in_after_the_check_is_not_followed(repository: Repository) -> None:
    root = repository.root
    (root / "sub").mkdir()
    (root / "sub" / "secret.txt").write_text("inside")
    real = repository.resolve(str(root), "sub/secret.txt")
    (root / "sub" / "secret.txt").unlink()
    (root / "sub").rmdir()
    (root / "sub").symlink_to("../outside")
    with pytest.raises(Refused, match="changed"):
        repository.read(real, 100)


def test_a_pipe_or_a_directory_is_refused_without_waiting(repository: Repository) -> None:
    os.mkfifo(repository.root / "pipe")
    (repository.root / "dir").mkdir()
    for text in ("pipe", "dir"):
        with pytest.raises(Refused, match="regular"):
            read(repository, text)


def test_a_file_over_the_limit_is_refused_with_both_numbers(repository: Repository) -> None:
    (repository.root / "big").write_bytes(b"x" * 101)
    with pytest.raises(Refused, match=r"101 bytes.*100"):
        read(repository, "big")


def test_files_of_git_itself_are_refused(repository: Repository) -> None:
    (repository.root / ".git").mkdir()
    (repository.root / ".git" / "config").write_text("url = https://token@host")
    with pytest.raises(Refused, match="git itself"):
        read(repository, ".git/config")


def test_the_operator_can_allow_more(repository: Repository, tmp_path: Path) -> None:
    repository.allowed = [tmp_path / "outside"]
    assert read(repository, "../outside/secret.txt") == b"outside"
    repository.allowed = [tmp_path / "outside" / "secret.txt"]
    assert read(repository, "../outside/secret.txt") == b"outside"


def test_the_root_is_the_git_work_tree_around_the_path(tmp_path: Path) -> None:
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    (tmp_path / "repo" / "a" / "b").mkdir(parents=True)
    assert root_of(tmp_path / "repo" / "a" / "b") == tmp_path / "repo"
    (tmp_path / "plain").mkdir()
    assert root_of(tmp_path / "plain") == tmp_path / "plain"


def test_a_manifest_reads_beside_its_directory_only_in_a_work_tree(tmp_path: Path) -> None:
    directory = tmp_path / "repo" / "manifests"
    directory.mkdir(parents=True)
    (tmp_path / "repo" / "nginx.conf").write_text("events {}")
    (directory / "a.yaml").write_text(CONFIG.format("../nginx.conf"))
    with pytest.raises(errors.InvalidManifest, match=r"a\.yaml:4:14: spec\.file: '\.\./nginx\.conf' leads outside"):
        manifests.load(directory)
    (tmp_path / "repo" / ".git").mkdir()
    assert "../nginx.conf" in manifests.load(directory).files_read


def test_a_manifest_of_100_mb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.yaml").open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(errors.InvalidManifest, match=r"a\.yaml: has 104857600 bytes, more than the limit of 4194304"):
        manifests.load(tmp_path)


def test_a_manifest_that_is_a_link_to_the_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "other.yaml").write_text("apiVersion: gitops/v1\nkind: Stack\nmetadata: {name: a}\n")
    (tmp_path / "repo" / "a.yaml").symlink_to("../other.yaml")
    with pytest.raises(errors.InvalidManifest, match=r"a\.yaml: .*outside of the repository"):
        manifests.load(tmp_path / "repo")


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to("..")
    (tmp_path / "sub" / "a.yaml").write_text("apiVersion: gitops/v1\nkind: Stack\nmetadata: {name: a}\n")
    assert list(manifests.load(tmp_path).stacks) == ["a"]
