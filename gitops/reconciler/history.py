"""A stack's history as people and programs read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitops import client as clients
from gitops import errors
from gitops.objects import base
from gitops.reconciler import live, rollback
from gitops.reconciler.record import Outcome, Record
from gitops.reconciler.revisions import Revision
from gitops.reconciler.status import ago

HEADINGS = ("REVISION", "WHEN", "OUTCOME", "TOOK", "COMMIT", "AUTHOR", "CHANGED", "WHAT")
_VERBS = {"create": "created", "update": "updated", "replace": "replaced", "delete": "deleted"}


async def read(client: clients.EngineClient, stack: str) -> tuple[Record, list[Revision]]:
    """The record and the kept revisions of a stack, newest first.

    Raises:
        errors.NotFound: nothing of that stack was recorded.
    """
    seen = await live.read(client, ())
    if stack not in seen.revisions:
        known = ", ".join(sorted(filter(None, seen.revisions))) or "none"
        raise errors.NotFound(f"no history of a stack {stack!r} on this engine; stacks with one: {known}")
    return seen.records.get(stack, Record(stack)), seen.revisions[stack]


async def one(client: clients.EngineClient, stack: str, number: int) -> tuple[Record, Revision]:
    """A revision by its number.

    Raises:
        errors.NotFound: there is none, with those that there are.
    """
    seen = await live.read(client, ())
    return seen.records.get(stack, Record(stack)), rollback.target(seen, stack, number)


def outcome(revision: Revision, record: Record, now_ns: int) -> Outcome:
    """How it ended; an apply whose lease has run out without a word was interrupted."""
    found = revision.head.outcome
    if found is not Outcome.APPLYING:
        return found
    is_alive = record.lease_holder and base.parse_time(record.lease_until) > now_ns
    return Outcome.APPLYING if is_alive else Outcome.INTERRUPTED


def row(revision: Revision, record: Record, now_ns: int) -> tuple[str, ...]:
    """A line of the listing, under `HEADINGS`."""
    head = revision.head
    duration = "" if head.duration_s is None else f"{head.duration_s:.0f} s"
    what = f"rollback to revision {head.rollback_to}" if head.rollback_to else head.subject
    return (
        str(head.number),
        ago(head.started_at, now_ns),
        str(outcome(revision, record, now_ns)),
        duration,
        head.label,
        head.author,
        changed(head.counts),
        what,
    )


def changed(counts: Mapping[str, int]) -> str:
    """`1 created, 2 updated`."""
    return ", ".join(f"{counts[key]} {verb}" for key, verb in _VERBS.items() if counts.get(key)) or "nothing"


def details(revision: Revision, record: Record, now_ns: int) -> list[str]:
    """All that there is to say of one revision, in lines."""
    head, body = revision.head, revision.body
    duration = "" if head.duration_s is None else f", after {head.duration_s:.0f} s"
    lines = [
        f"Revision {head.number} of stack {head.stack or '(none)'}: {outcome(revision, record, now_ns)}{duration}",
        f"   begun {head.started_at[:19]}Z by {head.by}",
    ]
    if head.rollback_to:
        lines.append(f"   a rollback to revision {head.rollback_to}")
    if head.commit:
        lines.append(f"   commit {head.commit} {head.author}: {head.subject}".rstrip(": "))
    part = f", only {head.part}" if head.part else ""
    lines.append(f"   from {head.source.removesuffix('#.')}{part}, state {head.revision}")
    if head.message:
        lines.append(f"   {head.message}")
    lines += ["", f"Changes: {changed(head.counts)}"]
    for item in body.changes:
        paths = f"  {', '.join(item.paths)}" if item.paths else ""
        lines.append(f"   {item.action:<8} {item.kind:<8} {item.name}{paths}")
    if rest := sum(head.counts.values()) - len(body.changes):
        lines.append(f"   and {rest} more")
    lines += ["", f"Objects: {len(body.objects)}"]
    lines += [f"   {item.kind:<8} {item.engine_name}{_image(item.canonical)}" for item in body.objects]
    return lines


def _image(form: Mapping[str, Any]) -> str:
    image = form.get("image")
    return f"  {image}" if isinstance(image, str) else ""


def to_dict(revision: Revision, record: Record, now_ns: int, *, whole: bool = False) -> dict[str, Any]:
    """For JSON; with `whole` its changes and objects too."""
    head = revision.head
    found: dict[str, Any] = {
        "stack": head.stack,
        "number": head.number,
        "source": head.source,
        "part": head.part,
        "commit": head.commit,
        "author": head.author,
        "subject": head.subject,
        "revision": head.revision,
        "digest": head.digest,
        "by": head.by,
        "started_at": head.started_at,
        "ended_at": head.ended_at,
        "duration_s": head.duration_s,
        "outcome": str(outcome(revision, record, now_ns)),
        "message": head.message,
        "rollback_to": head.rollback_to or None,
        "counts": dict(head.counts),
    }
    if whole:
        found["changes"] = [
            {
                "kind": item.kind,
                "name": item.name,
                "action": item.action,
                "reason": item.reason,
                "paths": item.paths,
            }
            for item in revision.body.changes
        ]
        found["objects"] = [
            {"kind": item.kind, "name": item.name, "engine_name": item.engine_name, "canonical": item.canonical}
            for item in revision.body.objects
        ]
    return found
