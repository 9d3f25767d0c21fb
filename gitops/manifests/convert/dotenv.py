"""Files of variables: KEY=VALUE lines, with quotes, comments and `export`.

Variables in values are filled in only where the reader says from where (a Compose project); a manifest's are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gitops.manifests.compose import interpolation

Lookup = Callable[[str], str | None]
_LINE = re.compile(r"(?:export[ \t]+)?(?P<key>[^\s=#'\"]+)[ \t]*=[ \t]*(?P<value>.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "$": "$"}
_OWN_DOLLAR = re.compile(r"\\\$|\$(?![A-Za-z_{])")
_VARIABLE = re.compile(r"(?<!\\)\$(?:\{|[A-Za-z_])")


class BadLine(Exception):
    """A line that can't be read; number from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line


def parse(text: str, *, is_raw: bool = False, lookup: Lookup | None = None) -> dict[str, str]:
    """The variables of a file; `is_raw` takes values as they stand, as `docker run --env-file` does.

    With `lookup`, variables in values are filled in: with those above in the file, else with what it gives.

    Raises:
        BadLine: a line that is no assignment, an open quote, or a variable that would have to be filled in.
    """
    result: dict[str, str] = {}
    lines = text.replace("\r\n", "\n").split("\n")
    number = 0
    while number < len(lines):
        start, line = number + 1, lines[number].strip()
        number += 1
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise BadLine(start, "is no KEY=VALUE")
        value = found["value"]
        if is_raw:
            result[found["key"]] = value
            continue
        quote = value[:1]
        if quote in ("'", '"'):
            while not _closed(value, quote):
                if number >= len(lines):
                    raise BadLine(start, f"the {quote} isn't closed")
                value += "\n" + lines[number]
                number += 1
        result[found["key"]] = _value(value, start, result, lookup)
    return result


def _closed(value: str, quote: str) -> bool:
    return _end(value, quote) is not None


def _end(value: str, quote: str) -> int | None:
    """Where the quote that the value begins with is closed."""
    at = 1
    while at < len(value):
        if value[at] == "\\" and quote == '"':
            at += 1
        elif value[at] == quote:
            return at
        at += 1
    return None


def _value(value: str, line: int, above: dict[str, str], lookup: Lookup | None) -> str:
    if value[:1] == "'":
        end = _end(value, "'") or 0
        return value[1:end]
    if value[:1] == '"':
        end = _end(value, '"') or 0
        text = value[1:end]
    else:
        text = re.split(r"\s#", value, maxsplit=1)[0].rstrip()
    if lookup is not None:
        text = _filled(text, line, above, lookup)
    else:
        _no_variable(text, line)
    if value[:1] == '"':
        return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[0]), text)
    return text.replace("\\$", "$")


def _filled(text: str, line: int, above: dict[str, str], lookup: Lookup) -> str:
    """Variables filled in, but for dollars that begin none or stand behind a backslash."""
    parts = _OWN_DOLLAR.split(text)
    try:
        filled = interpolation.fill("$$".join(parts), lambda name: above[name] if name in above else lookup(name))
    except interpolation.BadVariable as error:
        raise BadLine(line, error.reason) from error
    return filled


def _no_variable(value: str, line: int) -> None:
    if _VARIABLE.search(value):
        raise BadLine(line, "a variable in a value is not filled in: put the value in single quotes, or write it out")
