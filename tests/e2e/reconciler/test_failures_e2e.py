"""Rollouts that fail: rolled back or paused, told with the reason and exit code 4, held, and mended by what comes next;
and those that somebody else changes on their way. On the built-in engine and on a real Docker Swarm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]

GITOPS = Path(sys.executable).parent / "gitops"
SERVICE = """\
apiVersion: gitops/v1
kind: Service
metadata: {{name: web, stack: app}}
spec:
  image: app:v1
  init: true
  command: [/bin/sh, -c, {command}]
  healthcheck: {{test: [CMD, /bin/busybox, "true"], interval: 1s}}
  volumes: [{{type: bind, source: {flags}, target: /flags}}]
  deploy:
    replicas: 2
    restart_policy: {{delay: 500ms}}
    update_config: {{parallelism: 1, monitor: 500ms, failure_action: {action}}}
"""
RUNS = "/bin/busybox sleep 1000"
FAILS = "exit 7"


def lay_out(host: Any, path: Any, command: str, action: str, more: str = "") -> None:
    text = SERVICE.format(command=command, flags=host.directory / "flags", action=action)
    (path / "web.yaml").write_text(text + more)


def running(host: Any) -> list[str]:
    """What the running tasks run."""
    tasks = [task for task in host.api("/tasks") if task["Status"]["State"] == task["DesiredState"] == "running"]
    return [task["Spec"]["ContainerSpec"]["Args"][-1] for task in tasks]


@pytest.fixture
def path(engine_host: Any, project: Any, image: Any) -> Any:
    """A stack that runs well, on an engine."""
    (engine_host.directory / "flags").mkdir()
    found = project({"image.yaml": image("app:v1", "v1")})
    lay_out(engine_host, found, RUNS, "rollback")
    engine_host.gitops("apply", found, "--yes")
    return found


def test_an_update_that_is_rolled_back_is_told_and_held_and_a_revert_converges(engine_host: Any, path: Any) -> None:
    lay_out(engine_host, path, FAILS, "rollback")
    done = engine_host.gitops("apply", path, "--yes", check=False)
    assert done.returncode == 4 and "2/2 running" in done.stderr and "exit (7)" in done.stderr, done.stderr
    assert running(engine_host) == [RUNS] * 2
    assert "is held" in engine_host.gitops("status").stdout
    assert engine_host.gitops("watch", "--once", path, check=False).returncode == 5
    engine_host.gitops("resume", "app")
    assert engine_host.gitops("watch", "--once", path, check=False).returncode == 4
    lay_out(engine_host, path, RUNS, "rollback")
    assert engine_host.gitops("apply", path, "--yes").returncode == 0
    assert "is held" not in engine_host.gitops("status").stdout
    # What no node can hold is refused before anything is sent.
    lay_out(engine_host, path, RUNS, "rollback", "    resources: {reservations: {cpus: '64'}}\n")
    version = engine_host.api("/services")[0]["Version"]
    assert engine_host.gitops("diff", path, check=False).returncode == 3
    done = engine_host.gitops("apply", path, "--yes", check=False)
    assert done.returncode == 3 and "insufficient resources" in done.stdout + done.stderr
    assert engine_host.api("/services")[0]["Version"] == version


def test_a_paused_update_leaves_what_runs_and_goes_on_when_the_same_is_applied_again(
    engine_host: Any, path: Any
) -> None:
    wanted = f"test -e /flags/up && exec {RUNS}"
    # Without a delay a Docker Swarm may begin with the next slot in the moment in which the first one fails.
    lay_out(engine_host, path, wanted, "pause, delay: 3s")
    done = engine_host.gitops("apply", path, "--yes", check=False)
    assert done.returncode == 4 and "update paused due to failure" in done.stderr, done.stderr
    assert running(engine_host).count(RUNS) == 1, "the slot whose turn had not come"
    (engine_host.directory / "flags" / "up").touch()
    shown = engine_host.gitops("diff", path, "--format", "json", check=False)
    assert shown.returncode == 2 and '"its paused update goes on"' in shown.stdout
    assert engine_host.gitops("apply", path, "--yes").returncode == 0
    assert engine_host.gitops("diff", path).returncode == 0
    assert running(engine_host) == [wanted] * 2


def test_a_change_by_somebody_else_in_mid_apply_is_told_and_not_called_converged(engine_host: Any, path: Any) -> None:
    host = engine_host
    command = f"exec {RUNS}"
    lay_out(host, path, command, "rollback")
    # No new task is well before the change was made.
    gated = (path / "web.yaml").read_text().replace('"true"]', "test, -e, /flags/well], retries: 1000")
    (path / "web.yaml").write_text(gated)
    apply = subprocess.Popen(
        host.command(GITOPS, "apply", path, "--yes"),
        env=host.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def is_rolling() -> bool:
        (found,) = host.api("/services")
        return (found.get("UpdateStatus") or {}).get("State") == "updating"

    host.wait(is_rolling, 60)
    host.docker("service", "scale", "--detach", "app_web=3")
    (host.directory / "flags" / "well").touch()
    out, _ = apply.communicate(timeout=180)
    assert apply.returncode == 5 and "changed by somebody else" in out, out
    assert host.gitops("apply", path, "--yes").returncode == 0
    assert running(host) == [command] * 2
