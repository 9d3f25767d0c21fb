"""The daemon from outside: start, status, stop, death, purge."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

Archive = Callable[[str], Path]


def _roots(host: Any) -> list[str]:
    return ["--data-root", str(host.data_root), "--run-root", str(host.run_root)]


def _start(host: Any) -> str:
    return str(host.gitops("engine", "start", *_roots(host), "--cgroup-parent", host.name).stdout)


def test_an_engine_is_started_once_looked_at_stopped_and_purged(make_host: Any, archive: Archive) -> None:
    host = make_host()
    assert host.gitops("engine", "status", *_roots(host), check=False).returncode == 1
    assert "is started" in _start(host)
    assert "runs already" in _start(host)
    status = json.loads(host.gitops("engine", "status", *_roots(host), "--format", "json").stdout)
    assert (status["running"], status["swarm"], status["containers"]) == (True, "inactive", 0)
    host.docker("load", "-i", str(archive("app:1")))
    host.docker("run", "-d", "--name", "web", "-p", "8080:8080", "app:1", "httpd", "-f", "-p", "8080", "-h", "/www")
    assert "1 container keeps running" in host.gitops("engine", "stop", *_roots(host)).stdout
    assert host.get("http://127.0.0.1:8080/") == "app:1\n"
    before = host.conmons()
    _start(host)
    assert host.docker("ps", "--format", "{{.Names}}").strip() == "web"
    assert host.conmons() == before
    host.gitops("engine", "stop", *_roots(host), "--purge")
    assert not host.data_root.exists()
    assert not host.run_root.exists()
    assert (host.links(), host.mounts(), host.cgroups(), host.conmons()) == (["lo"], [], [], [])
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{host.name}"))


def test_containers_outlive_a_killed_daemon_and_are_taken_up_again(host: Any, archive: Archive) -> None:
    host.docker("load", "-i", str(archive("app:1")))
    host.docker("run", "-d", "--name", "web", "-p", "8080:8080", "app:1", "httpd", "-f", "-p", "8080", "-h", "/www")
    before = (host.conmons(), host.links(), host.mounts(), host.cgroups())
    pid = host.docker("inspect", "web", "--format", "{{.State.Pid}} {{.State.StartedAt}}")
    host.kill()
    assert host.get("http://127.0.0.1:8080/") == "app:1\n"
    host.start()
    assert host.docker("inspect", "web", "--format", "{{.State.Pid}} {{.State.StartedAt}}") == pid
    assert host.get("http://127.0.0.1:8080/") == "app:1\n"
    assert (host.conmons(), host.links(), host.mounts(), host.cgroups()) == before


def test_a_second_daemon_on_the_same_roots_is_refused(host: Any) -> None:
    second = host.gitops("engine", "run", *_roots(host), check=False)
    assert second.returncode == 1
    assert "another engine uses" in second.stderr
    assert host.docker("ps") != ""


def test_a_start_that_fails_shows_the_end_of_the_log(make_host: Any, tmp_path: Path) -> None:
    host = make_host()
    (tmp_path / "file").write_text("")
    failed = host.gitops("engine", "start", *_roots(host), "--host", f"unix://{tmp_path}/file", check=False)
    assert failed.returncode == 1
    assert "is no socket" in failed.stderr
    assert host.gitops("engine", "status", *_roots(host), check=False).returncode == 1


def test_the_daemon_ends_in_order_on_sigterm(host: Any) -> None:
    socket = host.run_root / "engine.sock"
    assert socket.exists()
    assert host.daemon is not None
    daemon = host.daemon
    host.stop()
    assert daemon.returncode == 0
    assert not socket.exists()
    assert not (host.run_root / "engine.pid").exists()
    assert "Traceback" not in host.log.read_text()
