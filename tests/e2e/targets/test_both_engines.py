"""The same commands on the built-in engine and on a real Docker Swarm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

EXAMPLES = Path(__file__).parents[3] / "examples" / "manifests"
STACK = """\
apiVersion: gitops/v1
kind: Network
metadata: {name: net, stack: app}
---
apiVersion: gitops/v1
kind: Volume
metadata: {name: data, stack: app}
---
apiVersion: gitops/v1
kind: Config
metadata: {name: page, stack: app}
spec: {content: "page one\\n"}
---
apiVersion: gitops/v1
kind: Secret
metadata: {name: key, stack: app}
spec: {content: "zq1-hush\\n"}
---
apiVersion: gitops/v1
kind: Service
metadata: {name: web, stack: app}
spec:
  image: app:v1
  init: true
  command: [/bin/sh, -c, "/bin/busybox ln -s /run/secrets/key /www/key; exec /bin/busybox httpd -f -p 8080 -h /www"]
  networks: [net]
  volumes: ["data:/data"]
  configs: [{source: page, target: /www/page}]
  secrets: [key]
  ports: [{target: 8080, published: 8080, mode: host}]
  deploy: {restart_policy: {delay: 1s}, update_config: {monitor: 1s}}
---
apiVersion: gitops/v1
kind: Service
metadata: {name: back, stack: app}
spec:
  image: app:v1
  init: true
  networks: [net]
  deploy: {replicas: 2, restart_policy: {delay: 1s}, update_config: {monitor: 1s}}
"""
URL = "http://127.0.0.1:8080"


def running(host: Any) -> set[str]:
    return {task["ID"] for task in host.api("/tasks") if task["Status"]["State"] == "running"}


def versions(host: Any) -> dict[str, int]:
    return {item["ID"]: item["Version"]["Index"] for item in host.api("/services")}


def changes(host: Any, path: Path) -> dict[str, Any]:
    plan = json.loads(host.gitops("diff", path, "--format", "json", check=False).stdout)
    return {item["name"]: item for item in plan["changes"] if item["action"] != "no-op"}


def unchanged(host: Any, path: Path) -> None:
    """A diff is empty, and another apply writes nothing."""
    assert changes(host, path) == {}
    assert host.gitops("diff", path, check=False).returncode == 0
    before = versions(host), running(host)
    assert "No changes" in host.gitops("apply", path, "--yes").stdout
    assert (versions(host), running(host)) == before


def test_the_life_of_a_stack(engine_host: Any, project: Any, image: Any) -> None:
    host = engine_host
    path = project({"image.yaml": image("app:v1", "v1"), "stack.yaml": STACK})
    assert host.gitops("diff", path, check=False).returncode == 2
    assert "Converged" in host.gitops("apply", path, "--yes", timeout=180).stdout
    assert [host.get(f"{URL}/{name}") for name in ("", "page", "key")] == ["v1\n", "page one\n", "zq1-hush\n"]
    unchanged(host, path)
    assert "web" in host.gitops("status", "app").stdout

    changed = STACK.replace("page one", "page two").replace("zq1-hush", "zq2-quiet").replace("app:v1", "app:v2", 1)
    (path / "stack.yaml").write_text(changed)
    (path / "image2.yaml").write_text(image("app:v2", "v2"))
    assert set(changes(host, path)) == {"app-v2", "page", "key", "web"}
    host.gitops("apply", path, "--yes", timeout=180)
    assert [host.get(f"{URL}/{name}") for name in ("", "page", "key")] == ["v2\n", "page two\n", "zq2-quiet\n"]
    unchanged(host, path)

    (path / "stack.yaml").write_text(
        changed.partition("---\napiVersion: gitops/v1\nkind: Service\nmetadata: {name: ba")[0]
    )
    host.gitops("apply", path, "--yes", timeout=180)
    assert [item["Spec"]["Name"] for item in host.api("/services")] == ["app_web"]
    unchanged(host, path)

    host.gitops("delete", "app", "--yes", timeout=180)
    assert host.api("/services") == [] and host.api("/secrets") == [] and host.api("/images/json") == []
    assert [item["Spec"]["Name"] for item in host.api("/configs")] == []
    assert "app_net" not in {item["Name"] for item in host.api("/networks")}


def test_the_examples(engine_host: Any, tmp_path: Path) -> None:
    host = engine_host
    path = tmp_path / "manifests"
    shutil.copytree(EXAMPLES, path)
    (path / "bin").mkdir()
    shutil.copy("/bin/busybox", path / "bin" / "busybox")
    host.gitops("apply", path, "--yes", timeout=240)
    unchanged(host, path)
    host.gitops("delete", "book", "--yes", timeout=180)
    assert host.api("/services") == []


def test_a_watch_heals_what_somebody_changed(engine_host: Any, project: Any, image: Any) -> None:
    host = engine_host
    path = project({"image.yaml": image("app:v1", "v1"), "stack.yaml": STACK})
    host.gitops("watch", path, "--once", timeout=180)
    unchanged(host, path)
    host.docker("service", "scale", "-d", "app_back=1")
    host.docker("service", "rm", "app_web")
    assert set(changes(host, path)) == {"web", "back"}
    host.gitops("watch", path, "--once", timeout=180)
    unchanged(host, path)
    assert host.get(f"{URL}/page") == "page one\n"
