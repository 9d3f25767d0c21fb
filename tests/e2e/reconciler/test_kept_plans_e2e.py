"""Plans that are kept in a file: applied as they were shown, refused when anything is not as it was."""

from __future__ import annotations

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
  environment: {{A: "{value}", TOKEN_FILE: /run/secrets/key}}
  secrets: [key]
  deploy: {{replicas: 1, update_config: {{monitor: 1s}}}}
---
apiVersion: gitops/v1
kind: Secret
metadata: {{name: key, stack: app}}
spec: {{content: hunter2-of-the-test}}
"""


def test_a_kept_plan_is_applied_once_and_refused_when_state_or_manifests_changed(
    swarm: Any, project: Any, image: Any
) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": SERVICE.format(value=1)})
    kept = swarm.directory / "plan"
    assert swarm.gitops("diff", path, "--out", kept, check=False).returncode == 2
    assert "hunter2" not in kept.read_text()
    assert "Converged" in swarm.gitops("apply", kept).stdout
    again = swarm.gitops("apply", kept, check=False)
    text = "service app_web: the plan was to create it, and would be to do nothing"
    assert again.returncode == 5 and text in again.stderr

    (path / "web.yaml").write_text(SERVICE.format(value=2))
    swarm.gitops("diff", path, "--out", kept, check=False)
    swarm.docker("service", "scale", "--detach", "app_web=2")
    scaled = swarm.gitops("apply", kept, check=False)
    assert scaled.returncode == 5 and "deploy.replicas was 1, is 2" in scaled.stderr

    swarm.gitops("diff", path, "--out", kept, check=False)
    (path / "web.yaml").write_text(SERVICE.format(value=3))
    edited = swarm.gitops("apply", kept, check=False)
    assert edited.returncode == 5 and "the manifests changed" in edited.stderr
    assert swarm.gitops("diff", path, check=False).returncode == 2, "nothing was applied"


COMPOSE = """\
services:
  web: {image: "app:${TAG}", init: true, deploy: {update_config: {monitor: 1s}}, privileged: true}
  extra: {image: "app:${TAG}", init: true, deploy: {update_config: {monitor: 1s}}, profiles: [more]}
"""


def test_a_kept_plan_of_compose_files_keeps_their_options_and_watch_tells_their_warnings(
    swarm: Any, project: Any, image: Any
) -> None:
    path = project(
        {
            "image.yaml": image("app:v1", "v1"),
            "prod.compose.yaml": COMPOSE,
            "override.yaml": "services: {web: {environment: {A: b}}}\n",
            "prod.env": "TAG=v1\n",
        }
    )
    kept = swarm.directory / "plan"
    files = ("--compose-file", "prod.compose.yaml", "--compose-file", "override.yaml", "--env-file", "prod.env")
    given = (*files, "--profile", "more", "--project-name", "shop")
    planned = swarm.gitops("diff", path, *given, "--out", kept, check=False)
    assert planned.returncode == 2, planned.stderr
    other = swarm.gitops("apply", kept, "--project-name", "other", check=False)
    assert other.returncode == 5 and "was made with another --project-name" in other.stderr
    assert "Converged: 2 services" in swarm.gitops("apply", kept).stdout
    found = {item["Spec"]["Name"]: item["Spec"] for item in swarm.api("/services")}
    assert set(found) == {"shop_web", "shop_extra"}
    assert found["shop_web"]["TaskTemplate"]["ContainerSpec"]["Env"] == ["A=b"]
    assert swarm.gitops("diff", path, *given, check=False).returncode == 0
    watched = swarm.gitops("watch", path, *given, "--once")
    assert "warning: prod.compose.yaml:2:" in watched.stdout and "privileged: is not honoured" in watched.stdout
