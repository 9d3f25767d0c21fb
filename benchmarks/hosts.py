"""Two engines side by side, each in a network namespace of its own: ours, and Debian's dockerd with its containerd."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

BIN = Path(sys.executable).parent
CONTAINERD = """\
version = 2
root = "{root}/containerd"
state = "{root}/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{root}/containerd.sock"
"""


@contextlib.contextmanager
def namespace(name: str) -> Iterator[list[str]]:
    """The words that run a command in a new network namespace."""
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        # Entered by nsenter: `ip netns exec` remounts /sys and hides the cgroups.
        yield ["nsenter", f"--net=/run/netns/{name}"]
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False)


@contextlib.contextmanager
def ours() -> Iterator[tuple[dict[str, str], int]]:
    """The built-in engine: the environment for the docker CLI, and the daemon's pid."""
    with namespace(f"gtb{os.getpid()}") as enter, tempfile.TemporaryDirectory(prefix="gtb-") as directory:
        root = Path(directory)
        socket = f"unix://{root}/run/engine.sock"
        command = [str(BIN / "gitops"), "engine", "run", "--data-root", f"{root}/data", "--run-root", f"{root}/run"]
        log = (root / "engine.log").open("wb")
        daemon = subprocess.Popen([*enter, *command, "--cgroup-parent", f"gtb{os.getpid()}"], stdout=log, stderr=log)
        environment = _environment(root, socket)
        try:
            _wait(environment, daemon)
            yield environment, daemon.pid
        finally:
            _remove_containers(environment)
            _end(daemon)
            log.close()
            _unmount(root)


@contextlib.contextmanager
def docker() -> Iterator[tuple[dict[str, str], int]]:
    """dockerd, started by hand: the environment for the docker CLI, and the daemon's pid."""
    with namespace(f"gtd{os.getpid()}") as enter, tempfile.TemporaryDirectory(prefix="gtd-") as directory:
        root = Path(directory)
        (root / "containerd.toml").write_text(CONTAINERD.format(root=root))
        log = (root / "docker.log").open("wb")
        containerd = subprocess.Popen(
            [*enter, "containerd", "-c", str(root / "containerd.toml")], stdout=log, stderr=log
        )
        while not (root / "containerd.sock").exists():
            time.sleep(0.05)
        daemon = subprocess.Popen(
            [
                *(*enter, "dockerd", "--containerd", f"{root}/containerd.sock", "-H", f"unix://{root}/docker.sock"),
                *("--data-root", f"{root}/data", "--exec-root", f"{root}/exec", "-p", f"{root}/docker.pid"),
                *("--storage-driver", "overlay2"),
            ],
            stdout=log,
            stderr=log,
        )
        environment = _environment(root, f"unix://{root}/docker.sock")
        try:
            _wait(environment, daemon)
            yield environment, daemon.pid
        finally:
            _remove_containers(environment)
            _end(daemon)
            _end(containerd)
            log.close()
            _unmount(root)


def enter(pid: int) -> list[str]:
    """The words that run a command in the network namespace of an engine, by its daemon's pid."""
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


def _environment(root: Path, socket: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKER_", "GITOPS_"))}
    return kept | {"DOCKER_HOST": socket, "GITOPS_HOST": socket, "DOCKER_CONFIG": str(root / "config")}


def _wait(environment: dict[str, str], daemon: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if daemon.poll() is not None:
            raise RuntimeError(f"{daemon.args!r} ended with {daemon.returncode}")
        done = subprocess.run(["docker", "version"], env=environment, capture_output=True, check=False)
        if done.returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError(f"{daemon.args!r} does not answer")


def _remove_containers(environment: dict[str, str]) -> None:
    found = subprocess.run(["docker", "ps", "-aq"], env=environment, capture_output=True, text=True, check=False)
    if found.stdout.split():
        subprocess.run(["docker", "rm", "-f", *found.stdout.split()], env=environment, capture_output=True, check=False)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _unmount(root: Path) -> None:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(root) in line]
    for mount in sorted(mounts, key=len, reverse=True):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)


def busybox_archive(directory: Path) -> Path:
    """An image `bench:1` of busybox alone, as an archive that both engines load."""
    from gitops.oci import builder

    entries: list[builder.Entry] = [
        builder.FileEntry(Path(shutil.which("busybox") or "/bin/busybox"), "/bin/busybox", 0o755),
        builder.LinkEntry("/bin/busybox", "/bin/sleep"),
        builder.LinkEntry("/bin/busybox", "/bin/true"),
    ]
    plan = builder.BuildPlan([entries], builder.BuildConfig(cmd=["/bin/sleep", "3600"]), None, ["bench:1"])
    path = directory / "bench.tar"
    with builder.build(plan) as built, path.open("wb") as output:
        builder.write_archive(built, output)
    return path
