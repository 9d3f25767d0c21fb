"""An object that moves to another stack keeps its name and its tasks; its former stack no longer has it."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

OBJECTS = """\
apiVersion: gitops/v1
kind: Service
metadata: {{name: web, stack: {stack}{moved}}}
spec:
  image: app:v1
  init: true
  secrets: [key]
  networks: [net]
  volumes: ["data:/data"]
  deploy: {{replicas: 1, update_config: {{monitor: 1s}}}}
---
apiVersion: gitops/v1
kind: Network
metadata: {{name: net, stack: {stack}{moved}}}
---
apiVersion: gitops/v1
kind: Volume
metadata: {{name: data, stack: {stack}{moved}}}
---
apiVersion: gitops/v1
kind: Secret
metadata: {{name: key, stack: {stack}{moved}}}
spec: {{content: value}}
"""


def test_a_move_to_another_stack_restarts_nothing_and_the_new_one_removes_all_of_it(
    engine_host: Any, project: Any, image: Any
) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": OBJECTS.format(stack="app", moved="")})

    def gitops(*arguments: Any, code: int = 0) -> str:
        done = engine_host.gitops(*arguments, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return str(done.stdout + done.stderr)

    def tasks() -> set[tuple[str, str]]:
        return {(task["ID"], task["Status"]["State"]) for task in engine_host.api("/tasks")}

    def names(stem: str) -> set[str]:
        found = {item["Name"] for item in engine_host.api("/networks")}
        found |= {item["Name"] for item in engine_host.api("/volumes")["Volumes"] or []}
        for kind in ("services", "secrets"):
            found |= {item["Spec"]["Name"].partition("-")[0] for item in engine_host.api(f"/{kind}")}
        return {name for name in found if name.startswith(stem)}

    gitops("apply", path, "--yes")
    before = tasks()
    everything = {"app_web", "app_net", "app_data", "app_key"}
    (path / "web.yaml").write_text(OBJECTS.format(stack="site", moved=", moved_from: app"))
    plan = json.loads(gitops("diff", path, "--format", "json", code=2))
    changed = {(item["kind"], item["action"], item["reason"]) for item in plan["changes"] if item["action"] != "no-op"}
    assert changed == {(kind, "update", "moved") for kind in ("Service", "Network", "Volume", "Secret")}
    assert "moved from stack app" in gitops("apply", path, "--yes")
    assert tasks() == before and names("app_") == everything and not names("site_")
    gitops("diff", path)
    assert "web" in gitops("status", "site") and "no services" in gitops("status", "app")

    gitops("delete", "app", "--yes", "--prune-volumes")
    assert tasks() == before and names("app_") == everything
    gitops("delete", "site", "--yes", "--prune-volumes")
    assert not names("app_")
