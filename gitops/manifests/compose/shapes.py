"""What a value of a Compose file may look like, and the walk that checks, casts and strips it in one go.

A shape says by the type of a value what is to be checked further; no type stands for two things anywhere in the
specification, so that every message is about one of them. A checked value comes back with numbers and booleans that
were written as text cast, and without `x-…` keys and keys that have no effect here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gitops.manifests import problems
from gitops.manifests.problems import Issue
from gitops.manifests.text.construct import Path
from gitops.manifests.text.scalars import SpelledFloat, SpelledInt

Status = Literal["honoured", "emulated", "meaningless", "warned", "refused"]
DROPPED = object()
"""What a check returns for a value that can't be used; there is a problem then."""


@dataclass(slots=True)
class Report:
    """What the walk found."""

    issues: list[Issue] = field(default_factory=list)
    warnings: list[Issue] = field(default_factory=list)


Check = Callable[[Any, Path, Report], Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """The types that are allowed, each with what is checked further (None: nothing)."""

    by_type: Mapping[type, Check | None]
    words: str
    """As in "must be …"."""
    table: Mapping[str, Key] | None = None
    """The keys of a map that has its own, for whoever walks the specification."""
    inner: Shape | None = None
    """The shape of a list's items, or of the values of a map with names of people."""

    def __or__(self, other: Shape) -> Shape:
        words = f"{self.words}, {other.words}".replace(" or ", ", ")
        head, _, tail = words.rpartition(", ")
        return Shape(
            {**self.by_type, **other.by_type},
            f"{head} or {tail}",
            self.table if self.table is not None else other.table,
            other.inner if self.inner is None or (other.inner and not self.inner.has_keys) else self.inner,
        )

    @property
    def has_keys(self) -> bool:
        """Whether keys of the specification stand in it, at any depth."""
        return self.table is not None or (self.inner is not None and self.inner.has_keys)

    def check(self, value: Any, path: Path, report: Report) -> Any:
        """The value as it is to be used; problems are reported."""
        try:
            inner = self.by_type[type(value)]
        except KeyError:
            report.issues.append(Issue(path, f"must be {self.words}", _type_hint(self, value)))
            return DROPPED
        return value if inner is None else inner(value, path, report)


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the specification: its shape, what happens to it, and what there is to say about that."""

    shape: Shape
    status: Status = "honoured"
    note: str = ""


def _type_hint(shape: Shape, value: Any) -> str:
    if value is None:
        return "it is empty"
    if str in shape.by_type and isinstance(value, int | float):
        return f'write it in quotes: "{str(value).lower() if isinstance(value, bool) else value}"'
    name = {dict: "a map", list: "a list", str: "a text", bool: "true or false"}.get(type(value), "a number")
    return f"it is {name}"


TEXT = Shape({str: None}, "a text")
NULL = Shape({type(None): None}, "nothing")
BOOL = Shape({bool: None}, "true or false")
ANYTHING = Shape(dict.fromkeys((str, int, float, bool, type(None), dict, list, SpelledInt, SpelledFloat)), "anything")


def _whole(value: Any, path: Path, report: Report) -> Any:
    if value != int(value) if value == value and abs(value) != float("inf") else True:
        report.issues.append(Issue(path, "must be a whole number"))
        return DROPPED
    return int(value)


INT = Shape({int: None, SpelledInt: None, float: _whole, SpelledFloat: _whole}, "a whole number")
NUMBER = Shape(dict.fromkeys((int, float, SpelledInt, SpelledFloat)), "a number")


def _cast(kind: str, convert: Callable[[str], Any]) -> Shape:
    def check(value: str, path: Path, report: Report) -> Any:
        try:
            return convert(value.strip())
        except (ValueError, KeyError):
            hint = "it is empty: is a variable not set?" if not value else ""
            report.issues.append(Issue(path, f"must be {kind}, not {problems.one_line(value[:40])!r}", hint))
            return DROPPED

    return Shape({str: check}, "a text")


_BOOLEANS = {
    **dict.fromkeys(("true", "t", "1", "yes", "y", "on"), True),
    **dict.fromkeys(("false", "f", "0", "no", "n", "off"), False),
}
BOOL_TEXT = BOOL | _cast("true or false", lambda text: _BOOLEANS[text.lower()])
"""As in `privileged: "true"`: text is cast, as Compose does after it filled variables in."""
INT_TEXT = INT | _cast("a whole number", lambda text: int(text, 0) if text[:2] in ("0x", "0o") else int(text))
NUMBER_TEXT = NUMBER | _cast("a number", float)
SIZE = NUMBER | TEXT
WHOLE_SIZE = INT | TEXT
COUNT = INT | TEXT


def matching(pattern: str, meant: str) -> Shape:
    """A text that a pattern is found in."""
    compiled = re.compile(pattern)

    def check(value: str, path: Path, report: Report) -> Any:
        if compiled.search(value):
            return value
        report.issues.append(Issue(path, f"{problems.one_line(value[:60])!r} is no {meant}"))
        return DROPPED

    return Shape({str: check}, "a text")


def one_of(*known: str) -> Shape:
    """One of some words."""

    def check(value: str, path: Path, report: Report) -> Any:
        if value in known:
            return value
        near = problems.closest(value, list(known))
        report.issues.append(
            Issue(path, f"must be {', '.join(known[:-1])}{' or ' if known[1:] else ''}{known[-1]}",
                  f'did you mean "{near}"?' if near else "")
        )  # fmt: skip
        return DROPPED

    return Shape({str: check}, "a text")


def between(shape: Shape, lowest: int, highest: int | None = None) -> Shape:
    """Whole numbers within limits."""

    def check(value: int, path: Path, report: Report) -> Any:
        if value >= lowest and (highest is None or value <= highest):
            return value
        limit = f"at least {lowest}" if highest is None else f"from {lowest} to {highest}"
        report.issues.append(Issue(path, f"must be {limit}"))
        return DROPPED

    return Shape({**shape.by_type, int: check, SpelledInt: check}, shape.words)


def list_of(item: Shape, *, is_unique: bool = False) -> Shape:
    """A list; `is_unique`: no item twice."""

    def check(value: list[Any], path: Path, report: Report) -> Any:
        if is_unique:
            _unique(value, path, report)
        by_type, result = item.by_type, []
        for index, each in enumerate(value):
            # Most values are judged by their type alone, and need no path to say so.
            checked = each if by_type.get(type(each), DROPPED) is None else item.check(each, (*path, index), report)
            if checked is not DROPPED:
                result.append(checked)
        return result

    return Shape({list: check}, "a list", inner=item)


def _unique(value: list[Any], path: Path, report: Report) -> None:
    seen: list[Any] | set[Any] = set()
    try:
        if len({(type(each) is bool, each) for each in value}) == len(value):
            return
    except TypeError:
        seen = []  # maps among them
    for index, each in enumerate(value):
        key = (type(each) is bool, each)
        if key in seen:
            report.issues.append(Issue((*path, index), "stands in the list already", "remove one"))
        seen.add(key) if isinstance(seen, set) else seen.append(key)


NAMES = r"^[a-zA-Z0-9._-]+$"


def map_of(value_shape: Shape, names: str = "", *, is_open: bool = False) -> Shape:
    """A map whose keys people choose, by a pattern if one is given; `is_open`: other keys hold what they like."""
    compiled = re.compile(names) if names else None
    by_type = value_shape.by_type

    def check(value: dict[str, Any], path: Path, report: Report) -> Any:
        result = {}
        for name, each in value.items():
            if (compiled is not None and not compiled.search(name)) or not name:
                if not is_open:
                    reason = "letters, digits, dots, dashes and underscores only" if compiled else "a name is missing"
                    report.issues.append(Issue((*path, name), "can't be a name here", reason, on_key=True))
                continue
            is_done = by_type.get(type(each), DROPPED) is None
            checked = each if is_done else value_shape.check(each, (*path, name), report)
            if checked is not DROPPED:
                result[name] = checked
        return result

    return Shape({dict: check}, "a map", inner=value_shape)


def fields(
    table: Mapping[str, Key], required: Sequence[str] = (), *, has_extensions: bool = True, is_open: bool = False
) -> Shape:
    """A map with keys of the specification, `x-…` ones where it allows them, and any other where it `is_open`."""

    def check(value: dict[str, Any], path: Path, report: Report) -> Any:
        result = {}
        for name, each in value.items():
            key = table.get(name)
            if key is None:
                if not is_open and not (has_extensions and name.startswith("x-")):
                    report.issues.append(_unknown(table, name, (*path, name), has_extensions))
                continue
            status = key.status
            if (status == "honoured" or status == "emulated") and key.shape.by_type.get(type(each), DROPPED) is None:
                result[name] = each
                continue
            if status == "warned" or status == "meaningless":
                # What stands below says no more than the key itself.
                checked = key.shape.check(each, (*path, name), Report(report.issues))
            else:
                checked = key.shape.check(each, (*path, name), report)
            if status == "honoured" or status == "emulated":
                if checked is not DROPPED:
                    result[name] = checked
            elif status != "meaningless" and each not in _NOTHING and checked is not False:
                found = Issue((*path, name), _said(key), key.note, on_key=True)
                (report.warnings if status == "warned" else report.issues).append(found)
        for name in required:
            if name not in value:
                report.issues.append(Issue((*path, name), "is missing", is_missing=True))
        return result

    return Shape({dict: check}, "a map", table)


_NOTHING: tuple[Any, ...] = (None, False, "", [], {})
"""Values of a key that ask for nothing, so that nothing is lost without them."""


def _said(key: Key) -> str:
    return "is not honoured" if key.status == "warned" else "can't be honoured"


def _unknown(table: Mapping[str, Key], name: str, path: Path, has_extensions: bool) -> Issue:
    near = problems.closest(name, list(table))
    hint = f'did you mean "{near}"?' if near else "keys of your own begin with x-" if has_extensions else ""
    if not near and not has_extensions:
        hint = f"one of {', '.join(table)}"
    return Issue(path, "unknown key", hint, on_key=True)
