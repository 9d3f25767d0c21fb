"""The end of a stack: all its objects go, and then what is known of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gitops import client as clients
from gitops import errors, manifests
from gitops.reconciler import apply, images, lease, live, planner, reconcile, record, revisions
from gitops.reconciler.reconcile import Prepared
from gitops.reconciler.recorder import holder
from gitops.reconciler.sending import Job
from gitops.reconciler.source import Source
from gitops.reconciler.waiting import Report, Update


async def plan(client: clients.EngineClient, stack: str, *, volumes: bool = False) -> Prepared:
    """The removal of all objects of a stack; its volumes are no-op steps without the explicit word.

    Raises:
        errors.NotFound: nothing of that stack is there.
    """
    seen = await live.read(client, ())
    former = seen.records.get(stack)
    if former:
        seen = replace(seen, images=await live.images(client, former.image_names))
    empty = manifests.DesiredSet((), {}, {})
    request = planner.Request(empty, {}, frozenset({stack}), prunes_volumes=volumes, allows_deletes=True)
    made = planner.make(request, seen)
    if not made.steps and former is None:
        known = ", ".join(sorted(name for name in seen.records if name)) or "none"
        raise errors.NotFound(f"no stack {stack!r} on this engine; stacks: {known}")
    return Prepared(Source("", Path()), "", request, seen, made)


async def delete(
    client: clients.EngineClient, prepared: Prepared, stack: str, report: Report, *, lease_s: float = lease.TTL_S
) -> None:
    """Carry out what `plan` planned, and forget the stack.

    Raises:
        errors.Refused: something of it is protected, or an apply of the stack goes on.
        whatever `gitops.reconciler.apply.run` raises.
    """
    reconcile.check(prepared.plan)
    async with lease.hold(
        client,
        (stack,),
        holder(),
        ttl_s=lease_s,
        seen=prepared.live.records,
        tell=lambda name, text: report(Update("Stack", name, "lease", text)),
    ) as held:
        job = Job(
            prepared.plan,
            prepared.request,
            prepared.live,
            images.Images(),
            lambda _: None,
            reconcile.DEFAULT_TIMEOUT_S,
            held.guard,
            held.look,
        )
        await apply.run(client, job, report)
        await held.guard()
        await revisions.remove(client, stack)
        await record.remove(client, stack)
