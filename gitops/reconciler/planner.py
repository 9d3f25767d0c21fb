"""Makes plans: desired against live, object by object, both in the one canonical form. Pure.

What a plan touches: the objects of the manifests, and of their stacks what carries our labels and left the manifests.
Objects of others are never touched; one that stands where ours should go is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import Any

from msgspec.structs import replace

from gitops import errors
from gitops.manifests import Desired, DesiredSet, canonical
from gitops.objects import labels as names_of_labels
from gitops.objects.network import NetworkCreate
from gitops.objects.service import Replicated, ServiceMode, ServiceSpec
from gitops.oci import reference as references
from gitops.reconciler import prediction
from gitops.reconciler.diff import FieldChange, fields
from gitops.reconciler.images import Known
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Plan, Reason, Step

_VERSIONED = ("Secret", "Config")
_HIDDEN = "(hidden)"


@dataclass(frozen=True, slots=True)
class Request:
    """What to plan: the set with images pinned, what is known of images, the stacks that are ours to prune."""

    desired: DesiredSet
    known: Mapping[str, Known]
    stacks: frozenset[str]
    warnings: tuple[str, ...] = ()


def make(request: Request, live: Live) -> Plan:
    """The plan that takes `live` to what is desired.

    Raises:
        errors.Refused: an object that isn't ours has the name of one that should be made.
        errors.InvalidManifest: an external object doesn't exist.
    """
    _check_externals(request.desired, live)
    _check_owners(request.desired, live)
    steps = [_step(item, request, live) for item in request.desired.objects]
    steps += _pruned(request, live)
    specs = {
        step.engine_name: spec
        for step, item in zip(steps, request.desired.objects, strict=False)
        if step.action in (Action.CREATE, Action.UPDATE) and isinstance(spec := item.spec, ServiceSpec)
    }
    removed = [step.engine_name for step in steps if step.kind == "Service" and step.action is Action.DELETE]
    unplaced = prediction.predict(
        {name: settled(spec, live) for name, spec in specs.items()}, removed, live.services, live.nodes, live.tasks
    )
    return Plan(tuple(steps), unplaced, request.warnings)


def settled(spec: ServiceSpec, live: Live) -> ServiceSpec:
    """`spec` as it will be sent: where the manifest gives no replicas, the live count stays; a forced update too."""
    service = live.services.get(spec.name)
    if service is None:
        return spec
    template = replace(spec.task_template, force_update=service.spec.task_template.force_update)
    spec = replace(spec, task_template=template)
    replicated, former = spec.mode.replicated, service.spec.mode.replicated
    if former is not None and (replicated is None or replicated.replicas is None) and former.replicas is not None:
        return replace(spec, mode=ServiceMode(replicated=Replicated(replicas=former.replicas)))
    return spec


def _step(item: Desired, request: Request, live: Live) -> Step:
    base = Step(
        item.kind, item.stack, item.name, item.engine_name, Action.NONE, Reason.SAME, position=str(item.position)
    )
    if item.kind == "Image":
        return _image_step(base, request.known[item.engine_name], live)
    if item.kind in _VERSIONED:
        return _versioned_step(base, live)
    old, new = _forms(item, live)
    if old is None:
        return replaced(base, action=Action.CREATE, reason=Reason.MISSING, changes=fields({}, new))
    changes = fields(old, new)
    if not changes:
        return base
    action = Action.UPDATE if item.kind == "Service" else Action.REPLACE
    return replaced(base, action=action, reason=Reason.CHANGED, changes=changes)


def _forms(item: Desired, live: Live) -> tuple[Mapping[str, Any] | None, Mapping[str, Any]]:
    """The canonical forms of the live object, where there is one, and of the desired one."""
    if item.kind == "Service":
        assert isinstance(item.spec, ServiceSpec)
        service = live.services.get(item.engine_name)
        wanted = canonical.service(settled(item.spec, live), live.names)
        return (canonical.service(service.spec, live.names) if service else None), wanted
    if item.kind == "Network":
        network = live.networks.get(item.engine_name)
        assert isinstance(item.spec, NetworkCreate)
        return (canonical.network(network, item.spec) if network else None), item.canonical
    volume = live.volumes.get(item.engine_name)
    return (canonical.volume(volume) if volume else None), item.canonical


def _image_step(base: Step, known: Known, live: Live) -> Step:
    """An image is there when its name leads to the wanted content; a tag without a digest only needs to be there."""
    image = live.images.get(base.engine_name)
    new = known.digest
    if image is None:
        return replaced(base, action=Action.CREATE, reason=Reason.MISSING, changes=(FieldChange("digest", None, new),))
    digests = [references.parse(text).digest for text in image.repo_digests]
    if not new or new in digests or (known.image_id and known.image_id == image.id):
        return base
    old = next((digest for digest in digests if digest), image.id)
    return replaced(base, action=Action.UPDATE, reason=Reason.CHANGED, changes=(FieldChange("digest", old, new),))


def _versioned_step(base: Step, live: Live) -> Step:
    """A secret or config is never changed in place: a new version beside the former ones, which go afterwards."""
    found = live.secrets if base.kind == "Secret" else live.configs
    versions = [
        name
        for name, item in found.items()
        if live.owner(item.spec.labels) == (base.stack, base.kind, base.name) and name != base.engine_name
    ]
    obsolete = tuple(sorted(versions))
    if base.engine_name in found:
        return replaced(base, obsolete=obsolete)
    what = FieldChange("data", _HIDDEN, _HIDDEN) if base.kind == "Secret" else FieldChange("version", None, None)
    if not obsolete:
        return replaced(base, action=Action.CREATE, reason=Reason.MISSING)
    if base.kind == "Config":
        what = FieldChange("version", obsolete[-1].rpartition("-")[2], base.engine_name.rpartition("-")[2])
    return replaced(base, action=Action.UPDATE, reason=Reason.CHANGED, changes=(what,), obsolete=obsolete)


def _pruned(request: Request, live: Live) -> list[Step]:
    """What is ours, of these stacks, and not in the manifests; volumes only on an explicit word, so never here."""
    kept = {(item.kind, item.stack, item.name) for item in request.desired.objects}
    steps = []
    for kind, name, found in _owned(live):
        owner = live.owner(found)
        if owner is None or owner[1] != kind or owner[0] not in request.stacks or not _prunes(request, owner[0]):
            continue
        if (kind, owner[0], owner[2]) not in kept:
            steps.append(Step(kind, owner[0], owner[2], name, Action.DELETE, Reason.LEFT))
    references_kept = {item.engine_name for item in request.desired.of("Image")}
    for stack in sorted(request.stacks & live.records.keys()):
        for reference in live.records[stack].images:
            if _prunes(request, stack) and reference in live.images and reference not in references_kept:
                steps.append(Step("Image", stack, reference, reference, Action.DELETE, Reason.LEFT))
    return sorted(steps, key=lambda step: (step.kind, step.engine_name))


def _prunes(request: Request, stack: str) -> bool:
    settings = request.desired.stacks.get(stack)
    return settings.prune if settings else True


def _owned(live: Live) -> Iterable[tuple[str, str, Mapping[str, str] | None]]:
    for name, service in live.services.items():
        yield "Service", name, service.spec.labels
    for name, network in live.networks.items():
        yield "Network", name, network.labels
    for name, secret in live.secrets.items():
        yield "Secret", name, secret.spec.labels
    for name, config in live.configs.items():
        yield "Config", name, config.spec.labels


def _check_owners(desired: DesiredSet, live: Live) -> None:
    """Whatever has the name of an object of ours must be ours, of the same stack and name."""
    found: dict[str, Callable[[str], Mapping[str, str] | None]] = {
        "Service": lambda name: live.services[name].spec.labels if name in live.services else None,
        "Network": lambda name: live.networks[name].labels if name in live.networks else None,
        "Volume": lambda name: live.volumes[name].labels if name in live.volumes else None,
    }
    exists: dict[str, Mapping[str, Any]] = {
        "Service": live.services,
        "Network": live.networks,
        "Volume": live.volumes,
    }
    strangers = []
    for item in desired.objects:
        if item.kind in found and item.engine_name in exists[item.kind]:
            owner = live.owner(found[item.kind](item.engine_name))
            if owner != (item.stack, item.kind, item.name):
                whose = f"belongs to stack {owner[0]!r}" if owner else f"has no label {names_of_labels.KIND}"
                strangers.append(f"{item.position}: {item.kind.lower()} {item.engine_name} exists and {whose}")
    if strangers:
        raise errors.Refused("not ours: " + "; ".join(strangers) + "; rename the manifest's object or remove the other")


def _check_externals(desired: DesiredSet, live: Live) -> None:
    exists: dict[str, Mapping[str, Any]] = {
        "Network": live.networks,
        "Volume": live.volumes,
        "Secret": live.secrets,
        "Config": live.configs,
    }
    problems = [
        errors.Problem(
            item.position.file,
            item.position.line,
            item.position.column,
            "spec.external",
            f"the engine has no {item.kind.lower()} {item.engine_name!r}",
            "create it first, or take `external` away",
        )
        for item in desired.externals
        if item.engine_name not in exists.get(item.kind, {})
    ]
    if problems:
        raise errors.InvalidManifest(problems)
