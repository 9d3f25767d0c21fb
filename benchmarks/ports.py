"""A port published on loopback: throughput and round trips, ours and dockerd's (which has a proxy in user space)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import hosts, measure, traffic

ROUNDS = 5
PORT = 8080
PYTHON = os.path.realpath(sys.executable)
MOUNTED = [path for path in ("/usr", "/lib", "/lib64") if Path(path).exists()]
"""What this interpreter needs in a container that has busybox alone; its own prefix comes with it."""


def run() -> None:
    """A server in a container, a client in the host's namespace, both engines in turn."""
    with tempfile.TemporaryDirectory() as directory, hosts.ours() as ours, hosts.docker() as docker:
        archive = hosts.busybox_archive(Path(directory))
        engines = {"gitops": ours, "dockerd": docker}
        for environment, pid in engines.values():
            subprocess.run(["docker", "load", "-i", str(archive)], env=environment, check=True, capture_output=True)
            _serve(environment)
            _await(pid)
        rows = [("what", *engines, "ratio")]
        for kind, title, unit in (("bulk", "one stream", "MB/s"), ("trips", "round trip of 64 bytes", "µs")):
            found: dict[str, list[float]] = {name: [] for name in engines}
            for _ in range(ROUNDS):
                for name, (_, pid) in engines.items():
                    found[name].append(_figure(pid, kind))
            rows.append(measure.of_unit(title, found, unit))
        measure.show("Port published on 127.0.0.1, one connection", rows)


def _serve(environment: Mapping[str, str]) -> None:
    paths = [*MOUNTED, *([] if sys.base_prefix.startswith("/usr") else [sys.base_prefix])]
    mounts = [word for path in paths for word in ("-v", f"{path}:{path}:ro")]
    script = ("-v", f"{traffic.__file__}:/traffic.py:ro")
    publish = ("-p", f"127.0.0.1:{PORT}:{PORT}")
    command = ["docker", "run", "-d", *mounts, *script, *publish, "bench:1", PYTHON, "-I", "/traffic.py", "serve"]
    measure.command([*command, str(PORT)], environment)


def _await(pid: int) -> None:
    """Until a message comes back; that something accepts says nothing where a proxy does."""
    for _ in range(200):
        with contextlib.suppress(subprocess.CalledProcessError):
            _figure(pid, "trips")
            return
        time.sleep(0.05)
    raise RuntimeError(f"the server in the container does not answer on port {PORT}")


def _figure(pid: int, kind: str) -> float:
    command = [*hosts.enter(pid), PYTHON, "-I", traffic.__file__, kind, str(PORT)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
