"""One run, from manifests to a converged engine: load, pin, plan; and then apply and record, if that is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gitops import client as clients
from gitops import errors, manifests
from gitops.reconciler import (
    apply,
    credentials,
    images,
    live,
    pinning,
    planner,
    record,
    revisions,
    stored,
    targets,
    versions,
)
from gitops.reconciler.plan import Plan
from gitops.reconciler.record import Outcome, Record
from gitops.reconciler.recorder import Recorder
from gitops.reconciler.source import Source, revision
from gitops.reconciler.waiting import Report

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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan, with all that is needed to carry it out; `key` is the fingerprint of the operator's key for secrets."""

    source: Source
    revision: str
    request: planner.Request
    live: live.Live
    plan: Plan
    key: str = ""

    @property
    def stacks(self) -> Sequence[str]:
        """The stacks that it is about, those that only lose objects included."""
        return sorted(self.request.stacks)

    def held(self) -> list[Record]:
        """The records of stacks that hold this very revision."""
        return [
            found for stack in self.stacks if (found := self.live.records.get(stack)) and found.held == self.revision
        ]


class Reconciler:
    """Runs over one engine. Keeps what is known of images from run to run."""

    def __init__(self, client: clients.EngineClient, options: Options) -> None:
        self._client = client
        self._options = options
        self._images = images.Images()

    async def prepare(self, source: Source) -> Prepared:
        """Load the manifests of `source`, read the live state, and plan.

        Raises:
            errors.InvalidManifest: everything that is wrong with the manifests.
            errors.Refused: an empty set, a stack of another source, an object that isn't ours.
            errors.NotInSwarm, errors.Unavailable: the engine.
        """
        desired = await asyncio.to_thread(self._load, source)
        known = await asyncio.to_thread(self._images.resolve, desired.of("Image"))
        seen = await live.read(self._client, self._image_names(desired))
        seen = await self._with_recorded_images(seen, source)
        known = targets.adapt(known, desired.of("Image"), seen.images, seen.target)
        stacks = self._stacks(desired, seen, source)
        pinned = await pinning.pin(self._client, desired, known, seen.services, credentials.for_image)
        key = _fingerprint(self._options.load.secret_key)
        warnings = (*pinned.warnings, *_other_keys(desired, seen, stacks, key))
        request = planner.Request(pinned.desired, known, stacks, warnings, _baseline(stacks, seen))
        plan = planner.make(request, seen)
        return Prepared(source, revision(source, desired.files_read), request, seen, plan, key)

    async def revision(self, source: Source) -> str:
        """The name of the state that the manifests of `source` have now.

        Raises:
            errors.InvalidManifest: everything that is wrong with the manifests.
        """
        desired = await asyncio.to_thread(self._load, source)
        return revision(source, desired.files_read)

    def _load(self, source: Source) -> manifests.DesiredSet:
        """Read the manifests; those of a clone read files of that clone only, wherever it lies on this host."""
        options = self._options.load
        return manifests.load(source.path, replace(options, root=source.root) if source.root else options)

    async def apply(self, prepared: Prepared, report: Report) -> None:
        """Carry out a plan and record how it ended. A revision that failed is recorded as held.

        Raises:
            errors.Refused: something forbids the plan. errors.Unschedulable: no node can hold it. Nothing was changed.
            whatever `gitops.reconciler.apply.run` raises.
        """
        _check(prepared.plan)
        recorder = Recorder(self._client, prepared, lambda stack: None)
        await recorder.begin()
        job = apply.Job(
            prepared.plan,
            prepared.request,
            prepared.live,
            self._images,
            credentials.for_image,
            self._options.timeout_s,
        )
        try:
            removed = await apply.run(self._client, job, report)
            await self._check_again(prepared)
        except errors.GitopsError as error:
            held = prepared.revision if isinstance(error, errors.RolloutFailed | errors.Unschedulable) else None
            await recorder.end(Outcome.FAILED, str(error), held)
            raise
        except asyncio.CancelledError:
            await _note_interruption(recorder)
            raise
        await recorder.end(Outcome.APPLIED, "", "", removed)
        await recorder.collect()

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
        names = {
            name for item in seen.records.values() if item.source == source.identity for name in _image_names(item)
        }
        if missing := names - seen.images.keys():
            more = await live.images(self._client, missing)
            return replace(seen, images={**seen.images, **more})
        return seen

    def _stacks(self, desired: manifests.DesiredSet, seen: live.Live, source: Source) -> frozenset[str]:
        """The stacks that are this source's: those it names, and those it named before."""
        if not desired.objects and not self._options.allow_empty:
            raise errors.Refused(
                f"no manifests in {source.path}: an empty directory would delete everything; if that is meant, say"
                " --allow-empty"
            )
        for stack in sorted(desired.stacks):
            former = seen.records.get(stack)
            if former and former.source and former.source != source.identity and not self._options.take_over:
                raise errors.Refused(
                    f"stack {stack or '(none)'!r} is applied from {former.source}, not from {source.identity}: say"
                    " --take-over to make this its source"
                )
        mine = {stack for stack, item in seen.records.items() if item.source == source.identity}
        return frozenset(mine | set(desired.stacks))


async def delete(client: clients.EngineClient, prepared: Prepared, stack: str, report: Report) -> None:
    """Carry out what `plan_delete` planned, and forget the stack.

    Raises:
        whatever `gitops.reconciler.apply.run` raises.
    """
    job = apply.Job(prepared.plan, prepared.request, prepared.live, images.Images(), lambda _: None, DEFAULT_TIMEOUT_S)
    await apply.run(client, job, report)
    await revisions.remove(client, stack)
    await record.remove(client, stack)


async def plan_delete(client: clients.EngineClient, stack: str, *, volumes: bool = False) -> Prepared:
    """The removal of all objects of a stack; its volumes are no-op steps without the explicit word.

    Raises:
        errors.NotFound: nothing of that stack is there.
    """
    seen = await live.read(client, ())
    former = seen.records.get(stack)
    if former:
        seen = replace(seen, images=await live.images(client, _image_names(former)))
    empty = manifests.DesiredSet((), {}, {})
    request = planner.Request(empty, {}, frozenset({stack}))
    plan = planner.make(request, seen)
    plan = replace(plan, steps=(*plan.steps, *planner.volumes_of(stack, seen, is_removed=volumes)))
    if not plan.steps and former is None:
        known = ", ".join(sorted(name for name in seen.records if name)) or "none"
        raise errors.NotFound(f"no stack {stack!r} on this engine; stacks: {known}")
    return Prepared(Source("", Path()), "", request, seen, plan)


async def _note_interruption(recorder: Recorder) -> None:
    """So that nobody reads for ever that an apply goes on; an engine that doesn't answer is not waited for."""
    if recorder.has_started:
        with contextlib.suppress(errors.GitopsError, TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S):
                await recorder.end(Outcome.INTERRUPTED, "the next apply goes on from there")


def _baseline(stacks: frozenset[str], seen: live.Live) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The canonical forms that were applied last; of a revision that can't be read any more, none."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for stack in stacks:
        last = next((item for item in seen.revisions.get(stack, []) if item.head.is_healthy), None)
        if last is not None:
            with contextlib.suppress(errors.Invalid):
                found |= stored.baseline(last.body.objects)
    return found


def _check(plan: Plan) -> None:
    if plan.refused:
        raise errors.Refused("; ".join(plan.refused))
    if plan.unplaced:
        raise errors.Unschedulable("; ".join(f"service {item.service}: {item.text}" for item in plan.unplaced))


def _image_names(found: Record) -> set[str]:
    """What the engine may call the images that a stack brought."""
    return {*found.images, *map(versions.as_digest, found.brought), *map(versions.name_of, found.brought)}


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
