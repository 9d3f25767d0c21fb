"""Which texts YAML takes at all, told from their characters alone; and texts that messages may hold."""

from __future__ import annotations

import re

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


class TextProblem(Exception):
    """A text is no YAML, or not one that we take; line and column from 0."""

    def __init__(self, line: int, column: int, reason: str, hint: str = "", width: int = 1) -> None:
        super().__init__(reason)
        self.line, self.column, self.reason, self.hint, self.width = line, column, reason, hint, width


def decode(data: bytes) -> str:
    """The text of a file.

    Raises:
        TextProblem: not UTF-8, or with characters that YAML forbids, NUL among them.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise TextProblem(0, 0, "the file is UTF-16", "save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        line, column = _at(before, len(before))
        raise TextProblem(line, column, f"not UTF-8: byte 0x{data[error.start]:02x}", "save it as UTF-8") from error
    check(text)
    return text


def check(text: str) -> None:
    """Refuse what can't be in a YAML text.

    Raises:
        TextProblem: with characters that YAML forbids, NUL and halves of pairs among them.
    """
    if found := _FORBIDDEN.search(text):
        line, column = _at(text, found.start())
        code = ord(found.group())
        name = "a NUL byte" if code == 0 else f"the control character U+{code:04X}"
        raise TextProblem(line, column, f"{name} has no place in a YAML file", "remove it")


def one_line(text: str) -> str:
    """A message without line breaks and control characters, whatever of a file is repeated in it."""
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in text)


def _at(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset), offset - (text.rfind("\n", 0, offset) + 1)
