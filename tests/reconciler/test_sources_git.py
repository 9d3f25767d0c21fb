"""Git sources, against real repositories on disk."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gitops import errors
from gitops.reconciler.sources import git


def sh(directory: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    root.mkdir()
    sh(root, "git", "init", "-q", "-b", "main")
    sh(root, "git", "config", "user.email", "a@example.com")
    sh(root, "git", "config", "user.name", "a")
    (root / "a.yaml").write_text("one\n")
    sh(root, "git", "add", ".")
    sh(root, "git", "commit", "-q", "-m", "one")
    return root


def test_a_work_tree_says_its_commit_branch_and_whether_it_is_dirty(repository: Path) -> None:
    commit = sh(repository, "git", "rev-parse", "HEAD")
    found = git.worktree(repository)
    assert found == git.WorkTree(repository, str(repository), commit, "main", False, "a", "one")
    (repository / "b.yaml").write_text("new")
    found = git.worktree(repository)
    assert found is not None and found.is_dirty


def test_changes_outside_the_path_do_not_make_it_dirty(repository: Path) -> None:
    (repository / "sub").mkdir()
    (repository / "sub" / "x").write_text("x")
    sh(repository, "git", "add", ".")
    sh(repository, "git", "commit", "-q", "-m", "two")
    (repository / "a.yaml").write_text("changed\n")
    found = git.worktree(repository / "sub")
    assert found is not None and not found.is_dirty


def test_outside_git_there_is_no_work_tree(tmp_path: Path) -> None:
    assert git.worktree(tmp_path) is None


async def test_a_mirror_follows_a_branch_and_lays_out_its_files(repository: Path, tmp_path: Path) -> None:
    mirror = git.Mirror(f"file://{repository}", tmp_path / "state")
    first = await mirror.resolve("main")
    assert (await mirror.tree(first) / "a.yaml").read_text() == "one\n"
    (repository / "a.yaml").write_text("two\n")
    sh(repository, "git", "commit", "-qam", "two")
    second = await mirror.resolve("")
    tree = await mirror.tree(second)
    assert second != first and (tree / "a.yaml").read_text() == "two\n"
    assert {entry.name for entry in tree.parent.iterdir()} == {first, second}
    (repository / "a.yaml").write_text("three\n")
    sh(repository, "git", "commit", "-qam", "three")
    third = await mirror.resolve("")
    await mirror.tree(third)
    assert {entry.name for entry in tree.parent.iterdir()} == {second, third}


async def test_a_mirror_finds_tags_and_commits_and_names_a_missing_ref(repository: Path, tmp_path: Path) -> None:
    commit = sh(repository, "git", "rev-parse", "HEAD")
    sh(repository, "git", "tag", "-a", "v1", "-m", "v1")
    mirror = git.Mirror(str(repository), tmp_path / "state")
    assert await mirror.resolve("v1") == commit
    assert await mirror.resolve(commit) == commit
    with pytest.raises(errors.NotFound, match="no branch, tag or commit 'nope'"):
        await mirror.resolve("nope")


async def test_a_broken_clone_is_made_anew(repository: Path, tmp_path: Path) -> None:
    mirror = git.Mirror(str(repository), tmp_path / "state")
    commit = await mirror.resolve("main")
    for path in (tmp_path / "state" / "repository.git" / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"rubbish")
    assert await mirror.resolve("main") == commit


async def test_a_clone_that_lost_a_file_of_the_commit_is_made_anew(repository: Path, tmp_path: Path) -> None:
    mirror = git.Mirror(str(repository), tmp_path / "state")
    commit = await mirror.resolve("main")
    blob = sh(repository, "git", "rev-parse", "HEAD:a.yaml")
    bare = tmp_path / "state" / "repository.git"
    for pack in (bare / "objects" / "pack").glob("*.pack"):
        moved = tmp_path / "pack"
        pack.rename(moved)
        subprocess.run(["git", "-C", str(bare), "unpack-objects", "-q"], input=moved.read_bytes(), check=True)
    (bare / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(errors.RuntimeFailure):
        await mirror.tree(commit)
    assert (await mirror.tree(await mirror.resolve("main")) / "a.yaml").read_text() == "one\n"


async def test_an_unreachable_repository_is_a_temporary_error_without_its_credentials(tmp_path: Path) -> None:
    mirror = git.Mirror("http://user:hunter2@127.0.0.1:9/none", tmp_path / "state")
    with pytest.raises(errors.Unavailable) as caught:
        await mirror.resolve("main")
    assert caught.value.is_temporary and "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["ext::sh -c x", "--upload-pack=x", "ftp://a/b", "http://example.com/x", "relative/path"]
)
def test_urls_that_are_not_fetched_from_are_refused(url: str) -> None:
    with pytest.raises(errors.Invalid):
        git.check_url(url)


@pytest.mark.parametrize(
    "url", ["https://example.com/a.git", "ssh://git@example.com/a", "git@example.com:a/b.git", "/srv/a"]
)
def test_usual_urls_are_taken(url: str) -> None:
    assert git.check_url(url) == url


def test_an_identity_has_no_credentials_and_no_suffix() -> None:
    assert git.identity("https://user:pw@example.com/a/b.git/") == "https://example.com/a/b"
    assert git.identity("file:///srv/a.git") == "/srv/a"


def test_what_disappears_while_it_is_removed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "clone"
    (target / "objects").mkdir(parents=True)
    git._unless_gone(None, "objects", (FileNotFoundError, FileNotFoundError(), None))
    git._remove(target)
    git._remove(target)
    assert not target.exists()
    with pytest.raises(errors.RuntimeFailure, match="the clone can't be kept here"):
        git._make(Path("/proc/nowhere"))


def test_a_work_tree_that_git_refuses_to_read_is_an_error_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x", "--allow-empty"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(errors.RuntimeFailure, match="dubious ownership"):
        git.worktree(tmp_path)
