"""Carries out a plan: each object as soon as what it needs is there, independent ones side by side, and then the
removals; and waits until all of it holds.

Every step is idempotent: an apply that was killed anywhere is finished by the next one. Nothing is deleted before what
replaces it has converged, but for a service whose published port another one takes. What fails keeps back what depends
on it; all else goes on to an end of its own, and everything that failed is told at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gitops import client as clients
from gitops import errors
from gitops.reconciler import graph, groups, outcomes, waiting
from gitops.reconciler.graph import Condition, Edge, Graph, Key
from gitops.reconciler.outcomes import Blocked, Failed, Failure
from gitops.reconciler.plan import Action, Step
from gitops.reconciler.sending import Job, Sender, UsedByTasks
from gitops.reconciler.waiting import Followed, Looks, Report, Update

__all__ = ["Job", "run"]

_REMOVAL_S = 60.0
_UNSAID_S = 0.5
"""How long an object waits for another before that is said, in seconds: a look at what is there takes a part of it."""


async def run(client: clients.EngineClient, job: Job, report: Report) -> frozenset[str]:
    """Make it so, and return when every task runs and has stayed so for its service's monitor time.

    What comes back are the names of all that was removed, former versions included.

    Raises:
        errors.RolloutFailed, errors.Unschedulable: services don't get there, each with the reason and what was not
            sent because of it, and in `objects` the same for programs.
        errors.Refused: the guard says so; or somebody else changed a service or took a network into use meanwhile.
        errors.GitopsError: a call failed; what was done stays, and the next apply goes on from there.
    """
    return await _Apply(client, job, report).run()


class _Node:
    """An object on its way: what holds of it so far, and whether it has come to an end."""

    def __init__(self, step: Step, edges: Sequence[Edge]) -> None:
        self.step = step
        self.edges = edges
        self.failure: Failure | None = None
        self.is_over = False
        self._reached: set[Condition] = set()
        self._next = asyncio.Event()

    def has(self, condition: Condition) -> bool:
        return condition in self._reached

    def mark(self, *conditions: Condition) -> None:
        if not self._reached.issuperset(conditions):
            self._reached.update(conditions)
            self._wake()

    def end(self, failure: Failure | None = None) -> None:
        self.failure = failure
        self.is_over = True
        self._wake()

    def _wake(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    async def settled(self, condition: Condition) -> None:
        """Return when a condition holds, or the end has come without it."""
        while not self.has(condition) and not self.is_over:
            await self._next.wait()


class _Apply:
    def __init__(self, client: clients.EngineClient, job: Job, report: Report) -> None:
        self._job = job
        self._report = report
        self._sender = Sender(client, job, report)
        self._looks = Looks(client, self._sender.look)
        self._nodes: dict[Key, _Node] = {}
        self._graph = graph.changes(job.plan, job.request.desired, job.live)
        self._removed: set[str] = set()

    async def run(self) -> frozenset[str]:
        async with groups.group() as group:
            looking = group.create_task(self._looks.run())
            await self._walk(self._graph)
            removals = graph.removals(self._job.plan, self._job.request.desired, self._job.live)
            self._check([f"{step.kind.lower()} {step.engine_name}" for step in removals.steps])
            await self._walk(removals)
            self._check()
            await self._collect_versions()
            looking.cancel()
        return frozenset(self._removed)

    async def _walk(self, walked: Graph) -> None:
        """Every object of a graph to an end of its own."""
        nodes = {step.key: _Node(step, walked.edges.get(step.key, ())) for step in walked.steps}
        self._graph, self._nodes = walked, nodes
        async with asyncio.TaskGroup() as group:
            for node in nodes.values():
                group.create_task(self._one(node))

    def _check(self, not_removed: Sequence[str] = ()) -> None:
        if self._sender.lost is not None:
            raise self._sender.lost
        if failures := [node.failure for node in self._nodes.values() if node.failure is not None]:
            raise outcomes.error(failures, not_removed)

    async def _one(self, node: _Node) -> None:
        step = node.step
        try:
            failure: Failure | None = await self._blocked(node)
            if failure is None:
                await self._act(node)
        except errors.GitopsError as error:
            failure = Failed(step.key, error)
        if failure is not None and self._sender.lost is None:
            state = "failed" if isinstance(failure, Failed) else "blocked"
            self._report(Update(step.kind, step.engine_name, state, _told(failure)))
        node.end(failure)

    # -- what must be there before

    async def _blocked(self, node: _Node) -> Blocked | None:
        """Wait for what an object depends on; what keeps it from ever being sent."""
        for edge in node.edges:
            other = self._nodes[edge.key]
            await self._settled(node, other, edge)
            if other.has(edge.condition):
                continue
            if other.failure is None:
                await self._linger(node, edge)
            elif edge.is_required:
                return Blocked(node.step.key, edge, other.failure)
        return None

    async def _settled(self, node: _Node, other: _Node, edge: Edge) -> None:
        """Wait for one edge, and say so if it takes its time."""
        try:
            async with asyncio.timeout(_UNSAID_S):
                await other.settled(edge.condition)
        except TimeoutError:
            text = f"waits for {outcomes.waits_for(edge)}"
            self._report(Update(node.step.kind, node.step.engine_name, "waits", text))
            await other.settled(edge.condition)

    async def _linger(self, node: _Node, edge: Edge) -> None:
        """Wait for what has converged and is yet to complete, for as long as the object itself may take.

        Raises:
            errors.RolloutFailed: it doesn't.
        """
        clock = asyncio.get_running_loop().time
        limit_s = self._sender.deadline_s(node.step)
        end = clock() + limit_s
        name = edge.key[1]
        while True:
            look = await self._looks.next()
            progress = look.progress(name, ())
            if edge.condition in look.reached(name, progress):
                return
            if clock() > end:
                if not edge.is_required:
                    return
                text = f"waits for {outcomes.waits_for(edge)}: not there after {limit_s:g} s: {progress.summary}"
                raise errors.RolloutFailed(f"service {node.step.engine_name} {text}")

    # -- one object

    async def _act(self, node: _Node) -> None:
        step = node.step
        if step.action is Action.DELETE:
            await self._remove(step)
        elif step.kind == "Service":
            await self._service(node)
        else:
            self._report(Update(step.kind, step.engine_name, "started", _doing(step)))
            await self._sender.make(step)
            self._report(Update(step.kind, step.engine_name, "done", _did(step)))
        node.mark(Condition.DONE)

    async def _service(self, node: _Node) -> None:
        """Send a service, if it has to be; and follow it, changed or not, until it has converged."""
        step = node.step
        is_changed = step.action is not Action.NONE
        if is_changed:
            self._report(Update(step.kind, step.engine_name, "started", _doing(step)))
            await self._sender.service(step, self._graph.released.get(step.key, {}))
            self._report(Update(step.kind, step.engine_name, "sent", _did(step)))
        node.mark(Condition.SENT)
        followed = Followed(step.engine_name, is_changed, self._sender.deadline_s(step))
        await waiting.follow(self._looks, followed, self._report, node.mark)

    # -- what goes

    async def _remove(self, step: Step) -> None:
        """Remove an object, and wait for a service's tasks; what stopping tasks still use is tried again."""
        self._report(Update(step.kind, step.engine_name, "started", "removing"))
        clock = asyncio.get_running_loop().time
        end = clock() + _REMOVAL_S
        while True:
            try:
                await self._sender.remove(step.kind, step.engine_name)
                break
            except errors.NotFound:
                break
            except (errors.Conflict, errors.Invalid, errors.Denied) as error:
                is_over = clock() > end
                # An image of somebody's container stays; one of tasks only waits for their end, as all else does.
                if step.kind == "Image" and (is_over or not isinstance(error, UsedByTasks)):
                    self._report(Update(step.kind, step.engine_name, "kept", f"kept: {error}"))
                    return
                if is_over:
                    raise
                await asyncio.sleep(waiting.POLL_S)
        if step.kind == "Service":
            await waiting.wait_gone(self._looks, self._job.live.services[step.engine_name].id, _REMOVAL_S)
        self._removed |= {step.engine_name, *step.obsolete}
        self._report(Update(step.kind, step.engine_name, "done", "removed"))

    async def _collect_versions(self) -> None:
        """Former versions of images, secrets and configs, as far as nothing uses them."""
        for step in self._job.plan.steps:
            for name in step.obsolete if step.action is not Action.DELETE else ():
                try:
                    await self._sender.remove(step.kind, name)
                    self._removed.add(name)
                except errors.NotFound:
                    self._removed.add(name)
                except errors.Refused:
                    raise
                except errors.GitopsError as error:
                    self._report(Update(step.kind, name, "kept", f"kept: {error}"))


def _doing(step: Step) -> str:
    return {Action.CREATE: "creating", Action.UPDATE: "updating"}.get(step.action, "replacing")


def _did(step: Step) -> str:
    return {Action.CREATE: "created", Action.UPDATE: "updated"}.get(step.action, "replaced")


def _told(failure: Failure) -> str:
    """What is said of a failure beside the object's name."""
    return failure.reason if isinstance(failure, Failed) else f"not sent: {failure.link}"
