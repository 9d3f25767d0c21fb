"""What `stop --purge` must not take away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gitops import errors
from gitops.config import EngineConfig
from gitops.daemon import background

_HOLDER = (
    "import sys, pathlib; from gitops.daemon import ownership; "
    "lock = ownership.Lock(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture
def config(tmp_path: Path) -> EngineConfig:
    made = EngineConfig(data_root=tmp_path / "data", run_root=tmp_path / "run")
    made.data_root.mkdir()
    made.run_root.mkdir()
    return made


def test_a_directory_that_is_no_engine_s_is_left_alone(config: EngineConfig) -> None:
    precious = config.data_root / "thesis.txt"
    precious.write_text("years of work")
    with pytest.raises(errors.Refused, match="isn't an engine's data root"):
        background.purge(config)
    assert precious.read_text() == "years of work"


def test_both_roots_of_an_engine_that_ended_are_removed(config: EngineConfig) -> None:
    (config.data_root / "engine.db").touch()
    background.purge(config)
    assert not config.data_root.exists()
    assert not config.run_root.exists()


def test_the_data_of_another_engine_that_runs_is_left_alone(config: EngineConfig) -> None:
    (config.data_root / "engine.db").touch()
    command = [sys.executable, "-c", _HOLDER, str(config.data_root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(errors.Conflict, match="another engine uses"):
            background.purge(config)
        holder.communicate()
    assert (config.data_root / "engine.db").exists()
