"""Bodies of any shape come through the pure half of the handlers: read, or refused by an error of ours."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from gitops import errors
from gitops.api import refusals
from gitops.objects import wire
from gitops.objects.container import ContainerCreate, HostConfig, VolumeCreate
from gitops.objects.execution import ExecCreate, ExecStart
from gitops.objects.network import NetworkConnect, NetworkCreate
from gitops.objects.node import ClusterSpec, NodeSpec
from gitops.objects.secret import SecretSpec
from gitops.objects.service import ServiceSpec

Check = Callable[[bytes], None]
READERS: list[tuple[Any, Check | None]] = [
    (ContainerCreate, refusals.check_container),
    (HostConfig, refusals.check_update),
    (ServiceSpec, refusals.check_service),
    (SecretSpec, refusals.check_secret),
    (VolumeCreate, None),
    (NetworkCreate, None),
    (NetworkConnect, None),
    (NodeSpec, None),
    (ClusterSpec, None),
    (ExecCreate, None),
    (ExecStart, None),
]
SCALARS = [0, -1, 2**70, 1.5, 1e308, True, None, "", "a\0b", "\u0663"]
SHAPES = [[], {}, [None], [1], [[]], [{}], {"": ""}, {"x": None}, {"x": {"x": [1]}}]


def _any(kind: Any, chance: random.Random, depth: int) -> Any:
    inspect = msgspec.inspect
    if depth > 7 or chance.random() < 0.15:
        return chance.choice([*SCALARS, *SHAPES])
    if isinstance(kind, inspect.UnionType):
        return _any(chance.choice(kind.types), chance, depth)
    if isinstance(kind, inspect.StructType):
        chosen = [field for field in kind.fields if chance.random() < 0.4]
        return {field.encode_name: _any(field.type, chance, depth + 1) for field in chosen}
    if isinstance(kind, inspect.ListType):
        return [_any(kind.item_type, chance, depth + 1) for _ in range(chance.randrange(3))]
    if isinstance(kind, inspect.DictType):
        return {"a": _any(kind.value_type, chance, depth + 1)}
    return chance.choice(SCALARS)


def _read(data: bytes, kind: Any, check: Check | None) -> None:
    with contextlib.suppress(errors.GitopsError):
        if check is not None:
            check(data)
        wire.decode_request(data, kind)


@pytest.mark.parametrize(("kind", "check"), READERS)
def test_wrong_types_at_any_place_are_errors_of_ours(kind: Any, check: Check | None) -> None:
    chance = random.Random(kind.__name__)
    info = msgspec.inspect.type_info(kind)
    for _ in range(500):
        _read(json.dumps(_any(info, chance, 0)).encode(), kind, check)


def _places(kind: Any, depth: int = 0) -> Iterator[list[str]]:
    """The ways to every field, with "[]" for a step into a list."""
    inspect = msgspec.inspect
    if isinstance(kind, inspect.UnionType):
        for item in kind.types:
            yield from _places(item, depth)
    elif isinstance(kind, inspect.StructType) and depth < 6:
        for field in kind.fields:
            yield [field.encode_name]
            yield from ([field.encode_name, *rest] for rest in _places(field.type, depth + 1))
    elif isinstance(kind, inspect.ListType):
        yield from (["[]", *rest] for rest in _places(kind.item_type, depth))


def _at(place: list[str], value: Any) -> Any:
    for step in reversed(place):
        value = [value] if step == "[]" else {step: value}
    return value


@pytest.mark.parametrize(("kind", "check"), READERS)
def test_every_field_may_hold_any_shape(kind: Any, check: Check | None) -> None:
    places = list(_places(msgspec.inspect.type_info(kind)))
    assert places
    for place in places:
        for value in [*SCALARS, *SHAPES]:
            _read(json.dumps(_at(place, value)).encode(), kind, check)
