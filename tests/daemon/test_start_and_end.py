"""The order of start and end, with a stand-in for the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gitops.config import EngineConfig
from gitops.daemon import main


class _Engine:
    """Writes down what it is told to do."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.containers: Any = self
        self.networks: Any = self

    async def start(self) -> None:
        self.calls.append("start")

    async def stop_all(self) -> None:
        self.calls.append("stop all")

    async def destroy(self) -> None:
        self.calls.append("destroy")

    async def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def config(tmp_path: Path) -> EngineConfig:
    return EngineConfig(data_root=tmp_path, run_root=tmp_path)


async def test_a_stop_with_containers_ends_them(config: EngineConfig) -> None:
    engine: Any = _Engine()
    async with main._running_engine(config, engine):
        (config.run_root / main.STOP_ALL_MARKER).touch()
    assert engine.calls == ["start", "stop all", "destroy", "destroy", "close"]


async def test_a_stop_that_was_cut_short_ends_no_containers_of_another_day(config: EngineConfig) -> None:
    (config.run_root / main.STOP_ALL_MARKER).touch()
    engine: Any = _Engine()
    async with main._running_engine(config, engine):
        pass
    assert engine.calls == ["start", "close"]
