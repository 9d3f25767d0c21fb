"""The one place that runs git.

Reading a work tree goes through GitPython; whatever touches the network goes through the `git` program with a fixed
set of protocols, no prompts, no hooks, a deadline, and arguments that can't be taken for options.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from gitops import errors

NETWORK_TIMEOUT_S = 300.0
_SUBJECT_LENGTH = 200
_SCP_LIKE = re.compile(r"^(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9.-]+:(?!//)\S+$")
_SCHEMES = {"https", "ssh", "file", "http"}
_COMMIT = re.compile(r"^[0-9a-f]{40}([0-9a-f]{24})?$")
_CREDENTIALS = re.compile(r"(\w+://)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class WorkTree:
    """What git says of a directory: its tree's root, commit and branch, and whether files differ from the commit."""

    root: Path
    origin: str
    commit: str
    branch: str
    is_dirty: bool
    author: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: its id, who wrote it, and the first line of what it says."""

    id: str
    author: str = ""
    subject: str = ""


def worktree(path: Path) -> WorkTree | None:
    """The work tree around `path`; None outside git or before the first commit.

    Raises:
        errors.RuntimeFailure: git refuses to read it.
    """
    import git

    try:
        repo = git.Repo(path, search_parent_directories=True)
    except (git.InvalidGitRepositoryError, git.NoSuchPathError):
        return None
    with repo:
        if repo.bare or repo.working_tree_dir is None:
            return None
        root = Path(repo.working_tree_dir).resolve()
        relative = str(path.resolve().relative_to(root))
        try:
            is_dirty = bool(repo.git.status("--porcelain", "--untracked-files=all", "--", relative))
        except git.GitCommandError as error:
            # Above all a tree of another user, whose configuration could make git run programs as us.
            said = str(error.stderr).strip().removeprefix("stderr: ").strip("'")
            raise errors.RuntimeFailure(
                f"{root}: git does not read this work tree: {_reason(said)}; git -C {root} status says how to allow it"
            ) from error
        try:
            head = repo.head.commit
            commit = head.hexsha
        except ValueError:
            return None
        branch = "" if repo.head.is_detached else repo.active_branch.name
        origin = next((remote.url for remote in repo.remotes if remote.name == "origin"), "")
        name = identity(origin) if origin else str(root)
        return WorkTree(root, name, commit, branch, is_dirty, str(head.author.name or ""), _line(head.summary))


async def lay_out(root: Path, rev: str, target: Path) -> str:
    """Lay the files of a commit of the repository at `root` out in `target`; gives the commit. The work tree stays.

    Raises:
        errors.NotFound: no such commit. errors.RuntimeFailure: git can't lay it out.
    """
    if rev.startswith(("-", ":")) or "\0" in rev:
        raise errors.Invalid(f"{rev!r}: not a branch, tag or commit")
    environment = dict(os.environ)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        environment.pop(name, None)
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "GIT_INDEX_FILE": f"{target}.index"}
    git = ["git", "-C", str(root), "-c", "core.hooksPath=/dev/null"]
    code, out, _ = await run(
        [*git, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}"], environment
    )
    if code != 0:
        raise errors.NotFound(f"{root}: no commit {rev!r} here; a shallow clone has only a few: git fetch --unshallow")
    commit = out.strip()
    _make(target)
    code, _, err = await run(
        [*git, f"--work-tree={target}", "checkout", "--quiet", "--force", commit, "--", "."], environment
    )
    if code != 0:
        raise errors.RuntimeFailure(f"{root}: commit {commit[:12]} can't be laid out: {_reason(err)}")
    return commit


def check_url(url: str) -> str:
    """`url`, if it is one that we fetch from: https, ssh (also `user@host:path`), file, http on loopback, or a path.

    Raises:
        errors.Invalid: anything else, such as `ext::` or an option in disguise.
    """
    if url.startswith("-") or "::" in url or any(char.isspace() or ord(char) < 32 for char in url):
        raise errors.Invalid(f"repository {url!r}: not a URL that is fetched from: use https, ssh or file")
    if url.startswith("/"):
        return url
    if "://" not in url:
        if _SCP_LIKE.match(url):
            return url
        raise errors.Invalid(f"repository {url!r}: use an https, ssh or file URL, or an absolute path")
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise errors.Invalid(f"repository {url!r}: protocol {parts.scheme!r} is not allowed: use https, ssh or file")
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise errors.Invalid(f"repository {redact(url)!r}: plain http is only used on loopback: use https")
    return url


def identity(url: str) -> str:
    """A repository's name for ownership: without credentials, `.git` and a trailing slash."""
    if "://" in url:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        url = parts.path if parts.scheme == "file" else urlunsplit((parts.scheme, host, parts.path, "", ""))
    return url.rstrip("/").removesuffix(".git")


def redact(text: str) -> str:
    """`text` with credentials in URLs taken out."""
    return _CREDENTIALS.sub(r"\1***@", text)


class Mirror:
    """A bare clone that is fetched into and mended by itself, and trees of its commits laid out beside it."""

    def __init__(self, url: str, directory: Path) -> None:
        """`directory` is ours alone; it is made 0700 when it is missing."""
        self.url = check_url(url)
        self._directory = directory
        self._bare = directory / "repository.git"
        self._trees = directory / "trees"
        self._kept = ("", "")

    async def resolve(self, ref: str) -> str:
        """Fetch, and give the commit that `ref` (a branch, tag or commit; "" for the default branch) stands for.

        A clone that git finds broken is thrown away and made anew.

        Raises:
            errors.Unavailable: the repository can't be reached.
            errors.NotFound: it has no such ref.
        """
        if ref.startswith(("-", ":")) or "\0" in ref:
            raise errors.Invalid(f"ref {ref!r}: not a branch, tag or commit")
        if not await self._is_sound():
            await self._clone()
        refspecs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "+HEAD:refs/gitops/default")
        try:
            await self._run("fetch", "--quiet", "--prune", "--force", "--no-auto-maintenance", "origin", *refspecs)
        except errors.Unavailable:
            await self._drop_if_broken()
            raise
        names = [f"refs/heads/{ref}", f"refs/tags/{ref}"] if ref else ["refs/gitops/default"]
        if _COMMIT.match(ref):
            names.append(ref)
        for name in names:
            code, out, _ = await self._try("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
            if code == 0:
                return out.strip()
        raise errors.NotFound(f"repository {redact(self.url)} has no branch, tag or commit {ref!r}: check --ref")

    async def tree(self, commit: str) -> Path:
        """A directory with the files of `commit`; that of the commit before stays, since an apply may still read it.

        Raises:
            errors.RuntimeFailure: git can't lay it out (a full disk, a broken clone, which is made anew next time).
        """
        target = self._trees / commit
        if not target.is_dir():
            scratch = self._trees / f".{commit}.partial"
            await asyncio.to_thread(_remove, scratch)
            _make(scratch)
            try:
                await self._run(
                    f"--work-tree={scratch}", "checkout", "--quiet", "--force", commit, "--", ".", index=scratch.name
                )
            except errors.RuntimeFailure:
                await self._drop_if_broken()
                raise
            scratch.rename(target)
        if commit != self._kept[-1]:
            self._kept = (self._kept[-1], commit)
        for other in self._trees.iterdir():
            if other.name not in self._kept:
                await asyncio.to_thread(_remove, other)
        return target

    async def describe(self, commit: str) -> Commit:
        """Who wrote a commit and what it says.

        Raises:
            errors.RuntimeFailure: it is not in the clone.
        """
        out = await self._run("show", "--no-patch", "--format=%an%n%s", "--end-of-options", commit)
        author, _, subject = out.partition("\n")
        return Commit(commit, author.strip(), _line(subject))

    async def _drop_if_broken(self) -> None:
        """Throw the clone away when objects are missing, which only a walk over all of them shows."""
        code, _, _ = await self._try("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
        if code != 0:
            await asyncio.to_thread(_remove, self._bare)

    async def _is_sound(self) -> bool:
        if not (self._bare / "HEAD").is_file():
            return False
        code, out, _ = await self._try("config", "--get", "remote.origin.url")
        if code != 0 or out.strip() != self.url:
            return False
        code, _, _ = await self._try("rev-list", "--quiet", "--all", "--max-count=1", "--objects")
        return code == 0

    async def _clone(self) -> None:
        await asyncio.to_thread(_remove, self._bare)
        _make(self._directory)
        await self._run("init", "--quiet", "--bare", str(self._bare), bare=False)
        await self._run("config", "remote.origin.url", self.url)

    async def _run(self, *arguments: str, bare: bool = True, index: str = "") -> str:
        code, out, err = await self._try(*arguments, bare=bare, index=index)
        if code == 0:
            return out
        reason = redact(_reason(err) or f"git ended with {code}")
        action = next(word for word in arguments if not word.startswith("-"))
        if action == "fetch":
            raise errors.Unavailable(f"repository {redact(self.url)}: can't be fetched: {reason}")
        raise errors.RuntimeFailure(f"repository {redact(self.url)}: git {action} failed: {reason}")

    async def _try(self, *arguments: str, bare: bool = True, index: str = "") -> tuple[int, str, str]:
        place = [f"--git-dir={self._bare}"] if bare else []
        environment = dict(os.environ)
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
            environment.pop(name, None)
        environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "https:http:ssh:file", "LC_ALL": "C"}
        environment.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
        if index:
            environment["GIT_INDEX_FILE"] = str(self._bare / f"index{index}")
        return await run(
            ["git", *place, "-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", *arguments], environment
        )


def _line(text: str | bytes) -> str:
    """The first line of a commit's message."""
    found = text.decode(errors="replace") if isinstance(text, bytes) else text
    return (found.strip().splitlines() or [""])[0][:_SUBJECT_LENGTH]


def _reason(err: str) -> str:
    """The line of git's errors that says why: its first fatal one, since advice for a person follows."""
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal: ", "ERROR: ", "remote: ERROR"))]
    return (fatal or lines[-1:] or [""])[0].removeprefix("fatal: ")


async def run(command: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """Run a program to its end, within the deadline: its code, output and errors.

    Raises:
        errors.Unavailable: it did not end in time; it is killed with its children.
        errors.RuntimeFailure: git is not installed.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise errors.RuntimeFailure("git is not installed: install the package git") from error
    try:
        async with asyncio.timeout(NETWORK_TIMEOUT_S):
            out, err = await process.communicate()
    except TimeoutError as error:
        raise errors.Unavailable(f"git did not end within {NETWORK_TIMEOUT_S:.0f} s") from error
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise errors.RuntimeFailure(f"{path}: the clone can't be kept here: {error.strerror}") from error


def _remove(path: Path) -> None:
    """Remove whatever is there; somebody else may do so at the same time.

    Raises:
        errors.RuntimeFailure: it can't be removed.
    """
    import shutil

    try:
        if path.is_symlink() or path.is_file():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path, onerror=_unless_gone)
    except OSError as error:
        raise errors.RuntimeFailure(f"{path}: can't be removed: {error.strerror}") from error


def _unless_gone(call: object, path: str, caught: tuple[Any, BaseException, Any]) -> None:
    if not isinstance(caught[1], FileNotFoundError):
        raise caught[1]
