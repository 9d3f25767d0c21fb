"""Whether a set is valid, remembered from one run to the next: what is the same byte for byte isn't checked again.

Kept, under a name made of all that a check depends on (the files, the options, this program), is nothing but how many
objects of each kind there are. A set with a problem or a warning isn't kept, since those are said with their places;
nor one whose check asked for more than its own files: files that manifests name, the environment, this host. A cache
that can't be used, or that others could write, is no cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import gitops
from gitops import errors, manifests
from gitops.manifests.compose import discovery
from gitops.manifests.memory import LoadMemory
from gitops.manifests.options import LoadOptions

if TYPE_CHECKING:
    from gitops.manifests.reading import Found

_KEPT = 100
"""Verdicts; each is a few dozen bytes."""
_PACKAGE = Path(gitops.__file__).parent
_CODE = ("manifests", "objects", "oci")
_LIBRARIES = ("pydantic", "_ruamel_yaml", "msgspec")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of a valid set: its objects by kind, external ones apart."""

    objects: Mapping[str, int]
    externals: int = 0
    warnings: tuple[errors.Problem, ...] = field(default=())


def check(path: Path, options: LoadOptions) -> Verdict:
    """Check the manifests of a path as a whole.

    Raises:
        errors.InvalidManifest: anything wrong in any file, all of it at once.
        errors.NotFound: there is no such path.
    """
    from gitops.manifests import reading

    memory = LoadMemory()
    found = reading.read([path], options, memory)
    name = _name(found, options)
    if name and (known := _read(name)) is not None:
        return known
    looks = _looks(found)
    desired = manifests.load_found(found, options, memory)
    verdict = Verdict(Counter(item.kind for item in desired.objects), len(desired.externals), desired.warnings)
    if name and not verdict.warnings and not desired.asked_host and looks == _looks(found):
        _write(name, verdict)
    return verdict


def _looks(found: Found) -> int:
    return sum(repository.looks for _, repository in found.repositories)


def _name(found: Found, options: LoadOptions) -> str:
    """A name for all that a check depends on; empty where that is more than the files themselves."""
    state = hashlib.sha256(repr((gitops.__version__, sys.version, options, list(_program()))).encode())
    for file in found.files:
        if file.failure is not None or discovery.looks_like(file.source.text):
            return ""
        source = file.source
        place = (source.name, source.directory, str(file.repository.root), source.is_rendered, file.is_given)
        state.update(repr((place, file.digest)).encode("utf-8", "surrogatepass"))
    return state.hexdigest()


def _program() -> Iterator[tuple[str, int, int]]:
    """The files of what checks, with size and time: another version may find more, or less."""
    libraries = [found.origin for name in _LIBRARIES if (found := importlib.util.find_spec(name)) and found.origin]
    own = [
        os.path.join(directory, name)
        for package in _CODE
        for directory, _, names in os.walk(_PACKAGE / package)
        for name in sorted(names)
        if name.endswith(".py")
    ]
    for path in (*sorted(own), *libraries):
        status = os.stat(path)
        yield path, status.st_size, status.st_mtime_ns


# The cache


def _directory() -> Path | None:
    """Where verdicts are kept; None where others could write there."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    directory = Path(base) / "gitops" / "verdicts"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = directory.stat()
    is_ours = status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return directory if is_ours else None


def _read(name: str) -> Verdict | None:
    with contextlib.suppress(OSError, RuntimeError, ValueError, TypeError, KeyError):
        directory = _directory()
        if directory is not None:
            data = json.loads((directory / name).read_bytes())
            return Verdict({str(kind): int(count) for kind, count in data["objects"].items()}, int(data["externals"]))
    return None


def _write(name: str, verdict: Verdict) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        directory = _directory()
        if directory is None:
            return
        with tempfile.NamedTemporaryFile("w", dir=directory, prefix=".", delete=False) as file:
            json.dump({"objects": dict(verdict.objects), "externals": verdict.externals}, file)
        os.replace(file.name, directory / name)
        kept = sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in kept[_KEPT:]:
            old.unlink(missing_ok=True)
