"""The lease of a stack: who gets it, who is told what, and what a holder learns that has lost it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gitops import errors
from gitops.manifests import DesiredSet
from gitops.objects import base
from gitops.objects.base import Version
from gitops.objects.secret import Config, ConfigSpec
from gitops.objects.system import SystemInfo
from gitops.reconciler import deleting, lease, planner, record
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Plan
from gitops.reconciler.reconcile import Prepared
from gitops.reconciler.record import Record
from gitops.reconciler.source import Source

START_NS = 1_800_000_000 * base.SECOND
STEP_NS = 5 * base.SECOND


class Engine:
    """The calls that a lease makes, with a clock that goes five seconds on at each look at it."""

    def __init__(self) -> None:
        self.found: dict[str, Config] = {}
        self.now_ns = START_NS

    async def info(self) -> SystemInfo:
        self.now_ns += STEP_NS
        return SystemInfo(system_time=base.format_time(self.now_ns))

    async def configs(self, filters: object = None) -> list[Config]:
        return list(self.found.values())

    async def create_config(self, spec: ConfigSpec) -> str:
        if spec.name in self.found:
            raise errors.Conflict(spec.name)
        self.found[spec.name] = Config(id=spec.name, version=Version(1), spec=spec)
        return spec.name

    async def update_config(self, config_id: str, version: int, spec: ConfigSpec) -> None:
        if self.found[config_id].version.index != version:
            raise errors.OutOfSequence("out of sequence")
        self.found[config_id] = Config(id=config_id, version=Version(version + 1), spec=spec)

    async def remove_config(self, config_id: str) -> None:
        del self.found[config_id]


@pytest.fixture
def engine() -> Any:
    return Engine()


async def read(engine: Any, stack: str = "app") -> Record:
    return (await record.read(engine)).get(stack, Record(stack))


async def held_by(engine: Any, phase: str, for_s: int, stack: str = "app") -> None:
    until = base.format_time(engine.now_ns + for_s * base.SECOND)
    await record.write(
        engine, stack, lease_holder="ann", lease_until=until, lease_phase=phase, lease_fence="7", revision="r1"
    )


async def test_a_lease_is_counted_held_and_given_back(engine: Any) -> None:
    for number in (1, 2):
        async with lease.hold(engine, ["app"], "me") as held:
            found = await read(engine)
            assert (found.lease_holder, found.lease_fence, held.fence("app")) == ("me", str(number), str(number))
            assert base.parse_time(found.lease_until) > engine.now_ns
            await held.guard()
        found = await read(engine)
        assert (found.lease_holder, found.lease_fence) == ("", str(number))


async def test_a_holder_that_writes_and_is_alive_is_told_by_name(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await held_by(engine, lease.WRITING, 3600)
    told: list[str] = []

    def tell(stack: str, text: str) -> None:
        told.append(text)
        monkeypatch.setattr(engine, "info", renewing)

    async def renewing() -> SystemInfo:
        await held_by(engine, lease.WRITING, 3700)
        return SystemInfo(system_time=base.format_time(engine.now_ns))

    with pytest.raises(errors.Refused, match="being applied by ann"):
        async with lease.hold(engine, ["app"], "me", tell=tell):
            pass
    assert "sign of life" in told[0]
    assert (await read(engine)).lease_holder == "ann"


async def test_a_holder_that_was_killed_is_waited_for_until_its_lease_has_run_out(engine: Any) -> None:
    await held_by(engine, lease.WRITING, 12)
    told: list[str] = []
    async with lease.hold(engine, ["app"], "me", tell=lambda stack, text: told.append(text)):
        assert (await read(engine)).lease_fence == "8"
    assert told[-1] == "is taken over from ann"


async def test_one_that_waits_is_taken_over_from_at_once(engine: Any) -> None:
    async with lease.hold(engine, ["app"], "old") as old:
        await record.write(engine, "app", lease_phase=lease.WAITING)
        async with lease.hold(engine, ["app"], "new"):
            with pytest.raises(errors.Refused, match="taken over by new"):
                await old._renew(lease.WRITING)
            for ask in (old.guard, old.look):
                with pytest.raises(errors.Refused, match="taken over by new"):
                    await ask()
            assert old.is_lost
            with pytest.raises(errors.Refused, match="taken over by new"):
                await record.write(engine, "app", fence=old.fence("app"), outcome=record.Outcome.FAILED)
    assert (await read(engine)).lease_fence == "2"


async def test_one_that_waits_with_the_same_state_is_left_alone_by_who_gives_way(engine: Any) -> None:
    await held_by(engine, lease.WAITING, 3600)
    with pytest.raises(errors.Refused, match="being applied by ann already"):
        async with lease.hold(engine, ["app"], "watch", gives_way_to="r1"):
            pass
    async with lease.hold(engine, ["app"], "watch", gives_way_to="r2"):
        assert (await read(engine)).lease_holder == "watch"


async def test_a_plan_that_was_made_before_another_apply_is_stale(engine: Any) -> None:
    seen = {"app": await read(engine)}
    async with lease.hold(engine, ["app"], "other"):
        pass
    with pytest.raises(errors.Refused, match="since the plan was made"):
        async with lease.hold(engine, ["app"], "me", seen=seen):
            pass


async def test_several_stacks_are_held_together_or_not_at_all(engine: Any) -> None:
    await held_by(engine, lease.WAITING, 3600, "b")
    with pytest.raises(errors.Refused):
        async with lease.hold(engine, ["b", "a"], "me", gives_way_to="r1"):
            pass
    assert (await read(engine, "a")).lease_holder == ""


async def test_a_stack_that_was_forgotten_meanwhile_gets_no_record_by_giving_its_lease_back(engine: Any) -> None:
    async with lease.hold(engine, ["app"], "me"):
        await record.remove(engine, "app")
    assert engine.found == {}


@pytest.mark.parametrize("text", ["x", "0", "-3", "nan", "99999"])
def test_a_time_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(lease.TTL_VARIABLE, text)
    with pytest.raises(errors.Invalid, match="seconds are wanted"):
        lease.ttl_s()


def deletion(records: dict[str, Record]) -> Prepared:
    request = planner.Request(DesiredSet((), {}, {}), {}, frozenset({"app"}))
    return Prepared(Source("", Path()), "", request, Live(records=records), Plan(()))


async def test_a_deletion_holds_the_lease_and_leaves_no_record_behind(engine: Any) -> None:
    await record.write(engine, "app", commit="1")
    await deleting.delete(engine, deletion(await record.read(engine)), "app", lambda update: None)
    assert engine.found == {}


async def test_a_deletion_waits_for_no_apply_that_is_alive_and_takes_nothing_away_meanwhile(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held_by(engine, lease.WRITING, 3600)
    prepared = deletion(await record.read(engine))

    async def renewed(seconds: float) -> None:
        await held_by(engine, lease.WRITING, 3600)

    monkeypatch.setattr(lease.asyncio, "sleep", renewed)
    with pytest.raises(errors.Refused, match="is being applied by ann"):
        await deleting.delete(engine, prepared, "app", lambda update: None)
    assert (await read(engine)).lease_holder == "ann"


async def test_a_deletion_that_was_planned_before_another_apply_is_stale(engine: Any) -> None:
    prepared = deletion(await record.read(engine))
    await record.write(engine, "app", lease_fence="1")
    with pytest.raises(errors.Refused, match="applied by somebody else since the plan was made"):
        await deleting.delete(engine, prepared, "app", lambda update: None)
