"""All documents of a load by kind and name, and what one may refer to.

A reference is looked up in the object's own stack first, then among objects without a stack.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gitops import errors
from gitops.manifests import problems
from gitops.manifests.desired import EncryptedSource
from gitops.manifests.documents import Document
from gitops.manifests.kinds.base import Manifest
from gitops.manifests.options import LoadOptions
from gitops.manifests.problems import Issue
from gitops.manifests.repository import Repository
from gitops.manifests.text.fieldpath import Path
from gitops.objects import labels


@dataclass(slots=True)
class Item:
    """A document with its place in the world. `model` is None where the document has problems of its own."""

    document: Document
    repository: Repository
    kind: str
    stack: str
    name: str
    model: Manifest | None
    engine_name: str = ""
    """Filled in when the object is converted; for secrets and configs it depends on the content."""
    is_external: bool = False
    own_name: str = ""
    """Its name on the engine (before a version), where it isn't made of stack and name: what `spec.name` says."""

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What stands in for variables that the operator's environment lacks: those of a Compose project's `.env`."""
    moved_from: str | None = None
    """The stack that it was in before, which its name on the engine is made of."""

    @property
    def unversioned_name(self) -> str:
        """The name on the engine, but for the version of a secret or config."""
        return self.own_name or labels.engine_name(self.moved_from or self.stack, self.name)

    @property
    def where(self) -> str:
        """`file:line`, for hints."""
        return str(self.document.position)

    @property
    def directory(self) -> str:
        """What relative paths start from."""
        return self.document.source.directory


@dataclass(slots=True)
class Catalog:
    """Everything that was read, and the problems found so far."""

    options: LoadOptions
    environ: dict[str, str]
    items: dict[tuple[str, str, str], Item] = field(default_factory=dict)
    engine_names: dict[tuple[str, str], Item] = field(default_factory=dict)
    """Items by kind and name on the engine, before a version."""
    images: dict[str, Item] = field(default_factory=dict)
    """Images by their reference."""
    problems: list[errors.Problem] = field(default_factory=list)
    warnings: list[errors.Problem] = field(default_factory=list)
    """What can be done and is hardly meant."""
    is_incomplete: bool = False
    """A file couldn't be read, so that a missing object may well be in it: references aren't judged."""
    default_networks: dict[str, Item] = field(default_factory=dict)
    """Stacks whose default network is used without being written, with the service that did so first."""
    looks: int = 0
    """How often something was asked of this host: what comes of it may be different the next time."""
    encrypted: list[EncryptedSource] = field(default_factory=list)
    """What was read from encrypted files."""

    def report(self, item: Item, issue: Issue) -> None:
        """Note a problem of an item."""
        self.problems.append(item.document.problem(issue))

    def add(self, item: Item) -> None:
        """Take in a document; a second one of the same kind and name is a problem."""
        if not item.name:
            return
        key = (item.kind, item.stack, item.name)
        first = self.items.setdefault(key, item)
        if first is not item:
            where = f" in stack {item.stack}" if item.stack else ""
            issue = Issue(
                ("metadata", "name"), f"a second {item.kind} {item.name!r}{where}", f"the first is at {first.where}"
            )
            self.report(item, issue)

    def of(self, kind: str) -> Iterator[Item]:
        """The items of a kind that have a model."""
        return (item for (found, _, _), item in self.items.items() if found == kind and item.model is not None)

    def find(self, kind: str, item: Item, name: str, path: Path) -> Item | None:
        """What `item` refers to by `name`; None, and a problem, if there is no such object."""
        found = self.items.get((kind, item.stack, name)) or self.items.get((kind, "", name))
        if found is None and not self.is_incomplete:
            self.report(item, Issue(path, f"no {kind} {name!r}{self._place(item)}", self._hint(kind, item, name)))
        return found

    def _place(self, item: Item) -> str:
        return f" in stack {item.stack}" if item.stack else " without a stack"

    def _hint(self, kind: str, item: Item, name: str) -> str:
        known = [key[2] for key in self.items if key[0] == kind and key[1] in (item.stack, "")]
        near = problems.closest(name, known)
        if near:
            return f'did you mean "{near}"?'
        elsewhere = next((key[1] for key in self.items if key[0] == kind and key[2] == name), None)
        if elsewhere is not None:
            return f"there is one in stack {elsewhere}" if elsewhere else ""
        return f"write a {kind} of this name, with external: true if the engine has it already"


def owner_labels(kind: str, stack: str, name: str) -> dict[str, str]:
    """The labels that say whose an object is; the hash comes when the object is whole."""
    found = {labels.KIND: kind, labels.NAME: name}
    if stack:
        found[labels.STACK] = stack
        found[labels.NAMESPACE] = stack
    return found
