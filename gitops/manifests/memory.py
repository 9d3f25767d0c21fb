"""What a load leaves for the next one of the same paths: files by their content, services by all that they are made of.

A `watch` loads again and again, and hardly anything has changed. A file whose bytes are the same is not parsed again,
nor a Compose project whose files and variables are the same. A service is not converted again where its document is the
same object, in the same place, and where nothing that it might refer to looks different; one whose conversion looked at
other files, or said anything, is always converted again. A load that fails leaves what the last good one left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gitops.manifests.desired import DEFAULT_NETWORK, Desired
from gitops.objects.memory import Memory

if TYPE_CHECKING:
    from gitops.manifests.catalog import Catalog, Item
    from gitops.manifests.compose.loading import Project
    from gitops.manifests.documents import Parsed
    from gitops.manifests.kinds.service import Service

_VERSIONED = ("Secret", "Config")
"""Their names on the engine change with their content: that of each that a service uses is looked at."""


@dataclass(frozen=True, slots=True)
class Read:
    """A file's text and what is in it. Only files that can be read are remembered."""

    text: str
    documents: tuple[Parsed, ...] = ()
    is_compose: bool = False


class LoadMemory:
    """The memory of one caller; loads with it come one after the other."""

    def __init__(self) -> None:
        self.services = _Services()
        self.projects: Memory[Project] = Memory()
        self._texts: Memory[Read] = Memory()
        self._files: Memory[Read] = Memory()
        self._lock = threading.Lock()

    @contextmanager
    def load(self) -> Iterator[None]:
        """Around a load."""
        with self._lock:
            self._texts.begin()
            self._files.begin()
            self.projects.begin()
            yield
            self.services.keep()

    def text(self, digest: str) -> str | None:
        """The text of the bytes that have this SHA-256, in hex, if they were read before."""
        found = self._texts.get(digest)
        return None if found is None else found.text

    def read(self, name: str, digest: str, make: Callable[[], Read]) -> Read:
        """What is in the file that is called `name` and whose bytes have this SHA-256: `make` reads it where it is new.

        Documents of its former text that it still has, in the same place, are the same objects.
        """
        found = self._texts.get(digest)
        if found is None:
            found, former = make(), self._files.get(name)
            if former is not None:
                found = replace(found, documents=tuple(_with_former(found, former)))
            self._texts.put(found, digest)
        return self._files.put(found, name)


def _with_former(found: Read, former: Read) -> Iterator[Parsed]:
    """The documents of `found`; those of `former` where they stand in the same lines, which then say the same."""
    texts = zip_longest(_lines(found), _lines(former)[: len(found.documents)])
    for index, (text, old_text) in enumerate(texts):
        document = found.documents[index]
        is_same = text == old_text and document == former.documents[index]
        yield former.documents[index] if is_same else document


def _lines(found: Read) -> list[list[str]]:
    """The lines of each document: from where it begins to where the next one does."""
    lines, begins = found.text.split("\n"), [document.line - 1 for document in found.documents]
    return [lines[begin:end] for begin, end in zip_longest(begins, begins[1:])]


@dataclass(frozen=True, slots=True)
class _Converted:
    """A service with all of itself that it was made of, and what it did beside: `waits` for others, or joins the
    stack's own network."""

    parsed: Parsed
    place: tuple[str, str, str, Path, Path]
    desired: Desired
    waits: bool
    is_in_default_network: bool


class _Services:
    """Services as they were converted."""

    def __init__(self) -> None:
        self._former: dict[tuple[str, str], _Converted] = {}
        self._present: dict[tuple[str, str], _Converted] = {}
        self._others: Mapping[Any, Any] = {}
        self._names: Mapping[Any, Any] = {}
        self._next: tuple[Mapping[Any, Any], Mapping[Any, Any]] = ({}, {})
        self._versions: frozenset[tuple[str, str]] = frozenset()
        self._are_others_same = self._are_names_same = False

    def begin(self, catalog: Catalog) -> None:
        """Look at all that services may refer to; everything but services is converted by then."""
        others, names = _surroundings(catalog)
        self._are_others_same = others == self._others and not catalog.is_incomplete
        self._are_names_same = names == self._names
        self._next = others, names
        self._versions = frozenset(
            (item.kind, item.engine_name) for item in catalog.items.values() if item.kind in _VERSIONED
        )
        self._present = {}

    def keep(self) -> None:
        """The load went well: what it made is what the next one starts from."""
        self._former = self._present
        self._others, self._names = self._next

    def find(self, catalog: Catalog, item: Item) -> Desired | None:
        """The service as it was converted before, if it would come out the same."""
        known = self._former.get((item.stack, item.name))
        if (
            known is None
            or known.parsed is not item.document.parsed
            or known.place != _place(item)
            or not self._are_others_same
            or (known.waits and not self._are_names_same)
            or any(need[0] in _VERSIONED and need not in self._versions for need in known.desired.needs)
        ):
            return None
        if known.is_in_default_network:
            catalog.default_networks.setdefault(item.stack, item)
        self._present[item.stack, item.name] = known
        return known.desired

    def note(self, catalog: Catalog, item: Item, desired: Desired) -> None:
        """Remember a service whose conversion looked at nothing but its document and the catalog."""
        spec = cast("Service", item.model).spec
        joins = bool(item.stack) and (spec.networks is None or DEFAULT_NETWORK in spec.networks)
        self._present[item.stack, item.name] = _Converted(
            item.document.parsed,
            _place(item),
            desired,
            bool(spec.depends_on),
            joins and ("Network", item.stack, DEFAULT_NETWORK) not in catalog.items,
        )


def _place(item: Item) -> tuple[str, str, str, Path, Path]:
    source = item.document.source
    return source.name, source.directory, item.engine_name, item.repository.root, item.repository.shown_from


def _surroundings(catalog: Catalog) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
    """All but services, with what a service takes of them; and the services by name."""
    others: dict[Any, Any] = {"options": catalog.options, "images": set(catalog.images)}
    names: dict[Any, Any] = {}
    for key, item in catalog.items.items():
        if item.kind == "Service":
            names[key] = item.engine_name
        elif item.kind in _VERSIONED:
            others[key] = item.is_external
        else:
            others[key] = item.engine_name, item.is_external, item.model
    return others, names
