"""Images from a real registry, by tag and by digest, and a registry that stops half-way through a pull."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SERVICE = """\
apiVersion: gitops/v1
kind: Service
metadata: {{name: web, stack: app}}
spec:
  image: {image}
  init: true
  command: [/bin/busybox, httpd, -f, -p, "8080", -h, /www]
  ports: ["8080:8080"]
  deploy: {{replicas: 2, restart_policy: {{delay: 1s}}, update_config: {{monitor: 1s}}}}
"""


class Registry:
    """docker-registry on the host's loopback."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self._config = host.directory / "registry.yml"
        self._config.write_text(
            "version: 0.1\n"
            f"storage: {{filesystem: {{rootdirectory: {host.directory / 'registry'}}}}}\n"
            "http: {addr: '127.0.0.1:5000'}\n"
        )
        self.process: Any = None

    def start(self) -> None:
        self.process = self._host.spawn("docker-registry", "serve", self._config)
        self._host.wait(lambda: self._host.get("http://127.0.0.1:5000/v2/") == "{}", 20, "the registry does not answer")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def registry(swarm: Any) -> Iterator[Registry]:
    found = Registry(swarm)
    found.start()
    yield found
    found.stop()


def push(host: Any, directory: Path, name: str, payload: int = 0) -> str:
    """Make an image of two layers with umoci, push it with skopeo, and give its digest."""
    layout = directory / "layout"
    root = directory / "tree"
    (root / "bin").mkdir(parents=True, exist_ok=True)
    (root / "www").mkdir(exist_ok=True)
    subprocess.run(["cp", "/bin/busybox", root / "bin" / "busybox"], check=True)
    (root / "www" / "index.html").write_text("from a registry\n")
    for command in (
        ["umoci", "init", "--layout", layout],
        ["umoci", "new", "--image", f"{layout}:x"],
        ["umoci", "insert", "--image", f"{layout}:x", root / "bin", "/bin"],
        ["umoci", "insert", "--image", f"{layout}:x", root / "www", "/www"],
    ):
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    if payload:
        (directory / "big").write_bytes(os.urandom(payload))
        command = ["umoci", "insert", "--image", f"{layout}:x", str(directory / "big"), "/big"]
        subprocess.run(command, check=True, capture_output=True)
    host.run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:x", f"docker://{name}", timeout=120)
    found = host.run("skopeo", "inspect", "--tls-verify=false", f"docker://{name}").stdout
    return str(json.loads(found)["Digest"])


def test_a_service_runs_an_image_by_tag_and_by_digest(
    swarm: Any, registry: Registry, project: Any, tmp_path: Path
) -> None:
    digest = push(swarm, tmp_path, "127.0.0.1:5000/web:1")
    path = project({"web.yaml": SERVICE.format(image="127.0.0.1:5000/web:1")})
    swarm.gitops("apply", path, "--yes")
    assert swarm.get("http://127.0.0.1:8080/") == "from a registry\n"
    image = swarm.api("/services")[0]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    assert image == f"127.0.0.1:5000/web:1@{digest}"
    assert swarm.gitops("diff", path).returncode == 0
    (path / "web.yaml").write_text(SERVICE.format(image=f"127.0.0.1:5000/web@{digest}"))
    swarm.gitops("apply", path, "--yes")
    assert swarm.get("http://127.0.0.1:8080/") == "from a registry\n"
    assert swarm.gitops("diff", path).returncode == 0


def test_a_plan_says_which_node_pulls_how_much(swarm: Any, registry: Registry, project: Any, tmp_path: Path) -> None:
    push(swarm, tmp_path, "127.0.0.1:5000/web:1")
    raw = swarm.run("skopeo", "inspect", "--raw", "--tls-verify=false", "docker://127.0.0.1:5000/web:1").stdout
    size = sum(layer["size"] for layer in json.loads(raw)["layers"])
    node = swarm.api("/nodes")[0]["Description"]["Hostname"]
    path = project({"web.yaml": SERVICE.format(image="127.0.0.1:5000/web:1")})

    def pulls() -> Any:
        plan = json.loads(swarm.gitops("diff", path, "--format", "json", check=False).stdout)
        found = next(item["forecast"] for item in plan["changes"] if item["name"] == "web")
        return found["pulls"], found["pulls_unknown"]

    assert pulls() == ({node: size}, [])
    assert "; pulls 1 MiB on 1 node" in swarm.gitops("diff", path, check=False).stdout
    swarm.docker("pull", "127.0.0.1:5000/web:1", timeout=120)
    assert pulls() == ({}, [])


def test_a_registry_that_stops_half_way_is_a_clear_error_and_the_next_apply_succeeds(
    swarm: Any, registry: Registry, project: Any, tmp_path: Path
) -> None:
    push(swarm, tmp_path, "127.0.0.1:5000/big:1", payload=400_000_000)
    manifest = """\
apiVersion: gitops/v1
kind: Image
metadata: {name: big, stack: app}
spec: {reference: "127.0.0.1:5000/big:1", pull: {repository: "127.0.0.1:5000/big", tag: "1"}}
"""
    path = project({"image.yaml": manifest, "web.yaml": SERVICE.format(image="127.0.0.1:5000/big:1")})
    apply = swarm.command(Path(os.sys.executable).parent / "gitops", "apply", path, "--yes")  # type: ignore[attr-defined]
    process = subprocess.Popen(apply, env=swarm.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def has_begun() -> bool:
        return any(file.stat().st_size > 1_000_000 for file in swarm.data_root.rglob("*.part"))

    end = time.monotonic() + 30
    while process.poll() is None and not has_begun() and time.monotonic() < end:
        time.sleep(0.005)
    registry.stop()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, out + err
    assert "127.0.0.1:5000" in err
    assert swarm.api("/images/json") == []
    registry.start()
    assert "Converged" in swarm.gitops("apply", path, "--yes", timeout=120).stdout
    assert swarm.get("http://127.0.0.1:8080/") == "from a registry\n"
