"""The part of a plan that is about images: what is brought, and which versions go. Pure."""

from __future__ import annotations

from dataclasses import replace

from gitops.objects.image import ImageInspect
from gitops.oci import reference as references
from gitops.reconciler import targets, versions
from gitops.reconciler.diff import FieldChange
from gitops.reconciler.images import Known
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Reason, Step
from gitops.reconciler.record import Record


def step(base: Step, known: Known, live: Live) -> Step:
    """An image is there when its name leads to the wanted content; a tag without a digest only needs to be there."""
    image = live.images.get(base.engine_name)
    new = known.digest or known.image_id
    if image is None:
        return replace(base, action=Action.CREATE, reason=Reason.MISSING, changes=(FieldChange("digest", None, new),))
    digests = _digests(image)
    if not new or new in digests or (known.image_id and known.image_id == image.id):
        return _pushing(base, known, image)
    old = next((digest for digest in digests if digest), image.id)
    return replace(base, action=Action.UPDATE, reason=Reason.CHANGED, changes=(FieldChange("digest", old, new),))


def _pushing(base: Step, known: Known, image: ImageInspect) -> Step:
    """An image that is there, and perhaps not yet in the registry from which others get it."""
    if not known.is_pushed or (known.digest and targets.pushed_digest(image, known.name) == known.digest):
        return base
    change = FieldChange("push", None, known.name)
    return replace(base, action=Action.UPDATE, reason=Reason.CHANGED, changes=(change,))


def obsolete(step: Step, records: list[Record], known: Known, use: versions.Use, kept: versions.Kept) -> Step:
    """The step of an image, with its former versions that nothing needs any more."""
    brought = [item for found in records for item in found.brought]
    names = dict.fromkeys(filter(None, (step.engine_name, known.name)))
    found = [item for name in names for item in versions.former(brought, name, known.digest, use, kept)]
    return replace(step, obsolete=tuple(map(versions.as_digest, found)))


def left(
    record: Record, wanted: frozenset[str], use: versions.Use, reason: Reason, live: Live, kept: versions.Kept
) -> list[Step]:
    """The removal of what a stack brought and nothing needs any more; `wanted` are the images of the manifests."""
    steps = []
    for version in versions.left(record.brought, record.images, wanted, use, kept):
        steps += _gone(record.stack, version, reason, live)
    return steps


def _gone(stack: str, version: str, reason: Reason, live: Live) -> list[Step]:
    """The step that removes a version: by its tag where that still leads to it, which takes all its names."""
    name, digest = versions.name_of(version), versions.digest_of(version)
    tagged = live.images.get(name)
    has_tag = tagged is not None and (not digest or digest in (tagged.id, *_digests(tagged)))
    engine_name = name if has_tag else versions.as_digest(version)
    if not has_tag and engine_name not in live.images:
        return []
    also = (versions.as_digest(version),) if has_tag and digest else ()
    return [Step("Image", stack, name, engine_name, Action.DELETE, reason, obsolete=also)]


def _digests(image: ImageInspect) -> list[str | None]:
    return [references.parse(text).digest for text in image.repo_digests]
