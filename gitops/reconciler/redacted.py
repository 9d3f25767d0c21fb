"""Makes snapshots of a live state: what of it may be shown, and of stacks that weren't chosen what a plan must know.

What of a value may be a secret is decided by `redaction`; the form of the file is `snapshot`'s.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from gitops import client as clients
from gitops import errors
from gitops.manifests import canonical
from gitops.objects import base, labels
from gitops.objects.container import Volume
from gitops.objects.image import ImageSummary
from gitops.objects.network import NetworkResource
from gitops.objects.node import NodeStatus
from gitops.objects.secret import Config, ConfigSpec, Secret, SecretSpec
from gitops.objects.service import ContainerSpec, Endpoint, Service, ServiceSpec, TaskSpec
from gitops.objects.task import Task, TaskStatus
from gitops.reconciler import live as states
from gitops.reconciler import protection, record, redaction, revisions, versions
from gitops.reconciler.live import Live
from gitops.reconciler.record import Record
from gitops.reconciler.revisions import Revision, Stored
from gitops.reconciler.snapshot import FORMAT, FORMAT_VERSION, Applied, Document, Engine, Named, Picture, Recorded

_RECORDS = (record.RECORD_KIND, revisions.REVISION_KIND)
_VERSIONED = ("Secret", "Config")
_OWNER = (labels.STACK, labels.KIND, labels.NAME, labels.NAMESPACE)


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
        Engine(
            host,
            seen.target.is_ours,
            seen.target.keeps_digests,
            seen.target.api_version,
            next(iter(seen.supply.held), ""),
        ),
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
