"""The fields in which two canonical forms differ, and why: the manifest or the object changed. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

HIDDEN = "(hidden)"
"""Stands for a value that must not be shown, on either side: a secret's, or one that a snapshot leaves out."""


class Cause(enum.StrEnum):
    """Why a field differs, as a stable code for programs."""

    INTENT = "intent"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field: its path in the manifest's words, and both values; None where it is absent.

    `cause` is drift where the manifest still says what was applied last, so that somebody else changed the object. The
    values of a field that `is_sensitive` are never there: `HIDDEN` stands for each.
    """

    path: str
    old: Any
    new: Any
    cause: Cause = Cause.INTENT
    is_sensitive: bool = False


def fields(
    old: Mapping[str, Any], new: Mapping[str, Any], applied: Mapping[str, Any] | None = None
) -> tuple[FieldChange, ...]:
    """All differences between two canonical forms, in the order of their paths.

    Maps are compared key by key; lists (whose order means something: commands) as a whole. Canonical forms leave out
    what says nothing, so a key with an empty value is not the same as none. `applied` is the form that was applied
    last, where it is known: it tells drift from intent. What is hidden on the old side is taken for the same.
    """
    if old == new:
        return ()
    return tuple(sorted(_walk("", old, new, applied, applied is not None), key=lambda change: change.path))


def hidden(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The paths of values that `new` has and that can't be compared, since they are hidden in `old`."""
    return sorted(path for path, before, after in _pairs("", old, new) if _is_hidden(before) and after is not None)


def causes(changes: Iterable[FieldChange]) -> frozenset[Cause]:
    """The causes among changes."""
    return frozenset(change.cause for change in changes)


def _walk(path: str, old: Any, new: Any, applied: Any, is_known: bool) -> Iterator[FieldChange]:
    if old == new or (_is_hidden(old) and new is not None):
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in old.keys() | new.keys():
            yield from _walk(_join(path, str(key)), old.get(key), new.get(key), _below(applied, key), is_known)
        return
    whole, other = (old, new) if isinstance(old, Mapping) else (new, old)
    if isinstance(whole, Mapping) and whole and other is None:
        for key, value in whole.items():
            before, after = (value, None) if whole is old else (None, value)
            yield from _walk(_join(path, str(key)), before, after, _below(applied, key), is_known)
        return
    yield FieldChange(path, old, new, Cause.DRIFT if is_known and applied == new else Cause.INTENT)


def _pairs(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in old.keys() & new.keys():
            yield from _pairs(_join(path, str(key)), old[key], new[key])
        return
    yield path, old, new


def _is_hidden(value: Any) -> bool:
    return bool(value == HIDDEN or value == [HIDDEN])


def _below(applied: Any, key: Any) -> Any:
    return applied.get(key) if isinstance(applied, Mapping) else None


def _join(path: str, key: str) -> str:
    """Keys with dots or brackets of their own stand in brackets: `environment.A`, `labels[com.example.a]`."""
    if any(mark in key for mark in ".[]/: "):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key
