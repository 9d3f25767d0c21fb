"""The lease that keeps two applies of a stack apart.

It is part of the stack's record, changed by compare-and-set: who holds it, until when by the engine's clock, what the
holder does, and a fencing number that counts the holders. It is renewed while it is held; a holder that was killed
leaves it to run out, so that no lock needs a person. An apply that only waits for tasks is taken over from at once; one
that writes is not.

Every write of a record names the fencing number. An engine can't be told to check it for other objects: updates are
fenced by the object's version, and before each create or removal the holder asks itself whether its lease still runs;
a process that is stopped between that question and its call for longer than the lease lasts can still make that call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping

from gitops import client as clients
from gitops import errors
from gitops.objects import base
from gitops.reconciler import record
from gitops.reconciler.record import Record

TTL_S = 20.0
"""How long a holder may be silent, in seconds: some renewals long, and short enough to wait for after a kill."""

TTL_VARIABLE = "GITOPS_LEASE_S"

WRITING = "writing"
WAITING = "waiting"

_RENEWALS = 4
"""In the time that a lease lasts."""
_QUIET_S = 1.0
"""How long after its last write an apply is said to wait, in seconds; and between two looks at whether it still may."""
_POLL_S = 0.5
_RELEASE_S = 3.0

Tell = Callable[[str, str], None]
"""Told a stack and a line on what goes on with its lease."""


def ttl_s() -> float:
    """How long a lease of this process lasts, in seconds: GITOPS_LEASE_S, else `TTL_S`.

    Raises:
        errors.Invalid: the variable holds no such time.
    """
    text = os.environ.get(TTL_VARIABLE) or str(TTL_S)
    try:
        found = float(text)
    except ValueError:
        found = 0
    if not 1 <= found <= 3600:
        raise errors.Invalid(f"{TTL_VARIABLE}={text}: seconds are wanted, from 1 to 3600")
    return found


@contextlib.asynccontextmanager
async def hold(
    client: clients.EngineClient,
    stacks: Collection[str],
    holder: str,
    *,
    ttl_s: float = TTL_S,
    seen: Mapping[str, Record] | None = None,
    gives_way_to: str | None = None,
    tell: Tell = lambda stack, text: None,
) -> AsyncIterator[Lease]:
    """Hold the leases of stacks, from the first acquired to the end of the block.

    `seen` are the records that the plan was made on: another holder since then makes the plan stale. With
    `gives_way_to`, an apply of that state of the manifests that waits is left alone.

    Raises:
        errors.Refused: somebody else is writing, or has applied since.
    """
    lease = Lease(client, holder, ttl_s)
    try:
        for stack in sorted(stacks):
            known = None if seen is None else seen.get(stack, Record(stack)).lease_fence
            await lease.acquire(stack, known, gives_way_to, tell)
        renewing = asyncio.create_task(lease.keep())
        try:
            yield lease
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})
    finally:
        await lease.release()


class Lease:
    """The leases of some stacks, held together. One that was lost is never won back."""

    def __init__(self, client: clients.EngineClient, holder: str, ttl_s: float) -> None:
        self._client = client
        self._holder = holder
        self._ttl_s = ttl_s
        self._fences: dict[str, str] = {}
        self._phase = WRITING
        self._lost: errors.Refused | None = None
        self._valid_until = 0.0
        self._last_write = self._last_look = time.monotonic()
        self._renewal = asyncio.Lock()

    def fence(self, stack: str) -> str | None:
        """The fencing number that the record of a stack must bear when it is written."""
        return self._fences.get(stack)

    @property
    def is_lost(self) -> bool:
        """Whether somebody else has taken over."""
        return self._lost is not None

    async def guard(self) -> None:
        """To be called before every write.

        Raises:
            errors.Refused: the lease was lost.
        """
        self._check()
        self._last_write = time.monotonic()
        if self._phase is WAITING:
            await self._renew(WRITING)
        if time.monotonic() > self._valid_until:
            # The engine was away, or we were: it may be somebody else's by now, and renewing finds that out.
            await self._renew(WRITING)

    async def look(self) -> None:
        """To be called now and then while there is nothing to do but wait.

        Raises:
            errors.Refused: the lease was lost, by a newer apply that took over.
        """
        self._check()
        now = time.monotonic()
        if now - self._last_write < _QUIET_S or now - self._last_look < _QUIET_S:
            return
        self._last_look = now
        if self._phase is WRITING:
            await self._renew(WAITING)
        else:
            await self._look()

    async def acquire(self, stack: str, known: str | None, gives_way_to: str | None, tell: Tell) -> None:
        """Get one stack's lease; `known` is the fencing number that the plan saw.

        One that is held by an apply that writes is waited for until it is renewed, which is a sign of life, or has run
        out.

        Raises:
            errors.Refused: it is held, or the plan is stale.
        """
        first: Record | None = None
        while True:
            found = (await record.read(self._client)).get(stack, Record(stack))
            if known is not None and found.lease_fence != known:
                raise errors.Refused(
                    f"stack {stack!r} was applied by somebody else since the plan was made: run it again to see the"
                    " new plan"
                )
            now_ns = await self._engine_time()
            if found.lease_holder and base.parse_time(found.lease_until) > now_ns:
                is_waiting = found.lease_phase == WAITING
                if is_waiting and gives_way_to == found.revision:
                    raise errors.Refused(f"stack {stack!r} is being applied by {found.lease_holder} already")
                if not is_waiting:
                    _check_alive(first or found, found)
                    if first is None:
                        first = found
                        left_s = (base.parse_time(found.lease_until) - now_ns) / base.SECOND
                        tell(stack, f"is held by {found.lease_holder}: wait up to {left_s:.0f} s for a sign of life")
                    await asyncio.sleep(_POLL_S)
                    continue
            if await self._take(stack, found, now_ns):
                if found.lease_holder:
                    tell(stack, f"is taken over from {found.lease_holder}")
                return

    async def keep(self) -> None:
        """Renew, until it is cancelled or the lease is lost."""
        while self._lost is None:
            await asyncio.sleep(self._ttl_s / _RENEWALS)
            with contextlib.suppress(errors.GitopsError):  # kept, or tried again as long as it runs
                await self._renew(self._phase)

    async def release(self) -> None:
        """Give back what is held; an engine that doesn't answer is not waited for: the lease runs out."""
        for stack, fence in self._fences.items():
            with contextlib.suppress(errors.GitopsError, TimeoutError):
                async with asyncio.timeout(_RELEASE_S):
                    nobody = {"lease_holder": "", "lease_until": "", "lease_phase": ""}
                    await record.write(self._client, stack, fence=fence, **nobody)

    async def _take(self, stack: str, found: Record, now_ns: int) -> bool:
        number = str(1 + int(found.lease_fence or "0"))
        began = time.monotonic()
        try:
            await record.write(
                self._client,
                stack,
                fence=found.lease_fence,
                lease_holder=self._holder,
                lease_until=base.format_time(now_ns + int(self._ttl_s * base.SECOND)),
                lease_phase=WRITING,
                lease_fence=number,
            )
        except errors.Refused:
            return False  # somebody was faster: look again
        self._valid_until = began + self._ttl_s
        self._fences[stack] = number
        return True

    async def _renew(self, phase: str) -> None:
        async with self._renewal:
            self._check()
            now_ns, began = await self._engine_time(), time.monotonic()
            until = base.format_time(now_ns + int(self._ttl_s * base.SECOND))
            try:
                for stack, fence in self._fences.items():
                    await record.write(self._client, stack, fence=fence, lease_until=until, lease_phase=phase)
            except errors.Refused as error:
                self._lost = error
                raise
            self._phase = phase
            self._valid_until = began + self._ttl_s

    async def _look(self) -> None:
        found = await record.read(self._client)
        for stack, fence in self._fences.items():
            other = found.get(stack, Record(stack))
            if other.lease_fence != fence:
                self._lost = record.taken_over(other)
        self._check()

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost

    async def _engine_time(self) -> int:
        """Nanoseconds since the epoch by the engine's clock: those of two operators' machines may differ."""
        found = (await self._client.info()).system_time
        return base.parse_time(found) if found else time.time_ns()


def _check_alive(first: Record, now: Record) -> None:
    if first.lease_until != now.lease_until:
        raise errors.Refused(
            f"stack {now.stack!r} is being applied by {now.lease_holder}: wait until that is done; it is taken over"
            " from as soon as it only waits"
        )
