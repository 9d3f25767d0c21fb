"""Values as a YAML text that our reader reads back as the very same values.

Promises: a text stays a text, whatever it looks like, and a number keeps its spelling. Keys come in the order in which
the map has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gitops.manifests.text import scalars

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@%+=~-]*(?:(?::| )[A-Za-z0-9_./@%+=~-]+)*")
"""Texts that need no quotes wherever they stand in block style, unless they mean something else (`true`, `null`)."""


def documents(values: list[dict[str, Any]]) -> str:
    """Several documents, each with its mark."""
    return "".join(f"---\n{document(value)}" for value in values)


def document(value: Mapping[str, Any]) -> str:
    """One document, without a mark."""
    return "\n".join(_map(value, "")) + "\n" if value else "{}\n"


def _map(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, item in value.items():
        yield from _entry(f"{indent}{_text(key)}:", item, indent)


def _list(value: list[Any], indent: str) -> Iterator[str]:
    for item in value:
        if isinstance(item, dict | list) and item:
            # The first line of what stands below comes behind the dash.
            lines = _block(item, indent + "  ")
            yield f"{indent}- {next(lines).lstrip(' ')}"
            yield from lines
        else:
            yield from _entry(f"{indent}-", item, indent)


def _block(value: Any, indent: str) -> Iterator[str]:
    return _map(value, indent) if isinstance(value, dict) else _list(value, indent)


def _entry(head: str, item: Any, indent: str) -> Iterator[str]:
    if isinstance(item, dict | list) and item:
        yield head
        yield from _block(item, indent + "  ")
    elif isinstance(item, str) and _is_readable(item):
        yield f"{head} |{_chomping(item)}"
        for line in item.removesuffix("\n").split("\n"):
            yield f"{indent}  {line}" if line else ""
    else:
        yield f"{head} {_scalar(item)}"


def _is_readable(text: str) -> bool:
    """Whether a text of several lines reads best as it stands, and is kept by that."""
    lines = text.split("\n")
    return len(lines) > 1 and not lines[0].startswith((" ", "\t")) and lines[0] != "" and all(
        line.isprintable() and line == line.rstrip() for line in lines
    )  # fmt: skip


def _chomping(text: str) -> str:
    if not text.endswith("\n"):
        return "-"
    return "+" if text.endswith("\n\n") else ""


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict | list):
        return "{}" if isinstance(value, dict) else "[]"
    return "null" if value is None else _number(value)


def _number(value: int | float) -> str:
    text = scalars.to_text(value)
    return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(text, text)


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and isinstance(scalars.plain(value), str):
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    # What JSON leaves as it is, and YAML takes for the end of a line or forbids.
    return quoted if quoted.isprintable() else "".join(
        mark if mark.isprintable() else f"\\U{ord(mark):08x}" for mark in quoted
    )  # fmt: skip
