"""Why, with real containers: the first broken link of services that fail in different ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SERVICE = """\
apiVersion: gitops/v1
kind: Service
metadata: {{name: {name}, stack: app}}
spec:
  image: app:v1
  init: true
  {more}
"""
CASES = {
    "well": "ports: ['8080:8080']",
    "crash": "command: [sh, -c, 'exit 3']",
    "sick": "healthcheck: {test: [CMD, sh, -c, 'echo no answer; exit 7'], interval: 1s, retries: 1}",
}


def chain(host: Any, name: str) -> tuple[int, dict[str, Any]]:
    done = host.gitops("why", name, "--format", "json", check=False)
    return done.returncode, json.loads(done.stdout)


def test_why_names_the_first_broken_link(swarm: Any, project: Any, image: Any) -> None:
    files = {f"{name}.yaml": SERVICE.format(name=name, more=more) for name, more in CASES.items()}
    path = project({"image.yaml": image("app:v1", "v1"), **files})
    swarm.gitops("apply", path, "--yes", "--timeout", "20", check=False, timeout=120)
    swarm.docker(
        "service", "create", "--quiet", "--detach", "--name", "far", "--constraint", "node.labels.x==y", "app:v1"
    )

    def at(name: str, link: str | None, word: str) -> bool:
        code, found = chain(swarm, name)
        evidence = " ".join(item["evidence"] for item in found["links"])
        return found["broken"] == link and word in evidence and code == {None: 0, "scheduled": 3}.get(link, 4)

    swarm.wait(lambda: at("app_well", None, "8080"), 60, "the service that is well is not told so")
    swarm.wait(lambda: at("crash", "running", "non-zero exit (3)"), 60, "no crash is told")
    swarm.wait(lambda: at("sick", "healthy", "unhealthy"), 60, "no failing health check is told")
    swarm.wait(lambda: at("far", "scheduled", "constraint"), 60, "no missing node is told")
    assert "Broken at scheduled: 1 of 1 tasks have no node" in swarm.gitops("why", "far", check=False).stdout
    unknown = swarm.gitops("why", "nobody", check=False)
    assert unknown.returncode == 1 and "no service 'nobody'" in unknown.stderr
