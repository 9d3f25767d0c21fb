"""Objects that belong to another stack than their labels say: the one whose record claims them. Pure.

A claim is made when an object moves (`moves`) whose labels can't be changed. It names the object's id, so that it
doesn't outlive the object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from msgspec import structs

from gitops.objects import labels
from gitops.reconciler.plan import Key

if TYPE_CHECKING:
    from gitops.reconciler.live import Live

CLAIMED = ("Network", "Volume", "Secret", "Config")
PARTS: Mapping[str, str] = {
    "Service": "services",
    "Network": "networks",
    "Volume": "volumes",
    "Secret": "secrets",
    "Config": "configs",
}
"""Where the live objects of a kind are in a `Live`."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An object that belongs to the stack whose record has this, whatever its labels say."""

    kind: str
    engine_name: str
    name: str
    identity: str
    """Its id; empty for a volume, which has none."""

    def __str__(self) -> str:
        return " ".join((self.kind, self.engine_name, self.name, self.identity)).rstrip()


def parse(text: str) -> Claim | None:
    """A claim as a record holds it; None for what isn't one."""
    kind, _, rest = text.partition(" ")
    parts = rest.split(" ")
    if kind not in CLAIMED or len(parts) not in (2, 3):
        return None
    return Claim(kind, parts[0], parts[1], parts[2] if len(parts) == 3 else "")


def claimed(live: Live) -> Live:
    """The live state with what records claim under the labels of its stack."""
    found = {
        (claim.kind, claim.engine_name): (record.stack, claim)
        for record in live.records.values()
        for claim in map(parse, record.claims)
        if claim is not None
    }
    wanted = {
        key: stack
        for key, (stack, claim) in found.items()
        if (item := getattr(live, PARTS[claim.kind]).get(claim.engine_name)) and identity_of(item) == claim.identity
    }
    return relabelled(live, wanted)


def is_there(claim: Claim, live: Live) -> bool:
    """Whether the object is still the one that was claimed."""
    found = getattr(live, PARTS[claim.kind]).get(claim.engine_name)
    return found is not None and identity_of(found) == claim.identity


def identity_of(found: Any) -> str:
    """The id of a live object; empty for a volume."""
    return str(getattr(found, "id", ""))


def labels_of(found: Any) -> Mapping[str, str] | None:
    """The labels of a live object of any kind."""
    known: Mapping[str, str] | None = found.spec.labels if hasattr(found, "spec") else found.labels
    return known


def relabelled(live: Live, stacks: Mapping[Key, str]) -> Live:
    """The live state with other stacks in the labels of some objects, by their keys."""
    if not stacks:
        return live
    parts: dict[str, dict[str, Any]] = {}
    for (kind, name), stack in stacks.items():
        part = PARTS[kind]
        found = parts.setdefault(part, dict(getattr(live, part)))
        found[name] = _with_stack(found[name], stack)
    changes: dict[str, Any] = parts
    return replace(live, **changes)


def _with_stack(found: Any, stack: str) -> Any:
    changed = under(labels_of(found), stack)
    if hasattr(found, "spec"):
        return structs.replace(found, spec=structs.replace(found.spec, labels=changed))
    return structs.replace(found, labels=changed)


def under(found: Mapping[str, str] | None, stack: str) -> dict[str, str]:
    """An object's labels as they are in a stack."""
    rest = {key: value for key, value in (found or {}).items() if key not in (labels.STACK, labels.NAMESPACE)}
    return rest | ({labels.STACK: stack, labels.NAMESPACE: stack} if stack else {})
