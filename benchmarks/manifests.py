"""Checks and plans of 1,000 and 10,000 services, beside `docker stack config` on the same as a Compose file."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import hosts, measure, standin

RUNS = {1000: 5, 10_000: 3}
"""Services, and how often each command is run with them."""
A_FILE = 50
_DECLARED = 1000
"""Services that our daemon is given; declaring ten times as many takes it minutes."""
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
        with tempfile.TemporaryDirectory() as directory:
            path, compose = lay_out(Path(directory), count, replicas=0)
            if count <= _DECLARED:
                with hosts.ours() as (environment, daemon):
                    subprocess.run(["docker", "swarm", "init"], env=environment, check=True, capture_output=True)
                    _plans(path, compose, count, runs, environment["GITOPS_HOST"], daemon, "our daemon")
            else:
                with standin.holding(Path(directory), path) as (host, process):
                    _plans(path, compose, count, runs, host, process, "our API over a store in memory")


def _checks(path: Path, compose: Path, count: int, runs: int) -> None:
    """`validate` beside `docker stack config`: of a set that is new, of one that was valid before, and of a new one
    without the compiled modules that an installed program has."""
    command = [str(hosts.BIN / "gitops"), "validate", str(path)]
    with tempfile.TemporaryDirectory() as kept:
        plain = {key: value for key, value in os.environ.items() if key != _NO_COMPILED}
        compiled = plain | {"PYTHONPYCACHEPREFIX": kept}
        first, again = compiled | {"XDG_CACHE_HOME": "/dev/null"}, compiled | {"XDG_CACHE_HOME": kept}
        bare = plain | {"XDG_CACHE_HOME": "/dev/null", "PYTHONPYCACHEPREFIX": "/dev/null", _NO_COMPILED: "1"}
        commands = {
            "gitops validate, first time": (command, first),
            "gitops validate, again": (command, again),
            "gitops validate, nothing compiled": (command, bare),
            _PEER: (["docker", "stack", "config", "-c", str(compose)], plain),
        }
        measure.command(command, again)  # compiles, and remembers
        samples: dict[str, list[measure.Sample]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, (words, environment) in commands.items():
                samples[name].append(measure.command(words, environment))
    peer = measure.median(samples[_PEER])
    rows = [("command", "wall", "CPU, all processes", "peak memory of one", f"wall / {_PEER}")]
    for name, taken in samples.items():
        middle = measure.median(taken)
        figures = f"{middle.wall_s:.2f} s", f"{middle.cpu_s:.2f} s", f"{middle.peak_bytes / 2**20:.0f} MiB"
        rows.append((name, *figures, f"{middle.wall_s / peer.wall_s:.2f}"))
    measure.show(f"{count} services checked, median of {runs}", rows)


def _plans(path: Path, compose: Path, count: int, runs: int, host: str, process: int, engine: str) -> None:
    """Passes of a reconciler over an engine that holds the services, without tasks; their images are by digest."""
    command = [sys.executable, "-m", "benchmarks.planning", host, str(path), str(runs)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    peer = measure.median([measure.command(["docker", "stack", "config", "-c", str(compose)]) for _ in range(2)])
    rows = [("pass up to the plan", "wall", "CPU without the engine's", f"wall / {_PEER}")]
    for kind, title in (("first", "first"), ("unchanged", "nothing changed"), ("changed", "one file changed")):
        wall = [sample[0] for sample in found[kind]]
        cpu = statistics.median(sample[1] for sample in found[kind])
        ratio = f"{statistics.median(wall) / peer.wall_s:.2f}"
        rows.append((title, measure.spread(wall), f"{1000 * cpu:.0f} ms", ratio))
    memory = (
        f"peak memory {found['peak_bytes'] / 2**20:.0f} MiB, the engine {measure.resident(process) / 2**20:.0f} MiB"
    )
    measure.show(f"{count} services on {engine}, planned {runs} times each; {memory}", rows)


def _indent(text: str, width: int) -> str:
    return "".join(" " * width + line + "\n" for line in text.splitlines()).rstrip("\n")
