"""SIGKILL of the daemon at random moments of an apply: the next apply converges and nothing is doubled or left."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SERVICE = """\
apiVersion: gitops/v1
kind: Service
metadata: {{name: {name}, stack: app}}
spec:
  image: {image}
  init: true
  ports: ["{port}:8080"]
  volumes: ["data:/data"]
  deploy: {{replicas: {replicas}, restart_policy: {{delay: 500ms}}, update_config: {{parallelism: 2, monitor: 500ms}}}}
---
"""
VOLUME = "apiVersion: gitops/v1\nkind: Volume\nmetadata: {name: data, stack: app}\nspec: {}\n"
GITOPS = Path(os.sys.executable).parent / "gitops"  # type: ignore[attr-defined]


def lay_out(path: Path, round_: int, image: Any) -> None:
    """Another state of the manifests each time: image, replicas, and which services there are."""
    tag = f"app:v{round_ % 3}"
    (path / "image.yaml").write_text(image(tag, f"v{round_ % 3}"))
    text = SERVICE.format(name="web", image=tag, port=8080, replicas=2 + round_ % 3)
    if round_ % 2:
        text += SERVICE.format(name="other", image=tag, port=8081, replicas=2)
    (path / "web.yaml").write_text(text + VOLUME)


def check(host: Any, round_: int) -> None:
    """Exactly what there should be: containers, mounts, namespaces, links, cgroups, rules."""
    wanted = 2 + round_ % 3 + (2 if round_ % 2 else 0)
    running = host.containers()
    assert len(running) == wanted, [item["Names"] for item in running]
    assert host.get("http://127.0.0.1:8080/") == f"v{round_ % 3}\n"
    tasks = [task for task in host.api("/tasks") if task["DesiredState"] == "running"]
    assert len(tasks) == wanted
    ids = {item["Id"] for item in running}
    assert {task["Status"]["ContainerStatus"]["ContainerID"] for task in tasks} == ids
    everything = {item["Id"] for item in host.api("/containers/json?all=true")}
    assert len(host.conmons()) == wanted
    assert len(set(host.cgroups())) == wanted, host.cgroups()
    namespaces = list((host.run_root / "netns").iterdir())
    assert {path.name for path in namespaces} == ids, f"{len(namespaces)} namespaces for {wanted} containers"
    roots = [mount for mount in host.mounts() if mount.endswith("rootfs")]
    overlays = [mount for mount in roots if any(name in mount for name in everything)]
    assert len(overlays) == wanted, overlays
    links = json.loads(host.run("ip", "-j", "link", "show", "type", "veth").stdout)
    assert len([link for link in links if link]) == 2 * wanted, [link["ifname"] for link in links if link]


def crash(host: Any, path: Path, image: Any, source: random.Random, round_: int) -> None:
    lay_out(path, round_, image)
    apply = subprocess.Popen(
        host.command(GITOPS, "apply", path, "--yes"),
        env=host.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    time.sleep(source.uniform(0.2, 4.0))
    host.kill()
    host.start()
    apply.communicate(timeout=60)
    done = host.gitops("apply", path, "--yes", check=False, timeout=120)
    assert done.returncode == 0, f"round {round_}\n{done.stdout}\n{done.stderr}\n{host.log.read_text()[-3000:]}"
    assert host.gitops("diff", path, check=False).returncode == 0
    await_settled(host, round_)


def await_settled(host: Any, round_: int) -> None:
    """Within 30 s all is as it should be; else the error says what is not."""
    end = time.monotonic() + 30
    while True:
        try:
            return check(host, round_)
        except (AssertionError, KeyError):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def repeat(host: Any, path: Path, image: Any, times: int, seed: int) -> None:
    print(f"seed {seed}")
    source = random.Random(seed)
    for round_ in range(times):
        crash(host, path, image, source, round_)


def test_a_killed_daemon_loses_and_doubles_nothing(swarm: Any, project: Any, image: Any) -> None:
    repeat(swarm, project({"x.txt": ""}), image, 4, random.randrange(2**32))


@pytest.mark.soak
def test_a_daemon_killed_at_twenty_moments_loses_and_doubles_nothing(swarm: Any, project: Any, image: Any) -> None:
    repeat(swarm, project({"x.txt": ""}), image, 20, random.randrange(2**32))


def test_containers_run_on_while_the_daemon_is_dead_and_are_adopted(swarm: Any, project: Any, image: Any) -> None:
    path = project({"x.txt": ""})
    lay_out(path, 0, image)
    swarm.gitops("apply", path, "--yes")
    before = {item["Id"]: item["Status"] for item in swarm.containers()}
    tasks = {task["ID"] for task in swarm.api("/tasks")}
    conmons = swarm.conmons()
    swarm.kill()
    assert swarm.get("http://127.0.0.1:8080/") == "v0\n", "the service stopped with the daemon"
    swarm.start()
    await_settled(swarm, 0)
    assert {item["Id"] for item in swarm.containers()} == before.keys()
    assert {task["ID"] for task in swarm.api("/tasks")} == tasks
    assert swarm.conmons() == conmons
    assert swarm.gitops("diff", path).returncode == 0
