"""What a wait makes of what it sees, look by look, with a client that plays a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest
from msgspec.structs import replace

from gitops import client as clients
from gitops import errors
from gitops.objects.base import MILLISECOND
from gitops.objects.service import (
    ContainerSpec,
    HealthConfig,
    Replicated,
    RestartPolicy,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
    UpdateStatus,
)
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.reconciler import groups, waiting
from gitops.reconciler.graph import Condition
from gitops.reconciler.waiting import Update

Look = tuple[Sequence[Service], Sequence[Task]]


def service(update: str = "", replicas: int = 1, message: str = "") -> Service:
    spec = ServiceSpec(
        name="web",
        mode=ServiceMode(replicated=Replicated(replicas=replicas)),
        update_config=UpdateConfig(monitor=50 * MILLISECOND),
    )
    return Service(id="s", spec=spec, update_status=UpdateStatus(state=update, message=message) if update else None)


def task(identity: str, state: TaskState, err: str = "") -> Task:
    desired = TaskState.SHUTDOWN if state.is_terminal else TaskState.RUNNING
    status = TaskStatus(state=state, err=err, timestamp=f"2026-01-01T00:00:00.{identity.zfill(9)}Z")
    return Task(id=identity, slot=1, service_id="s", status=status, desired_state=desired)


class Script:
    """A client whose every look gives the next picture, and then the last one again and again."""

    def __init__(self, *looks: Look | errors.GitopsError) -> None:
        self._looks: Iterator[Look | errors.GitopsError] = iter(looks)
        self._now: Look = ([], [])

    async def services(self) -> list[Service]:
        following = next(self._looks, self._now)
        if isinstance(following, errors.GitopsError):
            raise following
        self._now = following
        return list(following[0])

    async def nodes(self) -> list[Any]:
        return []

    async def tasks(self, filters: object = None) -> list[Task]:
        return list(self._now[1])


async def wait(
    script: Script,
    changed: Sequence[str] = ("web",),
    timeout_s: float = 5,
    reached: Callable[[Condition], None] = lambda _: None,
) -> list[Update]:
    updates: list[Update] = []
    looks = waiting.Looks(cast(clients.EngineClient, script))
    followed = waiting.Followed("web", "web" in changed, timeout_s)
    async with groups.group() as group:
        looking = group.create_task(looks.run())
        await waiting.follow(looks, followed, updates.append, reached)
        looking.cancel()
    return updates


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "POLL_S", 0.01)
    monkeypatch.setattr(waiting, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(waiting, "_SILENCE_S", 0.1)


RUNNING = [task("1", TaskState.RUNNING)]
FAILED = [task(str(number), TaskState.FAILED, "exit 3") for number in range(10, 15)]


async def test_a_changed_service_must_stay_so_and_an_unchanged_one_is_not_even_mentioned() -> None:
    states = [update.state for update in await wait(Script(([service()], RUNNING)))]
    assert states == ["converged", "done"]
    assert await wait(Script(([service()], RUNNING)), changed=()) == []


async def test_an_update_that_is_completed_has_been_watched_already() -> None:
    assert [update.state for update in await wait(Script(([service("completed")], RUNNING)))] == ["done"]


async def test_a_rollback_is_waited_for_and_told_with_the_cause_seen_at_its_start() -> None:
    script = Script(
        ([service("rollback_started", message="task 10 failed")], [task("10", TaskState.FAILED, "unhealthy")]),
        ([service("rollback_completed", message="rollback completed")], RUNNING),
    )
    with pytest.raises(errors.RolloutFailed, match=r"1/1 running: rollback started: task 10 failed .*unhealthy"):
        await wait(script)


async def test_a_rollback_of_long_ago_is_no_failure_of_an_apply_that_changes_nothing() -> None:
    assert await wait(Script(([service("rollback_completed")], RUNNING)), changed=()) == []


async def test_failures_from_before_are_forgiven_and_new_ones_are_not() -> None:
    coming = task("2", TaskState.STARTING)
    script = Script(([service()], [*FAILED, coming]), ([service()], [*FAILED, *RUNNING]))
    assert (await wait(script, changed=()))[-1].state == "done"
    again = [task(str(number), TaskState.FAILED, "exit 4") for number in range(20, 25)]
    with pytest.raises(errors.RolloutFailed, match="failed 5 times: exit 4"):
        await wait(Script(([service()], [*FAILED, coming]), ([service()], [*FAILED, *again, coming])))


async def test_a_bad_verdict_of_a_moment_is_passed_over() -> None:
    blocked = [task("2", TaskState.PENDING, "no suitable node (1 node not available)")]
    assert (await wait(Script(([service()], blocked), ([service()], RUNNING))))[-1].state == "done"
    with pytest.raises(errors.Unschedulable, match="no suitable node"):
        await wait(Script(([service()], blocked)))


async def test_an_engine_that_restarts_is_waited_for_and_one_that_stays_away_is_not() -> None:
    away = errors.Unavailable("no engine answers")
    assert (await wait(Script(([service()], []), away, away, ([service()], RUNNING))))[-1].state == "done"
    with pytest.raises(errors.Unavailable):
        await wait(Script(*[away] * 1000))
    with pytest.raises(errors.NotInSwarm):
        await wait(Script(errors.NotInSwarm("left")))


async def test_a_service_that_is_removed_meanwhile_and_one_that_takes_too_long_are_errors() -> None:
    with pytest.raises(errors.NotFound, match="web was removed"):
        await wait(Script(([service()], []), ([], [])))
    with pytest.raises(errors.RolloutFailed, match=r"service web: not there after 0\.05 s: 0/1 running"):
        await wait(Script(([service()], [])), timeout_s=0.05)


async def test_what_others_wait_for_is_told_on_the_way() -> None:
    told: list[Condition] = []
    starting, running = task("1", TaskState.STARTING), task("1", TaskState.RUNNING)
    script = Script(([service()], [task("1", TaskState.READY)]), ([service()], [starting]), ([service()], [running]))
    await wait(script, reached=lambda condition: told.append(condition))
    assert told[0] is Condition.STARTED and told.count(Condition.HEALTHY) == 1 and told[-1] is Condition.HEALTHY


async def test_who_has_a_health_check_is_healthy_at_once_and_who_has_none_after_its_monitor_time() -> None:
    for check in (None, HealthConfig(test=["CMD", "true"])):
        found = service()
        container = ContainerSpec(image="a", healthcheck=check)
        found = replace(found, spec=replace(found.spec, task_template=TaskSpec(container_spec=container)))
        told: list[Condition] = []
        await wait(Script(([found], RUNNING)), reached=told.append)
        assert (told.index(Condition.HEALTHY) < len(told) - 1) == (check is not None)


async def test_a_rolled_back_update_is_nothing_that_others_may_build_on() -> None:
    told: list[Condition] = []
    script = Script(
        ([service("rollback_started")], [task("1", TaskState.STARTING)]), ([service("rollback_completed")], RUNNING)
    )
    with pytest.raises(errors.RolloutFailed):
        await wait(script, reached=lambda condition: told.append(condition))
    assert told == []


async def test_one_look_serves_all_who_asked_before_it_began() -> None:
    script = Script(([service()], RUNNING), ([], []), ([], []))
    looks = waiting.Looks(cast(clients.EngineClient, script))
    async with groups.group() as group:
        asked = [group.create_task(looks.next()) for _ in range(3)]
        looking = group.create_task(looks.run())
        found = [await task for task in asked]
        assert found[0] is found[1] is found[2] and found[0].services
        assert not (await looks.next()).services
        looking.cancel()


async def test_a_guard_that_refuses_ends_the_wait() -> None:
    async def guard() -> None:
        raise errors.Refused("the lease is lost")

    looks = waiting.Looks(cast(clients.EngineClient, Script(([service()], RUNNING))), guard)
    async with groups.group() as group:
        looking = group.create_task(looks.run())
        with pytest.raises(errors.Refused, match="lost"):
            await looks.next()
        looking.cancel()


async def test_tasks_that_end_and_start_again_are_no_service_that_runs_though_one_runs_at_each_look() -> None:
    looks: list[Look] = [([service()], [task(str(number), TaskState.RUNNING)]) for number in range(60)]
    with pytest.raises(errors.RolloutFailed, match="not there after"):
        await wait(Script(*looks), timeout_s=0.3)


async def test_who_has_completed_in_every_slot_is_told_and_is_there_if_it_is_to_run_once() -> None:
    once = TaskSpec(restart_policy=RestartPolicy(condition="none"))
    found = replace(service(), spec=replace(service().spec, task_template=once))
    told: list[Condition] = []
    updates = await wait(
        Script(([found], RUNNING), ([found], [task("1", TaskState.COMPLETE)])), reached=lambda item: told.append(item)
    )
    assert Condition.COMPLETED in told and updates[-1].state == "done"


async def test_failures_that_the_swarm_has_forgotten_are_counted_all_the_same() -> None:
    looks: list[Look] = [([service()], [])]
    for number in range(10, 60):
        looks.append(([service()], [task(str(number), TaskState.FAILED, "exit 3"), task("99", TaskState.STARTING)]))
    with pytest.raises(errors.RolloutFailed, match=r"slot 1 failed \d+ times: exit 3"):
        await wait(Script(*looks))
