"""A plan against a snapshot: no engine, no registry and no credentials are asked, so that anybody can make it.

What can't be known without them is taken for unchanged, and told: values that the snapshot hides, the content of
secrets, and what tags stand for. Manifests of a fork have another origin: they are taken for those of the stacks that
they name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace

from msgspec import structs

from gitops import errors
from gitops.manifests import Desired, DesiredSet, canonical
from gitops.objects.image import AuthConfig, DistributionInspect, ImageSummary
from gitops.objects.service import ServiceSpec
from gitops.reconciler import diff, images, pinning, planner, reconcile, redaction, targets
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Plan, Reason, Step
from gitops.reconciler.reconcile import Options, Prepared
from gitops.reconciler.snapshot import Snapshot
from gitops.reconciler.source import Source, part_of, revision

_VERSIONED = ("Secret", "Config")
_SHOWN = 5


async def prepare(snapshot: Snapshot, source: Source, options: Options) -> Prepared:
    """Load the manifests of `source` and plan against `snapshot`. They should be loaded without values of secrets.

    Raises:
        errors.InvalidManifest: everything that is wrong with the manifests.
        errors.Refused: an empty set, an object that isn't ours, a stack that the snapshot leaves out.
    """
    desired = await asyncio.to_thread(reconcile.load, source, options.load)
    known = await asyncio.to_thread(images.Images().resolve, desired.of("Image"))
    _check_stacks(snapshot, desired)
    unread = dict(_unread(desired, snapshot.live({})))
    seen = snapshot.live(unread)
    known = targets.adapt(known, desired.of("Image"), seen.images, seen.target)
    origin = _origin(source, desired, seen)
    request = reconcile.requested(desired, seen, origin, replace(options, take_over=origin is source))
    pinned = await pinning.pin(_Nobody(seen), desired, known, seen.services, lambda name: None)
    hidden = list(_hidden(pinned.desired, seen))
    seen = _filled(pinned.desired, seen)
    warnings = (
        *request.warnings,
        *_other_origin(source, origin),
        *_told("values that the snapshot hides are taken for unchanged: ", hidden),
        *_told("whether the content changed can't be told here: ", _names(desired, unread)),
        *_told("no registry is asked, so apply will find out what these tags stand for: ", _open(pinned.desired)),
    )
    request = replace(request, desired=pinned.desired, known=known, warnings=warnings)
    plan = _with_unknown(planner.make(request, seen), set(unread.values()))
    return Prepared(origin, revision(source, desired.files_read), request, seen, plan, snapshot=snapshot)


class _Nobody:
    """In the place of an engine: it has its images, and no way to a registry."""

    def __init__(self, seen: Live) -> None:
        self._seen = seen

    async def distribution(self, reference: str, *, auth: AuthConfig | None = None) -> DistributionInspect:
        raise errors.Unavailable("no registry is asked")

    async def images(self) -> list[ImageSummary]:
        found = {image.id: image for image in self._seen.images.values()}
        return [ImageSummary(item.id, item.repo_tags, item.repo_digests, 0, item.size) for item in found.values()]


def _check_stacks(snapshot: Snapshot, desired: DesiredSet) -> None:
    chosen = snapshot.document.stacks
    if chosen is not None and (missing := sorted(desired.stacks.keys() - set(chosen))):
        raise errors.Refused(
            f"{snapshot.file} is a snapshot of stack {', '.join(chosen)} only, without {', '.join(missing)}: make one"
            " of all stacks"
        )


def _origin(source: Source, desired: DesiredSet, seen: Live) -> Source:
    """The source as the one that the stacks of these manifests have, or as a part of it, if they all have the same."""
    found = {item.source for stack in desired.stacks if (item := seen.records.get(stack)) and item.source}
    if len(found) != 1:
        return source
    (whole,) = found
    there = f"{whole.rpartition('#')[0]}#{source.identity.rpartition('#')[2]}"
    return replace(source, identity=there if part_of(there, whole) else whole)


def _other_origin(source: Source, origin: Source) -> Iterator[str]:
    if source.identity != origin.identity:
        yield f"these manifests are of {source.identity}, and are taken for those of {origin.identity}"


# What the snapshot hides


def _unread(desired: DesiredSet, seen: Live) -> Iterator[tuple[str, str]]:
    """The present version of each secret (and config) that can't be compared, and how the manifests' one is called."""
    encrypted = {(item.kind, item.stack, item.name) for item in desired.encrypted}
    for item in desired.objects:
        if item.kind not in _VERSIONED:
            continue
        current = _current(item, seen)
        is_unread = item.kind == "Secret" or (item.kind, item.stack, item.name) in encrypted
        if current and (is_unread or not redaction.has_version(current)):
            yield current, item.engine_name


def _current(item: Desired, seen: Live) -> str:
    """The version that is in use: that of the last healthy revision, else the latest; empty where there is none."""
    found = seen.secrets if item.kind == "Secret" else seen.configs
    stacks = {item.stack} if item.moved_from is None else {item.stack, item.moved_from}
    mine = {(stack, item.kind, item.name) for stack in stacks}
    present = [name for name, other in found.items() if seen.owner(other.spec.labels) in mine]
    applied = reconcile.baseline(frozenset(stacks), seen)
    last = [name for name in present if (item.kind, name) in applied]
    latest = sorted(present, key=lambda name: found[name].version.index)
    return (last or latest or [""])[-1]


def _names(desired: DesiredSet, unread: Mapping[str, str]) -> list[str]:
    names = set(unread.values())
    return [f"{item.kind.lower()} {item.name}" for item in desired.objects if item.engine_name in names]


def _hidden(desired: DesiredSet, seen: Live) -> Iterator[str]:
    for item in desired.of("Service"):
        service = seen.services.get(item.engine_name)
        if service is not None and isinstance(item.spec, ServiceSpec):
            old, new = canonical.service(service.spec, seen.names), canonical.service(item.spec)
            yield from (f"{path} of service {item.name}" for path in diff.hidden(old, new))


def _filled(desired: DesiredSet, seen: Live) -> Live:
    """The state with hidden values as the manifests have them, so that neither a field nor a task looks changed."""
    wanted = {item.engine_name: item.spec for item in desired.of("Service") if isinstance(item.spec, ServiceSpec)}
    services, templates = dict(seen.services), {}
    for name, spec in wanted.items():
        if name in services:
            templates[services[name].id] = spec.task_template
            services[name] = structs.replace(services[name], spec=redaction.filled(services[name].spec, spec))
    tasks = tuple(
        structs.replace(task, spec=redaction.filled_template(task.spec, templates[task.service_id]))
        if task.service_id in templates
        else task
        for task in seen.tasks
    )
    return replace(seen, services=services, tasks=tasks)


def _open(desired: DesiredSet) -> list[str]:
    """The images that services would run by a tag alone."""
    found = set()
    for item in desired.of("Service"):
        container = item.spec.task_template.container_spec if isinstance(item.spec, ServiceSpec) else None
        if container is not None and "@" not in container.image and not container.image.startswith("sha256:"):
            found.add(container.image)
    return sorted(found)


def _told(text: str, found: list[str]) -> Iterator[str]:
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        yield text + ", ".join(found[:_SHOWN]) + more


def _with_unknown(plan: Plan, unread: set[str]) -> Plan:
    return replace(plan, steps=tuple(_unknown(step) if step.engine_name in unread else step for step in plan.steps))


def _unknown(step: Step) -> Step:
    if step.kind not in _VERSIONED or step.action is not Action.NONE:
        return step
    return replace(step, reason=Reason.UNKNOWN, note="whether its content changed can't be told here")
