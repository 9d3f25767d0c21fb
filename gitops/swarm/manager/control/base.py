"""What all nouns of the control API share: store, clock, ids, and the finding of objects by what people type."""

from __future__ import annotations

from gitops import errors
from gitops.swarm.clock import Clock, IdSource
from gitops.swarm.store.protocol import Store, T, View
from gitops.swarm.store.table import WORDS, name_of


class ControlBase:
    """A part of the control API."""

    def __init__(self, store: Store, clock: Clock, ids: IdSource) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids


def find(view: View, kind: type[T], reference: str) -> T:
    """The object with this id, else this name, else this unique beginning of an id.

    Raises:
        errors.NotFound: there is none.
        errors.Invalid: several are meant.
    """
    found = view.get(kind, reference)
    if found is not None:
        return found
    items = view.all(kind)
    matches = [item for item in items if reference and name_of(item).lower() == reference.lower()]
    matches = matches or [item for item in items if reference and item.id.startswith(reference)]
    if not matches:
        raise errors.NotFound(f"{WORDS[kind]} {reference} not found")
    if len(matches) > 1:
        raise errors.Invalid(f"{WORDS[kind]} {reference} is ambiguous ({len(matches)} matches found)")
    return matches[0]
