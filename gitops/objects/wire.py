"""Reading what other programs send: Go writes null for an empty list, map or string, which counts as absent."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from gitops import errors
from gitops.objects import base

T = TypeVar("T")


def decode(data: bytes | str, kind: type[T]) -> T:
    """Decode JSON into `kind`, taking nulls as absent where the type knows no null.

    Raises:
        errors.Invalid: not JSON, or a field of the wrong type; the message names the field.
    """
    try:
        return base.from_json(data, kind)
    except errors.Invalid as error:
        try:
            return msgspec.convert(_without_nulls(msgspec.json.decode(data)), type=kind, strict=True)
        except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise error from error.__cause__


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
