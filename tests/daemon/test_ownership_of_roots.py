from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from gitops import errors
from gitops.config import EngineConfig
from gitops.daemon import ownership

_HOLD = "import sys; from pathlib import Path; from gitops.daemon import ownership\n"
_HOLD += "lock = ownership.Lock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"


def test_two_processes_can_t_own_one_root(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(errors.Conflict, match="another engine uses"):
            ownership.Lock(tmp_path)
        other.kill()
    ownership.Lock(tmp_path).close()


def test_a_root_is_made_private(tmp_path: Path) -> None:
    ownership.Lock(tmp_path / "a" / "b").close()
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def _config(tmp_path: Path) -> EngineConfig:
    return EngineConfig(data_root=tmp_path, run_root=tmp_path)


def test_a_pid_file_names_a_process_that_runs(tmp_path: Path) -> None:
    config = _config(tmp_path)
    assert ownership.running(tmp_path) is None
    ownership.write_pid_file(config)
    found = ownership.running(tmp_path)
    assert found is not None
    assert (found.pid, found.hosts) == (os.getpid(), [f"unix://{tmp_path}/engine.sock"])
    ownership.remove_pid_file(config)
    assert ownership.running(tmp_path) is None


def test_a_later_process_with_the_same_id_is_not_taken_for_it(tmp_path: Path) -> None:
    ownership.write_pid_file(_config(tmp_path))
    path = tmp_path / "engine.pid"
    found = msgspec.json.decode(path.read_bytes(), type=ownership.Identity)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, started=found.started - 1)))
    assert ownership.running(tmp_path) is None


def test_a_process_that_ended_is_not_running(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        identity = ownership.identity_of(process.pid, [])
        assert ownership.is_alive(identity)
        process.kill()
    assert not ownership.is_alive(identity)


@pytest.mark.parametrize("text", ["", "{", "12", '{"pid": "x"}'])
def test_a_damaged_pid_file_counts_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "engine.pid").write_text(text)
    assert ownership.running(tmp_path) is None
