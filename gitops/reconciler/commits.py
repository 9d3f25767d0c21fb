"""What two commits of a repository ask for, compared without any engine: manifests against manifests.

The commits are laid out in a temporary directory; the user's work tree and index are never touched. What only an engine
or a registry knows (digests of tags, the schedule, drift) is in no such plan.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs

from gitops import errors, manifests
from gitops.manifests import Desired, DesiredSet, ImageSource, canonical
from gitops.objects.service import Service, ServiceSpec
from gitops.reconciler import claiming, effects, planner
from gitops.reconciler.diff import HIDDEN, FieldChange, fields
from gitops.reconciler.live import Live
from gitops.reconciler.plan import KINDS, Action, Plan, Reason, Step
from gitops.reconciler.reconcile import Prepared
from gitops.reconciler.source import Source
from gitops.reconciler.sources import git

_IN_PLACE = ("Service", "Secret", "Config", "Image")


async def prepare(span: str, path: Path, options: manifests.LoadOptions) -> Prepared:
    """The plan that would take the manifests at `path` from one commit to the other; `span` is `OLD..NEW`.

    Raises:
        errors.Invalid: no such span. errors.NotFound: no repository, commit, or no manifests in both commits.
        errors.InvalidManifest: what is wrong with the manifests of a commit.
    """
    old, mark, new = span.partition("..")
    if not mark or new.startswith("."):
        raise errors.Invalid(f"{span!r}: name two commits as OLD..NEW")
    tree = await asyncio.to_thread(git.worktree, path.resolve() if path.is_dir() else path.resolve().parent)
    if tree is None:
        raise errors.NotFound(f"{path}: not in a git repository, so there are no commits to compare")
    relative = path.resolve().relative_to(tree.root)
    with tempfile.TemporaryDirectory(prefix="gitops-diff-") as scratch:
        commits, sets = [], []
        for number, rev in enumerate((old or "HEAD", new or "HEAD")):
            place = Path(scratch, str(number))
            commits.append(await git.lay_out(tree.root, rev, place))
            sets.append(await asyncio.to_thread(_load, place, relative, options))
    if not any(found.objects for found in sets):
        raise errors.NotFound(f"{path}: no manifests in {old or 'HEAD'} or {new or 'HEAD'}")
    source = Source(f"{tree.origin}#{relative}", path, commits[1])
    request = planner.Request(sets[1], {}, frozenset({*sets[0].stacks, *sets[1].stacks}))
    return Prepared(source, commits[1][:12], request, Live(), Plan(tuple(steps(sets[0], sets[1]))))


def _load(place: Path, relative: Path, options: manifests.LoadOptions) -> DesiredSet:
    path = place / relative
    if not path.exists():
        return DesiredSet((), {}, {})
    return manifests.load(path, replace(options, root=place))


def steps(old: DesiredSet, new: DesiredSet) -> list[Step]:
    """What changes between two sets, object by object. Pure."""
    former = {(item.kind, item.stack, item.name): item for item in old.objects}
    found = [_step(item, former.pop(_former_key(item, former), None)) for item in new.objects]
    return found + [_left(item) for item in sorted(former.values(), key=lambda item: KINDS.index(item.kind))]


def _former_key(item: Desired, former: Container[tuple[str, str, str]]) -> tuple[str, str, str]:
    """How an object is to be found among the former ones: in the stack that it moved from, if it is there."""
    moved = (item.kind, item.moved_from or item.stack, item.name)
    return moved if moved in former else (item.kind, item.stack, item.name)


def _step(item: Desired, former: Desired | None) -> Step:
    base = Step(
        item.kind, item.stack, item.name, item.engine_name, Action.NONE, Reason.SAME, position=str(item.position)
    )
    if former is None:
        note = effects.creation(item.spec) if isinstance(item.spec, ServiceSpec) else ""
        return replace(base, action=Action.CREATE, reason=Reason.MISSING, note=note, after=_form(item))
    if item.kind == "Secret" and item.engine_name != former.engine_name:
        changes: tuple[FieldChange, ...] = (FieldChange("data", HIDDEN, HIDDEN, is_sensitive=True),)
    else:
        changes = fields(_form_under(former, item.stack), item.canonical)
    if former.stack != item.stack:
        change = FieldChange("stack", former.stack, item.stack)
        if not changes:
            return replace(base, action=Action.UPDATE, reason=Reason.MOVED, changes=(change,))
        changes = (change, *changes)
    if not changes:
        return base
    action = Action.UPDATE if item.kind in _IN_PLACE else Action.REPLACE
    reason = Reason.CHANGED if action is Action.UPDATE else Reason.IMMUTABLE
    note = ""
    if isinstance(item.spec, ServiceSpec) and isinstance(former.spec, ServiceSpec):
        note = effects.update(changes, Service(spec=former.spec), item.spec)
    return replace(
        base, action=action, reason=reason, changes=changes, note=note, before=_form(former), after=_form(item)
    )


def _form_under(item: Desired, stack: str) -> Mapping[str, Any]:
    """The canonical form of an object as it would be in another stack."""
    spec = item.spec
    if item.stack == stack or isinstance(spec, ImageSource):
        return item.canonical
    makers: Mapping[str, Callable[[Any], Mapping[str, Any]]] = {
        "Service": canonical.service,
        "Network": canonical.network,
        "Volume": canonical.volume,
        "Secret": canonical.secret,
        "Config": canonical.config,
    }
    return makers[item.kind](structs.replace(spec, labels=claiming.under(spec.labels, stack)))


def _left(item: Desired) -> Step:
    """Volumes keep their data whatever the manifests say."""
    action, note = (Action.NONE, "kept") if item.kind == "Volume" else (Action.DELETE, "")
    return Step(item.kind, item.stack, item.name, item.engine_name, action, Reason.LEFT, note=note)


def _form(item: Desired) -> dict[str, object]:
    """The form that a plan shows: of a secret nothing that is made of its value."""
    form = dict(item.canonical)
    if item.kind == "Secret":
        form.pop("version", None)
        form["data"] = HIDDEN
    return form
