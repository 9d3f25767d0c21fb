"""What clients send: switches, numbers, filters, bodies, credentials. Raises `errors.Invalid` with Docker's texts."""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Collection
from typing import TypeVar

from aiohttp import web

from gitops import errors
from gitops.objects import base, wire
from gitops.objects.image import AuthConfig

T = TypeVar("T")
Filters = dict[str, list[str]]

_UNITS_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SPAN_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]*)?)(ns|us|µs|ms|s|m|h)")
_SPAN = re.compile(rf"(?:{_SPAN_PART.pattern})+")
_DATE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:T([0-9]{2}:[0-9]{2}(?::[0-9]{2})?))?")
_FALSE = frozenset({"", "0", "no", "false", "none"})
_MOST = 2**63
# Longer ones can't be meant, and Python takes its time for very long ones.
_NUMBER = re.compile(r"[+-]?[0-9]{1,19}")
_SECONDS = re.compile(r"(-?)([0-9]{0,11})(?:\.([0-9]*))?")
_SHOWN = 100
JSON_TYPES = frozenset({"application/json", "text/json"})


def switch(request: web.Request, name: str, *, default: bool = False) -> bool:
    """A boolean of the query: "", 0, no, false and none are false, all else is true."""
    text = request.query.get(name)
    return default if text is None else text.strip().lower() not in _FALSE


def number(request: web.Request, name: str) -> int | None:
    """A whole number of the query; None where it isn't given."""
    text = request.query.get(name, "")
    if not text:
        return None
    if not _NUMBER.fullmatch(text) or not -_MOST <= int(text) < _MOST:
        raise errors.Invalid(f"invalid value {_short(text)!r} for {name}: a whole number is wanted")
    return int(text)


def version(request: web.Request) -> int:
    """The version of the object that an update is made against."""
    found = number(request, "version")
    if found is None or found < 0:
        raise errors.Invalid("invalid version '': the version of the object that is to be updated is wanted")
    return found


def moment(text: str, name: str) -> int:
    """Nanoseconds since the epoch of seconds with an optional fraction, or of an RFC 3339 time; 0 for ""."""
    if not text:
        return 0
    if text[4:5] == "-":
        return base.parse_time(text)
    found = _SECONDS.fullmatch(text)
    if found is None:
        raise errors.Invalid(f"invalid value {_short(text)!r} for {name}: seconds since the epoch are wanted")
    total = int(found[2] or "0") * base.SECOND + int((found[3] or "")[:9].ljust(9, "0"))
    return -total if found[1] else total


def until(text: str) -> int:
    """Nanoseconds since the epoch of a filter `until`: a moment, or how long ago as Go writes it (`24h`)."""
    try:
        return time.time_ns() - base.parse_duration(text)
    except errors.Invalid:
        return moment(text, "until")


def _short(text: str) -> str:
    """What may be repeated in a message."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def past(text: str, name: str, now_ns: int) -> int:
    """Nanoseconds since the epoch of a moment as people write it: `1h30m` ago, a date, seconds, an RFC 3339 time."""
    if _SPAN.fullmatch(text):
        spans = [(float(number), unit) for number, unit in _SPAN_PART.findall(text)]
        return now_ns - int(sum(number * _UNITS_NS[unit] for number, unit in spans))
    if date := _DATE.fullmatch(text):
        return base.parse_time(f"{date[1]}T{(date[2] or '00:00').ljust(6, ':').ljust(8, '0')}Z")
    return moment(text, name)


def filters(request: web.Request, allowed: Collection[str]) -> Filters:
    """The `filters` of the query, in either form: `{"k": ["v"]}` or the older `{"k": {"v": true}}`."""
    text = request.query.get("filters", "")
    if not text:
        return {}
    return parse_filters(text, allowed)


def parse_filters(text: str, allowed: Collection[str]) -> Filters:
    """Filters from their JSON; an unknown key is refused by name."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise errors.Invalid("invalid filters: JSON is wanted") from None
    if not isinstance(given, dict):
        raise errors.Invalid("invalid filters: a JSON object is wanted")
    result: Filters = {}
    for key, values in given.items():
        if key not in allowed:
            raise errors.Invalid(f"invalid filter '{key}'")
        result[key] = _values(key, values)
    return {key: values for key, values in result.items() if values}


def _values(key: str, given: object) -> list[str]:
    if isinstance(given, dict):
        return [str(value) for value, is_on in given.items() if is_on]
    if isinstance(given, list) and all(isinstance(item, str) for item in given):
        return list(given)
    raise errors.Invalid(f"invalid filter '{key}': a list of strings is wanted")


def boolean_filter(found: Filters, key: str) -> bool | None:
    """A filter that is either true or false; None where it isn't given."""
    values = found.get(key)
    if not values:
        return None
    if values in (["true"], ["1"]):
        return True
    if values in (["false"], ["0"]):
        return False
    raise errors.Invalid(f"invalid filter '{key}={values[0]}'")


def one_of(found: Filters, key: str, values: Collection[str]) -> None:
    """Refuse a filter's values that aren't words of `values`."""
    for value in found.get(key, ()):
        if value not in values:
            raise errors.Invalid(f"invalid filter '{key}={value}'")


async def raw_body(request: web.Request) -> bytes:
    """The JSON body as bytes; `b""` where there is none."""
    try:
        data = await request.read()
    except ConnectionError as error:
        raise errors.Invalid("the connection was closed before the whole body came") from error
    if data and request.content_type not in JSON_TYPES:
        raise errors.Invalid(f"unsupported media type {request.content_type!r}: must be 'application/json'")
    return data


async def body(request: web.Request, kind: type[T]) -> T:
    """The object in the body; unknown fields are ignored, as the API wants it."""
    data = await raw_body(request)
    if not data:
        raise errors.Invalid("invalid JSON: got EOF while reading request body")
    return wire.decode_request(data, kind)


def registry_auth(request: web.Request) -> AuthConfig | None:
    """Credentials from X-Registry-Auth; what can't be decoded counts as anonymous, as Docker has it."""
    text = request.headers.get("X-Registry-Auth", "")
    if not text:
        return None
    try:
        padded = text + "=" * (-len(text) % 4)
        auth = wire.decode_request(
            base64.b64decode(padded.replace("+", "-").replace("/", "_"), altchars=b"-_"), AuthConfig
        )
    except (binascii.Error, ValueError, errors.Invalid):
        return None
    return auth if auth.username or auth.identitytoken or auth.registrytoken else None
