"""Validate and diff of 1,000 services, beside `docker stack config` on the same services as a Compose file."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks import hosts, measure

SERVICES = 1000
RUNS = 5

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
  replicas: 3
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


def lay_out(directory: Path, count: int = SERVICES) -> tuple[Path, Path]:
    """The manifests (fifty services a file) and the Compose file of the same services."""
    path = directory / "manifests"
    path.mkdir()
    compose = ["services:"]
    for begin in range(0, count, 50):
        documents = []
        for number in range(begin, min(begin + 50, count)):
            digest = hashlib.sha256(str(number).encode()).hexdigest()
            body = BODY.format(number=number, digest=digest, team=number % 7, port=10000 + number)
            documents.append(SERVICE.format(number=number, body=_indent(body, 2)))
            compose.append(f"  web-{number}:\n{_indent(body, 4)}")
        (path / f"services-{begin:05}.yaml").write_text("---\n".join(documents))
    compose_file = directory / "compose.yaml"
    compose_file.write_text('version: "3.8"\n' + "\n".join(compose) + "\n")
    return path, compose_file


def run() -> None:
    """Whole processes, interpreter start included."""
    gitops = str(hosts.BIN / "gitops")
    with tempfile.TemporaryDirectory() as directory, hosts.ours() as (environment, _):
        path, compose = lay_out(Path(directory))
        subprocess.run(["docker", "swarm", "init"], env=environment, check=True, capture_output=True)
        commands = {
            "gitops validate": ([gitops, "validate", str(path)], (0,)),
            "gitops diff (all to create)": ([gitops, "diff", str(path)], (2, 3)),
        }
        if shutil.which("docker"):
            commands["docker stack config"] = (["docker", "stack", "config", "-c", str(compose)], (0,))
        samples: dict[str, list[measure.Sample]] = {name: [] for name in commands}
        for _ in range(RUNS):
            for name, (command, ok) in commands.items():
                samples[name].append(measure.command(command, environment, ok))
        peer = measure.median(samples["docker stack config"]) if "docker stack config" in samples else None
        rows = [("command", "wall", "CPU", "peak memory", "wall / docker stack config")]
        for name, found in samples.items():
            middle = measure.median(found)
            ratio = f"{middle.wall_s / peer.wall_s:.2f}" if peer else ""
            figures = f"{middle.wall_s:.2f} s", f"{middle.cpu_s:.2f} s", f"{middle.peak_bytes / 2**20:.0f} MiB"
            rows.append((name, *figures, ratio))
        measure.show(f"{SERVICES} services, median of {RUNS}", rows)


def _indent(text: str, width: int) -> str:
    return "".join(" " * width + line + "\n" for line in text.splitlines()).rstrip("\n")
