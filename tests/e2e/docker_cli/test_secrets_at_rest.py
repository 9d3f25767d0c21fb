"""A secret's value is on no disk: searched in every byte of a host that runs a task with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

SHOW = "sleep 600"


def test_a_secret_of_a_running_task_is_nowhere_but_in_memory(
    swarm: Any, archive: Callable[[str], Path], needles: Any, tmp_path: Path
) -> None:
    value = os.urandom(24).hex().encode()
    search = needles({"key": value})
    source = tmp_path / "value"
    source.write_bytes(value)
    swarm.docker("load", "-i", str(archive("app:1")))
    swarm.docker("secret", "create", "key", str(source))
    swarm.docker(
        *("service", "create", "--quiet", "--name", "app", "--no-resolve-image", "--update-monitor", "500ms"),
        *("--stop-grace-period", "1s", "--secret", "key", "app:1", "sh", "-c", SHOW),
    )
    (entry,) = swarm.containers()
    pid = swarm.api(f"/containers/{entry['Id']}/json")["State"]["Pid"]
    assert Path(f"/proc/{pid}/root/run/secrets/key").read_bytes() == value

    def look() -> list[str]:
        return [*search.in_files(swarm.data_root), *search.in_files(swarm.run_root)]

    assert look() == []
    assert search.in_processes() == []
    assert search.within(swarm.log.read_bytes()) == []
    assert search.within(swarm.docker("secret", "inspect", "key") + swarm.docker("service", "inspect", "app")) == []
    swarm.kill()
    assert look() == []
    swarm.start()
    swarm.docker("service", "rm", "app")
    swarm.wait(lambda: not swarm.docker("ps", "-aq"), 30)
    swarm.docker("secret", "rm", "key")
    swarm.stop()
    assert look() == []
