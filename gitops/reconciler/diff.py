"""The fields in which two canonical forms differ. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field: its path in the manifest's words, and both values; None where it is absent."""

    path: str
    old: Any
    new: Any


def fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    """All differences between two canonical forms, in the order of their paths.

    Maps are compared key by key; lists (whose order means something: commands) as a whole. Canonical forms leave out
    what says nothing, so a key with an empty value is not the same as none.
    """
    return tuple(sorted(_walk("", old, new), key=lambda change: change.path))


def _walk(path: str, old: Any, new: Any) -> Iterator[FieldChange]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in old.keys() | new.keys():
            yield from _walk(_join(path, str(key)), old.get(key), new.get(key))
        return
    if old == new:
        return
    whole, other = (old, new) if isinstance(old, Mapping) else (new, old)
    if isinstance(whole, Mapping) and whole and other is None:
        for key, value in whole.items():
            yield from _walk(_join(path, str(key)), *((value, None) if whole is old else (None, value)))
        return
    yield FieldChange(path, old, new)


def _join(path: str, key: str) -> str:
    """Keys with dots or brackets of their own stand in brackets: `environment.A`, `labels[com.example.a]`."""
    if any(mark in key for mark in ".[]/: "):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key
