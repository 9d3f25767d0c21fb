"""Reading what other programs send, as Go reads it: null is an absent value, and the case of field names is free.

Docker's own programs rely on the first, its SDK for Python on the second. Only names of fields are touched: the keys
of maps (labels, options) are data.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from gitops import errors
from gitops.objects import base

T = TypeVar("T")
_Fields = dict[str, inspect.Field]
_ZEROS: dict[type[inspect.Type], type] = {
    inspect.ListType: list,
    inspect.DictType: dict,
    inspect.StrType: str,
    inspect.IntType: int,
    inspect.BoolType: bool,
}
"""What Go leaves out, or sends as null, stands for these."""


def decode(data: bytes | str, kind: type[T]) -> T:
    """Decode an engine's JSON into `kind`; names have the API's case.

    Raises:
        errors.Invalid: not JSON, or a field of the wrong type; the message names the field.
    """
    try:
        return base.from_json(data, kind)
    except errors.Invalid:
        return decode_request(data, kind)


def decode_request(data: bytes | str, kind: type[T]) -> T:
    """Decode any client's JSON into `kind`.

    Raises:
        errors.Invalid: not JSON, or a field of the wrong type; the message names the field.
    """
    wanted: Any = kind
    try:
        return msgspec.convert(_fit(msgspec.json.decode(data), _type_info(wanted)), type=kind, strict=True)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.Invalid(f"invalid JSON for {getattr(kind, '__name__', kind)}: {error}") from error


@lru_cache(maxsize=64)
def _type_info(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


# By class: type_info makes new nodes for a struct at each place that mentions it.
@lru_cache(maxsize=256)
def _fields(kind: type) -> _Fields:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return {field.encode_name.lower(): field for field in info.fields}


def _fit(value: Any, kind: inspect.Type) -> Any:
    """`value` with the names and nulls that `kind` wants; what doesn't fit is left for the conversion to refuse."""
    if isinstance(kind, inspect.UnionType):
        fitting = (item for item in kind.types if _is_meant(value, item))
        return next((_fit(value, item) for item in fitting), value)
    if isinstance(value, dict) and isinstance(kind, inspect.StructType):
        return _fit_struct(value, _fields(kind.cls))
    if isinstance(value, dict) and isinstance(kind, inspect.DictType):
        inner = kind.value_type
        return {key: _fit(item, inner) for key, item in value.items() if item is not None or _takes_null(inner)}
    if isinstance(value, list) and isinstance(kind, inspect.ListType):
        return [_fit(item, kind.item_type) for item in value]
    return value


def _fit_struct(value: dict[str, Any], fields: _Fields) -> dict[str, Any]:
    fitted: dict[str, Any] = {}
    for key, item in value.items():
        field = fields.get(key.lower())
        if field is None or (item is None and not _takes_null(field.type)):
            continue
        # The exact name wins, wherever it stands.
        if field.encode_name not in fitted or key == field.encode_name:
            fitted[field.encode_name] = _fit(item, field.type)
    for field in fields.values():
        zero = _ZEROS.get(type(field.type))
        if field.required and zero is not None:
            fitted.setdefault(field.encode_name, zero())
    return fitted


def _is_meant(value: Any, kind: inspect.Type) -> bool:
    if isinstance(value, dict):
        return isinstance(kind, inspect.StructType | inspect.DictType)
    return isinstance(value, list) and isinstance(kind, inspect.ListType)


def _takes_null(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.UnionType):
        return any(_takes_null(item) for item in kind.types)
    return isinstance(kind, inspect.NoneType | inspect.AnyType)
