"""Plans against a snapshot: with no engine, no registry and no key, the same as against the engine."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SERVICE = """\
apiVersion: gitops/v1
kind: Service
metadata: {{name: web, stack: app}}
spec:
  image: app:v1
  init: true
  environment: {{LEVEL: "{level}", DB_PASSWORD: hunter2-in-a-variable}}
  secrets: [key]
  deploy: {{replicas: {replicas}, update_config: {{monitor: 1s}}}}
---
apiVersion: gitops/v1
kind: Secret
metadata: {{name: key, stack: app}}
spec: {{file: key.txt}}
"""
SECRETS = ("hunter2-of-the-file", "hunter2-in-a-variable")


def test_a_plan_against_a_snapshot_is_the_one_against_the_engine_and_needs_nothing_of_it(
    engine_host: Any, project: Any, image: Any
) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": SERVICE.format(level="info", replicas=1)})
    (path / "key.txt").write_text(SECRETS[0])
    engine_host.gitops("apply", path, "--yes")
    (path / "key.txt").unlink()
    text = engine_host.gitops("snapshot").stdout
    versions = [item["Spec"]["Name"].rpartition("-")[2] for item in engine_host.api("/secrets")]
    plain = [form for value in SECRETS for form in (value, base64.b64encode(value.encode()).decode())]
    assert versions and not [found for found in (*versions, *plain) if found in text]
    file = engine_host.directory / "snapshot.json"
    file.write_text(text)

    def diff(*arguments: str) -> Any:
        nothing = (f"HOME={path}/none", "GITOPS_HOST=unix:///none", "DOCKER_CONFIG=/none")
        words = (Path(sys.executable).parent / "gitops", "diff", path, "--against", file)
        return engine_host.run("env", *nothing, *words, *arguments, check=False)

    same = diff()
    assert same.returncode == 0, same.stdout + same.stderr
    assert "No changes: the engine was as the manifests say." in same.stdout and "UTC (snapshot" in same.stdout
    assert "environment.DB_PASSWORD of service web" in same.stdout and "secret key" in same.stdout

    (path / "web.yaml").write_text(SERVICE.format(level="debug", replicas=2))
    there = diff("--format", "json")
    (path / "key.txt").write_text(SECRETS[0])
    here = engine_host.gitops("diff", path, "--format", "json", check=False)
    assert there.returncode == here.returncode == 2, there.stdout + there.stderr + here.stderr
    told, known = json.loads(there.stdout), json.loads(here.stdout)
    assert told["against"]["host"] == engine_host.socket and known["against"] is None
    assert [item["path"] for item in changes(told)["fields"]] == ["deploy.replicas", "environment.LEVEL"]
    for key in ("action", "fields", "forecast"):
        assert changes(told)[key] == changes(known)[key]


def changes(plan: Any) -> Any:
    (found,) = [item for item in plan["changes"] if item["action"] != "no-op"]
    return found
