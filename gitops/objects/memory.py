"""Results of pure functions, kept from round to round by the very objects that they were made from.

For loops that do the same work on nearly the same objects again and again. An entry holds what it was made from, so
that an identity means the same object as long as the entry lives; what a round doesn't ask for is gone after the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

V = TypeVar("V")

_BY_VALUE = (str, int, bool, type(None))


class Memory(Generic[V]):
    """One function's results."""

    def __init__(self) -> None:
        self._present: dict[tuple[Any, ...], tuple[tuple[Any, ...], V]] = {}
        self._former: dict[tuple[Any, ...], tuple[tuple[Any, ...], V]] = {}

    def begin(self) -> None:
        """A new round: what neither it nor the next one asks for is forgotten."""
        self._former, self._present = self._present, {}

    def of(self, make: Callable[..., V], *given: Any) -> V:
        """`make(*given)`, or what came of it for these same objects (texts and numbers count by their value)."""
        found = self._find(key := _key(given))
        if found is None:
            found = self._present[key] = (given, make(*given))
        return found[1]

    def get(self, *given: Any) -> V | None:
        """What is kept for these same objects."""
        found = self._find(_key(given))
        return None if found is None else found[1]

    def put(self, value: V, *given: Any) -> V:
        """Keep `value` for these objects."""
        self._present[_key(given)] = (given, value)
        return value

    def _find(self, key: tuple[Any, ...]) -> tuple[tuple[Any, ...], V] | None:
        found = self._present.get(key)
        if found is None and (found := self._former.get(key)) is not None:
            self._present[key] = found
        return found


def _key(given: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([part if isinstance(part, _BY_VALUE) else id(part) for part in given])
