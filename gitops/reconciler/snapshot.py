"""A redacted picture of an engine's state in a file: all that a plan needs, and nothing that must stay there.

Whoever has the file plans against it with no access to the engine and no credentials (`against`). It is JSON,
versioned, described by `schemas/snapshot.schema.json`. What of a value may be a secret is decided by `redaction`; of
what isn't in the chosen stacks only names, ports and what the scheduler counts are in it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from gitops import client as clients
from gitops import errors
from gitops.manifests import canonical
from gitops.objects import base, labels
from gitops.objects.container import ContainerConfig, Volume
from gitops.objects.image import ImageInspect, ImageSummary, RootFS
from gitops.objects.network import NetworkResource
from gitops.objects.node import Node, NodeStatus
from gitops.objects.secret import Config, ConfigSpec, Secret, SecretSpec
from gitops.objects.service import ContainerSpec, Endpoint, Service, ServiceSpec, TaskSpec
from gitops.objects.task import Task, TaskStatus
from gitops.reconciler import claiming, protection, record, redaction, revisions, targets, versions
from gitops.reconciler import live as states
from gitops.reconciler.live import Live
from gitops.reconciler.record import Outcome, Record
from gitops.reconciler.revisions import Body, Head, Revision, Stored

FORMAT = "gitops-snapshot"
FORMAT_VERSION = 1
_RECORDS = (record.RECORD_KIND, revisions.REVISION_KIND)
_VERSIONED = ("Secret", "Config")
_OWNER = (labels.STACK, labels.KIND, labels.NAME, labels.NAMESPACE)


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


async def take(
    client: clients.EngineClient, stacks: Collection[str] = (), *, all_variables: bool = False
) -> dict[str, Any]:
    """Look at an engine; a snapshot as plain data, of all stacks if none is named.

    Raises:
        errors.NotFound: there is no such stack.
    """
    seen, images = await states.read(client, ()), await client.images()
    return made(seen, images, client.host, time.time_ns(), stacks, all_variables=all_variables)


def made(
    seen: Live,
    images: Iterable[ImageSummary],
    host: str,
    now_ns: int,
    stacks: Collection[str] = (),
    *,
    all_variables: bool = False,
) -> dict[str, Any]:
    """The snapshot of a live state. Pure."""
    known = seen.records.keys() | {name for found in _owned(seen) if (name := found.get(labels.STACK, ""))}
    if unknown := sorted(set(stacks) - known):
        names = ", ".join(sorted(filter(None, known))) or "none"
        raise errors.NotFound(f"no stack {unknown[0]!r} on this engine; stacks: {names}")
    redactor = _Redactor(seen, frozenset(stacks) or None, all_variables)
    document = Document(
        FORMAT,
        FORMAT_VERSION,
        base.format_time(now_ns),
        sorted(stacks) or None,
        Engine(host, seen.target.is_ours, seen.target.keeps_digests, seen.target.api_version),
        services=[redactor.service(item) for item in seen.services.values()],
        networks=[redactor.network(item) for item in seen.networks.values()],
        volumes=[redactor.volume(item) for item in seen.volumes.values()],
        secrets=[redactor.secret(item) for item in seen.secrets.values()],
        configs=[redactor.config(item) for item in seen.configs.values() if _is_config(item)],
        images=redactor.images(images),
        nodes=[replace(node, status=NodeStatus(node.status.state), manager_status=None) for node in seen.nodes],
        tasks=redactor.tasks(),
        records=[redactor.record(item) for item in seen.records.values() if redactor.has(item.stack)],
        revisions=[item for stack in seen.revisions if redactor.has(stack) for item in redactor.applied(stack)],
    )
    aliases = redaction.Aliases(_hidden_versions(seen))
    return dict(aliases.applied(msgspec.to_builtins(document)))


def _owned(seen: Live) -> Iterable[Mapping[str, str]]:
    yield from (item.spec.labels for item in seen.services.values())
    yield from (item.labels for item in seen.networks.values())


def _is_config(item: Config) -> bool:
    return item.spec.labels.get(labels.KIND) not in _RECORDS


def _hidden_versions(seen: Live) -> list[str]:
    """Names whose end is made of a value that nobody should guess, the oldest first: secrets of ours, and configs that
    may hold one. Those of revisions whose objects have gone count, too."""
    secrets = sorted(seen.secrets.values(), key=lambda item: item.version.index)
    found = [item.spec.name for item in secrets if _is_ours(item.spec.labels, "Secret")]
    configs = sorted(seen.configs.values(), key=lambda item: item.version.index)
    found += [
        item.spec.name
        for item in configs
        if _is_ours(item.spec.labels, "Config") and redaction.is_private("", item.spec.data.decode("utf-8", "replace"))
    ]
    gone = {
        item.engine_name
        for kept in seen.revisions.values()
        for revision in kept
        for item in _objects(revision)
        if item.kind == "Secret"
    }
    return [name for name in dict.fromkeys((*sorted(gone - set(found)), *found)) if redaction.has_version(name)]


def _is_ours(found: Mapping[str, str], kind: str) -> bool:
    return found.get(labels.KIND) == kind


def _objects(revision: Revision) -> list[Stored]:
    """What a revision holds; of one that is damaged, nothing."""
    try:
        return revision.body.objects
    except errors.Invalid:
        return []


class _Redactor:
    """Live objects as they may be shown; `stacks` is None for all."""

    def __init__(self, seen: Live, stacks: frozenset[str] | None, all_variables: bool) -> None:
        self._seen = seen
        self._stacks = stacks
        self._all_variables = all_variables

    def has(self, stack: str) -> bool:
        return self._stacks is None or stack in self._stacks

    def _shows(self, found: Mapping[str, str] | None) -> bool:
        """Whether an object is of the chosen stacks; one of somebody else never is."""
        owner = self._seen.owner(found)
        return owner is not None and self.has(owner[0])

    def service(self, item: Service) -> Service:
        is_shown = self._shows(item.spec.labels)
        spec = self._spec(item.spec) if is_shown else _bare(item.spec)
        previous = item.previous_spec
        return Service(
            id=item.id,
            version=item.version,
            created_at=item.created_at,
            spec=spec,
            previous_spec=(self._spec(previous) if is_shown else _bare(previous)) if previous else None,
            spec_version=item.spec_version,
            previous_spec_version=item.previous_spec_version,
            endpoint=Endpoint(ports=item.endpoint.ports),
            update_status=replace(item.update_status, message="") if item.update_status else None,
            job_status=item.job_status,
        )

    def _spec(self, spec: ServiceSpec) -> ServiceSpec:
        return redaction.service(spec, all_variables=self._all_variables)

    def network(self, item: NetworkResource) -> NetworkResource:
        if self._shows(item.labels):
            shown = redaction.entries(item.labels), redaction.entries(item.options)
            return replace(item, containers={}, labels=shown[0], options=shown[1])
        return NetworkResource(
            item.name, item.id, "", item.scope, item.driver, ingress=item.ingress, labels=_owner(item.labels)
        )

    def volume(self, item: Volume) -> Volume:
        if self._shows(item.labels):
            shown = redaction.entries(item.labels), redaction.entries(item.options)
            return replace(item, mountpoint="", labels=shown[0], options=shown[1])
        return Volume(item.name, labels=_owner(item.labels))

    def secret(self, item: Secret) -> Secret:
        found = item.spec.labels
        shown = redaction.entries(found) if self._shows(found) else _owner(found)
        spec = SecretSpec(item.spec.name, shown, templating=item.spec.templating)
        return Secret(id=item.id, version=item.version, created_at=item.created_at, spec=spec)

    def config(self, item: Config) -> Config:
        found = item.spec.labels
        shown = redaction.entries(found) if self._shows(found) else _owner(found)
        spec = ConfigSpec(item.spec.name, shown, templating=item.spec.templating)
        return Config(id=item.id, version=item.version, created_at=item.created_at, spec=spec)

    def images(self, found: Iterable[ImageSummary]) -> list[Picture]:
        """Of all stacks all images; else those that services of the chosen ones run and that their applies brought."""
        used = {
            container.image.partition("@")[0]
            for service in self._seen.services.values()
            if self._shows(service.spec.labels) and (container := service.spec.task_template.container_spec)
        }
        records = [item for stack, item in self._seen.records.items() if self.has(stack)]
        used |= {versions.name_of(name) for item in records for name in (*item.images, *item.brought)}
        return [
            Picture(item.id, list(item.repo_tags), list(item.repo_digests), item.size)
            for item in found
            if self._stacks is None or not used.isdisjoint(item.repo_tags)
        ]

    def tasks(self) -> list[Task]:
        shown = {item.id for item in self._seen.services.values() if self._shows(item.spec.labels)}
        return [self._task(task, task.service_id in shown) for task in self._seen.tasks]

    def _task(self, task: Task, is_shown: bool) -> Task:
        spec = redaction.template(task.spec, all_variables=self._all_variables) if is_shown else _bare_task(task.spec)
        return Task(
            id=task.id,
            version=task.version,
            created_at=task.created_at,
            spec=spec,
            spec_version=task.spec_version,
            service_id=task.service_id,
            slot=task.slot,
            node_id=task.node_id,
            endpoint=Endpoint(spec=task.endpoint.spec) if task.endpoint else None,
            status=TaskStatus(timestamp=task.status.timestamp, state=task.status.state),
            desired_state=task.desired_state,
            job_iteration=task.job_iteration,
            is_by_node=task.is_by_node,
        )

    def record(self, item: Record) -> Recorded:
        return Recorded(
            item.stack,
            item.source,
            item.commit,
            str(item.outcome),
            item.applied_at,
            item.suspended,
            list(item.images),
            list(item.brought),
            list(item.claims),
        )

    def applied(self, stack: str) -> Iterable[Applied]:
        found = self._seen.revisions[stack]
        healthy = next((item for item in found if item.head.is_healthy), None)
        states: dict[str, int] = {}
        for item in found:
            head = item.head
            objects = [
                named
                for stored in _objects(item)
                if (named := self._named(stored, is_whole=item is healthy)) is not None
            ]
            state = states.setdefault(head.digest, len(states) + 1)
            known = [named for named in objects if named is not None]
            yield Applied(stack, head.number, str(head.outcome), head.commit, state, known)

    def _named(self, item: Stored, *, is_whole: bool) -> Named | None:
        if item.kind == "Image":
            return Named(item.kind, item.name, item.engine_name, image=item.image)
        if item.kind not in _VERSIONED and not is_whole:
            return None
        form = {} if item.kind in _VERSIONED else self._form(item)
        kept = protection.stored_as_protected(item)
        return Named(item.kind, item.name, item.engine_name, form, is_protected=kept)

    def _form(self, item: Stored) -> dict[str, Any]:
        """The canonical form, made again of the redacted spec, so that nothing stays in it that isn't in that."""
        if item.kind == "Service":
            spec = base.from_json(bytes(item.spec), ServiceSpec)
            return canonical.service(self._spec(spec))
        form = dict(item.canonical)
        for key in ("labels", "driver_opts"):
            if key in form:
                form[key] = redaction.entries(form[key])
        return form


def _owner(found: Mapping[str, str] | None) -> dict[str, str]:
    return {key: value for key, value in (found or {}).items() if key in _OWNER}


def _bare(spec: ServiceSpec) -> ServiceSpec:
    """Of a service of somebody else: its name, its ports, and what the scheduler counts."""
    return ServiceSpec(
        name=spec.name,
        labels=_owner(spec.labels),
        task_template=_bare_task(spec.task_template),
        mode=spec.mode,
        endpoint_spec=spec.endpoint_spec,
    )


def _bare_task(spec: TaskSpec) -> TaskSpec:
    container = spec.container_spec
    return TaskSpec(
        container_spec=ContainerSpec(image=container.image) if container else None,
        resources=spec.resources,
        placement=spec.placement,
        networks=[replace(item, aliases=[], driver_opts={}) for item in spec.networks],
    )


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
        seen = Live(
            services={item.spec.name: item for item in document.services},
            networks={item.name: item for item in document.networks},
            volumes={item.name: item for item in document.volumes},
            secrets={item.spec.name: item for item in document.secrets},
            configs={item.spec.name: item for item in document.configs},
            images=dict(_inspected(document.images)),
            nodes=tuple(document.nodes),
            tasks=tuple(document.tasks),
            records={item.stack: _record(item, renamed) for item in document.records},
            revisions=found,
            target=targets.Target(engine.is_ours, engine.keeps_digests, engine.api_version),
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
