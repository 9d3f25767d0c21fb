"""Where a service stands on its way to what was declared. Pure: objects in, a verdict out.

A service has converged when as many tasks of its present spec run as it wants, on nodes that are not down, no task of
a former spec is left that should go, and its update, where there was one, has ended well. A paused update is a failure,
whatever the number of tasks. A rollback that has ended is a state of its own: a failure for whoever made the update,
and nothing to worry about for whoever declares what runs now.

A global service wants a task on each node that fits, is active and isn't known to be down. A job has converged when its
present iteration has completed as often as it should; it has failed when a slot of it won't be tried again.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gitops.objects import defaults
from gitops.objects.node import Node
from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import jobs, modes
from gitops.swarm.scheduling.restarts import should_restart

MAX_FAILURES = 5
"""Attempts that may fail in one slot before a service that isn't there yet is called failed."""

_PAUSED = {"paused", "rollback_paused"}
_BAD = {TaskState.FAILED, TaskState.REJECTED}


class Verdict(enum.StrEnum):
    """What to do next: wait, be glad, or report."""

    WAITING = "waiting"
    CONVERGED = "converged"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"
    UNSCHEDULABLE = "unschedulable"


@dataclass(frozen=True, slots=True)
class Progress:
    """A service's state at a moment; `states` counts its live tasks, `reason` says what blocks or broke.

    `running` counts tasks of the present spec, `former` those of an older one that still run.
    """

    name: str
    verdict: Verdict
    running: int
    desired: int
    former: int
    states: Mapping[str, int]
    update: str
    reason: str
    completed: int | None = None
    """How many tasks of a job have completed, of those `desired`; None for what is no job."""

    @property
    def counts(self) -> str:
        """`3/5 running`, and how many still run what was there before; of a job `2/5 completed, 1 running`."""
        if self.completed is not None:
            return f"{self.completed}/{self.desired} completed" + (f", {self.running} running" if self.running else "")
        return f"{self.running}/{self.desired} running" + (f", {self.former} as before" if self.former else "")

    @property
    def summary(self) -> str:
        """`3/5 running, 2 preparing`; with what blocks, where something does."""
        if self.reason:
            return f"{self.counts}: {self.reason}"
        others = ", ".join(f"{count} {state}" for state, count in self.states.items() if state != "running")
        return self.counts + (f", {others}" if others else "")


def evaluate(
    service: Service,
    current: Sequence[Task],
    former: Sequence[Task],
    nodes: Mapping[str, Node],
    forgiven: Collection[str] = (),
) -> Progress:
    """Judge a service by its tasks: `current` are those of its present spec, `former` all others. History included.

    `forgiven` are ids of tasks whose failure is not held against the service: they failed before anybody waited.
    """
    if modes.is_job(service.spec.mode):
        return _evaluate_job(service, [*current, *former], nodes, forgiven)
    desired = replicas(service)
    if modes.is_by_node(service.spec.mode):
        # What is on a node that is paused, or on its way out, is nothing to wait for.
        eligible = {node.id for node in modes.eligible(service.spec, nodes.values())}
        current = [task for task in current if task.node_id in eligible]
        former = [task for task in former if task.node_id in eligible]
        desired = len(eligible)
    live = [task for task in current if _is_wanted(task)]
    seen = _Seen(
        service,
        current,
        former,
        live,
        [task for task in current if _has_failed(task) and task.id not in forgiven],
        running=sum(_is_running(task, nodes) for task in live),
        desired=desired,
        stale=sum(_is_wanted(task) and not task.status.state.is_terminal for task in former),
        leaving=sum(_is_leaving(task, nodes) for task in (*current, *former)),
    )
    verdict, reason = _judge(seen)
    return Progress(
        service.spec.name,
        verdict,
        seen.running,
        desired,
        sum(_is_running(task, nodes) for task in former),
        dict(sorted(Counter(str(task.status.state) for task in live).items())),
        seen.update,
        reason,
    )


def replicas(service: Service) -> int:
    """How many tasks a replicated service wants."""
    replicated = service.spec.mode.replicated
    return 1 if replicated is None or replicated.replicas is None else replicated.replicas


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a verdict is made of; `stale` tasks are of a former spec and not told to go yet, `leaving` ones are."""

    service: Service
    current: Sequence[Task]
    former: Sequence[Task]
    live: Sequence[Task]
    failed: Sequence[Task]
    running: int
    desired: int
    stale: int
    leaving: int

    @property
    def update(self) -> str:
        return self.service.update_status.state if self.service.update_status else ""

    @property
    def is_there(self) -> bool:
        return self.running == self.desired and not self.stale and len(self.live) <= self.desired


def _judge(seen: _Seen) -> tuple[Verdict, str]:
    if seen.update in _PAUSED:
        return Verdict.FAILED, _of_update(seen)
    if seen.is_there and seen.update == "rollback_completed":
        return Verdict.ROLLED_BACK, _of_update(seen)
    if seen.is_there and seen.update in ("", "completed"):
        return Verdict.CONVERGED, ""
    if seen.update in ("", "completed") and _is_done(seen):
        return Verdict.CONVERGED, "completed"
    if seen.update == "rollback_started":
        return Verdict.WAITING, _of_update(seen)
    blocked = [
        task for task in seen.live if task.status.state is TaskState.PENDING and "no suitable node" in task.status.err
    ]
    # What is about to leave makes room: a port of its node, memory.
    if blocked and not seen.leaving:
        return Verdict.UNSCHEDULABLE, blocked[0].status.err
    return _broken(seen) or (Verdict.WAITING, _hint(seen))


def _is_done(seen: _Seen) -> bool:
    """Whether every slot of a service that isn't started again once it ends well has ended well."""
    condition = defaults.restart_policy(seen.service.spec.task_template.restart_policy).condition
    done = {_place(seen.service, task) for task in seen.current if task.status.state is TaskState.COMPLETE}
    return condition != "any" and len(done) >= seen.desired and not seen.running and not seen.stale


def _broken(seen: _Seen) -> tuple[Verdict, str] | None:
    """Whether it won't get there by itself: a slot that fails again and again, or tasks that have ended for good."""
    if seen.running >= seen.desired:
        return None
    if again := _again(seen.service, seen.failed):
        return Verdict.FAILED, again
    is_over = all(task.status.state.is_terminal for task in seen.current)
    if seen.current and is_over and not seen.live and not seen.stale:
        return (
            Verdict.FAILED,
            f"no task is left and none is started again: {_last_error(seen.current) or 'all have ended'}",
        )
    return None


def _again(service: Service, failed: Sequence[Task]) -> str:
    """What to say of a slot, or a node, whose tasks fail again and again; "" where none does."""
    failures = Counter(_place(service, task) for task in failed if task.status.state in _BAD)
    if not failures or max(failures.values()) < MAX_FAILURES:
        return ""
    place, count = failures.most_common(1)[0]
    return f"{place} failed {count} times: {_last_error(failed)}"


def _place(service: Service, task: Task) -> str:
    """Where a task is one of several attempts: only its service tells slot 0 of a job from one that has no slot."""
    return f"node {task.node_id}" if modes.is_by_node(service.spec.mode) else f"slot {task.slot}"


def _evaluate_job(
    service: Service, tasks: Sequence[Task], nodes: Mapping[str, Node], forgiven: Collection[str]
) -> Progress:
    """Judge a job by the tasks of its present iteration; those of former ones are on their way out."""
    is_by_node = modes.is_by_node(service.spec.mode)
    places: dict[str, list[Task]] = {}
    for task in sorted(tasks, key=lambda task: (task.created_at, task.id)):
        if modes.is_of_iteration(service, task):
            places.setdefault(task.node_id if is_by_node else str(task.slot), []).append(task)
    states = {place: jobs.state_of(found, should_restart) for place, found in places.items()}
    done = {place for place, state in states.items() if state is jobs.SlotState.COMPLETE}
    desired = modes.total_completions(service.spec.mode)
    if is_by_node:
        desired = len(done | {node.id for node in modes.eligible(service.spec, nodes.values())})
    live = [task for found in places.values() for task in found if _is_to_end(task)]
    lost = [found[-1] for place, found in places.items() if states[place] is jobs.SlotState.FAILED]
    failed = [task for found in places.values() for task in found if _has_failed(task)]
    verdict, reason = _judge_job(service, live, lost, [task for task in failed if task.id not in forgiven])
    return Progress(
        service.spec.name,
        Verdict.CONVERGED if len(done) >= desired else verdict,
        sum(task.status.state is TaskState.RUNNING for task in live),
        desired,
        0,
        dict(sorted(Counter(str(task.status.state) for task in live).items())),
        "",
        "" if len(done) >= desired else reason,
        len(done),
    )


def _judge_job(
    service: Service, live: Sequence[Task], lost: Sequence[Task], failed: Sequence[Task]
) -> tuple[Verdict, str]:
    """What holds of a job that isn't there: `lost` are the last tasks of slots that aren't tried again."""
    if lost:
        reason = _last_error(lost) or "its task was stopped"
        return Verdict.FAILED, f"{_place(service, lost[0])} is not tried again: {reason}"
    if blocked := [task for task in live if "no suitable node" in task.status.err]:
        return Verdict.UNSCHEDULABLE, blocked[0].status.err
    attempts = defaults.restart_policy(service.spec.task_template.restart_policy).max_attempts
    # A job that may try a number of times is given as many.
    if not attempts and (again := _again(service, failed)):
        return Verdict.FAILED, again
    return Verdict.WAITING, _last_error(failed)


def _is_to_end(task: Task) -> bool:
    return task.desired_state.rank <= TaskState.COMPLETE.rank and not task.status.state.is_terminal


def _hint(seen: _Seen) -> str:
    """What is worth knowing while it is waited for."""
    if error := _last_error(seen.failed):
        return error
    return "its update is not over yet" if seen.is_there else ""


def _is_wanted(task: Task) -> bool:
    return task.desired_state.rank <= TaskState.RUNNING.rank


def _is_leaving(task: Task, nodes: Mapping[str, Node]) -> bool:
    """Whether a task was told to go and will do so: one on a node that is down is beyond hearing it."""
    node = nodes.get(task.node_id)
    is_up = node is not None and node.status.state != "down"
    return not _is_wanted(task) and not task.status.state.is_terminal and is_up


def _is_running(task: Task, nodes: Mapping[str, Node]) -> bool:
    node = nodes.get(task.node_id)
    is_up = node is None or node.status.state != "down"
    return task.status.state is TaskState.RUNNING and task.desired_state is TaskState.RUNNING and is_up


def _of_update(seen: _Seen) -> str:
    """What the update's end says, and the error of the task that caused it."""
    message = seen.service.update_status.message if seen.service.update_status else ""
    failed = [task for task in (*seen.current, *seen.former) if _has_failed(task)]
    named = [task for task in failed if task.id in message]
    text = f"{seen.update.replace('_', ' ')}: {message}" if message else seen.update.replace("_", " ")
    cause = max(named or failed, key=lambda task: task.status.timestamp, default=None)
    return f"{text} ({_place(seen.service, cause)}: {cause.status.err})" if cause else text


def _last_error(tasks: Sequence[Task]) -> str:
    last = max(filter(_has_failed, tasks), key=lambda task: task.status.timestamp, default=None)
    return last.status.err if last else ""


def _has_failed(task: Task) -> bool:
    return bool(task.status.err) and task.status.state is not TaskState.RUNNING
