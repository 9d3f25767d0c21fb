"""An Image with spec.push: services run it by its name and digest in a registry, on both engines."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SERVICE = """\
apiVersion: gitops/v1
kind: Service
metadata: {name: web, stack: app}
spec:
  image: app:v1
  init: true
  ports: [{target: 8080, published: 8080, mode: host}]
  deploy: {restart_policy: {delay: 1s}, update_config: {monitor: 1s}}
"""
NAME = "127.0.0.1:5000/team/app"


@pytest.fixture
def registry(engine_host: Any) -> Callable[[], Any]:
    """Starts a registry on the host's loopback."""
    config = engine_host.directory / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {engine_host.directory / 'registry'}}}}}\n"
        "http: {addr: '127.0.0.1:5000'}\n"
    )

    def start() -> Any:
        process = engine_host.spawn("docker-registry", "serve", config)
        engine_host.wait(lambda: engine_host.get("http://127.0.0.1:5000/v2/") == "{}", 20, "no registry")
        return process

    return start


def test_services_run_what_the_registry_has(engine_host: Any, registry: Any, project: Any, image: Any) -> None:
    host, process = engine_host, registry()

    def lay_out(text: str) -> Any:
        manifest = image("app:v1", text).replace("reference: app:v1", f"reference: app:v1\n  push: {NAME}")
        return project({"image.yaml": manifest, "web.yaml": SERVICE})

    def runs() -> str:
        (service,) = host.api("/services")
        return str(service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"])

    def in_registry() -> str:
        shown = host.run("skopeo", "inspect", "--tls-verify=false", f"docker://{NAME}:v1").stdout
        return str(json.loads(shown)["Digest"])

    path = lay_out("one")
    assert "127.0.0.1:5000/team/app:v1" in host.gitops("diff", path, check=False).stdout
    host.gitops("apply", path, "--yes", timeout=180)
    first = in_registry()
    assert runs() == f"{NAME}:v1@{first}" and host.get("http://127.0.0.1:8080/") == "one\n"
    assert host.gitops("diff", path).returncode == 0
    assert "No changes" in host.gitops("apply", path, "--yes").stdout

    path = lay_out("two")
    host.gitops("apply", path, "--yes", timeout=180)
    assert in_registry() != first and runs() == f"{NAME}:v1@{in_registry()}"
    assert host.get("http://127.0.0.1:8080/") == "two\n" and host.gitops("diff", path).returncode == 0

    # A registry that is away is said, and nothing is changed meanwhile.
    process.kill()
    process.wait()
    before = runs()
    done = host.gitops("apply", lay_out("three"), "--yes", check=False, timeout=180)
    assert done.returncode == 1 and "127.0.0.1:5000" in done.stderr, done.stderr
    assert runs() == before and host.get("http://127.0.0.1:8080/") == "two\n"
    registry()
    host.gitops("apply", path, "--yes", timeout=180)
    assert runs() == f"{NAME}:v1@{in_registry()}" and host.get("http://127.0.0.1:8080/") == "three\n"
    host.gitops("delete", "app", "--yes", timeout=180)
    assert host.api("/services") == [] and host.api("/images/json") == []
