"""Images whose digest is known only once they are pushed: brought first, so that all else is planned with digests in.

Docker's older image store makes an image's manifest when it pushes it. An apply therefore pushes such images before
anything else, and makes its plan again with what came of it: services and the revision then name digests, as always.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from msgspec import structs

from gitops.manifests import Desired
from gitops.objects.image import ImageInspect
from gitops.objects.service import ServiceSpec
from gitops.reconciler import planner, targets
from gitops.reconciler.plan import Action, Plan


def pushes(request: planner.Request, plan: Plan) -> Plan:
    """The part of a plan that brings images whose digest isn't known yet; mostly nothing."""
    steps = [
        replace(step, obsolete=())
        for step in plan.of("Image", Action.CREATE, Action.UPDATE)
        if step.engine_name in request.known and request.known[step.engine_name].is_late
    ]
    return Plan(tuple(steps))


def settled(request: planner.Request, images: Mapping[str, ImageInspect], target: targets.Target) -> planner.Request:
    """The request with the digests that `images`, by reference, have now."""
    items = request.desired.objects
    known = targets.adapt(request.known, request.desired.of("Image"), images, target)
    digests = {
        found.name: found.digest
        for name, found in known.items()
        if found.digest and name in request.known and request.known[name].is_late
    }
    desired = replace(request.desired, objects=tuple(_pinned(item, digests) for item in items))
    return replace(request, desired=desired, known=known)


def _pinned(item: Desired, digests: Mapping[str, str]) -> Desired:
    spec = item.spec
    container = spec.task_template.container_spec if isinstance(spec, ServiceSpec) else None
    if not isinstance(spec, ServiceSpec) or container is None or container.image not in digests:
        return item
    container = structs.replace(container, image=f"{container.image}@{digests[container.image]}")
    template = structs.replace(spec.task_template, container_spec=container)
    return replace(item, spec=structs.replace(spec, task_template=template))
