"""Global services and jobs from manifests, on the built-in engine and on a real Docker Swarm: applied, waited for, not
changed again, failed honestly."""

from __future__ import annotations

import re
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
    engine_host: Any, project: Any, image: Any
) -> None:
    path = project(
        {"image.yaml": image("app:v1", "v1"), "every.yaml": EVERY, "job.yaml": JOB.replace("COMMAND", "true")}
    )
    first = engine_host.gitops("apply", path, "--yes")
    assert "1/1 running" in first.stdout and "3/3 completed" in first.stdout
    ids = {task["ID"] for task in engine_host.api("/tasks")}
    assert engine_host.gitops("diff", path, check=False).returncode == 0
    engine_host.gitops("apply", path, "--yes")
    assert {task["ID"] for task in engine_host.api("/tasks")} == ids


def test_a_job_that_fails_fails_the_apply_and_says_where(engine_host: Any, project: Any, image: Any) -> None:
    job = JOB.replace("COMMAND", "exit 3")
    each = job.replace("name: job", "name: each").replace("mode: replicated-job", "mode: global-job")
    each = each.replace("    replicas: 3\n    max_concurrent: 2\n", "")
    path = project({"image.yaml": image("app:v1", "v1"), "job.yaml": job, "each.yaml": each})
    result = engine_host.gitops("apply", path, "--yes", check=False)
    assert result.returncode == 4
    (node,) = engine_host.api("/nodes")
    reason = "is not tried again: task: non-zero exit (3)"
    assert f"service app_each: 0/1 completed: node {node['ID']} {reason}" in result.stderr, result.stderr
    assert re.search(rf"service app_job: 0/3 completed.*: slot [01] {re.escape(reason)}", result.stderr), result.stderr
