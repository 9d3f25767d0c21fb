"""Hand-over: an object that moves to another stack keeps its name on the engine, and nothing restarts. Pure.

The manifest says `moved_from`. A service's labels are changed in place. Those of networks, volumes, secrets and configs
can't be, or not alike on all engines: the new stack's record claims such an object (`claiming`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from gitops import errors
from gitops.manifests import Desired, DesiredSet
from gitops.reconciler import claiming
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Key


def of(desired: DesiredSet, live: Live) -> dict[Key, str]:
    """The objects of a set that the engine has in the stack that they moved from: that stack by their key."""
    found = {}
    for item in desired.objects:
        if item.moved_from is not None and any(True for _ in _left_behind(item, live)):
            found[item.key] = item.moved_from
    return found


def taken(desired: DesiredSet, live: Live) -> Live:
    """The live state as it is after the hand-over."""
    wanted = {
        (item.kind, name): item.stack
        for item in desired.objects
        if item.moved_from is not None
        for name in _left_behind(item, live)
    }
    return claiming.relabelled(live, wanted)


def check(desired: DesiredSet, live: Live, sources: Iterable[str]) -> None:
    """An object is taken from a stack of another source only on an explicit word.

    Raises:
        errors.Refused: one would be; `sources` are those that count as the own one.
    """
    own = {"", *sources}
    for item in desired.objects:
        former = live.records.get(item.moved_from) if item.moved_from is not None else None
        if former and former.source not in own and any(True for _ in _left_behind(item, live)):
            raise errors.Refused(
                f"{item.position}: {item.kind.lower()} {item.engine_name} would move from stack {former.stack!r}, which"
                f" is applied from {former.source}: say --take-over to take it from there"
            )


def claims(desired: DesiredSet, live: Live, stack: str, removed: Iterable[str] = ()) -> tuple[str, ...]:
    """What a stack's record claims once a set is applied and `removed` are gone."""
    former = live.records[stack].claims if stack in live.records else ()
    parsed = [claim for text in former if (claim := claiming.parse(text)) is not None]
    kept = [claim for claim in parsed if claiming.is_there(claim, live)]
    lost = {(item.kind, name) for item in desired.objects if item.stack != stack for name in _moving(item, live)}
    fresh = [
        claiming.Claim(item.kind, name, item.name, claiming.identity_of(getattr(live, claiming.PARTS[item.kind])[name]))
        for item in desired.objects
        if item.stack == stack and item.kind in claiming.CLAIMED
        for name in _moving(item, live)
    ]
    gone = set(removed)
    staying = [claim for claim in kept if (claim.kind, claim.engine_name) not in lost]
    return tuple(dict.fromkeys(str(claim) for claim in (*staying, *fresh) if claim.engine_name not in gone))


def losers(desired: DesiredSet, live: Live) -> list[str]:
    """The stacks that let go of something and have a record."""
    return sorted({stack for stack in of(desired, live).values() if stack in live.records})


def handed_back(desired: DesiredSet, live: Live, stacks: Iterable[str]) -> DesiredSet:
    """A former set, in which what has moved between its stacks since moves back."""
    among = set(stacks)
    return replace(desired, objects=tuple(_handed_back(item, live, among) for item in desired.objects))


def _handed_back(item: Desired, live: Live, stacks: set[str]) -> Desired:
    found = getattr(live, claiming.PARTS[item.kind]).get(item.engine_name) if item.kind in claiming.PARTS else None
    owner = live.owner(claiming.labels_of(found)) if found is not None else None
    if owner is None or owner[0] == item.stack or owner[0] not in stacks or owner[1:] != (item.kind, item.name):
        return item
    return replace(item, moved_from=owner[0])


def _moving(item: Desired, live: Live) -> Iterator[str]:
    return _left_behind(item, live) if item.moved_from is not None else iter(())


def _left_behind(item: Desired, live: Live) -> Iterator[str]:
    """The engine names of an object, of all versions of it, that are in the stack that it moved from."""
    former = (item.moved_from, item.kind, item.name)
    if item.kind not in claiming.PARTS:
        return
    found = getattr(live, claiming.PARTS[item.kind])
    if item.kind in ("Secret", "Config"):
        yield from (name for name, other in found.items() if live.owner(claiming.labels_of(other)) == former)
    elif item.engine_name in found and live.owner(claiming.labels_of(found[item.engine_name])) == former:
        yield item.engine_name
