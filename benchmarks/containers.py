"""A container's life, one at a time and fifty eight at a time, and the memory of it all: the same docker CLI on ours
and on dockerd."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import hosts, measure

ROUNDS = 9
"""Of one container; of many there are three."""
MANY_ROUNDS = 3
MANY = 50
WORKERS = 8
STOPPABLE = ("/bin/busybox", "sh", "-c", "trap 'exit 0' TERM; /bin/sleep 3600 & wait")
"""Ends at once when told to, as servers do; as process 1, sleep alone would wait for the SIGKILL."""

Figures = dict[str, dict[str, list[float]]]
"""By title and engine: seconds."""


def run() -> None:
    """Both engines up, rounds taken in turn, so that both see the same machine."""
    with tempfile.TemporaryDirectory() as directory, hosts.ours() as ours, hosts.docker() as docker:
        archive = hosts.busybox_archive(Path(directory))
        engines = {"gitops": ours, "dockerd": docker}
        for environment, _ in engines.values():
            subprocess.run(["docker", "load", "-i", str(archive)], env=environment, check=True, capture_output=True)
        idle = {name: measure.beside(pid) for name, (_, pid) in engines.items()}
        alone = {name: measure.resident(pid) for name, (_, pid) in engines.items()}
        figures: Figures = defaultdict(lambda: defaultdict(list))
        for _ in range(ROUNDS):
            for name, (environment, _) in engines.items():
                for title, seconds in _life(environment).items():
                    figures[title][name].append(seconds)
        full: dict[str, int] = {}
        for _ in range(MANY_ROUNDS):
            for name, (environment, pid) in engines.items():
                started, full[name], removed = _fifty(environment, pid)
                figures[f"{MANY} containers, {WORKERS} at a time"][name].append(started)
                figures[f"rm -f of {MANY} that run"][name].append(removed)
        rows = [("what", *engines, "ratio")]
        rows += [measure.compared(title, found) for title, found in figures.items()]
        measure.show("Containers (the docker CLI's own time included)", rows)
        rows = [("memory", *engines, "ratio"), measure.sizes("the daemon, resident, idle", alone)]
        rows.append(measure.sizes("daemon and helpers, proportional, idle", idle))
        rows.append(measure.sizes(f"daemon and helpers, proportional, with {MANY} containers", full))
        measure.show("Memory (helpers: conmon; containerd and its shims)", rows)


def _life(environment: Mapping[str, str]) -> dict[str, float]:
    """One of each: started, entered, stopped, removed."""
    found = {"run --rm … true": _timed(environment, "run", "--rm", "bench:1", "/bin/true")}
    found["run -d"] = _timed(environment, "run", "-d", "--name", "one", "bench:1", *STOPPABLE)
    found["exec … true"] = _timed(environment, "exec", "one", "/bin/true")
    found["stop"] = _timed(environment, "stop", "one")
    found["rm of one that ended"] = _timed(environment, "rm", "one")
    _timed(environment, "run", "-d", "--name", "one", "bench:1")
    found["rm -f of one that runs"] = _timed(environment, "rm", "-f", "one")
    return found


def _timed(environment: Mapping[str, str], *arguments: str) -> float:
    return measure.command(["docker", *arguments], environment).wall_s


def _fifty(environment: Mapping[str, str], pid: int) -> tuple[float, int, float]:
    """Seconds until they run, bytes of memory then, seconds until they're gone."""
    names = [f"many-{number}" for number in range(MANY)]
    begin = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda name: _timed(environment, "run", "-d", "--name", name, "bench:1"), names))
    started = time.perf_counter() - begin
    return started, measure.beside(pid), _timed(environment, "rm", "-f", *names)
