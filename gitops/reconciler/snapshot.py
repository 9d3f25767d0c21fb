"""A redacted picture of an engine's state in a file: all that a plan needs, and nothing that must stay there.

Whoever has the file plans against it with no access to the engine and no credentials (`against`). It is JSON,
versioned, described by `schemas/snapshot.schema.json`. Here is its form, and how it is read; `redacted` makes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gitops import errors
from gitops.objects import base, labels
from gitops.objects.container import ContainerConfig, Volume
from gitops.objects.image import ImageInspect, RootFS
from gitops.objects.network import NetworkResource
from gitops.objects.node import Node
from gitops.objects.secret import Config, Secret
from gitops.objects.service import Service
from gitops.objects.task import Task
from gitops.reconciler import claiming, pulls, redaction, revisions, targets
from gitops.reconciler.live import Live
from gitops.reconciler.record import Outcome, Record
from gitops.reconciler.revisions import Body, Head, Revision, Stored

FORMAT = "gitops-snapshot"
FORMAT_VERSION = 1


class Picture(msgspec.Struct, frozen=True, omit_defaults=True):
    """An image: what the engine calls it, and the digests that it knows it by."""

    id: str
    names: list[str] = []
    digests: list[str] = []
    size: int = 0


class Recorded(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stack's record, as far as plans need it."""

    stack: str
    source: str = ""
    commit: str = ""
    outcome: str = ""
    applied_at: str = ""
    suspended: str = ""
    images: list[str] = []
    brought: list[str] = []
    claims: list[str] = []


class Named(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object of a revision; `canonical` only of the last healthy one, which tells drift from intent."""

    kind: str
    name: str
    engine_name: str
    canonical: dict[str, Any] = {}
    image: dict[str, Any] = {}
    is_protected: bool = False


class Applied(msgspec.Struct, frozen=True, omit_defaults=True):
    """A kept revision. Those of the same `state` asked for the same."""

    stack: str
    number: int
    outcome: str
    commit: str = ""
    state: int = 0
    objects: list[Named] = []


class Engine(msgspec.Struct, frozen=True):
    """What the engine is."""

    host: str
    is_ours: bool
    keeps_digests: bool
    api_version: tuple[int, int] | None
    node: str = ""
    """The id of the node that it is, of which `images` are."""


class Document(msgspec.Struct, frozen=True):
    """The file. Services, networks, volumes, secrets, configs, nodes and tasks have the API's own form, redacted."""

    format: str
    format_version: int
    made_at: str
    stacks: list[str] | None
    engine: Engine
    services: list[Service]
    networks: list[NetworkResource]
    volumes: list[Volume]
    secrets: list[Secret]
    configs: list[Config]
    images: list[Picture]
    nodes: list[Node]
    tasks: list[Task]
    records: list[Recorded]
    revisions: list[Applied]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot from a file."""

    file: Path
    document: Document

    @property
    def place(self) -> str:
        """What a plan against it says that it was made against."""
        when = self.document.made_at[:16].replace("T", " ")
        return f"{self.document.engine.host} as of {when} UTC (snapshot {self.file})"

    def live(self, renamed: Mapping[str, str]) -> Live:
        """The state that it shows; texts that are a key of `renamed` are replaced by its value."""
        document = self.document
        if renamed:
            plain = redaction.walked(msgspec.to_builtins(document), lambda text: renamed.get(text, text))
            document = msgspec.convert(plain, Document)
        engine = document.engine
        found: dict[str, list[Revision]] = {}
        for item in document.revisions:
            found.setdefault(item.stack, []).append(_revision(item))
        images = dict(_inspected(document.images))
        is_whole = engine.node and document.stacks is None
        seen = Live(
            services={item.spec.name: item for item in document.services},
            networks={item.name: item for item in document.networks},
            volumes={item.name: item for item in document.volumes},
            secrets={item.spec.name: item for item in document.secrets},
            configs={item.spec.name: item for item in document.configs},
            images=images,
            nodes=tuple(document.nodes),
            tasks=tuple(document.tasks),
            records={item.stack: _record(item, renamed) for item in document.records},
            revisions=found,
            target=targets.Target(engine.is_ours, engine.keeps_digests, engine.api_version),
            supply=pulls.Supply({engine.node: frozenset(images)}) if is_whole else pulls.NOTHING,
        )
        return claiming.claimed(seen)


def read(file: Path) -> Snapshot:
    """The snapshot that a file holds.

    Raises:
        errors.Invalid: it can't be read, is none, or is of a version that isn't known here.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise errors.Invalid(f"{file}: can't be read: {error.strerror}") from error
    try:
        head = msgspec.json.decode(data, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.Invalid(f"{file} is no snapshot: make one with gitops snapshot > FILE") from error
    if head.format != FORMAT:
        raise errors.Invalid(f"{file} is no snapshot: make one with gitops snapshot > FILE")
    if head.format_version != FORMAT_VERSION:
        is_newer = isinstance(head.format_version, int) and head.format_version > FORMAT_VERSION
        way = "update gitops here" if is_newer else "make a new one with gitops snapshot > FILE"
        raise errors.Invalid(
            f"{file}: a snapshot of format version {head.format_version}, and this gitops reads {FORMAT_VERSION}: {way}"
        )
    try:
        return Snapshot(file, msgspec.json.decode(data, type=Document))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.Invalid(f"{file}: this snapshot is damaged: {error}; make a new one") from error


class _Head(msgspec.Struct):
    format: str = ""
    format_version: int | str = 0


def _inspected(found: Iterable[Picture]) -> Iterable[tuple[str, ImageInspect]]:
    """Images by all that the engine calls them."""
    for item in found:
        image = ImageInspect(item.id, item.names, item.digests, "", ContainerConfig(), "", "", item.size, RootFS())
        for name in (item.id, *item.digests, *item.names):
            yield name, image


def _record(item: Recorded, renamed: Mapping[str, str]) -> Record:
    return Record(
        item.stack,
        source=item.source,
        commit=item.commit,
        outcome=Outcome(item.outcome) if item.outcome in set(Outcome) else Outcome.NONE,
        applied_at=item.applied_at,
        images=tuple(item.images),
        brought=tuple(item.brought),
        claims=tuple(" ".join(renamed.get(word, word) for word in claim.split(" ")) for claim in item.claims),
        suspended=item.suspended,
    )


def _spec(item: Named) -> msgspec.Raw:
    """All that plans ask of a stored spec."""
    return msgspec.Raw(base.to_json({"Labels": {labels.PROTECT: "true"}} if item.is_protected else None))


def _revision(item: Applied) -> Revision:
    objects = [
        Stored(
            found.kind, item.stack, found.name, found.engine_name, "", _spec(found), found.canonical, image=found.image
        )
        for found in item.objects
    ]
    outcome = Outcome(item.outcome) if item.outcome in set(Outcome) else Outcome.NONE
    head = Head(item.stack, item.number, commit=item.commit, outcome=outcome, digest=f"state {item.state}")
    return Revision(head, Config(), revisions.encode(Body(objects)))
