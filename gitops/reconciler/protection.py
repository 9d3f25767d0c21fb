"""What a plan may not take away without an explicit word: protected objects, and a large share of a stack. Pure.

An object is protected by the label `gitops.protect: "true"` in its manifest's metadata. Labels of networks, volumes,
secrets and configs can't be changed on an engine: what the stack's last healthy revision says of such an object counts
more than its live label.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from gitops import errors
from gitops.manifests import DesiredSet
from gitops.objects import labels as names_of_labels
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Reason, Step
from gitops.reconciler.revisions import Stored

LEAST = 3
"""Deletes of fewer objects of a stack are nobody's worry."""
SHARE = 2
"""One in how many of a stack's objects may go at once."""
_LEFT = (Reason.LEFT, Reason.STACK)
_VERSIONED = ("Secret", "Config")
_COUNTED = ("Service", "Network", "Secret", "Config", "Volume")
_SHOWN = 5


def is_protected(found: Mapping[str, str] | None) -> bool:
    """Whether labels protect an object."""
    return bool(found) and found.get(names_of_labels.PROTECT) == "true"  # type: ignore[union-attr]


def refusals(steps: Iterable[Step], desired: DesiredSet, live: Live) -> Iterator[str]:
    """Protected objects that would be deleted or replaced."""
    touched = [step for step in steps if _is_taken_away(step)]
    if not touched:
        return
    applied = {stack: _applied(live, stack) for stack in {step.stack for step in touched}}
    wanted = {item.key for item in desired.objects if is_protected(getattr(item.spec, "labels", None))}
    told: set[tuple[str, str, str]] = set()
    for step in touched:
        name = (step.stack, step.kind, step.name)
        if name in told or not (step.key in wanted or _was_protected(step, applied[step.stack], live)):
            continue
        told.add(name)
        what, way = "deleted", "put it back into the manifests"
        if step.action is Action.REPLACE:
            what, way = "replaced", "give it another name"
        yield (
            f"{step.kind.lower()} {step.engine_name} is protected and would be {what}: {way}, or first apply it without"
            f" the label {names_of_labels.PROTECT}"
        )


def _is_taken_away(step: Step) -> bool:
    """A version that left the manifests is as good as deleted, though it may stay for a while for rollbacks."""
    is_left = step.kind in _VERSIONED and step.reason in _LEFT
    return step.kind in _COUNTED and (is_left or step.action in (Action.DELETE, Action.REPLACE))


def _was_protected(step: Step, applied: Mapping[tuple[str, str], bool], live: Live) -> bool:
    known = applied.get((step.kind, step.name))
    has_label = is_protected(_labels(step, live))
    return has_label if known is None else known or (has_label and step.kind == "Service")


def _labels(step: Step, live: Live) -> Mapping[str, str] | None:
    name = step.engine_name
    if step.kind == "Service":
        return live.services[name].spec.labels
    if step.kind == "Network":
        return live.networks[name].labels
    if step.kind == "Volume":
        return live.volumes[name].labels
    return live.secrets[name].spec.labels if step.kind == "Secret" else live.configs[name].spec.labels


def _applied(live: Live, stack: str) -> dict[tuple[str, str], bool]:
    """The objects of the last healthy revision by kind and name, and whether they were protected; none if it is
    damaged."""
    last = next((item for item in live.revisions.get(stack, ()) if item.head.is_healthy), None)
    try:
        return {(item.kind, item.name): stored_as_protected(item) for item in last.body.objects} if last else {}
    except errors.Invalid:
        return {}


def stored_as_protected(item: Stored) -> bool:
    """Whether an object of a revision was protected."""
    found = msgspec.json.decode(item.spec, type=_Labelled | None)
    return found is not None and is_protected(found.labels)


class _Labelled(msgspec.Struct, rename="pascal"):
    labels: dict[str, str] | None = None


def too_many(steps: Iterable[Step], live: Live, stacks: Collection[str]) -> Iterator[str]:
    """Stacks that would lose more than a share of their objects at once, as by a wrong path."""
    gone: dict[str, set[tuple[str, str]]] = {}
    for step in steps:
        if step.action is Action.DELETE and step.kind in _COUNTED and step.stack in stacks:
            gone.setdefault(step.stack, set()).add((step.kind, step.name))
    owned: dict[str, set[tuple[str, str]]] = {stack: set() for stack in gone}
    for found in _owners(live) if gone else ():
        if found is not None and found[0] in owned and found[1] in _COUNTED:
            owned[found[0]].add(found[1:])
    for stack, names in sorted(gone.items()):
        total = len(owned[stack] | names)
        if len(names) >= LEAST and SHARE * len(names) > total:
            shown = ", ".join(f"{kind.lower()} {name}" for kind, name in sorted(names)[:_SHOWN])
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            yield (
                f"{len(names)} of the {total} objects of stack {stack or '(none)'!r} would be deleted ({shown}{more}):"
                " is it the right path? If that is meant, say --allow-deletes"
            )


def _owners(live: Live) -> Iterator[tuple[str, str, str] | None]:
    """Whose all objects are, volumes not among them: they stay unless they are asked for."""
    yield from (live.owner(item.spec.labels) for item in live.services.values())
    yield from (live.owner(item.labels) for item in live.networks.values())
    yield from (live.owner(item.spec.labels) for item in live.secrets.values())
    yield from (live.owner(item.spec.labels) for item in live.configs.values())
