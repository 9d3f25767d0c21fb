"""Checks and plans of 1,000 and 10,000 services, beside `docker stack config` on the same as a Compose file."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks import hosts, measure

RUNS = {1000: 5, 10_000: 3}
"""Services, and how often each command is run with them."""
A_FILE = 50
_PEER = "docker stack config"
_NO_COMPILED = "PYTHONDONTWRITEBYTECODE"

SERVICE = """\
apiVersion: gitops/v1
kind: Service
metadata: {{name: web-{number}, stack: bench}}
spec:
{body}
"""
BODY = """\
image: registry.example/app-{number}:1.{number}@sha256:{digest}
command: [server, --port, "8080", --workers, "4"]
environment:
  LOG_LEVEL: info
  DATABASE: postgres://db.example/app{number}
  REGION: eu-1
labels:
  com.example.team: team-{team}
healthcheck:
  test: [CMD, /bin/check, --port, "8080"]
  interval: 10s
  timeout: 2s
  retries: 3
stop_grace_period: 20s
ports:
  - target: 8080
    published: {port}
    protocol: tcp
    mode: ingress
deploy:
  replicas: {replicas}
  update_config:
    parallelism: 2
    delay: 10s
    order: start-first
  restart_policy:
    condition: on-failure
    delay: 5s
  resources:
    limits:
      cpus: "0.50"
      memory: 256M
  placement:
    constraints: [node.role == worker]
"""


def lay_out(directory: Path, count: int, replicas: int = 3) -> tuple[Path, Path]:
    """The manifests (fifty services a file) and the Compose file of the same services."""
    path = directory / "manifests"
    path.mkdir()
    compose = ["services:"]
    for begin in range(0, count, A_FILE):
        documents = []
        for number in range(begin, min(begin + A_FILE, count)):
            digest = hashlib.sha256(str(number).encode()).hexdigest()
            body = BODY.format(number=number, digest=digest, team=number % 7, port=10000 + number, replicas=replicas)
            documents.append(SERVICE.format(number=number, body=_indent(body, 2)))
            compose.append(f"  web-{number}:\n{_indent(body, 4)}")
        (path / f"services-{begin:05}.yaml").write_text("---\n".join(documents))
    compose_file = directory / "compose.yaml"
    compose_file.write_text('version: "3.8"\n' + "\n".join(compose) + "\n")
    return path, compose_file


def run() -> None:
    """Checks as whole processes, interpreter start included; plans by one process, as `watch` makes them."""
    for count, runs in RUNS.items():
        with tempfile.TemporaryDirectory() as directory:
            path, compose = lay_out(Path(directory), count)
            _checks(path, compose, count, runs)
    for count, runs in RUNS.items():
        with tempfile.TemporaryDirectory() as directory, hosts.ours() as (environment, daemon):
            path, compose = lay_out(Path(directory), count, replicas=0)
            subprocess.run(["docker", "swarm", "init"], env=environment, check=True, capture_output=True)
            _plans(path, compose, count, runs, environment, daemon)


def _checks(path: Path, compose: Path, count: int, runs: int) -> None:
    """`validate` beside `docker stack config`, with compiled modules as an installed program has them, and without."""
    command = [str(hosts.BIN / "gitops"), "validate", str(path)]
    with tempfile.TemporaryDirectory() as compiled:
        plain = {key: value for key, value in os.environ.items() if key != _NO_COMPILED}
        commands = {
            "gitops validate": (command, plain | {"PYTHONPYCACHEPREFIX": compiled}),
            "gitops validate, nothing compiled": (
                command,
                plain | {"PYTHONPYCACHEPREFIX": "/nowhere", _NO_COMPILED: "1"},
            ),
            _PEER: (["docker", "stack", "config", "-c", str(compose)], plain),
        }
        measure.command(*commands["gitops validate"])  # compiles
        samples: dict[str, list[measure.Sample]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, found in commands.items():
                samples[name].append(measure.command(*found))
    peer = measure.median(samples[_PEER])
    rows = [("command", "wall", "CPU, all processes", "peak memory of one", f"wall / {_PEER}")]
    for name, taken in samples.items():
        middle = measure.median(taken)
        figures = f"{middle.wall_s:.2f} s", f"{middle.cpu_s:.2f} s", f"{middle.peak_bytes / 2**20:.0f} MiB"
        rows.append((name, *figures, f"{middle.wall_s / peer.wall_s:.2f}"))
    measure.show(f"{count} services checked, median of {runs}", rows)


def _plans(path: Path, compose: Path, count: int, runs: int, environment: Mapping[str, str], daemon: int) -> None:
    """Passes of a reconciler over our engine, which holds the services with no task each; images are by digest."""
    command = [sys.executable, "-m", "benchmarks.planning", environment["GITOPS_HOST"], str(path), str(runs)]
    done = subprocess.run(command, env=dict(environment), check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    peer = measure.median([measure.command(["docker", "stack", "config", "-c", str(compose)]) for _ in range(2)])
    rows = [("pass up to the plan", "wall", "CPU without the engine's", f"wall / {_PEER}")]
    for kind, title in (("first", "first"), ("unchanged", "nothing changed"), ("changed", "one file changed")):
        wall = [sample[0] for sample in found[kind]]
        cpu = statistics.median(sample[1] for sample in found[kind])
        ratio = f"{statistics.median(wall) / peer.wall_s:.2f}"
        rows.append((title, measure.spread(wall), f"{1000 * cpu:.0f} ms", ratio))
    memory = f"{found['peak_bytes'] / 2**20:.0f} MiB, the engine {measure.resident(daemon) / 2**20:.0f} MiB"
    measure.show(f"{count} services planned by one process, {runs} passes each; peak memory {memory}", rows)


def _indent(text: str, width: int) -> str:
    return "".join(" " * width + line + "\n" for line in text.splitlines()).rstrip("\n")
