"""Variables in values: `$NAME`, `${NAME}`, and `:-` `-` `:?` `?` `:+` `+` in braces, nested; `$$` is a dollar."""

from __future__ import annotations

import re
from collections.abc import Callable

Lookup = Callable[[str], str | None]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-?+]")
_PLAIN_DOLLAR = re.compile(r"\$(?![$A-Za-z_{])")


class BadVariable(Exception):
    """A text whose variables can't be filled in."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


def fill(text: str, lookup: Lookup) -> str:
    """The text with its variables filled in; one that isn't set is nothing.

    Raises:
        BadVariable: not a variable, or one that must be set and isn't.
    """
    if "$" not in text:
        return text
    parts: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        parts.append(text[at:dollar])
        if text.startswith("$", dollar + 1):
            parts.append("$")
            at = dollar + 2
        elif text.startswith("{", dollar + 1):
            end = _end(text, dollar + 2)
            parts.append(_braced(text[dollar + 2 : end], lookup))
            at = end + 1
        elif found := _NAME.match(text, dollar + 1):
            parts.append(lookup(found.group()) or "")
            at = found.end()
        else:
            raise BadVariable("a $ that begins no variable", "write $$ for a dollar")
    return "".join(parts) + text[at:]


def _end(text: str, start: int) -> int:
    """Where the brace is closed that was opened just before `start`."""
    depth, at = 1, start
    while at < len(text):
        if text.startswith("${", at):
            depth, at = depth + 1, at + 2
            continue
        if text[at] == "}":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise BadVariable("a ${ that isn't closed", "close it by }")


def _braced(inner: str, lookup: Lookup) -> str:
    found = _NAME.match(inner)
    if found is None:
        raise BadVariable(f"{inner[:40]!r} is no name of a variable", "as in ${NAME} or ${NAME:-default}")
    name, rest = found.group(), inner[found.end() :]
    value = lookup(name)
    if not rest:
        return value or ""
    operator = _OPERATOR.match(rest)
    if operator is None:
        raise BadVariable(f"{rest[:20]!r} follows the name of a variable", "as in ${NAME:-default}")
    word, kind = rest[operator.end() :], operator.group()
    is_given = bool(value) if kind[0] == ":" else value is not None
    if kind[-1] == "+":
        return _word(word, lookup) if is_given else ""
    if is_given:
        return value or ""
    if kind[-1] == "?":
        raise BadVariable(
            f"the variable {name} must be set: {_word(word, lookup) or 'it is required'}", "set it in .env"
        )
    return _word(word, lookup)


def _word(word: str, lookup: Lookup) -> str:
    """What stands behind the operator. Text with bare dollars (the hash of a password) is meant as it stands."""
    return word if _PLAIN_DOLLAR.search(word) else fill(word, lookup)
