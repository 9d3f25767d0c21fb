"""Filters of listings: keys with values, of which one must match; all keys must."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from gitops import errors

Filters = Mapping[str, Sequence[str]]
TRUE = frozenset({"1", "t", "true"})
FALSE = frozenset({"0", "f", "false"})


def check_keys(filters: Filters | None, known: Collection[str]) -> Filters:
    """`filters`, none of whose keys is unknown.

    Raises:
        errors.Invalid: a key that isn't `known`.
    """
    for key in filters or {}:
        if key not in known:
            raise errors.Invalid(f"invalid filter '{key}'")
    return filters or {}


def one_of(filters: Filters, key: str, matches: Callable[[str], bool]) -> bool:
    """Whether any of the key's values matches; so it is where the key isn't given."""
    values = filters.get(key)
    return not values or any(matches(value) for value in values)


def has_prefix(filters: Filters, key: str, text: str) -> bool:
    """Whether `text` begins with any of the key's values."""
    return one_of(filters, key, text.startswith)


def has_labels(filters: Filters, key: str, labels: Mapping[str, str]) -> bool:
    """Whether all of the key's values, `name` or `name=value`, are among `labels`."""
    return all(_has_label(text, labels) for text in filters.get(key, ()))


def _has_label(text: str, labels: Mapping[str, str]) -> bool:
    name, has_value, value = text.partition("=")
    return name in labels and (not has_value or labels[name] == value)


def flag(filters: Filters, key: str) -> bool | None:
    """The truth that the key is given as, None where it isn't.

    Raises:
        errors.Invalid: neither true nor false, or both.
    """
    values = {value.lower() for value in filters.get(key, ())}
    if not values:
        return None
    if values <= TRUE:
        return True
    if values <= FALSE:
        return False
    raise errors.Invalid(f"invalid filter '{key}={','.join(sorted(values))}'")


def check_values(filters: Filters, key: str, known: Iterable[str]) -> None:
    """Raise errors.Invalid for a value of the key that isn't `known`."""
    allowed = set(known)
    for value in filters.get(key, ()):
        if value not in allowed:
            raise errors.Invalid(f"invalid filter '{key}={value}'")
