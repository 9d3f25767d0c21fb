"""Reconciles again and again: when files change, a commit arrives, or somebody changes the engine behind our back.

Events only wake; what is done follows from comparing states, so a lost or doubled event costs time, never correctness,
and a full pass at every interval backs them all. A newer state of the manifests takes over from an apply that still
waits. A revision that failed is held: it is not tried again until it changes or somebody resumes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gitops import client as clients
from gitops import errors
from gitops.reconciler import groups, recorder
from gitops.reconciler.origins import Origin
from gitops.reconciler.plan import Action, Plan
from gitops.reconciler.reconcile import Options, Prepared, Reconciler
from gitops.reconciler.record import Outcome
from gitops.reconciler.waiting import Report

QUIET_S = 0.2
"""How long files must be still: editors save by several steps, and git checks out one file after another."""
MAX_QUIET_S = 2.0
BACKOFF_S = (1.0, 15.0)
"""First and longest wait after an error that may pass."""

_EVENT_KINDS = ("service", "network", "secret", "config", "node")


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """`interval_s` is the time between two full passes, in seconds."""

    reconcile: Options
    interval_s: float = 30.0
    once: bool = False


Say = Callable[[str], None]


class Watch:
    """One watch of one origin over one engine."""

    def __init__(
        self,
        connect: Callable[[], clients.EngineClient],
        origin: Origin,
        options: WatchOptions,
        say: Say,
        report: Report,
    ) -> None:
        self._connect = connect
        self._origin = origin
        self._options = options
        self._say = say
        self._report = report
        self._files = asyncio.Event()
        self._engine = asyncio.Event()
        self._last = ""
        self._warned: tuple[errors.Problem, ...] = ()
        self._failures = 0

    async def run(self) -> None:
        """Until it is cancelled; with `once`, one pass, whose error is raised."""
        if self._options.once:
            async with self._connect() as client:
                await self._pass(client, Reconciler(client, self._options.reconcile))
            return
        loop = asyncio.get_running_loop()
        self._origin.start(functools.partial(loop.call_soon_threadsafe, self._files.set))
        try:
            while True:
                await self._session()
        finally:
            self._origin.stop()

    async def _session(self) -> None:
        """Pass after pass over one connection, until an error."""
        try:
            async with self._connect() as client, asyncio.TaskGroup() as group:
                client.keep_listings()
                events = group.create_task(self._listen(client))
                try:
                    reconciler = Reconciler(client, self._options.reconcile)
                    while True:
                        await self._guarded_pass(client, reconciler)
                        await self._sleep(self._options.interval_s)
                finally:
                    events.cancel()
        except* errors.GitopsError as caught:
            self._tell(str(groups.one(caught)))
            first, longest = BACKOFF_S
            # Not woken by events: a file that changes while the engine is away must not make it ask again and again.
            await asyncio.sleep(min(longest, first * 2 ** min(self._failures, 10)))
            self._failures += 1

    async def _guarded_pass(self, client: clients.EngineClient, reconciler: Reconciler) -> None:
        """A pass whose errors are told, but for those of the connection, which start a new session."""
        try:
            await self._pass(client, reconciler)
        except errors.InvalidManifest as error:
            self._tell("the manifests are not valid, nothing was changed:\n" + str(error))
        except errors.Unavailable:
            raise
        except errors.GitopsError as error:
            self._tell(str(error))
        else:
            self._failures = 0

    async def _pass(self, client: clients.EngineClient, reconciler: Reconciler) -> None:
        await self._settle()
        self._engine.clear()
        prepared = await reconciler.prepare(await self._origin.refresh())
        self._warn(prepared.request.desired.warnings)
        if not self._is_due(prepared):
            return
        if held := prepared.held():
            found = held[0]
            text = (
                f"{_name(prepared)} is held since it failed: {found.message}; change the manifests, or run: gitops"
                f" resume {found.stack}"
            )
            if self._options.once:
                raise errors.Refused(text)
            self._tell(text)
            return
        if suspended := prepared.suspended():
            text = f"{suspended[0].suspension}: nothing is done until gitops resume {suspended[0].stack}"
            if self._options.once:
                raise errors.Refused(text)
            self._tell(text)
            return
        if prepared.plan.changed and not prepared.plan.refused and not prepared.plan.unplaced:
            self._say(f"{_name(prepared)}: {summary(prepared.plan)}")
        if await self._apply(reconciler, prepared):
            self._tell(f"{_name(prepared)}: converged")

    def _is_due(self, prepared: Prepared) -> bool:
        """Whether there is anything to do: to change, to finish, or a new commit to note."""
        if prepared.plan.changed:
            return True
        records = prepared.live.records
        is_done = all(
            recorder.is_noted(prepared, stack) and records[stack].outcome is Outcome.APPLIED
            for stack in prepared.stacks
        )
        if is_done:
            self._tell(f"{_name(prepared)}: converged")
        return not is_done

    async def _apply(self, reconciler: Reconciler, prepared: Prepared) -> bool:
        """Apply; give way to a newer state of the manifests. Whether it was carried out to its end."""
        work = asyncio.create_task(reconciler.apply(prepared, self._report))
        try:
            while not work.done():
                looking = asyncio.create_task(self._wait_for_files())
                try:
                    await asyncio.wait({work, looking}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    await _end(looking)
                if not work.done() and not self._options.once and await self._is_newer(reconciler, prepared):
                    self._say(f"{_name(prepared)}: a newer state of the manifests takes over")
                    self._files.set()
                    return False
            await work
            return True
        finally:
            await _end(work)

    async def _is_newer(self, reconciler: Reconciler, prepared: Prepared) -> bool:
        await self._settle()
        try:
            return await reconciler.revision(await self._origin.refresh()) != prepared.revision
        except errors.GitopsError as error:
            # Broken manifests or a repository out of reach: the last good state is carried out to its end.
            self._tell(str(error))
            return False

    async def _wait_for_files(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.interval_s):
                await self._files.wait()

    async def _settle(self) -> None:
        """Wait until files have been still for a moment."""
        loop = asyncio.get_running_loop()
        end = loop.time() + MAX_QUIET_S
        while self._files.is_set() and loop.time() < end:
            self._files.clear()
            await asyncio.sleep(QUIET_S)
        self._files.clear()

    async def _sleep(self, seconds: float) -> None:
        """Until something happens, or the time is over."""
        waits = {asyncio.create_task(self._files.wait()), asyncio.create_task(self._engine.wait())}
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                await _end(wait)

    async def _listen(self, client: clients.EngineClient) -> None:
        """Wake on every change of the swarm's objects, our own included: a pass that finds nothing costs little."""
        async for event in client.events({"type": list(_EVENT_KINDS)}):
            if event.action in ("create", "update", "remove", "delete"):
                self._engine.set()
        raise errors.Unavailable("the engine ended its stream of events")

    def _warn(self, warnings: tuple[errors.Problem, ...]) -> None:
        """Say what was read and has no effect, when that changes."""
        for warning in warnings if warnings != self._warned else ():
            self._say(f"warning: {warning.headline()}")
        self._warned = warnings

    def _tell(self, text: str) -> None:
        """Say something once, not at every pass."""
        if text != self._last:
            self._say(text)
        self._last = text


def summary(plan: Plan) -> str:
    """`1 to create, 2 to update`."""
    counts = (
        (plan.count(Action.CREATE), "create"),
        (plan.count(Action.UPDATE), "update"),
        (plan.count(Action.REPLACE), "replace"),
        (plan.count(Action.DELETE), "delete"),
    )
    return ", ".join(f"{count} to {verb}" for count, verb in counts if count) or "nothing to change"


def _name(prepared: Prepared) -> str:
    stacks = ", ".join(stack for stack in prepared.stacks if stack) or "manifests"
    return f"{stacks} at {prepared.source.label}" if prepared.source.label else stacks


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end; its error, if it has one, is the caller's to have read."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
