"""What a value's check found: reasons, ways out and places, carried through pydantic to `gitops.manifests.problems`."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticCustomError

At = tuple[str | int, ...]


def problem(reason: str, hint: str = "", *at: str | int, on_key: bool = False) -> PydanticCustomError:
    """An error with the way out, `at` a path below the field; `on_key` points at the key there, not at its value."""
    return _error([(reason, hint, at, on_key)])


def shown(value: object) -> str:
    """A value as it may stand in a message: short, on one line, without control characters."""
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "…")


class Findings:
    """Collects what is wrong with the parts of one field, so that all of it is reported at once."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: list[tuple[str, str, At, bool]] = []

    def add(self, reason: str, hint: str = "", *at: str | int, on_key: bool = False) -> None:
        """Note a problem."""
        self._found.append((reason, hint, at, on_key))

    def take(self, error: PydanticCustomError, *at: str | int) -> None:
        """Note what another check raised, at a part of the field."""
        for reason, hint, below, on_key in found_by(error.context or {}):
            self._found.append((reason, hint, (*at, *below), on_key))

    def finish(self) -> None:
        """Raise what was found, if anything."""
        if self._found:
            raise _error(self._found)


def _error(found: list[tuple[str, str, At, bool]]) -> PydanticCustomError:
    return PydanticCustomError("manifest", "{reason}", {"reason": found[0][0], "found": tuple(found)})


def found_by(context: Any) -> tuple[tuple[str, str, At, bool], ...]:
    """Reason, hint, place and `on_key` of each problem in an error's context."""
    return tuple(context.get("found", ()))
