"""Starting containers: one, and fifty eight at a time, through the same docker CLI on ours and on dockerd."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import hosts, measure

ONE = 15
MANY = 50
WORKERS = 8


def run() -> None:
    """Both engines up, rounds taken in turn, so that both see the same machine."""
    with tempfile.TemporaryDirectory() as directory, hosts.ours() as ours, hosts.docker() as docker:
        archive = hosts.busybox_archive(Path(directory))
        engines = {"gitops": ours, "dockerd": docker}
        for environment, _ in engines.values():
            subprocess.run(["docker", "load", "-i", str(archive)], env=environment, check=True, capture_output=True)
        idle = {name: measure.resident(pid) for name, (_, pid) in engines.items()}
        one: dict[str, list[float]] = {name: [] for name in engines}
        rm: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(ONE):
            for name, (environment, _) in engines.items():
                one[name].append(_timed(environment, "run", "-d", "--name", "one", "bench:1"))
                rm[name].append(_timed(environment, "rm", "-f", "one"))
        many: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(3):
            for name, (environment, _) in engines.items():
                many[name].append(_fifty(environment))
        rows = [("start", "gitops", "dockerd", "ratio")]
        rows.append(_row("one container (run -d)", one))
        rows.append(_row(f"{MANY} containers, {WORKERS} at a time", many))
        rows.append(_row("rm -f of one that runs", rm))
        memory = [f"{idle[name] / 2**20:.0f} MiB" for name in engines]
        rows.append(("daemon's resident memory, idle", *memory, f"{idle['gitops'] / idle['dockerd']:.2f}"))
        measure.show("Containers (the docker CLI's own time included)", rows)


def _row(title: str, figures: dict[str, list[float]]) -> tuple[str, str, str, str]:
    ratio = statistics.median(figures["gitops"]) / statistics.median(figures["dockerd"])
    return title, measure.spread(figures["gitops"]), measure.spread(figures["dockerd"]), f"{ratio:.2f}"


def _timed(environment: dict[str, str], *arguments: str) -> float:
    begin = time.perf_counter()
    subprocess.run(["docker", *arguments], env=environment, check=True, capture_output=True)
    return time.perf_counter() - begin


def _fifty(environment: dict[str, str]) -> float:
    names = [f"many-{number}" for number in range(MANY)]
    begin = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda name: _timed(environment, "run", "-d", "--name", name, "bench:1"), names))
    taken = time.perf_counter() - begin
    subprocess.run(["docker", "rm", "-f", *names], env=environment, check=True, capture_output=True)
    return taken
