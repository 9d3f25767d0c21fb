"""What all objects share: the struct bases, versions, times, JSON."""

from __future__ import annotations

import copy
import datetime
import re
from typing import Any, TypeVar

import msgspec

from gitops import errors

T = TypeVar("T")

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
ZERO_TIME = "0001-01-01T00:00:00Z"


class Wire(msgspec.Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """An object whose default values are left out of its JSON; unknown fields are ignored, as the API wants."""


class Full(msgspec.Struct, frozen=True, rename="pascal"):
    """An object whose fields are always sent."""


def always(value: T) -> T:
    """A field's default that is sent even where the struct leaves defaults out: clients read it without a look."""
    # A dict of its own for each object; anything else can't be changed.
    return msgspec.field(default_factory=lambda: copy.copy(value))


class Version(Full, frozen=True):
    """The store's index of an object's last write; an update must name it."""

    index: int = 0


def to_json(value: Any) -> bytes:
    """Encode `value` (structs, lists, dicts) as the API's JSON."""
    return msgspec.json.encode(value)


def from_json(data: bytes | str, kind: type[T]) -> T:
    """Decode JSON into `kind`.

    Raises:
        errors.Invalid: not JSON, or a field of the wrong type; the message names the field.
    """
    try:
        return msgspec.json.decode(data, type=kind, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.Invalid(f"invalid JSON for {getattr(kind, '__name__', kind)}: {error}") from error


def to_builtins(value: Any) -> Any:
    """The object as dicts, lists and scalars with the API's names."""
    return msgspec.to_builtins(value)


_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(Z|z|[+-]\d\d:\d\d)$")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def format_time(time_ns: int) -> str:
    """Nanoseconds since the epoch as RFC 3339 in UTC with nine digits; 0 gives the API's zero time."""
    if time_ns == 0:
        return ZERO_TIME
    seconds, fraction = divmod(time_ns, SECOND)
    moment = _EPOCH + datetime.timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|µs|ns|m|s)")
_UNITS_NS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": SECOND, "ms": 1_000_000, "us": 1000, "µs": 1000, "ns": 1}


def parse_duration(text: str) -> int:
    """Nanoseconds of a span as Go writes it: `30s`, `1h30m`, `1.5h`.

    Raises:
        errors.Invalid: it isn't one.
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise errors.Invalid(f"{text[:40]!r} is not a duration: 30s and 1h30m are")
    try:
        return sum(int(float(number) * _UNITS_NS[unit]) for number, unit in parts)
    except OverflowError as error:
        raise errors.Invalid(f"{text[:40]!r}… is too long a duration") from error


def parse_time(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time; the zero time and "" give 0.

    Raises:
        errors.Invalid: not an RFC 3339 time.
    """
    if text in ("", ZERO_TIME):
        return 0
    match = _TIME.match(text)
    if match is None:
        raise errors.Invalid(f"invalid time {text!r}: RFC 3339 is wanted, as in 2026-01-31T12:00:00.5Z")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime.datetime.fromisoformat(
            f"{year}-{month}-{day}T{hour}:{minute}:{second}{'+00:00' if zone in 'Zz' else zone}"
        )
    except ValueError as error:
        raise errors.Invalid(f"invalid time {text!r}: {error}") from error
    return int((moment - _EPOCH).total_seconds()) * SECOND + int((fraction or "0").ljust(9, "0"))
