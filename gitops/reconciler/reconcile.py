"""One run, from manifests to a converged engine: load, pin, plan; and then apply and record, if that is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn, TypeVar

from gitops import client as clients
from gitops import errors, manifests
from gitops.reconciler import (
    apply,
    credentials,
    images,
    latedigests,
    lease,
    live,
    moves,
    pinning,
    planner,
    retention,
    rollback,
    stored,
    targets,
)
from gitops.reconciler.plan import Plan
from gitops.reconciler.record import Outcome, Record
from gitops.reconciler.recorder import Recorder, holder, is_due
from gitops.reconciler.remembered import Remembered
from gitops.reconciler.revisions import Head, Revision
from gitops.reconciler.sending import Job
from gitops.reconciler.snapshot import Snapshot
from gitops.reconciler.source import Source, part_of, revision
from gitops.reconciler.waiting import Report, Update

T = TypeVar("T")

DEFAULT_TIMEOUT_S = 600.0
"""How long an apply waits for its services: a rolling update of a dozen tasks with a delay takes minutes."""

_LAST_WORD_S = 3.0


@dataclass(frozen=True, slots=True)
class Options:
    """How manifests are read and what an apply may do."""

    load: manifests.LoadOptions
    take_over: bool = False
    allow_empty: bool = False
    timeout_s: float = DEFAULT_TIMEOUT_S
    on_failure: Literal["stop", "rollback"] = "stop"
    ignore_suspend: bool = False
    gives_way: bool = False
    """Whether an apply of the very same state of the manifests that somebody else waits for is left alone."""
    lease_s: float = lease.TTL_S
    allow_deletes: bool = False
    """Whether more than a share of a stack may be deleted at once."""
    prune: bool = False
    """Whether what left the manifests goes though these are only a part of the stack's source."""
    prune_volumes: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan, with all that is needed to carry it out; `key` is the fingerprint of the operator's key for secrets."""

    source: Source
    revision: str
    request: planner.Request
    live: live.Live
    plan: Plan
    key: str = ""
    rollback: Mapping[str, Head] = field(default_factory=dict)
    """Of a rollback: the revision that each stack is brought back to."""
    snapshot: Snapshot | None = None
    """What it was made against, if that was no engine."""

    @property
    def stacks(self) -> Sequence[str]:
        """The stacks that it is about, those that only lose objects included."""
        return sorted(self.request.stacks)

    def held(self) -> list[Record]:
        """The records of stacks that hold this very revision."""
        return [
            found for stack in self.stacks if (found := self.live.records.get(stack)) and found.held == self.revision
        ]

    def suspended(self) -> list[Record]:
        """The records of stacks that are suspended."""
        return [found for stack in self.stacks if (found := self.live.records.get(stack)) and found.suspended]


class Reconciler:
    """Runs over one engine. Keeps what is known of images from run to run."""

    def __init__(self, client: clients.EngineClient, options: Options) -> None:
        self._client = client
        self._options = options
        self._images = images.Images()
        self._manifests = manifests.LoadMemory()
        self._remembered = Remembered()

    async def prepare(self, source: Source) -> Prepared:
        """Load the manifests of `source`, read the live state, and plan.

        Raises:
            errors.InvalidManifest: everything that is wrong with the manifests.
            errors.Refused: an empty set, a stack of another source, an object that isn't ours.
            errors.NotInSwarm, errors.Unavailable: the engine.
        """
        self._remembered.begin()
        # The engine answers while the manifests are read; if they are broken, its answer isn't waited for.
        async with _begun(live.read(self._client, ())) as reading:
            desired = await asyncio.to_thread(self._load, source)
            known = await asyncio.to_thread(self._images.resolve, desired.of("Image"))
            seen = await reading
        seen = replace(seen, images=await live.images(self._client, self._image_names(desired)))
        seen = await self._with_recorded_images(seen, source)
        known = targets.adapt(known, desired.of("Image"), seen.images, seen.target)
        request = requested(desired, seen, source, self._options)
        pinned = await pinning.pin(
            self._client, desired, known, seen.services, credentials.for_image, self._remembered.pinned
        )
        key = _fingerprint(self._options.load.secret_key)
        warnings = (*request.warnings, *pinned.warnings, *_other_keys(desired, seen, request.stacks, key))
        request = replace(request, desired=pinned.desired, known=known, warnings=warnings, sizes=pinned.sizes)
        plan = planner.make(request, seen, self._remembered)
        prepared = Prepared(source, self._revision(source, desired), request, seen, plan, key)
        return _without_expired(prepared, self._remembered)

    async def revision(self, source: Source) -> str:
        """The name of the state that the manifests of `source` have now.

        Raises:
            errors.InvalidManifest: everything that is wrong with the manifests.
        """
        desired = await asyncio.to_thread(self._load, source)
        return self._revision(source, desired)

    def _revision(self, source: Source, desired: manifests.DesiredSet) -> str:
        return revision(source, desired.files_read, self._options.load.secret_key if desired.of("Secret") else b"")

    def _load(self, source: Source) -> manifests.DesiredSet:
        return load(source, self._options.load, self._manifests)

    async def prepare_rollback(self, stack: str, number: int | None = None) -> Prepared:
        """Plan the way back to a kept revision of a stack; without a number to the last healthy one before the present.

        Raises:
            errors.NotFound: there is no such stack or revision.
            errors.Refused: something that the revision needs is gone.
        """
        seen = await live.read(self._client, ())
        target = rollback.target(seen, stack, number)
        return await self._prepare_revisions({stack: target}, seen)

    async def _prepare_revisions(self, chosen: Mapping[str, Revision], seen: live.Live) -> Prepared:
        desired, known = rollback.desired(chosen)
        stacks = frozenset(chosen)
        names = {*self._image_names(desired), *rollback.versions_of(desired, known)}
        names |= {name for stack in stacks if stack in seen.records for name in seen.records[stack].image_names}
        seen = replace(seen, images=await live.images(self._client, names))
        rollback.check(chosen, desired, known, seen)
        desired = moves.handed_back(desired, seen, stacks)
        kept = retention.kept(seen, stacks)
        request = planner.Request(
            desired, known, stacks, baseline=baseline(stacks, seen), kept=kept, allows_deletes=True
        )
        heads = {stack: target.head for stack, target in chosen.items()}
        plan, origin = planner.make(request, seen, self._remembered), rollback.source(heads, seen)
        state = next(iter(heads.values())).revision
        return _without_expired(Prepared(origin, state, request, seen, plan, rollback=heads), self._remembered)

    async def apply(self, prepared: Prepared, report: Report) -> None:
        """Carry out a plan and record how it ended. A state of the manifests that failed is recorded as held.

        Raises:
            errors.Refused: something forbids the plan, or another apply of one of its stacks goes on.
            errors.Unschedulable: no node can hold it. Nothing was changed.
            errors.RolloutFailed: it failed; what it was brought back to is said, where that was asked for.
            whatever `gitops.reconciler.apply.run` raises.
        """
        check(prepared.plan)
        self._check_suspended(prepared)
        if not Recorder(self._client, prepared).is_needed:
            await apply.run(self._client, self._job(prepared), report)
            return
        own = prepared.revision if self._options.gives_way else None
        async with lease.hold(
            self._client,
            sorted({*prepared.stacks, *moves.losers(prepared.request.desired, prepared.live)}),
            holder(),
            ttl_s=self._options.lease_s,
            seen=prepared.live.records,
            gives_way_to=own,
            tell=lambda stack, text: report(Update("Stack", stack, "lease", text)),
        ) as held:
            try:
                prepared = await self._with_late_digests(prepared, report, held)
                await self._carry_out(prepared, report, held)
            except (errors.RolloutFailed, errors.Unschedulable) as error:
                if self._options.on_failure != "rollback" or prepared.rollback:
                    raise
                await self._roll_back(prepared, error, report, held)

    async def _with_late_digests(self, prepared: Prepared, report: Report, held: lease.Lease) -> Prepared:
        """Push the images that get their digest by that, and plan again with it."""
        pushes = latedigests.pushes(prepared.request, prepared.plan)
        if not pushes.steps:
            return prepared
        await apply.run(self._client, self._job(replace(prepared, plan=pushes), held), report)
        names = [step.engine_name for step in pushes.steps]
        found = {**prepared.live.images, **await live.images(self._client, names)}
        seen = replace(prepared.live, images=found)
        request = latedigests.settled(prepared.request, found, seen.target)
        plan = planner.make(request, seen, self._remembered)
        return _without_expired(replace(prepared, request=request, live=seen, plan=plan), self._remembered)

    async def _carry_out(self, prepared: Prepared, report: Report, held: lease.Lease) -> None:
        recorder = Recorder(self._client, prepared, held.fence)
        await recorder.begin()
        try:
            removed = await apply.run(self._client, self._job(prepared, held), report)
            await self._check_again(prepared)
        except errors.GitopsError as error:
            if held.is_lost:
                await recorder.finish(Outcome.INTERRUPTED, str(error))
                raise
            is_bad = isinstance(error, errors.RolloutFailed | errors.Unschedulable)
            await recorder.end(Outcome.FAILED, str(error), prepared.revision if is_bad else None)
            raise
        except asyncio.CancelledError:
            await _note_interruption(recorder)
            raise
        await recorder.end(Outcome.APPLIED, "", _held_after(prepared), removed)
        await recorder.collect()

    async def _roll_back(
        self, failed: Prepared, error: errors.GitopsError, report: Report, held: lease.Lease
    ) -> NoReturn:
        """Bring every stack of a set that failed back to its last healthy revision; `held` goes on.

        Raises:
            errors.RolloutFailed: always, with what failed and what became of the way back.
        """
        seen = await live.read(self._client, ())
        chosen = {stack: found for stack in failed.stacks if (found := rollback.last_healthy(seen, stack))}
        if not chosen:
            raise errors.RolloutFailed(f"{error}; there is no healthy revision to roll back to") from error
        names = ", ".join(f"revision {found.number} of stack {stack!r}" for stack, found in sorted(chosen.items()))
        report(Update("Stack", ", ".join(sorted(chosen)), "rollback", f"failed, rolled back to {names}"))
        try:
            back = await self._prepare_revisions(chosen, seen)
            check(back.plan)
            await self._carry_out(back, report, held)
        except errors.GitopsError as second:
            raise errors.RolloutFailed(f"{error}; and the rollback to {names} failed: {second}") from error
        text = f"{error}; rolled back to {names}"
        await rollback.note(self._client, chosen, failed, text, held.fence)
        raise errors.RolloutFailed(text) from error

    def _job(self, prepared: Prepared, held: lease.Lease | None = None) -> Job:
        return Job(
            prepared.plan,
            prepared.request,
            prepared.live,
            self._images,
            credentials.for_image,
            self._options.timeout_s,
            held.guard if held else None,
            held.look if held else None,
        )

    def _check_suspended(self, prepared: Prepared) -> None:
        for found in prepared.suspended():
            if not self._options.ignore_suspend:
                raise errors.Refused(f"{found.suspension}: gitops resume {found.stack}, or say --ignore-suspend")

    async def _check_again(self, prepared: Prepared) -> None:
        """A rollout takes minutes, in which somebody else may have changed what was sent: say so, not "converged"."""
        if not prepared.plan.changed:
            return
        if names := planner.overtaken(prepared.request, await live.read(self._client, ())):
            raise errors.Refused(
                f"changed by somebody else while it was applied: {', '.join(names)}; run it again to see the new plan"
            )

    def _image_names(self, desired: manifests.DesiredSet) -> set[str]:
        return {item.engine_name for item in desired.of("Image")}

    async def _with_recorded_images(self, seen: live.Live, source: Source) -> live.Live:
        """Also look at images that former applies of this source brought: they may have to go."""
        names = {name for item in seen.records.values() if item.source == source.identity for name in item.image_names}
        if missing := names - seen.images.keys():
            more = await live.images(self._client, missing)
            return replace(seen, images={**seen.images, **more})
        return seen


def load(
    source: Source, options: manifests.LoadOptions, memory: manifests.LoadMemory | None = None
) -> manifests.DesiredSet:
    """Read the manifests; those of a clone read files of that clone only, wherever it lies on this host."""
    return manifests.load(source.path, replace(options, root=source.root) if source.root else options, memory)


def requested(desired: manifests.DesiredSet, seen: live.Live, source: Source, options: Options) -> planner.Request:
    """What to plan, as far as it doesn't depend on images: the stacks that are this source's are those that it names,
    and those that it named before.

    Raises:
        errors.Refused: there are no manifests at all, or one of the stacks is of another source.
    """
    if not desired.objects and not options.allow_empty:
        raise errors.Refused(
            f"no manifests in {source.path}: an empty directory would delete everything; if that is meant, say"
            " --allow-empty"
        )
    known = {found.source for stack in desired.stacks if (found := seen.records.get(stack)) and not options.take_over}
    if not options.take_over:
        moves.check(desired, seen, {source.identity, *known})
    parts = {stack: part for stack in sorted(desired.stacks) if (part := _part(stack, seen, source, options))}
    stacks = frozenset(
        {stack for stack, item in seen.records.items() if item.source == source.identity} | set(desired.stacks)
    )
    return planner.Request(
        desired,
        {},
        stacks,
        () if options.prune else tuple(_told_parts(parts)),
        baseline(stacks, seen),
        retention.kept(seen, stacks & desired.stacks.keys()),
        parts,
        prunes_parts=options.prune,
        prunes_volumes=options.prune_volumes,
        allows_deletes=options.allow_deletes or not desired.objects,
    )


def _part(stack: str, seen: live.Live, source: Source, options: Options) -> str:
    """The path of `source` in a stack's source; empty where it is the whole, or becomes it."""
    former = seen.records.get(stack)
    if former is None or former.source in ("", source.identity) or options.take_over:
        return ""
    if part := part_of(source.identity, former.source):
        return part
    raise errors.Refused(
        f"stack {stack or '(none)'!r} is applied from {former.source}, not from {source.identity}: say --take-over to"
        " make this its source"
    )


def _told_parts(parts: Mapping[str, str]) -> list[str]:
    return [
        f"{part} is only a part of the source of stack {stack or '(none)'!r}: nothing is pruned, unless you say --prune"
        for stack, part in parts.items()
    ]


@contextlib.asynccontextmanager
async def _begun(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """A task that goes on beside the body; it doesn't outlive it."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        if not task.done():
            task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # the body's to have read


def _without_expired(prepared: Prepared, remembered: Remembered) -> Prepared:
    """The plan with the versions that go with revisions which the new one pushes out: of this plan, not of the next."""
    request, seen = prepared.request, prepared.live
    due = [stack for stack in prepared.stacks if is_due(prepared, stack)]
    remaining = retention.kept_after(seen, request.stacks & request.desired.stacks.keys(), request, due, remembered)
    if remaining == request.kept:
        return prepared
    request = replace(request, kept=remaining)
    return replace(prepared, request=request, plan=planner.make(request, seen, remembered))


def _held_after(prepared: Prepared) -> str:
    """What is held after a success: nothing; after a rollback, the state that it led away from."""
    if not prepared.rollback:
        return ""
    former = [found for stack in prepared.stacks if (found := prepared.live.records.get(stack))]
    states = {found.held or found.revision for found in former}
    return next(iter(states - {prepared.revision}), "")


async def _note_interruption(recorder: Recorder) -> None:
    """So that nobody reads for ever that an apply goes on; an engine that doesn't answer is not waited for."""
    if recorder.has_started:
        with contextlib.suppress(errors.GitopsError, TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S):
                await recorder.end(Outcome.INTERRUPTED, "the next apply goes on from there")


def baseline(stacks: frozenset[str], seen: live.Live) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The canonical forms that were applied last; of a revision that can't be read any more, none."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for stack in stacks:
        last = next((item for item in seen.revisions.get(stack, []) if item.head.is_healthy), None)
        if last is not None:
            with contextlib.suppress(errors.Invalid):
                found |= stored.baseline(last.body.objects)
    return found


def check(plan: Plan) -> None:
    """Whether a plan may be carried out.

    Raises:
        errors.Refused: a guard forbids it. errors.Unschedulable: no node can hold all of it.
    """
    if plan.refused:
        raise errors.Refused("; ".join(plan.refused))
    if plan.unplaced:
        raise errors.Unschedulable("; ".join(f"service {item.service}: {item.text}" for item in plan.unplaced))


def _fingerprint(key: bytes) -> str:
    """A name for a key that says nothing of it."""
    return hmac.new(key, b"gitops secret key", hashlib.sha256).hexdigest()[:12] if key else ""


def _other_keys(desired: manifests.DesiredSet, seen: live.Live, stacks: frozenset[str], key: str) -> list[str]:
    """A warning where the secrets of a stack were named under another key: all of them look changed."""
    former = [found for stack in sorted(stacks) if (found := seen.records.get(stack)) and found.key]
    return [
        f"secrets of stack {item.stack} were applied with another key for secrets, so all of them look changed: use"
        " that key (GITOPS_SECRET_KEY_FILE), or go on and have each made anew"
        for item in former
        if item.key != key and any(secret.stack == item.stack for secret in desired.of("Secret"))
    ]
