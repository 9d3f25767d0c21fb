"""Files of variables: KEY=VALUE lines, with quotes, comments and `export`, but without interpolation."""

from __future__ import annotations

import re

_LINE = re.compile(r"(?:export[ \t]+)?(?P<key>[^\s=#'\"]+)[ \t]*=[ \t]*(?P<value>.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "$": "$"}
_VARIABLE = re.compile(r"(?<!\\)\$(?:\{|[A-Za-z_])")


class BadLine(Exception):
    """A line that can't be read; number from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line


def parse(text: str, *, is_raw: bool = False) -> dict[str, str]:
    """The variables of a file; `is_raw` takes values as they stand, as `docker run --env-file` does.

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
        result[found["key"]] = _value(value, start)
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


def _value(value: str, line: int) -> str:
    if value[:1] == "'":
        end = _end(value, "'") or 0
        return value[1:end]
    if value[:1] == '"':
        end = _end(value, '"') or 0
        _no_variable(value[1:end], line)
        return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[0]), value[1:end])
    plain = re.split(r"\s#", value, maxsplit=1)[0].rstrip()
    _no_variable(plain, line)
    return plain.replace("\\$", "$")


def _no_variable(value: str, line: int) -> None:
    if _VARIABLE.search(value):
        raise BadLine(line, "a variable in a value is not filled in: put the value in single quotes, or write it out")
