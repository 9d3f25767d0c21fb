"""When `apply` starts the built-in engine or makes it a swarm, and when it leaves it alone."""

from __future__ import annotations

import pytest

from gitops import errors
from gitops.cli import starting
from gitops.daemon import background
from gitops.daemon.background import Status


class BuiltIn:
    """The engine of this host: how it is, and what was done to it."""

    def __init__(self) -> None:
        self.status = Status()
        self.done: list[str] = []

    def start(self, _: object) -> tuple[Status, bool]:
        self.done.append("started")
        return Status(pid=1, hosts=("unix:///x",)), True

    async def swarm(self) -> None:
        self.done.append("swarm")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> BuiltIn:
    made = BuiltIn()
    monkeypatch.delenv("GITOPS_HOST", raising=False)
    monkeypatch.setattr(background, "status", lambda _: made.status)
    monkeypatch.setattr(background, "start", made.start)
    monkeypatch.setattr(starting, "_swarm", made.swarm)
    return made


def test_none_is_started_unless_it_was_asked_for(engine: BuiltIn) -> None:
    with pytest.raises(errors.Unavailable, match="no engine runs on this host"):
        starting.ensure(None, start_engine=False, yes=True)
    assert engine.done == []
    starting.ensure(None, start_engine=True, yes=True)
    assert engine.done == ["started", "swarm"]


@pytest.mark.parametrize("start_engine", [False, True])
def test_one_in_a_swarm_and_one_that_is_named_are_left_alone(
    engine: BuiltIn, monkeypatch: pytest.MonkeyPatch, start_engine: bool
) -> None:
    starting.ensure("unix:///other", start_engine=start_engine, yes=True)
    engine.status = Status(pid=1, swarm="active")
    starting.ensure(None, start_engine=start_engine, yes=True)
    engine.status = Status(pid=1, swarm="inactive")
    monkeypatch.setenv("GITOPS_HOST", "unix:///other")
    starting.ensure(None, start_engine=start_engine, yes=True)
    assert engine.done == []


def test_one_in_no_swarm_becomes_a_swarm_when_it_was_asked_for(engine: BuiltIn) -> None:
    engine.status = Status(pid=1, swarm="inactive")
    with pytest.raises(errors.NotInSwarm, match="say --start-engine to make it a swarm of one node"):
        starting.ensure(None, start_engine=False, yes=True)
    assert engine.done == []
    starting.ensure(None, start_engine=True, yes=True)
    assert engine.done == ["swarm"]
