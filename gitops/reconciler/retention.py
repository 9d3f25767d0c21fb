"""Which versions of images, secrets and configs stay on the engine, for kept revisions to be gone back to. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gitops import errors
from gitops.objects.secret import Config
from gitops.reconciler import images, planner, revisions, stored
from gitops.reconciler.images import Known
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Plan
from gitops.reconciler.record import Outcome
from gitops.reconciler.remembered import Remembered
from gitops.reconciler.revisions import Head, Revision, Stored
from gitops.reconciler.versions import Kept

VERSIONED = ("Secret", "Config")


def kept(seen: Live, stacks: Collection[str]) -> Kept:
    """What the revisions of these stacks name."""
    return _named(item for stack in stacks for item in seen.revisions.get(stack, ()))


def kept_after(
    seen: Live,
    stacks: Collection[str],
    request: planner.Request,
    due: Collection[str],
    remembered: Remembered | None = None,
) -> Kept:
    """What they will name once an apply has ended well and has written a revision of each stack of `due`."""
    found: list[Revision] = []
    for stack in stacks:
        present = list(seen.revisions.get(stack, ()))
        # Most sets have no versions of anything, so that it makes no difference which of their revisions stay.
        if stack in due and stack in request.desired.stacks and _named(present):
            coming = _coming(stack, present, request, remembered or Remembered())
            present = [item for item in revisions.kept([coming, *present]) if item is not coming]
        found += present
    return _named(found)


def _coming(stack: str, present: list[Revision], request: planner.Request, remembered: Remembered) -> Revision:
    body = stored.planned(request, Plan(()), stack, present, remembered.stored)
    head = Head(
        stack,
        present[0].number + 1,
        outcome=Outcome.APPLIED,
        digest=revisions.digest(body, remembered.digested),
    )
    return Revision(head, Config())


def _named(found: Iterable[Revision]) -> Kept:
    names = set()
    for revision in found:
        try:
            names |= {name for item in revision.body.objects if (name := _version(item))}
        except errors.Invalid:
            continue  # damaged: nobody can go back to it
    return frozenset(names)


def _version(item: Stored) -> tuple[str, str] | None:
    if item.kind in VERSIONED:
        return item.key
    if item.kind == "Image" and (name := images.version_of(item.engine_name, Known(**item.image))):
        return "Image", name
    return None
