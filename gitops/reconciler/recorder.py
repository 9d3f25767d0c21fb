"""Writes down what an apply is of and how it ended: the record of each of its stacks, and a revision where one is due.

A revision is due where a stack's objects change, where its manifests are in another state than at the last apply, and
where the stack has none yet. A run that changes nothing and finds the same state writes nothing at all.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from gitops import client as clients
from gitops.objects import base
from gitops.reconciler import images, moves, record, revisions, versions
from gitops.reconciler.plan import Action, Plan
from gitops.reconciler.record import Outcome, Record
from gitops.reconciler.revisions import Head, Revision
from gitops.reconciler.stored import planned

if TYPE_CHECKING:
    from gitops.reconciler.reconcile import Prepared

_MESSAGE_LIMIT = 2000
"""Characters of an error that a record keeps."""
_COUNTED = (Action.CREATE, Action.UPDATE, Action.REPLACE, Action.DELETE)


def holder() -> str:
    """Who holds a lease, for people."""
    return f"{operator()} (process {os.getpid()})"


def operator() -> str:
    """Who applies: `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class Recorder:
    """One apply, in the records and histories of its stacks."""

    def __init__(
        self, client: clients.EngineClient, prepared: Prepared, fence: Callable[[str], str | None] = lambda stack: None
    ) -> None:
        """`fence` gives the fencing number that a stack's record must bear; None: whichever."""
        self._client = client
        self._prepared = prepared
        self._fence = fence
        self._revisions: dict[str, Revision] = {}
        self._now = base.format_time(time.time_ns())

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to write, here or on the engine; if not, the apply only waits."""
        prepared = self._prepared
        records = [prepared.live.records.get(stack) for stack in prepared.stacks]
        return (
            any(is_due(prepared, stack) for stack in prepared.stacks)
            or any(found is None or found.outcome is not Outcome.APPLIED or found.held for found in records)
            or any(step.action is not Action.NONE or step.obsolete for step in prepared.plan.steps)
        )

    @property
    def has_started(self) -> bool:
        """Whether anything was written, so that how it ended must be, too."""
        return bool(self._revisions)

    async def begin(self) -> None:
        """Note that the apply goes on, before anything is changed."""
        for stack in self._prepared.stacks:
            if is_due(self._prepared, stack):
                await self._end_former(stack)
                configs = self._prepared.live.configs.values()
                head = self._head(stack, revisions.next_number(configs, stack))
                self._revisions[stack] = await revisions.create(self._client, head, self._body(stack))
        if self._prepared.plan.changed:
            await self.write(Outcome.APPLYING, "")

    async def _end_former(self, stack: str) -> None:
        """Revisions whose apply was killed: nobody else is left to say so."""
        for item in self._prepared.live.revisions.get(stack, []):
            if item.head.outcome is Outcome.APPLYING:
                await revisions.finish(self._client, item, outcome=Outcome.INTERRUPTED, message="killed on its way")

    async def end(
        self, outcome: Outcome, message: str, held: str | None = None, removed: frozenset[str] = frozenset()
    ) -> None:
        """Note how it ended; `held` is the state that isn't to be tried again, `removed` the versions that went."""
        await self.write(outcome, message, held, removed)
        await self.finish(outcome, message)

    async def finish(self, outcome: Outcome, message: str) -> None:
        """Note it in the revisions alone, where the records are somebody else's by now."""
        for revision in self._revisions.values():
            ended = base.format_time(time.time_ns())
            await revisions.finish(self._client, revision, outcome=outcome, message=message, ended_at=ended)

    async def collect(self) -> None:
        """Remove what no longer stays of the histories; of a stack of which nothing is left, all."""
        for stack in self._prepared.stacks:
            if stack not in self._prepared.request.desired.stacks:
                await revisions.remove(self._client, stack)
                await record.remove(self._client, stack)
            elif stack in self._revisions:
                await revisions.collect(self._client, stack)

    async def write(
        self, outcome: Outcome, message: str, held: str | None = None, removed: frozenset[str] = frozenset()
    ) -> None:
        """Write each stack's record; one from which something moved away no longer claims it."""
        desired, seen = self._prepared.request.desired, self._prepared.live
        for stack in set(moves.losers(desired, seen)) - set(self._prepared.stacks):
            claims = moves.claims(desired, seen, stack)
            await record.write(self._client, stack, fence=self._fence(stack), claims=claims)
        for stack in self._prepared.stacks:
            changes = self._changes(stack, removed) | {"outcome": outcome, "message": message[:_MESSAGE_LIMIT]}
            if held is not None:
                changes["held"] = held
            await record.write(self._client, stack, fence=self._fence(stack), **changes)

    def _changes(self, stack: str, removed: frozenset[str]) -> dict[str, Any]:
        prepared, known = self._prepared, self._prepared.request.known
        former = prepared.live.records.get(stack, Record(stack))
        back = prepared.rollback.get(stack)
        mine = [item for item in prepared.request.desired.of("Image") if item.stack == stack]
        present = [version for item in mine for version in images.brought(item, known)]
        brought = versions.noted(former.brought, present)
        names = tuple(name for item in mine for name in images.names(item, known))
        is_part = stack in prepared.request.parts
        changes: dict[str, Any] = {
            "source": former.source if back or is_part else prepared.source.identity,
            "commit": back.label if back else former.commit if is_part else prepared.source.label,
            "revision": back.revision if back else former.revision if is_part else prepared.revision,
            "images": tuple(dict.fromkeys((*former.images, *names))) if is_part else names,
            "brought": tuple(item for item in brought if versions.as_digest(item) not in removed),
            "claims": moves.claims(prepared.request.desired, prepared.live, stack, removed),
            "key": prepared.key if prepared.request.desired.of("Secret") and not back else former.key,
        }
        if prepared.plan.changed or former.revision != changes["revision"]:
            changes["applied_at"] = self._now
        return changes

    def _head(self, stack: str, number: int) -> Head:
        source, back = self._prepared.source, self._prepared.rollback.get(stack)
        commit = source.commit + ("+" if source.is_dirty else "")
        part = self._prepared.request.parts.get(stack, "")
        former = self._prepared.live.records.get(stack, Record(stack))
        return Head(
            stack,
            number,
            source=former.source if part else source.identity,
            commit=back.commit if back else commit,
            author=back.author if back else source.author,
            subject=back.subject if back else source.subject,
            revision=back.revision if back else self._prepared.revision,
            rollback_to=back.number if back else 0,
            part=part,
            by=operator(),
            started_at=base.format_time(time.time_ns()),
            counts=counts(self._prepared.plan, stack),
        )

    def _body(self, stack: str) -> revisions.Body:
        prepared = self._prepared
        return planned(prepared.request, prepared.plan, stack, prepared.live.revisions.get(stack, ()))


def is_due(prepared: Prepared, stack: str) -> bool:
    """Whether an apply writes a revision of a stack."""
    if any(step.stack == stack for step in prepared.plan.changed) or stack in prepared.rollback:
        return True
    is_known = is_noted(prepared, stack) and prepared.live.revisions.get(stack)
    return stack in prepared.request.desired.stacks and not is_known


def is_noted(prepared: Prepared, stack: str) -> bool:
    """Whether the stack's record knows of this state of the manifests; of a part of them it keeps none."""
    former = prepared.live.records.get(stack)
    return former is not None and (former.revision == prepared.revision or stack in prepared.request.parts)


def counts(plan: Plan, stack: str) -> dict[str, int]:
    """What a plan does to a stack's objects, by action."""
    steps: Iterable[Action] = [step.action for step in plan.changed if step.stack == stack]
    found = {str(action): sum(step is action for step in steps) for action in _COUNTED}
    return {action: count for action, count in found.items() if count}
