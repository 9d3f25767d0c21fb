"""When global services and jobs are there, and when they never will be."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gitops.objects.base import Version
from gitops.objects.node import Node, NodeSpec, NodeStatus
from gitops.objects.service import (
    Global,
    GlobalJob,
    JobStatus,
    ReplicatedJob,
    RestartPolicy,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
)
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.reconciler import converge, waiting
from gitops.reconciler.converge import Verdict

GLOBAL = ServiceMode(global_=Global())
GLOBAL_JOB = ServiceMode(global_job=GlobalJob())
JOB = ServiceMode(replicated_job=ReplicatedJob(max_concurrent=2, total_completions=3))


def nodes(**states: str) -> dict[str, Node]:
    """Nodes by id: ready, unknown, down; or active nodes' other availabilities."""
    found = {}
    for node_id, word in states.items():
        is_state = word in ("ready", "unknown", "down")
        spec = NodeSpec(availability="active" if is_state else word)
        found[node_id] = Node(id=node_id, spec=spec, status=NodeStatus(state=word if is_state else "ready"))
    return found


def service(mode: ServiceMode, restart: RestartPolicy | None = None, iteration: int = 1) -> Service:
    spec = ServiceSpec(name="web", mode=mode, task_template=TaskSpec(restart_policy=restart))
    is_job = mode.global_job is not None or mode.replicated_job is not None
    return Service(id="s", spec=spec, job_status=JobStatus(Version(iteration)) if is_job else None)


def task(task_id: str, state: TaskState, **fields: Any) -> Task:
    fields.setdefault("desired_state", TaskState.RUNNING)
    error = fields.pop("err", "exit 1" if state is TaskState.FAILED else "")
    return Task(id=task_id, service_id="s", status=TaskStatus(state=state, err=error), created_at=task_id, **fields)


def run(node_id: str) -> Task:
    return task(node_id, TaskState.RUNNING, node_id=node_id)


def step(slot: int, state: TaskState, desired: TaskState = TaskState.COMPLETE, **fields: Any) -> Task:
    fields.setdefault("job_iteration", Version(1))
    return task(fields.pop("task_id", f"t{slot}"), state, slot=slot, desired_state=desired, **fields)


def test_a_global_service_is_there_when_each_node_that_may_have_it_runs_it() -> None:
    found = nodes(n1="ready", n2="ready", n3="drain", n4="pause", n5="down")
    some = converge.evaluate(service(GLOBAL), [run("n1")], [], found)
    assert (some.verdict, some.counts) == (Verdict.WAITING, "1/2 running")
    every = converge.evaluate(service(GLOBAL), [run("n1"), run("n2")], [], found)
    assert (every.verdict, every.counts) == (Verdict.CONVERGED, "2/2 running")


def test_a_node_that_is_unknown_is_waited_for() -> None:
    assert converge.evaluate(service(GLOBAL), [], [], nodes(n1="unknown")).verdict is Verdict.WAITING


def test_an_old_task_on_a_paused_node_holds_up_no_update() -> None:
    found = nodes(n1="ready", n2="pause")
    assert converge.evaluate(service(GLOBAL), [run("n1")], [run("n2")], found).verdict is Verdict.CONVERGED


def test_a_global_service_that_fails_on_one_node_again_and_again_has_failed() -> None:
    failures = [
        task(f"f{n}", TaskState.FAILED, node_id="n2", desired_state=TaskState.SHUTDOWN)
        for n in range(converge.MAX_FAILURES)
    ]
    found = converge.evaluate(service(GLOBAL), [run("n1"), *failures], [], nodes(n1="ready", n2="ready"))
    assert (found.verdict, found.reason) == (Verdict.FAILED, "node n2 failed 5 times: exit 1")


def test_a_job_is_there_when_it_has_completed_as_often_as_it_should() -> None:
    done = [step(slot, TaskState.COMPLETE) for slot in (0, 1)]
    some = converge.evaluate(service(JOB), [*done, step(2, TaskState.RUNNING)], [], {})
    assert (some.verdict, some.counts) == (Verdict.WAITING, "2/3 completed, 1 running")
    every = converge.evaluate(service(JOB), [*done, step(2, TaskState.COMPLETE)], [], {})
    assert (every.verdict, every.counts, every.reason) == (Verdict.CONVERGED, "3/3 completed", "")


def test_what_a_former_iteration_completed_does_not_count() -> None:
    old = [step(slot, TaskState.COMPLETE, job_iteration=Version(0)) for slot in range(3)]
    found = converge.evaluate(service(JOB), old, [], {})
    assert (found.verdict, found.counts) == (Verdict.WAITING, "0/3 completed")


@pytest.mark.parametrize("mode", [JOB, GLOBAL_JOB])
def test_a_job_with_a_slot_that_is_not_tried_again_has_failed_although_others_run(mode: ServiceMode) -> None:
    policy = RestartPolicy(condition="none")
    failed = step(0, TaskState.FAILED, TaskState.SHUTDOWN, node_id="n1", spec=TaskSpec(restart_policy=policy))
    others = step(0 if mode is GLOBAL_JOB else 1, TaskState.RUNNING, node_id="n2", task_id="other")
    found = converge.evaluate(service(mode, policy), [failed, others], [], nodes(n1="ready", n2="ready"))
    assert found.verdict is Verdict.FAILED
    place = "node n1" if mode is GLOBAL_JOB else "slot 0"
    assert found.reason == f"{place} is not tried again: exit 1"


def test_a_job_that_may_try_often_is_given_its_attempts() -> None:
    tried = [step(0, TaskState.FAILED, TaskState.SHUTDOWN, task_id=f"t{n}", spec_version=Version(4)) for n in range(6)]
    last = step(0, TaskState.RUNNING, task_id="t9", spec_version=Version(4))
    endless = converge.evaluate(service(JOB, RestartPolicy()), [*tried, last], [], {})
    assert (endless.verdict, endless.reason) == (Verdict.FAILED, "slot 0 failed 6 times: exit 1")
    limited = converge.evaluate(service(JOB, RestartPolicy(max_attempts=9)), [*tried, last], [], {})
    assert limited.verdict is Verdict.WAITING


def test_a_jobs_task_without_a_node_blocks_it() -> None:
    waits = step(0, TaskState.PENDING, err="no suitable node (insufficient resources on 1 node)")
    found = converge.evaluate(service(JOB), [waits], [], {})
    assert found.verdict is Verdict.UNSCHEDULABLE


def test_a_global_job_is_there_when_each_node_has_completed_it() -> None:
    found = nodes(n1="ready", n2="ready", n3="drain")
    done = [step(0, TaskState.COMPLETE, node_id=node_id, task_id=node_id) for node_id in ("n1", "n3")]
    some = converge.evaluate(service(GLOBAL_JOB), done, [], found)
    assert (some.verdict, some.counts) == (Verdict.WAITING, "2/3 completed")
    last = step(0, TaskState.COMPLETE, node_id="n2", task_id="n2")
    assert converge.evaluate(service(GLOBAL_JOB), [*done, last], [], found).verdict is Verdict.CONVERGED


def test_a_job_that_has_ended_need_not_be_watched() -> None:
    assert waiting.monitor_s(service(JOB)) == 0
    assert waiting.monitor_s(replace(service(GLOBAL))) == 5
