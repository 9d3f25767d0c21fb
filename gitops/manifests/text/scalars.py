"""What a plain YAML scalar means: YAML 1.2's core schema, plus the old octal `0440`, as Go's YAML for Compose has it.

No `yes`/`no`, no base-60 numbers. A number keeps the spelling that it was written with, so that `1.10` or `0x1F` in
a place for text stays what was written.
"""

from __future__ import annotations

import functools
import re

Scalar = str | int | float | bool | None


class SpelledInt(int):
    """An int whose text differs from its usual one: `0440`, `0x1F`, `+5`."""

    text: str

    def __new__(cls, value: int, text: str) -> SpelledInt:
        self = super().__new__(cls, value)
        self.text = text
        return self

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[type[SpelledInt], tuple[int, str]]:
        return SpelledInt, (int(self), self.text)


class SpelledFloat(float):
    """A float whose text differs from its usual one: `1.10`, `1e3`."""

    text: str

    def __new__(cls, value: float, text: str) -> SpelledFloat:
        self = super().__new__(cls, value)
        self.text = text
        return self

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[type[SpelledFloat], tuple[float, str]]:
        return SpelledFloat, (float(self), self.text)


_NAMED: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_OLD_OCTAL = re.compile(r"[-+]?0[0-7]+")
_OTHER_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_NUMERIC_START = frozenset("+-.0123456789")
_MAX_DIGITS = 400
"""Longer ones stay text: no manifest needs them, and converting very long ones is a way to burn time."""


@functools.lru_cache(maxsize=8192)
def plain(text: str) -> Scalar:
    """The value of an unquoted scalar."""
    if text in _NAMED:
        return _NAMED[text]
    if text[0] not in _NUMERIC_START or len(text) > _MAX_DIGITS:
        return text
    return _number(text)


def _number(text: str) -> Scalar:
    if _INT.fullmatch(text):
        return _spelled_int(int(text), text)
    if _OLD_OCTAL.fullmatch(text):
        return SpelledInt(int(text, 8), text)
    if _OTHER_INT.fullmatch(text):
        return SpelledInt(int(text, 0), text)
    if _FLOAT.fullmatch(text) and not _LEADING_ZERO.fullmatch(text):
        value = float(text)
        return value if repr(value) == text else SpelledFloat(value, text)
    return text


def _spelled_int(value: int, text: str) -> int:
    return value if str(value) == text else SpelledInt(value, text)


def to_text(value: Scalar) -> str:
    """A scalar as it was written (booleans in lower case, null as nothing)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
