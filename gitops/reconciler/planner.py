"""Makes plans: desired against live, object by object, both in the one canonical form. Pure.

What a plan touches: the objects of the manifests, and of their stacks what carries our labels and left the manifests.
Objects of others are never touched; one that stands where ours should go is an error that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from typing import Any

from msgspec.structs import replace

from gitops.manifests import Desired, DesiredSet, canonical
from gitops.objects.network import NetworkCreate
from gitops.objects.secret import Config, Secret
from gitops.objects.service import Replicated, Service, ServiceMode, ServiceSpec
from gitops.reconciler import (
    effects,
    graph,
    guards,
    images,
    imagesteps,
    moves,
    prediction,
    protection,
    pruning,
    pulls,
    targets,
    versions,
)
from gitops.reconciler.diff import HIDDEN, Cause, FieldChange, causes, fields
from gitops.reconciler.images import Known
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Key, Plan, Reason, Step
from gitops.reconciler.remembered import Remembered

_VERSIONED = ("Secret", "Config")
_PAUSED = ("paused", "rollback_paused")


@dataclass(frozen=True, slots=True)
class Request:
    """What to plan: the set with images pinned, what is known of images, the stacks that are ours to prune."""

    desired: DesiredSet
    known: Mapping[str, Known]
    stacks: frozenset[str]
    warnings: tuple[str, ...] = ()
    baseline: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """The canonical forms that were applied last, by kind and engine name; empty where that isn't known."""
    kept: frozenset[tuple[str, str]] = frozenset()
    """Versions that a kept revision names: kind and engine name, of images `name:tag@digest`."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Stacks of whose source these manifests are only a part, with the part's path."""
    prunes_parts: bool = False
    """Whether what isn't in such a part goes all the same."""
    prunes_volumes: bool = False
    allows_deletes: bool = False
    """Whether more than a share of a stack may go at once."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes that a pull of an image is, as services have it, where that is known."""


def make(request: Request, live: Live, remembered: Remembered | None = None) -> Plan:
    """The plan that takes `live` to what is desired; `remembered` is what former plans of the same loop left.

    Raises:
        errors.Refused: an object that isn't ours has the name of one that should be made.
        errors.InvalidManifest: an external object doesn't exist.
    """
    moved, live = moves.of(request.desired, live), moves.taken(request.desired, live)
    guards.check_externals(request.desired, live)
    guards.check_owners(request.desired, live)
    remembered = remembered or Remembered()
    names, services = remembered.names(live), remembered.steps
    steps = [
        services.of(_service_step, item, live.services.get(item.engine_name), request.baseline.get(item.key), names)
        if item.kind == "Service"
        else _step(item, request, live)
        for item in request.desired.objects
    ]
    if moved:
        steps = [_moved(step, moved) for step in steps]
    pruned = pruning.pruned(request.desired, request.stacks, () if request.prunes_parts else request.parts)
    steps += pruning.steps(request.desired, pruned, live, request.kept)
    wanted = {item.engine_name: item.spec for item in request.desired.of("Service")}
    specs = {
        step.engine_name: settled(spec, live.services.get(spec.name))
        for step in steps
        if step.action in (Action.CREATE, Action.UPDATE)
        and isinstance(spec := wanted.get(step.engine_name), ServiceSpec)
    }
    removed = {step.engine_name for step in steps if step.kind == "Service" and step.action is Action.DELETE}
    steps += pruning.volumes(request.desired, pruned, live, removed, is_asked=request.prunes_volumes)
    steps = _with_versions(steps, versions.used(versions.after(live.services, specs, removed)), request, live, pruned)
    early = graph.early_removals(Plan(tuple(steps)), request.desired, live) if removed else []
    first, supply = {step.engine_name for step in early}, _supply(request, live)
    predicted = prediction.predict(specs, removed, live, first, supply)
    refused = (
        *guards.refusals(steps, specs, live, removed),
        *guards.changed_modes(steps),
        *guards.unavailable(steps, specs, predicted.forecast),
        *targets.refusals(request.desired, live.target, len(live.nodes)),
        *protection.refusals(steps, request.desired, live),
        *(() if request.allows_deletes else protection.too_many(steps, live, pruned)),
    )
    warnings = (
        *(warning.headline() for warning in request.desired.warnings),
        *request.warnings,
        *pruning.renamed_volumes(request.desired, live),
    )
    if any(step.action is not Action.NONE for step in steps):
        warnings += tuple(targets.warnings(request.desired, live.target, len(live.nodes)))
    return Plan(tuple(steps), predicted.unplaced, warnings, refused, predicted.forecast)


def _moved(step: Step, moved: Mapping[Key, str]) -> Step:
    """The step of what comes from another stack; it is no new step where that is all that changes."""
    former = moved.get(step.key)
    if former is None:
        return step
    changes = (FieldChange("stack", former, step.stack), *step.changes)
    if step.action is not Action.NONE:
        return replaced(step, changes=changes)
    note = "nothing is restarted" if step.kind == "Service" else ""
    return replaced(step, action=Action.UPDATE, reason=Reason.MOVED, changes=changes, note=note)


def _supply(request: Request, live: Live) -> pulls.Supply:
    """What the engine has once the images that come with the manifests are there."""
    found = [(item, request.known[item.engine_name]) for item in request.desired.of("Image")]
    loaded = [
        name
        for item, known in found
        if known.image_id
        for name in (*images.names(item, request.known), *_versions(item, known, request))
    ]
    return pulls.with_loaded(replaced(live.supply, sizes=request.sizes), loaded)


def _versions(item: Desired, known: Known, request: Request) -> tuple[str, ...]:
    """By what services name the version of an image that comes with the manifests: its id, or its names by digest."""
    return (known.digest,) if known.is_id else images.brought(item, request.known)


def settled(spec: ServiceSpec, service: Service | None) -> ServiceSpec:
    """`spec` as it will be sent for the live `service`: where the manifest gives no replicas, the live count stays; a
    forced update too."""
    if service is None:
        return spec
    forced = service.spec.task_template.force_update
    if spec.task_template.force_update != forced:
        spec = replace(spec, task_template=replace(spec.task_template, force_update=forced))
    replicated, former = spec.mode.replicated, service.spec.mode.replicated
    is_open = spec.mode == ServiceMode() or (replicated is not None and replicated.replicas is None)
    if former is not None and is_open and former.replicas is not None:
        return replace(spec, mode=ServiceMode(replicated=Replicated(replicas=former.replicas)))
    return spec


def overtaken(request: Request, live: Live) -> list[str]:
    """The services that are not as they were asked for: somebody else changed or removed them since."""
    found, names = [], live.names
    for item in request.desired.of("Service"):
        service = live.services.get(item.engine_name)
        if service is None:
            found.append(item.engine_name)
            continue
        old, new = _service_forms(item, service, names)
        if old != new and fields(old, new):
            found.append(item.engine_name)
    return found


def _step(item: Desired, request: Request, live: Live) -> Step:
    """The step of what is no service."""
    base = _base(item)
    if item.kind == "Image":
        return imagesteps.step(base, request.known[item.engine_name], live)
    if item.kind in _VERSIONED:
        return _versioned_step(base, item, request, live)
    applied, old = request.baseline.get(item.key), _live_form(item, live)
    if old is None:
        return _creation(base, item, applied, item.canonical)
    changes = fields(old, item.canonical, applied)
    if not changes:
        return base
    return replaced(
        base,
        action=Action.REPLACE,
        reason=Reason.IMMUTABLE,
        changes=changes,
        before=old,
        after=item.canonical,
    )


def _base(item: Desired) -> Step:
    return Step(
        item.kind, item.stack, item.name, item.engine_name, Action.NONE, Reason.SAME, position=str(item.position)
    )


def _live_form(item: Desired, live: Live) -> Mapping[str, Any] | None:
    """The canonical form of a live network or volume; None where there is none."""
    if item.kind == "Network":
        network = live.networks.get(item.engine_name)
        assert isinstance(item.spec, NetworkCreate)
        return canonical.network(network, item.spec) if network else None
    volume = live.volumes.get(item.engine_name)
    return canonical.volume(volume) if volume else None


def _creation(base: Step, item: Desired, applied: Mapping[str, Any] | None, after: Mapping[str, Any]) -> Step:
    note = effects.creation(_service_spec(item)) if item.kind == "Service" else ""
    reason = Reason.MISSING if applied is None else Reason.REMOVED
    return replaced(base, action=Action.CREATE, reason=reason, changes=fields({}, after), note=note, after=after)


def _service_step(
    item: Desired, service: Service | None, applied: Mapping[str, Any] | None, names: canonical.Names
) -> Step:
    """The step of a service. It follows from these four alone, so that it is remembered by them."""
    base = _base(item)
    if service is None:
        return _creation(base, item, applied, canonical.service(_service_spec(item), names))
    old, new = _service_forms(item, service, names)
    changes = fields(old, new, applied)
    if not changes:
        return _resumed(base, service)
    note = effects.update(changes, service, _service_spec(item))
    reason = Reason.DRIFTED if causes(changes) == {Cause.DRIFT} else Reason.CHANGED
    return replaced(base, action=Action.UPDATE, reason=reason, changes=changes, note=note, before=old, after=new)


def _resumed(base: Step, service: Service) -> Step:
    """A service whose update was paused is sent the same spec again, which lets the update go on."""
    if service.update_status is None or service.update_status.state not in _PAUSED:
        return base
    return replaced(base, action=Action.UPDATE, reason=Reason.PAUSED, note="its paused update goes on")


def _service_forms(
    item: Desired, service: Service, names: canonical.Names
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The canonical forms of a live service and of the desired one."""
    wanted = canonical.service(settled(_service_spec(item), service), names)
    return canonical.service(service.spec, names), wanted


def _versioned_step(base: Step, item: Desired, request: Request, live: Live) -> Step:
    """A secret or config is never changed in place: a new version beside the former ones, of which those go afterwards
    that no kept revision names."""
    found: Mapping[str, Secret | Config] = live.secrets if base.kind == "Secret" else live.configs
    former = sorted(
        name
        for name, other in found.items()
        if live.owner(other.spec.labels) == (base.stack, base.kind, base.name) and name != base.engine_name
    )
    base = replaced(base, obsolete=tuple(name for name in former if (base.kind, name) not in request.kept))
    if base.engine_name in found:
        return base
    after = _versioned_form(item)
    if not former:
        reason = Reason.REMOVED if item.key in request.baseline else Reason.MISSING
        return replaced(base, action=Action.CREATE, reason=reason, changes=_created(base.kind), after=after)
    last = [name for name in former if (base.kind, name) in request.baseline] or former
    version = last[-1].rpartition("-")[2]
    before = {**after, "version": version} if base.kind == "Config" else after
    change = FieldChange("version", version, base.engine_name.rpartition("-")[2])
    changes = (FieldChange("data", HIDDEN, HIDDEN, is_sensitive=True) if base.kind == "Secret" else change,)
    return replaced(base, action=Action.UPDATE, reason=Reason.CHANGED, changes=changes, before=before, after=after)


def _created(kind: str) -> tuple[FieldChange, ...]:
    return (FieldChange("data", None, HIDDEN, is_sensitive=True),) if kind == "Secret" else ()


def _versioned_form(item: Desired) -> Mapping[str, Any]:
    """The form that a plan shows: of a secret nothing that is made of its value."""
    if item.kind == "Config":
        return item.canonical
    return {"data": HIDDEN, **{key: value for key, value in item.canonical.items() if key != "version"}}


def _with_versions(
    steps: list[Step], use: versions.Use, request: Request, live: Live, pruned: frozenset[str]
) -> list[Step]:
    """The steps, with the former versions of images that go with them, and images that left the manifests."""
    kept = frozenset(name for item in request.desired.of("Image") for name in images.names(item, request.known))
    records = [live.records[stack] for stack in sorted(request.stacks & live.records.keys())]
    found = [
        imagesteps.obsolete(step, records, request.known[step.engine_name], use, request.kept)
        if step.kind == "Image"
        else step
        for step in steps
    ]
    for record in records:
        if record.stack in pruned:
            found += imagesteps.left(
                record, kept, use, pruning.reason(request.desired, record.stack), live, request.kept
            )
    return found


def _service_spec(item: Desired) -> ServiceSpec:
    assert isinstance(item.spec, ServiceSpec)
    return item.spec
