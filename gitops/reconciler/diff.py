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

    Maps are compared key by key; lists (whose order means something: commands) as a whole. A missing field and one
    that is None, empty or an empty map are the same.
    """
    return tuple(sorted(_walk("", old, new), key=lambda change: change.path))


def _walk(path: str, old: Any, new: Any) -> Iterator[FieldChange]:
    if isinstance(old, Mapping) or isinstance(new, Mapping):
        before = old if isinstance(old, Mapping) else {}
        after = new if isinstance(new, Mapping) else {}
        if (isinstance(old, Mapping) or _is_empty(old)) and (isinstance(new, Mapping) or _is_empty(new)):
            for key in before.keys() | after.keys():
                yield from _walk(_join(path, str(key)), before.get(key), after.get(key))
            return
    if old == new or (_is_empty(old) and _is_empty(new)):
        return
    yield FieldChange(path, old, new)


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {} or value == ()


def _join(path: str, key: str) -> str:
    """Keys with dots or brackets of their own stand in brackets: `environment`, `labels[com.example.a]`."""
    if any(mark in key for mark in ".[]/: "):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key
