"""The verdict on a service, by tables."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gitops.objects.node import Node, NodeStatus
from gitops.objects.service import (
    Replicated,
    RestartPolicy,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateStatus,
)
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.reconciler.converge import MAX_FAILURES, Verdict, evaluate

NODES = {"n1": Node(id="n1", status=NodeStatus(state="ready")), "n2": Node(id="n2", status=NodeStatus(state="down"))}


def service(replicas: int, update: str = "") -> Service:
    spec = ServiceSpec(name="web", mode=ServiceMode(replicated=Replicated(replicas=replicas)))
    return Service(id="s", spec=spec, update_status=UpdateStatus(state=update, message="why") if update else None)


def task(slot: int, state: TaskState, desired: TaskState = TaskState.RUNNING, err: str = "", node: str = "n1") -> Task:
    status = TaskStatus(state=state, err=err, timestamp=f"2026-01-01T00:00:{slot:02d}Z")
    return Task(id=f"{slot}-{state}", slot=slot, node_id=node, status=status, desired_state=desired)


def test_all_running_is_converged() -> None:
    found = evaluate(service(2), [task(1, TaskState.RUNNING), task(2, TaskState.RUNNING)], [], NODES)
    assert (found.verdict, found.summary) == (Verdict.CONVERGED, "2/2 running")


def test_history_does_not_count() -> None:
    history = [task(1, TaskState.FAILED, TaskState.SHUTDOWN, "boom")]
    assert evaluate(service(1), [task(1, TaskState.RUNNING), *history], [], NODES).verdict is Verdict.CONVERGED


def test_a_task_on_a_node_that_is_down_does_not_run() -> None:
    assert evaluate(service(1), [task(1, TaskState.RUNNING, node="n2")], [], NODES).verdict is Verdict.WAITING


def test_a_former_spec_that_still_runs_is_waited_for() -> None:
    former = [task(2, TaskState.RUNNING)]
    assert evaluate(service(1), [task(1, TaskState.RUNNING)], former, NODES).verdict is Verdict.WAITING
    gone = [replace(former[0], desired_state=TaskState.SHUTDOWN)]
    assert evaluate(service(1), [task(1, TaskState.RUNNING)], gone, NODES).verdict is Verdict.CONVERGED


def test_a_surplus_is_waited_for() -> None:
    tasks = [task(1, TaskState.RUNNING), task(2, TaskState.STARTING)]
    assert evaluate(service(1), tasks, [], NODES).verdict is Verdict.WAITING


@pytest.mark.parametrize("state", ["paused", "rollback_paused"])
def test_a_paused_update_is_a_failure_though_all_run(state: str) -> None:
    found = evaluate(service(1, state), [task(1, TaskState.RUNNING)], [], NODES)
    assert found.verdict is Verdict.FAILED and "why" in found.reason


def test_a_rollback_is_waited_for_and_then_a_state_of_its_own() -> None:
    tasks = [task(1, TaskState.RUNNING)]
    assert evaluate(service(1, "rollback_started"), tasks, [], NODES).verdict is Verdict.WAITING
    assert evaluate(service(1, "rollback_completed"), tasks, [], NODES).verdict is Verdict.ROLLED_BACK
    assert evaluate(service(2, "rollback_completed"), tasks, [], NODES).verdict is Verdict.WAITING


def test_a_rollback_names_the_error_of_the_task_that_caused_it() -> None:
    culprit = replace(task(1, TaskState.FAILED, TaskState.SHUTDOWN, "unhealthy container"), id="why")
    later = task(2, TaskState.FAILED, TaskState.SHUTDOWN, "something else")
    found = evaluate(service(1, "rollback_started"), [], [culprit, later], NODES)
    assert found.reason == "rollback started: why (slot 1: unhealthy container)"


def test_tasks_of_a_former_spec_are_counted_apart() -> None:
    found = evaluate(service(3, "updating"), [task(1, TaskState.RUNNING)], [task(2, TaskState.RUNNING)], NODES)
    assert (found.verdict, found.summary) == (Verdict.WAITING, "1/3 running, 1 as before")


def test_an_update_that_goes_on_is_waited_for() -> None:
    assert evaluate(service(1, "updating"), [task(1, TaskState.RUNNING)], [], NODES).verdict is Verdict.WAITING


def test_what_no_node_can_hold_is_unschedulable_with_the_reason() -> None:
    reason = "no suitable node (insufficient resources on 1 node)"
    found = evaluate(service(1), [task(1, TaskState.PENDING, err=reason)], [], NODES)
    assert (found.verdict, found.reason) == (Verdict.UNSCHEDULABLE, reason)


def test_what_waits_for_the_place_of_a_task_that_leaves_is_not_unschedulable() -> None:
    blocked = [task(1, TaskState.PENDING, err="no suitable node (host-mode port already in use on 1 node)")]
    leaving = task(1, TaskState.RUNNING, TaskState.SHUTDOWN)
    assert evaluate(service(1), blocked, [leaving], NODES).verdict is Verdict.WAITING
    for other in (replace(leaving, node_id="n2"), task(1, TaskState.SHUTDOWN, TaskState.SHUTDOWN)):
        assert evaluate(service(1), blocked, [other], NODES).verdict is Verdict.UNSCHEDULABLE


def test_a_slot_that_fails_again_and_again_is_a_failure_that_names_the_error() -> None:
    failed = [task(1, TaskState.REJECTED, TaskState.SHUTDOWN, "no such image") for _ in range(MAX_FAILURES)]
    found = evaluate(service(1), [*failed, task(1, TaskState.READY, TaskState.READY)], [], NODES)
    assert found.verdict is Verdict.FAILED and "no such image" in found.reason


def test_failures_before_the_wait_are_forgiven_and_later_ones_are_not() -> None:
    old = [replace(task(1, TaskState.FAILED, TaskState.SHUTDOWN, "then"), id=f"o{n}") for n in range(MAX_FAILURES)]
    new = [replace(task(1, TaskState.FAILED, TaskState.SHUTDOWN, "now"), id=f"n{n}") for n in range(MAX_FAILURES)]
    coming = task(1, TaskState.READY, TaskState.READY)
    ids = {item.id for item in old}
    assert evaluate(service(1), [*old, coming], [], NODES).verdict is Verdict.FAILED
    assert evaluate(service(1), [*old, coming], [], NODES, ids).verdict is Verdict.WAITING
    assert evaluate(service(1), [*old, *new, coming], [], NODES, ids).verdict is Verdict.FAILED
    assert evaluate(service(1), old, [], NODES, ids).verdict is Verdict.FAILED, "nothing is started again"


def test_a_service_whose_tasks_ended_for_good_is_a_failure() -> None:
    found = evaluate(service(1), [task(1, TaskState.FAILED, TaskState.SHUTDOWN, "exit 3")], [], NODES)
    assert found.verdict is Verdict.FAILED and "exit 3" in found.reason


def test_no_replicas_wanted_and_none_there_is_converged() -> None:
    assert evaluate(service(0), [], [], NODES).verdict is Verdict.CONVERGED


@pytest.mark.parametrize(
    ("condition", "ended", "verdict"),
    [
        ("none", [TaskState.COMPLETE, TaskState.COMPLETE], Verdict.CONVERGED),
        ("on-failure", [TaskState.COMPLETE, TaskState.COMPLETE], Verdict.CONVERGED),
        ("none", [TaskState.COMPLETE, TaskState.FAILED], Verdict.FAILED),
        ("any", [TaskState.COMPLETE, TaskState.COMPLETE], Verdict.FAILED),
    ],
)
def test_what_is_to_run_once_and_has_ended_well_in_every_slot_is_there(
    condition: str, ended: list[TaskState], verdict: Verdict
) -> None:
    once = service(2)
    template = TaskSpec(restart_policy=RestartPolicy(condition=condition))
    once = replace(once, spec=replace(once.spec, task_template=template))
    tasks = [task(slot, state, TaskState.SHUTDOWN) for slot, state in enumerate(ended, 1)]
    assert evaluate(once, tasks, [], NODES).verdict is verdict
