"""Whether and when a slot gets a new task (O14 to O16, O18, O19, O21)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gitops.objects import base
from gitops.objects.base import SECOND
from gitops.objects.service import RestartPolicy
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import restart


def at(seconds: float) -> str:
    return base.format_time(1_700_000_000 * SECOND + round(seconds * SECOND))


def ended(task: Any, state: TaskState = TaskState.FAILED, when: float = 0, **policy: Any) -> Task:
    made: Task = task("t", node="n1", state=state, timestamp=at(when), restart_policy=RestartPolicy(**policy))
    return made


@pytest.mark.parametrize(
    ("condition", "state", "restarts"),
    [
        ("", TaskState.COMPLETE, True),
        ("any", TaskState.COMPLETE, True),
        ("any", TaskState.FAILED, True),
        ("on-failure", TaskState.COMPLETE, False),
        ("on-failure", TaskState.FAILED, True),
        ("on-failure", TaskState.REJECTED, True),
        ("none", TaskState.FAILED, False),
        ("none", TaskState.COMPLETE, False),
    ],
)
def test_o14_o15_o16_the_condition_decides(task: Any, condition: str, state: TaskState, restarts: bool) -> None:
    assert restart.should_restart(ended(task, state, condition=condition), None) is restarts


def history(task: Any, times: list[float], version: int = 1, **policy: Any) -> restart.Attempts | None:
    return restart.rebuild(
        task(f"h{n}", version=version, created_at=at(when), restart_policy=RestartPolicy(**policy))
        for n, when in enumerate(times)
    )


def test_o18_attempts_are_bounded_and_the_first_task_is_none(task: Any) -> None:
    last = ended(task, max_attempts=2)
    assert restart.should_restart(last, history(task, [0]))
    assert restart.should_restart(last, history(task, [0, 1]))
    assert not restart.should_restart(last, history(task, [0, 1, 2]))


def test_o19_attempts_before_the_window_are_forgotten(task: Any) -> None:
    policy = {"max_attempts": 2, "window": 10 * SECOND}
    tried = history(task, [0, 1, 20], **policy)
    assert restart.should_restart(ended(task, when=21, **policy), tried)
    assert not restart.should_restart(ended(task, when=5, **policy), history(task, [0, 1, 2], **policy))
    assert restart.should_restart(ended(task, when=12.5, **policy), history(task, [0, 1, 2], **policy))


def test_the_managers_time_is_preferred_to_the_nodes(task: Any) -> None:
    policy = {"max_attempts": 1, "window": 10 * SECOND}
    last = ended(task, when=1000, **policy)
    tried = history(task, [0, 5], **policy)
    assert restart.should_restart(last, tried)
    assert not restart.should_restart(replace(last, status=replace(last.status, applied_at=at(6))), tried)


def test_o21_a_new_spec_version_starts_to_count_anew(task: Any) -> None:
    tried = history(task, [0, 1, 2])
    assert tried is not None and tried.total == 2
    assert restart.should_restart(replace(ended(task, max_attempts=2), spec_version=base.Version(2)), tried)
    mixed = [task("a", version=1, created_at=at(0)), task("b", version=2, created_at=at(1))]
    rebuilt = restart.rebuild(mixed)
    assert rebuilt is None or rebuilt.total == 0
    assert restart.rebuild([]) is None


def test_a_task_is_dead_when_it_ended_or_its_node_is_lost_while_it_is_wanted(task: Any, node: Any) -> None:
    assert restart.is_dead(task("t", node="n1", state=TaskState.FAILED), node("n1"))
    assert restart.is_dead(task("t", node="n1"), None)
    assert restart.is_dead(task("t", node="n1"), node("n1", state="down"))
    assert restart.is_dead(task("t", node="n1"), node("n1", availability="drain"))
    assert not restart.is_dead(task("t", node="n1"), node("n1", state="unknown"))
    assert not restart.is_dead(task("t", node="n1"), node("n1", availability="pause"))
    assert not restart.is_dead(task("t"), None)
    assert not restart.is_dead(task("t", node="n1", desired=TaskState.SHUTDOWN, state=TaskState.FAILED), node("n1"))


def test_the_delay_is_the_policys_and_none_on_a_drained_node(task: Any, node: Any) -> None:
    assert restart.delay_ns(ended(task), node("n1")) == 5 * SECOND
    assert restart.delay_ns(ended(task, delay=0), node("n1")) == 0
    assert restart.delay_ns(ended(task, delay=7), None) == 7
    assert restart.delay_ns(ended(task), node("n1", availability="drain")) == 0


def test_a_limit_of_attempts_keeps_its_history() -> None:
    assert restart.retention(5, None) == 5
    assert restart.retention(-1, RestartPolicy()) == -1
    assert restart.retention(5, RestartPolicy(max_attempts=2)) == 3
    assert restart.retention(-1, RestartPolicy(max_attempts=9)) == 10
