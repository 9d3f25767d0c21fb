"""Which files of a directory are Compose projects, and what a project is called."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_OVERRIDES = (
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
_SECTIONS = frozenset(("networks", "volumes", "secrets", "configs"))
_CERTAIN = frozenset(("services", "include"))
_OTHERS = frozenset(("version", "name", "models"))
_KEY = re.compile(r"^(?:\{[ \t]*)?[\"']?([A-Za-z_][A-Za-z0-9_.-]*)[\"']?[ \t]*:(?=\s|$)", re.MULTILINE)
_FIRST = re.compile(r"^(?:services|include):(?=\s|$)", re.MULTILINE)
_FORBIDDEN = re.compile(r"[^a-z0-9_-]")


def looks_like(text: str) -> bool:
    """Whether a text is a Compose file: it has sections of one, and says nowhere that it is of a kind."""
    if "kind" not in text and "apiVersion" not in text and _FIRST.search(text):
        return True
    if text.startswith("apiVersion: ") or "\napiVersion: " in text:
        return False  # nearly always, and found in no time
    keys = set(_KEY.findall(text))
    if "kind" in keys or "apiVersion" in keys:
        return False
    if keys & _CERTAIN:
        return True
    return bool(keys & _SECTIONS) and all(key in _SECTIONS or key in _OTHERS or key.startswith("x-") for key in keys)


def is_plain(text: str) -> bool:
    """Whether a Compose file stands for itself: nothing is to be filled in, merged or fetched."""
    return not any(mark in text for mark in ("$", "<<", "extends", "include", "!reset", "!override"))


def is_main(name: str) -> bool:
    """Whether a file has one of the names that Compose looks for by itself."""
    return name in _NAMES


def group(names: Sequence[str]) -> list[list[str]]:
    """The Compose files of one directory as projects: the one of Compose's own names, with its override; else each
    file by itself. Beside a file of Compose's own name others are no projects: Compose takes them when they are named.
    """
    main = next((name for name in _NAMES if name in names), None)
    if main is None:
        return [[name] for name in names]
    override = next((name for name in _OVERRIDES if name in names), None)
    return [[main, override] if override else [main]]


def project_name(text: str) -> str:
    """A text as a project's name, by Compose's rule: lower case, without what names don't hold."""
    return _FORBIDDEN.sub("", text.lower()).lstrip("_-")


def directory_name(directory: str) -> str:
    """What a project is called after its directory."""
    return project_name(os.path.basename(os.path.realpath(directory))) or "default"
