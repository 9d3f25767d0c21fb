"""Many lives of containers and services one after another: what the daemon and the host hold is what it was before."""

from __future__ import annotations

import json
import os
import re
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MEMORY_KB = 12_000
"""What allocators may keep without it being a leak."""


def holdings(host: Any) -> dict[str, Any]:
    """All that can be counted."""
    pid = host.daemon.pid
    rules = host.run("nft", "-j", "list", "ruleset").stdout
    return {
        "descriptors": Counter(kind(Path(f"/proc/{pid}/fd") / name) for name in os.listdir(f"/proc/{pid}/fd")),
        "processes": children(pid),
        "mounts": len(host.mounts()),
        "links": len(host.links()),
        "namespaces": len(list((host.run_root / "netns").iterdir())),
        "groups": len(host.cgroups()),
        "rules": elements(json.loads(rules)),
        "files": {name: count(root) for name, root in (("data", host.data_root), ("run", host.run_root))},
        "conmons": len(host.conmons()),
    }


def kind(path: Path) -> str:
    try:
        return re.sub(r"[0-9a-f]{12,}|\d+", "N", os.readlink(path))
    except OSError:
        return "the listing"


def children(pid: int) -> int:
    return sum(len(path.read_text().split()) for path in Path(f"/proc/{pid}/task").glob("*/children"))


def elements(listing: dict[str, Any]) -> int:
    found = 0
    for item in listing["nftables"]:
        for word in ("set", "map"):
            found += len(item.get(word, {}).get("elem", ()))
        # A chain that spreads over n containers is made once for each n, and stays.
        found += "rule" in item and not item["rule"]["chain"].startswith("lb")
    return found


def count(root: Path) -> int:
    # Layers' content never changes; what a database keeps beside itself does.
    return sum(not name.endswith(("-wal", "-shm")) for _, dirs, files in os.walk(root) for name in (*dirs, *files))


def status(host: Any, word: str) -> int:
    text = Path(f"/proc/{host.daemon.pid}/status").read_text()
    return int(re.search(rf"^{word}:\s+(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]


def compare(host: Any, before: dict[str, Any], memory: int, threads: int) -> None:
    def differences() -> dict[str, Any]:
        now = holdings(host)
        return {key: (before[key], now[key]) for key in before if before[key] != now[key]}

    try:
        host.wait(lambda: not differences(), 20, "something is left")
    except AssertionError as error:
        raise AssertionError(f"left: {differences()}") from error
    # Pools of threads grow to their size and stay.
    assert status(host, "Threads") <= threads + 8
    grown = status(host, "VmRSS") - memory
    assert grown < MEMORY_KB, f"{grown} KB more"


def lives(host: Any, number: int, at_once: int = 4) -> None:
    """Make, start and remove containers through the API."""
    socket = str(host.run_root / "engine.sock")
    body = json.dumps(
        {
            "Image": "app:v1",
            "Cmd": ["/bin/busybox", "sleep", "100"],
            "Healthcheck": {"Test": ["CMD", "/bin/busybox", "true"], "Interval": 1_000_000_000},
            "ExposedPorts": {"8080/tcp": {}},
            "Volumes": {"/own": {}},
            "HostConfig": {"PortBindings": {"8080/tcp": [{"HostPort": "0"}]}, "Init": True},
        }
    )
    script = f"""
set -e
call() {{ curl -sS --fail-with-body --unix-socket {socket} "$@"; }}
for i in $(seq {number}); do
    id=$(call -H 'Content-Type: application/json' -d '{body}' http://d/containers/create | cut -d'"' -f4)
    call -X POST http://d/containers/$id/start
    call "http://d/containers/$id/logs?stdout=1" >/dev/null
    call -X DELETE "http://d/containers/$id?force=1&v=1"
done
"""
    failures: list[str] = []

    def run() -> None:
        done = host.run("sh", "-c", script, check=False, timeout=500)
        if done.returncode:
            failures.append(done.stdout + done.stderr)

    threads = [threading.Thread(target=run) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def scalings(served: Any, times: int) -> None:
    host = served.host
    for _ in range(times):
        for replicas in (6, 2):
            host.docker("service", "scale", "-d", f"app_web={replicas}")
            host.wait(lambda wanted=replicas: len(served.web()) == wanted == len(served.tasks()), 30)


def run_through(served: Any, containers: int, times: int) -> None:
    host = served.host
    # What is made once and kept: threads, caches, modules.
    lives(host, 3)
    scalings(served, 2)
    served.settled()
    host.docker("network", "create", "seen")
    host.docker("network", "rm", "seen")
    before = holdings(host)
    memory, threads = status(host, "VmRSS"), status(host, "Threads")
    lives(host, containers // 4)
    scalings(served, times)
    for _ in range(5):
        host.docker("network", "create", "seen")
        host.docker("network", "rm", "seen")
    served.settled()
    compare(host, before, memory, threads)
    served.calm()


def test_nothing_is_left_of_containers_and_tasks_that_came_and_went(served: Any) -> None:
    run_through(served, 40, 3)


@pytest.mark.soak
def test_nothing_is_left_of_many_containers_and_tasks_that_came_and_went(served: Any) -> None:
    run_through(served, 200, 30)
