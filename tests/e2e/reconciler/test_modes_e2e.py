"""Global services and jobs from manifests: applied, waited for, not changed again, failed honestly."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

HEAD = "apiVersion: gitops/v1\nkind: Service\n"
EVERY = f"""{HEAD}metadata: {{name: every, stack: app}}
spec:
  image: app:v1
  init: true
  deploy: {{mode: global, update_config: {{monitor: 1s}}}}
"""
JOB = f"""{HEAD}metadata: {{name: job, stack: app}}
spec:
  image: app:v1
  command: [sh, -c, "COMMAND"]
  deploy:
    mode: replicated-job
    replicas: 3
    max_concurrent: 2
    restart_policy: {{condition: none}}
"""


def test_an_apply_waits_for_every_node_and_for_the_jobs_end_and_runs_it_once(
    swarm: Any, project: Any, image: Any
) -> None:
    path = project(
        {"image.yaml": image("app:v1", "v1"), "every.yaml": EVERY, "job.yaml": JOB.replace("COMMAND", "true")}
    )
    first = swarm.gitops("apply", path, "--yes")
    assert "1/1 running" in first.stdout and "3/3 completed" in first.stdout
    ids = {task["ID"] for task in swarm.api("/tasks")}
    assert swarm.gitops("diff", path, check=False).returncode == 0
    swarm.gitops("apply", path, "--yes")
    assert {task["ID"] for task in swarm.api("/tasks")} == ids


def test_a_job_that_fails_fails_the_apply(swarm: Any, project: Any, image: Any) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "job.yaml": JOB.replace("COMMAND", "exit 3")})
    result = swarm.gitops("apply", path, "--yes", check=False)
    assert result.returncode == 4
    assert "is not tried again" in result.stderr + result.stdout
