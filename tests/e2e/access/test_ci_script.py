"""The shell script of examples/ci against an engine behind mutual TLS, without a terminal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

BIN = Path(sys.executable).parent
SCRIPT = Path(__file__).parents[3] / "examples" / "ci" / "gitops-ci"
SERVICE = """\
---
apiVersion: gitops/v1
kind: Secret
metadata: {name: key, stack: app}
spec: {content: "zq1-hush"}
---
apiVersion: gitops/v1
kind: Service
metadata: {name: web, stack: app}
spec:
  image: app:v1
  init: true
  secrets: [key]
  command: [/bin/busybox, COMMAND]
  deploy:
    placement: {constraints: ["node.hostname LIKE"]}
    restart_policy: {condition: none}
    update_config: {monitor: 500ms, failure_action: rollback}
"""


@pytest.fixture
def tls(make_host: Callable[..., Any], authority: Callable[[str], Any]) -> dict[str, str]:
    """The variables of a CI whose engine is a swarm of one behind TLS; HOST is the host itself."""
    ca = authority("ours")
    mine, (certificate, key) = ca.client(), ca.server()
    host = make_host()
    host.options += ["--host", "tcp://127.0.0.1:2376", "--tlscacert", ca.ca, "--tlscert", certificate, "--tlskey", key]
    host.start()
    host.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    return {
        "HOST": host,
        "GITOPS_HOST": "tcp://127.0.0.1:2376",
        "TLS_CA": ca.ca.read_text(),
        "TLS_CERT": (mine / "cert.pem").read_text(),
        "TLS_KEY": (mine / "key.pem").read_text(),
        "GITOPS_SECRET_KEY": "0123456789abcdef" * 2,
    }


def test_plan_and_apply_as_a_ci_runs_them(
    tls: dict[str, Any], project: Callable[..., Path], image: Callable[..., str], tmp_path: Path
) -> None:
    host = tls.pop("HOST")

    def manifests(command: str = "httpd, -f", constraint: str = "!= nowhere") -> None:
        service = SERVICE.replace("COMMAND", command).replace("LIKE", constraint)
        project({"app.yaml": image("app:v1", "hello") + service}, "repository/manifests")

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        variables = [f"{name}={value}" for name, value in (tls | more).items()]
        path = f"PATH={BIN}:/usr/bin:/bin"
        inside = ("env", "--chdir", tmp_path / "repository", "-u", "DOCKER_HOST", "TMPDIR=" + str(temporary), path)
        done: subprocess.CompletedProcess[str] = host.run(
            *inside, *variables, SCRIPT, *words, check=False, timeout=110, stdin=""
        )
        return done

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    manifests()
    planned = run("plan")
    assert planned.returncode == 0, planned.stderr
    comment = tmp_path / "repository" / "plan.md"
    assert "| + create | Service | `web` |" in comment.read_text()
    applied = run("apply")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert run("plan").returncode == 0
    assert "No changes" in comment.read_text()

    assert run("snapshot").returncode == 0
    manifests(command="httpd, -v, -f")
    fork = run("plan", PLAN_AGAINST="snapshot.json", GITOPS_HOST="tcp://nowhere:1", TLS_KEY="")
    assert fork.returncode == 0, fork.stderr
    assert "~ update" in comment.read_text()

    manifests(constraint="== nowhere")
    assert run("plan").returncode == 3
    manifests(command="false")
    failed = run("apply")
    assert failed.returncode == 4, failed.stdout + failed.stderr
    manifests()
    assert run("apply", TLS_CERT="junk").returncode == 1
    project({"app.yaml": "kind: Nonsense\n"}, "repository/manifests")
    assert run("plan").returncode == 1
    assert run("nonsense").returncode == 1
    # No key is left behind.
    assert list(temporary.iterdir()) == []
    assert "zq1-hush" not in planned.stdout + applied.stdout + failed.stdout + comment.read_text()
