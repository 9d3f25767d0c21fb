"""The decisions of a rolling update (U01, U08 to U10, U12 to U16)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gitops import errors
from gitops.objects import base, defaults
from gitops.objects.base import Version
from gitops.objects.service import ContainerSpec, Service, ServiceSpec, TaskSpec, UpdateConfig, UpdateStatus
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import rollout

NEW = TaskSpec(container_spec=ContainerSpec(image="v2"))
OLD = TaskSpec(container_spec=ContainerSpec(image="v1"))


def service(state: str = "", **config: Any) -> Service:
    return Service(
        id="s",
        version=Version(9),
        spec=ServiceSpec(
            name="web",
            task_template=NEW,
            update_config=UpdateConfig(**config),
            rollback_config=UpdateConfig(parallelism=7, failure_action=config.get("failure_action", "")),
        ),
        spec_version=Version(5),
        previous_spec=ServiceSpec(name="web", task_template=OLD),
        previous_spec_version=Version(2),
        update_status=UpdateStatus(state=state, started_at="then", message="m") if state else None,
    )


def a_task(object_id: str, spec: TaskSpec, desired: TaskState = TaskState.RUNNING, **fields: Any) -> Task:
    version = Version(5 if spec == NEW else 2)
    made = Task(id=object_id, spec=spec, spec_version=version, desired_state=desired)
    return replace(made, status=replace(made.status, **fields)) if fields else made


def step(*tasks: Task) -> rollout.Step:
    return rollout.step(service(), tasks, lambda node_id: None)


def test_a_slot_whose_new_task_is_told_to_run_keeps_it_and_stops_the_others() -> None:
    new, old = a_task("new", NEW), a_task("old", OLD)
    assert step(old, new) == rollout.Step("keep", new, (old,))


def test_a_new_task_that_only_waits_is_promoted() -> None:
    new, old = a_task("new", NEW, TaskState.READY), a_task("old", OLD)
    assert step(old, new) == rollout.Step("promote", new, (old,))


def test_without_a_new_task_one_is_made() -> None:
    old, stopped = a_task("old", OLD), a_task("stopped", OLD, TaskState.SHUTDOWN)
    assert step(old, stopped) == rollout.Step("replace", None, (old,))
    failed = a_task("failed", NEW, state=TaskState.FAILED)
    assert step(failed).action == "replace"


def test_dirty_slots_keep_the_given_order() -> None:
    slots = {1: [a_task("a", OLD)], 2: [a_task("b", NEW)], 3: [a_task("c", OLD)]}
    assert rollout.dirty_slots(service(), slots, [3, 2, 1], lambda node_id: None) == [3, 1]


@pytest.mark.parametrize(
    ("config", "failures", "verdict"),
    [
        ({}, 0, "go on"),
        ({}, 1, "pause"),
        ({"failure_action": "continue"}, 10, "go on"),
        ({"failure_action": "rollback"}, 1, "rollback"),
        ({"max_failure_ratio": 0.5}, 5, "go on"),
        ({"max_failure_ratio": 0.5}, 6, "pause"),
    ],
)
def test_u08_u09_u10_failures_are_judged(config: dict[str, Any], failures: int, verdict: str) -> None:
    assert rollout.judge(service("updating", **config), failures, 10) == verdict


def test_u14_a_rollback_that_fails_pauses() -> None:
    failing = service("rollback_started", failure_action="rollback")
    assert rollout.judge(failing, 1, 10) == "pause"
    paused = rollout.paused(failing, "t1").update_status
    assert paused is not None and paused.state == "rollback_paused"
    assert paused.message == "rollback paused due to failure or early termination of task t1"


def test_u13_a_rollback_has_settings_of_its_own() -> None:
    assert rollout.config_of(service("updating", parallelism=2)).parallelism == 2
    assert rollout.config_of(service("rollback_started", parallelism=2)).parallelism == 7


def test_u01_the_texts_are_dockers() -> None:
    begun = rollout.started(service(), 7)
    assert begun.update_status == UpdateStatus(
        state="updating", started_at=base.format_time(7), message="update in progress"
    )
    done = rollout.completed(begun, 9).update_status
    assert done == UpdateStatus(
        state="completed",
        started_at=base.format_time(7),
        completed_at=base.format_time(9),
        message="update completed",
    )
    stopped = rollout.paused(begun, "t1").update_status
    assert stopped is not None and (stopped.state, stopped.message) == (
        "paused",
        "update paused due to failure or early termination of task t1",
    )
    back = rollout.completed(service("rollback_started"), 9).update_status
    assert back is not None and (back.state, back.message) == ("rollback_completed", "rollback completed")
    assert rollout.is_paused(rollout.paused(begun, "t1")) and not rollout.is_paused(begun)


def test_u12_an_automatic_rollback_takes_the_previous_spec_and_leaves_none() -> None:
    back = rollout.rolled_back(service("updating"), "t1", 7, 20)
    assert back.spec.task_template == OLD
    assert (back.previous_spec, back.previous_spec_version, back.spec_version) == (None, None, Version(20))
    assert back.update_status is not None and back.update_status.state == "rollback_started"
    assert back.update_status.message == "update rolled back due to failure or early termination of task t1"


def test_u15_a_rollback_by_hand_exchanges_the_specs() -> None:
    back = rollout.rolled_back_by_hand(service("paused"), 7, 20)
    assert (back.spec.task_template, back.previous_spec) == (OLD, service().spec)
    assert (back.spec_version, back.previous_spec_version) == (Version(20), Version(5))
    assert back.update_status is not None and back.update_status.message == "manually requested rollback"
    forth = rollout.rolled_back_by_hand(back, 8, 30)
    assert forth.spec == service().spec


def test_u16_without_a_previous_spec_there_is_no_rollback() -> None:
    bare = replace(service(), previous_spec=None)
    for call in (lambda: rollout.rolled_back(bare, "t", 1, 2), lambda: rollout.rolled_back_by_hand(bare, 1, 2)):
        with pytest.raises(errors.Conflict, match="service s does not have a previous spec"):
            call()


@pytest.mark.parametrize("monitor", [None, 0])
def test_a_monitor_time_of_zero_is_the_default(monitor: int | None) -> None:
    assert defaults.update_config(UpdateConfig(monitor=monitor)).monitor == defaults.UPDATE_MONITOR
