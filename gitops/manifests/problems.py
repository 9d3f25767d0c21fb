"""What is wrong with a document, said for people: what the models found, with the place and the way out."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from gitops.manifests.kinds import findings
from gitops.manifests.kinds.base import Model
from gitops.manifests.text.characters import one_line as one_line
from gitops.manifests.text.fieldpath import Path

if TYPE_CHECKING:
    from gitops.manifests.text.graph import Node

_EXTENSION = "x-"
_MAX_KEY = 100


@dataclass(frozen=True, slots=True)
class Issue:
    """Something wrong at a path of a document; `on_key` points at the key, not at its value."""

    path: Path
    reason: str
    hint: str = ""
    on_key: bool = False
    is_missing: bool = False
    """The path's last part isn't written: the place is where it should be."""
    node: Node | None = field(default=None, compare=False)
    """The very place, where a path doesn't lead to it (the second of two equal keys)."""


def field_name(path: Path) -> str:
    """`spec.ports[0]`, `metadata.labels[com.example.a]`."""
    text = ""
    for part in path:
        if isinstance(part, str):
            # A key can hold anything that YAML's escapes can write, and messages go to terminals.
            part = part[:_MAX_KEY] if part.isprintable() else repr(part[:_MAX_KEY])[1:-1]
        if isinstance(part, int) or any(mark in part for mark in ".[]/: ") or not part:
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


class Places(Mapping[str, tuple[int, int]]):
    """Line and column of fields by their names, found in the text when they are asked for."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, int]] | None = None

    def _find(self) -> Iterator[tuple[str, tuple[int, int]]]:
        raise NotImplementedError

    def _all(self) -> dict[str, tuple[int, int]]:
        if self._found is None:
            self._found = dict(self._find())
        return self._found

    def __getitem__(self, field_path: str) -> tuple[int, int]:
        return self._all()[field_path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def extensions(error: ValidationError) -> list[Path]:
    """The paths of `x-…` keys among the unknown ones: they are allowed, and to be taken out."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        item["loc"]
        for item in found
        if item["type"] == "extra_forbidden" and str(item["loc"][-1]).startswith(_EXTENSION)
    ]


def issues(error: ValidationError, model: type[BaseModel], *, is_secret: bool) -> Iterator[Issue]:
    """All that a model found, in our words. Of a secret no value is repeated, nor do its checks name one."""
    for item in error.errors(include_url=False):
        path: Path = item["loc"]
        kind, context = item["type"], item.get("ctx", {})
        if kind == "manifest":
            for reason, hint, at, on_key in findings.found_by(context):
                yield Issue((*path, *at), reason, hint, on_key)
        elif kind == "missing":
            yield Issue(path, "is missing", is_missing=True)
        elif kind == "extra_forbidden":
            yield _unknown(path, model)
        else:
            reason, hint = _reworded(kind, context, item.get("input"), is_secret)
            yield Issue(path, reason, hint)


def _unknown(path: Path, model: type[BaseModel]) -> Issue:
    key = str(path[-1])
    owner = _model_at(model, path[:-1])
    if owner is not None:
        if key in owner.NOT_YET:
            return Issue(path, "known, but not supported yet", owner.NOT_YET[key], on_key=True)
        if key in owner.NEVER:
            return Issue(path, "is known from Compose, and no swarm has it", owner.NEVER[key], on_key=True)
        near = closest(key, [info.alias or name for name, info in owner.model_fields.items()])
        if near:
            return Issue(path, "unknown key", f'did you mean "{near}"?', on_key=True)
        elsewhere = _elsewhere(key, model, path)
        if elsewhere:
            return Issue(path, "unknown key", f"it belongs at {elsewhere}", on_key=True)
    return Issue(path, "unknown key", "keys of your own begin with x-", on_key=True)


def closest(word: str, known: list[str]) -> str:
    """The known word that was probably meant; "" if none is near."""
    import difflib  # only needed when something is wrong

    lower = word.lower().replace("-", "_")
    if lower in known:
        return lower
    found = difflib.get_close_matches(lower, known, 1, 0.7)
    return found[0] if found else ""


def _elsewhere(key: str, model: type[BaseModel], path: Path) -> str:
    """Where a key of this name does belong: `replicas` beside `image` is meant for `deploy`."""
    for place, owner in _models(model, ()):
        if key in owner.model_fields and place != path[:-1] and len(place) <= 2:
            return field_name((*place, key))
    return ""


def _models(model: type[BaseModel], path: Path) -> Iterator[tuple[Path, type[BaseModel]]]:
    yield path, model
    for name, info in model.model_fields.items():
        for below, is_map in _inner(info.annotation):
            if not is_map:
                yield from _models(below, (*path, info.alias or name))


def _model_at(model: type[BaseModel], path: Path) -> type[Model] | None:
    """The model of the map at a path: through lists, and through maps with keys of people."""
    current: type[BaseModel] = model
    parts = list(path)
    while parts:
        part = parts.pop(0)
        if isinstance(part, int):
            continue
        info = next((info for name, info in current.model_fields.items() if part in (name, info.alias)), None)
        found = next(_inner(info.annotation), None) if info else None
        if found is None:
            return None
        current, is_map = found
        if is_map and parts:
            parts.pop(0)
    return current if issubclass(current, Model) else None


def _inner(annotation: Any, is_map: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        if issubclass(annotation, BaseModel):
            yield annotation, is_map
        return
    is_map = is_map or typing.get_origin(annotation) is dict
    for argument in typing.get_args(annotation):
        if argument is not str:
            yield from _inner(argument, is_map)


_TYPES = {
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a map",
    "model_type": "must be a map",
    "model_attributes_type": "must be a map",
    "tuple_type": "must be a list",
}


def _reworded(kind: str, context: Mapping[str, Any], given: object, is_secret: bool) -> tuple[str, str]:
    if kind in _TYPES:
        return _TYPES[kind], "" if is_secret else _type_hint(kind, given)
    if kind == "literal_error":
        expected = str(context["expected"]).replace("'", "")
        known = expected.replace(" or ", ", ").split(", ")
        near = closest(given, known) if isinstance(given, str) else ""
        reason = "must be " + ("" if len(known) == 1 else "one of ") + ", ".join(known)
        return reason, f'did you mean "{near}"?' if near and not is_secret else ""
    limits = {
        "greater_than_equal": ("must be at least {ge}"),
        "less_than_equal": ("must be at most {le}"),
        "too_short": ("must have at least {min_length} entry"),
        "too_long": ("must have at most {max_length} entries"),
    }
    if kind in limits:
        return limits[kind].format(**context), ""
    return "has a value that isn't allowed", ""


def _type_hint(kind: str, given: object) -> str:
    if given is None:
        return "it is empty"
    if kind == "int_type" and isinstance(given, str) and given.lstrip("-").isdigit():
        return "write it without quotes"
    if kind == "bool_type" and isinstance(given, str) and given.lower() in ("yes", "on", "no", "off", "true", "false"):
        return f"write {'true' if given.lower() in ('yes', 'on', 'true') else 'false'}"
    if kind == "list_type" and isinstance(given, str | int | float):
        return "put it in a list, as in [" + str(given)[:40] + "]"
    return f"it is {_name(given)}"


def _name(given: object) -> str:
    if isinstance(given, bool):
        return "true or false"
    for kind, name in ((dict, "a map"), (list, "a list"), (str, "a text"), (int, "a number"), (float, "a number")):
        if isinstance(given, kind):
            return name
    return "something else"
