"""The keeper of the rules knows what the kernel has, or writes it all again."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from gitops import errors
from gitops.engine.networks.kernel import Kernel
from gitops.engine.networks.rules import RuleKeeper
from gitops.engine.networks.ruleset import Publication, Rules, build


class FakeKernel:
    """Runs nothing, and remembers what it was to run."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.started = asyncio.Event()
        self.is_stuck = False
        self.refusals = 0

    async def run_rules(self, commands: str) -> None:
        self.ran.append(commands)
        if self.refusals:
            self.refusals -= 1
            raise errors.RuntimeFailure("refused")
        if self.is_stuck:
            self.started.set()
            await asyncio.Event().wait()


def port(number: int) -> Publication:
    return Publication("", "tcp", number, "10.0.0.2", 80)


class World:
    """A keeper and what it is to keep."""

    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.ports: list[Publication] = []
        self.keeper = RuleKeeper(cast(Kernel, self.kernel), "t", self.wanted)

    def wanted(self) -> Rules:
        return build((), self.ports, ())


@pytest.fixture
def world() -> World:
    return World()


async def test_a_change_is_only_what_is_different(world: World) -> None:
    await world.keeper.load()
    world.ports.append(port(8080))
    await world.keeper.sync()
    assert world.kernel.ran[1:] == ["add element ip t puball { tcp . 8080 : 10.0.0.2 . 80 }\n"]


async def test_after_a_change_that_was_left_half_way_all_is_written_again(world: World) -> None:
    await world.keeper.load()
    world.ports.append(port(8080))
    world.kernel.is_stuck = True
    change = asyncio.create_task(world.keeper.sync())
    await world.kernel.started.wait()
    change.cancel()
    await asyncio.gather(change, return_exceptions=True)
    world.kernel.is_stuck = False
    world.ports.clear()
    # The kernel may have the port by now: only what it doesn't know of can be trusted to be gone.
    await world.keeper.sync()
    assert world.kernel.ran[-1].startswith("table ip t\ndelete table ip t\n") and "8080" not in world.kernel.ran[-1]
    world.ports.append(port(9090))
    await world.keeper.sync()
    assert world.kernel.ran[-1] == "add element ip t puball { tcp . 9090 : 10.0.0.2 . 80 }\n"


async def test_after_a_refusal_all_is_written_again(world: World) -> None:
    await world.keeper.load()
    world.ports.append(port(8080))
    world.kernel.refusals = 2
    with pytest.raises(errors.RuntimeFailure):
        await world.keeper.sync()
    await world.keeper.sync()
    assert [commands.startswith("table ip t\ndelete") for commands in world.kernel.ran] == [True, False, True, True]


async def test_what_is_wanted_is_asked_at_the_moment_of_the_change(world: World) -> None:
    await world.keeper.load()
    changes: list[Any] = []
    for number in (1, 2, 3):
        world.ports.append(port(number))
        changes.append(asyncio.create_task(world.keeper.sync()))
    await asyncio.gather(*changes)
    assert [commands.count(" . 80") for commands in world.kernel.ran] == [0, 3, 0, 0]
