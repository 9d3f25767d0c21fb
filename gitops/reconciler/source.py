"""Where a run's manifests come from: a name for ownership, a commit where there is one, and a revision to hold.

A revision names a state of the manifests: the commit and a digest of all files that were read. It is what is held when
it failed; a new commit or any change of a file is another revision.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gitops.reconciler.sources import git


@dataclass(frozen=True, slots=True)
class Source:
    """Manifests' origin. `identity` is the repository (or directory) and the path in it."""

    identity: str
    path: Path
    commit: str = ""
    is_dirty: bool = False
    author: str = ""
    """Who wrote the commit, and in a line what it does."""
    subject: str = ""
    root: Path | None = None
    """The repository that manifests may read files of, where it is not to be found from `path`."""

    @property
    def label(self) -> str:
        """The commit as people read it: twelve digits, with `+` where files differ from it."""
        return self.commit[:12] + ("+" if self.is_dirty else "") if self.commit else ""


def of_path(path: Path) -> Source:
    """The source of a directory or file on this host, with the commit of the git work tree around it."""
    resolved = path.resolve()
    tree = git.worktree(resolved if resolved.is_dir() else resolved.parent)
    if tree is None:
        return Source(f"path:{resolved}", resolved)
    identity = f"{tree.origin}#{resolved.relative_to(tree.root)}"
    return Source(identity, resolved, tree.commit, tree.is_dirty, tree.author, tree.subject)


def of_repository(url: str, commit: git.Commit, tree: Path, directory: str) -> Source:
    """The source of a directory in a commit of a repository, laid out under `tree`."""
    path = tree / directory if directory else tree
    identity = f"{git.identity(url)}#{Path(directory or '.')}"
    return Source(identity, path, commit.id, author=commit.author, subject=commit.subject, root=tree)


def part_of(identity: str, whole: str) -> str:
    """The path of the source `identity` in the source `whole`, if it is a file or directory of it; else empty."""
    origin, path = _split(identity)
    other, base = _split(whole)
    if origin != other or path == base or not path.is_relative_to(base):
        return ""
    return str(path.relative_to(base))


def _split(identity: str) -> tuple[str, PurePosixPath]:
    """The repository (or that it is this host) and the path in it."""
    if identity.startswith("path:"):
        return "path:", PurePosixPath(identity.removeprefix("path:"))
    origin, _, path = identity.rpartition("#")
    return origin, PurePosixPath(path)


def revision(source: Source, files: Mapping[str, str], key: bytes = b"") -> str:
    """The name of a state: the commit's first twelve digits and a digest over the names and digests of all files.

    With the operator's `key` nobody else can find out by trying what stood in a file: so it is where secrets are read.
    """
    listed = "".join(f"{name}\0{files[name]}\n" for name in sorted(files)).encode()
    digest = hmac.new(key, listed, hashlib.sha256) if key else hashlib.sha256(listed)
    return f"{source.commit[:12] or 'files'}-{digest.hexdigest()[:16]}"
