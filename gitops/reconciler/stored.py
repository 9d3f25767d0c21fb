"""Between what manifests ask for and what a revision holds. Pure.

Neither the value of a secret nor the data of a config is stored: both have versions on the engine, which are named.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from dataclasses import replace as replaced
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from gitops import errors
from gitops.manifests import Desired, DesiredSet, ImageSource, Position, Spec, StackSettings, canonical
from gitops.manifests.desired import Dependency
from gitops.objects import base
from gitops.objects.container import VolumeCreate
from gitops.objects.memory import Memory
from gitops.objects.network import NetworkCreate
from gitops.objects.secret import ConfigSpec, SecretSpec
from gitops.objects.service import ServiceSpec
from gitops.reconciler.images import Known
from gitops.reconciler.plan import KINDS, Action, Plan
from gitops.reconciler.revisions import Body, Change, Revision, Stored

if TYPE_CHECKING:
    from gitops.reconciler import planner

_SPECS: Mapping[str, Any] = {
    "Network": NetworkCreate,
    "Volume": VolumeCreate,
    "Secret": SecretSpec,
    "Config": ConfigSpec,
    "Service": ServiceSpec,
}
_CHANGES = 200
"""How many changes are told one by one; the counts have them all."""
_PATHS = 20


def body(
    desired: DesiredSet,
    known: Mapping[str, Known],
    plan: Plan,
    stack: str,
    remembered: Memory[Stored] | None = None,
) -> Body:
    """What a revision of `stack` holds of a set whose images are pinned, and of the plan that was made for it."""
    settings = desired.stacks.get(stack)
    memory: Memory[Stored] = remembered or Memory()
    mine = [item for item in desired.objects if item.stack == stack]
    return Body(
        objects=[memory.of(_stored, item, known.get(item.engine_name)) for item in mine],
        changes=_changes(plan, stack),
        externals=[_stored(item, None) for item in desired.externals if item.stack == stack],
        settings=_settings(settings) if settings else {},
    )


def planned(
    request: planner.Request,
    plan: Plan,
    stack: str,
    present: Sequence[Revision],
    remembered: Memory[Stored] | None = None,
) -> Body:
    """What the next revision of `stack` holds; `present` are those that there are, newest first.

    Where the manifests are a part of the stack's source, the rest stays as it was applied last.
    """
    found = body(request.desired, request.known, plan, stack, remembered)
    if stack not in request.parts or request.prunes_parts:
        return found
    healthy = [item for item in present if item.head.is_healthy]
    for former in (*healthy, *present):
        with contextlib.suppress(errors.Invalid):  # damaged: an older one will do
            return merged(former.body, found)
    return found


def desired(bodies: Mapping[str, Body]) -> tuple[DesiredSet, dict[str, Known]]:
    """The set that revisions, by stack, ask for together, and what is known of its images."""
    objects = [_desired(item) for found in bodies.values() for item in found.objects]
    externals = [_desired(item) for found in bodies.values() for item in found.externals]
    stacks = {name: StackSettings(name, **found.settings) for name, found in bodies.items()}
    known = {
        item.engine_name: _known(item) for found in bodies.values() for item in found.objects if item.kind == "Image"
    }
    return DesiredSet(tuple(objects), stacks, {}, tuple(externals)), known


def merged(former: Body, part: Body) -> Body:
    """`former` with the objects of `part` in the place of those of the same kinds and names."""
    fresh = {(item.kind, item.name) for item in part.objects}
    rest = [item for item in former.objects if (item.kind, item.name) not in fresh]
    order = [*rest, *part.objects]
    objects = sorted(order, key=lambda item: KINDS.index(item.kind))
    return replace(former, objects=objects, changes=part.changes, externals=_externals(former, part))


def baseline(items: Iterable[Stored]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The canonical forms by kind and engine name."""
    return {item.key: item.canonical for item in items}


def _externals(former: Body, part: Body) -> list[Stored]:
    fresh = {item.key for item in part.externals}
    return [*(item for item in former.externals if item.key not in fresh), *part.externals]


def _settings(found: StackSettings) -> dict[str, Any]:
    return {"description": found.description, "prune": found.prune, "labels": dict(found.labels)}


def _changes(plan: Plan, stack: str) -> list[Change]:
    steps = [step for step in plan.changed if step.stack == stack]
    return [
        Change(
            step.kind,
            step.name,
            str(step.action),
            str(step.reason),
            [change.path for change in step.changes][:_PATHS] if step.action is not Action.CREATE else [],
        )
        for step in steps[:_CHANGES]
    ]


def _stored(item: Desired, known: Known | None) -> Stored:
    spec, form = _without_values(item.spec), item.canonical
    if isinstance(spec, ServiceSpec):
        form = canonical.service(spec)  # with the digest of its image, which the manifest doesn't have
    return Stored(
        item.kind,
        item.stack,
        item.name,
        item.engine_name,
        str(item.position),
        msgspec.Raw(_encoded(spec)),
        dict(form),
        item.hash,
        list(item.needs),
        [asdict(found) for found in item.depends_on],
        item.deadline_ns,
        asdict(known) if known else {},
    )


def _without_values(spec: Spec) -> Spec:
    return replace(spec, data=b"") if isinstance(spec, SecretSpec | ConfigSpec) else spec


def _encoded(spec: Spec) -> bytes:
    if isinstance(spec, ImageSource):
        return base.to_json({"reference": spec.reference, "pull": spec.pull})
    return base.to_json(spec)


def _desired(item: Stored) -> Desired:
    return Desired(
        item.kind,
        item.stack,
        item.name,
        item.engine_name,
        _position(item.position),
        _spec(item),
        item.canonical,
        item.hash,
        tuple((kind, name) for kind, name in item.needs),
        tuple(Dependency(**found) for found in item.depends_on),
        item.deadline_ns,
    )


def _spec(item: Stored) -> Spec:
    if item.kind != "Image":
        spec: Spec = base.from_json(bytes(item.spec), _SPECS[item.kind])
        return spec
    found, known = base.from_json(bytes(item.spec), dict[str, str]), _known(item)
    pull = known.name or found["pull"].partition("@")[0]
    return ImageSource(found["reference"], pull=f"{pull}@{known.digest}" if pull and known.digest else pull)


def _known(item: Stored) -> Known:
    """What is known of an image; one that was pushed then is pulled now."""
    found = Known(**item.image)
    return replaced(found, image_id="") if found.is_pushed else found


def _position(text: str) -> Position:
    file, _, line = text.rpartition(":")
    return Position(file, int(line) if line.isdecimal() else 0, 1)
