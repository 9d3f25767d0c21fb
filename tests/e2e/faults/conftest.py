"""A host with a service, a network, a volume and plain containers, for tests that break something of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SERVICE = """\
apiVersion: gitops/v1
kind: Service
metadata: {name: web, stack: app}
spec:
  image: app:v1
  init: true
  ports: ["8080:8080"]
  networks: [front]
  volumes: ["data:/data"]
  stop_grace_period: 1s
  deploy: {replicas: 2, restart_policy: {delay: 500ms}, update_config: {parallelism: 2, monitor: 500ms}}
---
apiVersion: gitops/v1
kind: Network
metadata: {name: front, stack: app}
spec: {}
---
apiVersion: gitops/v1
kind: Volume
metadata: {name: data, stack: app}
spec: {}
"""
REPLICAS = 2


@dataclass
class Served:
    """A host whose service `web` answers on port 8080, and where its manifests are."""

    host: Any
    path: Path

    def apply(self, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = self.host.gitops("apply", self.path, "--yes", check=check)
        return done

    def tasks(self) -> list[dict[str, Any]]:
        """Tasks that are to run, and do."""
        return [
            task
            for task in self.host.api("/tasks")
            if task["DesiredState"] == "running" and task["Status"]["State"] == "running"
        ]

    def web(self) -> dict[str, dict[str, Any]]:
        """The service's running containers by id."""
        label = "com.docker.swarm.service.name"
        return {item["Id"]: item for item in self.host.containers() if label in item["Labels"]}

    def replaced(self, former: str, timeout: float = 20) -> None:
        """Wait until the container is gone and another one serves in its place."""

        def is_done() -> bool:
            running = set(self.web())
            return former not in running and len(running) == REPLICAS and len(self.tasks()) == REPLICAS

        self.host.wait(is_done, timeout, f"container {former[:12]} was not replaced")

    def settled(self, plain: int = 0, timeout: float = 30) -> None:
        """Wait until the host holds exactly what it should; the error says what it doesn't."""
        end = time.monotonic() + timeout
        while True:
            try:
                return self.check(plain)
            except (AssertionError, KeyError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def check(self, plain: int = 0) -> None:
        host, wanted = self.host, REPLICAS + plain
        running = host.containers()
        assert len(running) == wanted, [item["Names"] for item in running]
        ids = {item["Id"] for item in running}
        tasks = {task["Status"]["ContainerStatus"]["ContainerID"] for task in self.tasks()}
        assert tasks == set(self.web())
        assert len(host.conmons()) == wanted, f"{len(host.conmons())} conmons for {wanted} containers"
        assert set(host.cgroups()) == ids, "cgroups"
        assert names(host.run_root / "netns") == ids, "namespaces"
        assert names(host.run_root / "bundles") == ids, "bundles"
        assert names(host.run_root / "state") - {".cache"} == ids, "runtime state"  # newer cruns have a cache there
        assert {Path(mount).parent.name for mount in host.mounts() if mount.endswith("rootfs")} == ids, "overlays"
        everything = {item["Id"] for item in host.api("/containers/json?all=true")}
        assert names(host.data_root / "containers") == everything, "containers' directories"
        assert host.get("http://127.0.0.1:8080/") == "v1\n"
        found = host.gitops("diff", self.path, check=False)
        assert found.returncode == 0, found.stdout + found.stderr

    def calm(self, tracebacks: int = 0) -> None:
        """The log holds no (further) traceback."""
        text = self.host.log.read_text()
        assert text.count("Traceback (most recent call last)") <= tracebacks, text[-6000:]

    def pid(self, container: str) -> int:
        """The first process of a container."""
        return int(self.host.api(f"/containers/{container}/json")["State"]["Pid"])

    def conmon(self, container: str) -> int:
        return int((self.host.run_root / "bundles" / container / "conmon.pid").read_text())

    def run_plain(self, name: str, *options: str, command: tuple[str, ...] = ()) -> str:
        """A container outside of the swarm; its id."""
        words = command or ("/bin/busybox", "sleep", "1000")
        found: str = self.host.docker("run", "-d", "--init", "--name", name, *options, "app:v1", *words).strip()
        return found

    def state(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.host.api(f"/containers/{name}/json")["State"]
        return found


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def end_processes(host: Any) -> None:
    """Kill every process of the host's containers, as a power cut does."""
    pids = set(host.conmons())
    for path in Path("/sys/fs/cgroup").glob(f"*/{host.name}/*/cgroup.procs"):
        pids |= {int(word) for word in path.read_text().split()}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 5
    while any(Path(f"/proc/{pid}/status").exists() and not is_zombie(pid) for pid in pids):
        assert time.monotonic() < end, "processes don't end"
        time.sleep(0.02)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def remove_groups(host: Any) -> None:
    for pattern in (f"*/{host.name}/*", f"*/{host.name}"):
        for path in Path("/sys/fs/cgroup").glob(pattern):
            if path.is_dir():
                path.rmdir()


def remove_tree(host: Any, folder: Path) -> None:
    """Delete a directory of the host, after a look at the mount table."""
    assert host.directory in folder.parents
    assert not [mount for mount in host.mounts() if Path(mount) == folder or folder in Path(mount).parents]
    shutil.rmtree(folder)


def power_cut(host: Any) -> None:
    """Everything goes that lives in memory: processes, mounts, the run root, networks, rules, cgroups."""
    if host.daemon is not None:
        host.kill()
    end_processes(host)
    for mount in sorted(host.mounts(), key=len, reverse=True):
        subprocess.run(["umount", mount], check=True)
    subprocess.run(["ip", "netns", "delete", host.name], check=True)
    subprocess.run(["ip", "netns", "add", host.name], check=True)
    subprocess.run(["ip", "-n", host.name, "link", "set", "lo", "up"], check=True)
    remove_tree(host, host.run_root)
    remove_groups(host)


@pytest.fixture
def lay_out(project: Any, image: Any) -> Callable[..., Path]:
    """Writes the manifests of the service."""

    def make(name: str = "project") -> Path:
        return Path(project({"app.yaml": SERVICE, "image.yaml": image("app:v1", "v1")}, name))

    return make


@pytest.fixture
def served(swarm: Any, lay_out: Callable[..., Path], serve: Callable[[Any, Path], Served]) -> Served:
    """A host with the service applied."""
    return serve(swarm, lay_out())


@pytest.fixture
def serve() -> Callable[[Any, Path], Served]:
    """Applies manifests to a host that is a swarm."""

    def make(host: Any, path: Path) -> Served:
        made = Served(host, path)
        made.apply()
        made.settled()
        return made

    return make


@pytest.fixture
def cut_power() -> Callable[[Any], None]:
    return power_cut
