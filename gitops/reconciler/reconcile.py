"""One run, from manifests to a converged engine: load, pin, plan; and then apply and record, if that is wanted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gitops import client as clients
from gitops import errors, manifests
from gitops.objects import base
from gitops.reconciler import apply, credentials, images, live, pinning, planner, record
from gitops.reconciler.plan import Action, Plan
from gitops.reconciler.record import Outcome, Record
from gitops.reconciler.source import Source, revision
from gitops.reconciler.waiting import Report

DEFAULT_TIMEOUT_S = 600.0
"""How long an apply waits for its services: a rolling update of a dozen tasks with a delay takes minutes."""


@dataclass(frozen=True, slots=True)
class Options:
    """How manifests are read and what an apply may do."""

    load: manifests.LoadOptions
    take_over: bool = False
    allow_empty: bool = False
    timeout_s: float = DEFAULT_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan, with all that is needed to carry it out."""

    source: Source
    revision: str
    request: planner.Request
    live: live.Live
    plan: Plan

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
        desired = await asyncio.to_thread(manifests.load, source.path, self._options.load)
        known = await asyncio.to_thread(self._images.resolve, desired.of("Image"))
        seen = await live.read(self._client, self._image_names(desired))
        seen = await self._with_recorded_images(seen, source)
        stacks = self._stacks(desired, seen, source)
        pinned = await pinning.pin(self._client, desired, known, seen.services, credentials.for_image)
        request = planner.Request(pinned.desired, known, stacks, pinned.warnings)
        return Prepared(source, revision(source, desired.files_read), request, seen, planner.make(request, seen))

    async def apply(self, prepared: Prepared, report: Report) -> None:
        """Carry out a plan and record how it ended. A revision that failed is recorded as held.

        Raises:
            errors.Unschedulable: no node can hold it; nothing was changed.
            whatever `gitops.reconciler.apply.run` raises.
        """
        if prepared.plan.unplaced:
            raise errors.Unschedulable(
                "; ".join(
                    f"service {item.service}: {item.count} tasks: {item.reason}" for item in prepared.plan.unplaced
                )
            )
        if prepared.plan.changed:
            await self._record(prepared, Outcome.APPLYING, "")
        job = apply.Job(
            prepared.plan,
            prepared.request,
            prepared.live,
            self._images,
            credentials.for_image,
            self._options.timeout_s,
        )
        try:
            await apply.run(self._client, job, report)
        except errors.GitopsError as error:
            held = prepared.revision if isinstance(error, errors.RolloutFailed | errors.Unschedulable) else None
            await self._record(prepared, Outcome.FAILED, str(error), held)
            raise
        await self._record(prepared, Outcome.APPLIED, "", "")
        await self._forget_emptied(prepared)

    async def _record(self, prepared: Prepared, outcome: Outcome, message: str, held: str | None = None) -> None:
        """Write each stack's record; a run that changes nothing and finds the same commit writes nothing."""
        source = prepared.source
        loaded: dict[str, list[str]] = {}
        for item in prepared.request.desired.of("Image"):
            loaded.setdefault(item.stack, []).append(item.engine_name)
        for stack in prepared.stacks:
            former = prepared.live.records.get(stack, Record(stack))
            changes: dict[str, object] = {
                "source": source.identity,
                "commit": source.label,
                "revision": prepared.revision,
                "outcome": outcome,
                "message": message,
                "images": tuple(loaded.get(stack, ())),
            }
            if held is not None:
                changes["held"] = held
            if prepared.plan.changed or former.revision != prepared.revision:
                changes["applied_at"] = base.format_time(time.time_ns())
            await record.write(self._client, stack, **changes)

    async def _forget_emptied(self, prepared: Prepared) -> None:
        """Drop the record of a stack of which nothing is left in the manifests."""
        for stack in prepared.stacks:
            if stack not in prepared.request.desired.stacks:
                await record.remove(self._client, stack)

    def _image_names(self, desired: manifests.DesiredSet) -> set[str]:
        return {item.engine_name for item in desired.of("Image")}

    async def _with_recorded_images(self, seen: live.Live, source: Source) -> live.Live:
        """Also look at images that former applies of this source brought: they may have to go."""
        names = {name for item in seen.records.values() if item.source == source.identity for name in item.images}
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


async def delete(client: clients.EngineClient, stack: str, report: Report, *, volumes: bool = False) -> Plan:
    """Remove all objects of a stack and its record, volumes only with the explicit word; the plan that was carried out.

    Raises:
        errors.NotFound: nothing of that stack is there.
    """
    prepared = await plan_delete(client, stack)
    job = apply.Job(prepared.plan, prepared.request, prepared.live, images.Images(), lambda _: None, DEFAULT_TIMEOUT_S)
    await apply.run(client, job, report)
    if volumes:
        for name, volume in prepared.live.volumes.items():
            owner = prepared.live.owner(volume.labels)
            if owner and owner[0] == stack:
                await client.remove_volume(name)
    await record.remove(client, stack)
    return prepared.plan


async def plan_delete(client: clients.EngineClient, stack: str) -> Prepared:
    """What `delete` would do.

    Raises:
        errors.NotFound: nothing of that stack is there.
    """
    seen = await live.read(client, ())
    former = seen.records.get(stack)
    if former and former.images:
        seen = replace(seen, images=await live.images(client, former.images))
    empty = manifests.DesiredSet((), {}, {})
    request = planner.Request(empty, {}, frozenset({stack}))
    plan = planner.make(request, seen)
    if not plan.changed and former is None:
        known = ", ".join(sorted(name for name in seen.records if name)) or "none"
        raise errors.NotFound(f"no stack {stack!r} on this engine; stacks: {known}")
    assert plan.count(Action.DELETE) == len(plan.changed)
    return Prepared(Source("", Path()), "", request, seen, plan)
