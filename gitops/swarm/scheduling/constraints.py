"""Placement constraints: `key==value` and `key!=value`, all of which a node must meet.

Values are compared without regard to case, keys' prefixes too; the label part of a key counts as it is written. A
label that a node lacks is "". A key that nobody knows is met by no node. Architectures are compared by what they
mean: `amd64` is `x86_64`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from gitops import errors
from gitops.objects.node import Node
from gitops.objects.service import Placement

OPERATORS = ("==", "!=")
_KEY = re.compile(r"[a-z_][a-z0-9\-_.]+", re.IGNORECASE)
_VALUE = re.compile(r"[a-z0-9:\-_\s.*()?+\[\]\\^$|/]+", re.IGNORECASE)
_NODE_LABELS = "node.labels."
_ENGINE_LABELS = "engine.labels."
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armv7l": "arm", "armhf": "arm"}


@dataclass(frozen=True, slots=True)
class Constraint:
    """One condition on a node."""

    key: str
    is_equal: bool
    value: str


def parse(texts: Iterable[str]) -> tuple[Constraint, ...]:
    """The constraints that `texts` say.

    Raises:
        errors.Invalid: a text has no operator, or a key or value that can't be; Docker's words.
    """
    return tuple(_parse_one(text) for text in texts)


def _parse_one(text: str) -> Constraint:
    for operator in OPERATORS:
        key, found, value = (part.strip() for part in text.partition(operator))
        if not found:
            continue
        if not _KEY.fullmatch(key):
            raise errors.Invalid(f"key '{key}' is invalid")
        if not _VALUE.fullmatch(value):
            raise errors.Invalid(f"value '{value}' is invalid")
        return Constraint(key, operator == "==", value)
    raise errors.Invalid(f"constraint expected one operator from {', '.join(OPERATORS)}")


def is_met(constraints: Iterable[Constraint], node: Node) -> bool:
    """Whether `node` meets all of them."""
    return all(_meets(constraint, node) for constraint in constraints)


def satisfies(texts: Iterable[str], node: Node) -> bool:
    """Whether `node` meets the constraints that `texts` say; one that can't be parsed is met by no node."""
    try:
        return is_met(parse(texts), node)
    except errors.Invalid:
        return False


def is_placeable(placement: Placement, node: Node) -> bool:
    """Whether a node meets the constraints and has one of the platforms, whatever room is left on it."""
    if not satisfies(placement.constraints, node):
        return False
    platform = node.description.platform
    machine = architecture(platform.architecture)
    return not placement.platforms or any(
        wanted.os.lower() in ("", platform.os.lower()) and architecture(wanted.architecture) in ("", machine)
        for wanted in placement.platforms
    )


def _meets(constraint: Constraint, node: Node) -> bool:
    key = constraint.key.lower()
    if key == "node.ip":
        return _meets_address(constraint, node.status.addr)
    if key == "node.platform.arch":
        actual = architecture(node.description.platform.architecture)
        return (actual == architecture(constraint.value)) == constraint.is_equal
    known = _value(constraint.key, node)
    return known is not None and (known.lower() == constraint.value.lower()) == constraint.is_equal


def _value(key: str, node: Node) -> str | None:
    """What `node` has under `key`; None when nobody knows such a key."""
    lowered = key.lower()
    if lowered.startswith(_NODE_LABELS):
        return node.spec.labels.get(key[len(_NODE_LABELS) :], "")
    if lowered.startswith(_ENGINE_LABELS):
        return node.description.engine.labels.get(key[len(_ENGINE_LABELS) :], "")
    return {
        "node.id": node.id,
        "node.hostname": node.description.hostname,
        "node.role": node.spec.role,
        "node.platform.os": node.description.platform.os,
    }.get(lowered)


def _meets_address(constraint: Constraint, text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
        network = ipaddress.ip_network(constraint.value, strict=False)
    except ValueError:
        return False
    return (address in network) == constraint.is_equal


def label_of(descriptor: str, node: Node) -> str | None:
    """The value that a spread preference divides by, "" for a missing label; None when it isn't about labels."""
    if not descriptor.lower().startswith((_NODE_LABELS, _ENGINE_LABELS)):
        return None
    return _value(descriptor, node)


def architecture(name: str) -> str:
    """One name for each architecture."""
    return _ARCHITECTURES.get(name.lower(), name.lower())
