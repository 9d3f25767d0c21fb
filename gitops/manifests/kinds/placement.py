"""Constraints and spread preferences, as the scheduler reads them."""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import Any

from pydantic_core import PydanticCustomError

from gitops.manifests.kinds.findings import Findings, problem, shown

_CONSTRAINT = re.compile(r"\s*(?P<key>[^\s=!]+)\s*(?P<operator>==|!=)\s*(?P<value>.+?)\s*")
_LABEL = re.compile(r"(?:node|engine)\.labels\.[a-zA-Z0-9][-a-zA-Z0-9_./]*", re.IGNORECASE)
_VALUE = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9_.:/ ]*[-a-zA-Z0-9_.:/])?")
KEYS = ("node.id", "node.hostname", "node.ip", "node.role", "node.platform.os", "node.platform.arch")


def constraints(value: Any) -> Any:
    """A list of `key == value` and `key != value`; to the form without spaces."""
    if not isinstance(value, list):
        return value
    findings = Findings()
    result: list[str] = []
    for index, item in enumerate(value):
        try:
            if not isinstance(item, str):
                raise _no_constraint(item)
            text = _constraint(item)
        except PydanticCustomError as error:
            findings.take(error, index)
            continue
        if text in result:
            findings.add(f"{shown(item)} is given twice", "remove one", index)
        result.append(text)
    findings.finish()
    return result


@functools.lru_cache(maxsize=1024)
def _constraint(item: str) -> str:
    found = _CONSTRAINT.fullmatch(item)
    if found is None:
        raise _no_constraint(item)
    key, operator, value = found["key"], found["operator"], found["value"]
    lower = key.lower()
    if not _LABEL.fullmatch(key) and lower not in KEYS:
        import difflib  # only needed when something is wrong

        near = difflib.get_close_matches(lower, [*KEYS, "node.labels.NAME", "engine.labels.NAME"], 1)
        hint = (
            f'did you mean "{near[0]}"?' if near else f"one of {', '.join(KEYS)}, node.labels.NAME, engine.labels.NAME"
        )
        raise problem(f"nodes have no {shown(key)}", hint)
    if not _VALUE.fullmatch(value):
        raise problem(f"{shown(value)} can't be compared with", "write it without quotes or patterns")
    if lower == "node.role" and value.lower() not in ("manager", "worker"):
        raise problem(f"no role {shown(value)}", "write manager or worker")
    if lower == "node.ip":
        _check_address(value)
    return f"{lower if lower in KEYS else _prefix(key)}{operator}{value}"


def _no_constraint(item: object) -> PydanticCustomError:
    return problem(f"{shown(item)} is no constraint", "as in node.role == worker")


def _prefix(key: str) -> str:
    """The prefix in lower case; a label's name keeps its case."""
    kind, labels, name = key.split(".", 2)
    return f"{kind.lower()}.{labels.lower()}.{name}"


def _check_address(value: str) -> None:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise problem(f"{shown(value)} is neither an address nor a subnet", "") from error


def spread(value: Any) -> Any:
    """The label to spread over."""
    if isinstance(value, str) and not _LABEL.fullmatch(value):
        raise problem(f"{shown(value)} is no label to spread over", "write node.labels.NAME or engine.labels.NAME")
    return _prefix(value) if isinstance(value, str) else value
