"""What is done to containers and volumes after they were made: update, sizes, filters, prune, volumes' options."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

Archive = Callable[[str], Path]
SLEEP = ("app:1", "sleep", "1000")


@pytest.fixture
def loaded(host: Any, archive: Archive) -> Any:
    """A host that has the image app:1."""
    host.docker("load", "-i", str(archive("app:1")))
    return host


def _host_config(host: Any, container: str) -> dict[str, Any]:
    (found,) = json.loads(host.docker("inspect", container))
    return dict(found["HostConfig"])


def test_limits_and_the_restart_policy_are_updated(loaded: Any) -> None:
    loaded.docker("run", "-d", "--name", "box", "--pids-limit", "50", "-m", "64m", "--cpus", "1", *SLEEP)
    loaded.docker("create", "--name", "still", *SLEEP)
    flags = ["--pids-limit", "20", "-m", "128m", "--memory-swap", "256m", "--cpus", "0.5", "--cpuset-cpus", "0"]
    loaded.docker("update", *flags, "--restart", "on-failure:3", "box", "still")
    for name in ("box", "still"):
        found = _host_config(loaded, name)
        assert (found["PidsLimit"], found["Memory"], found["NanoCpus"]) == (20, 128 << 20, 5 * 10**8)
        assert found["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    (found,) = json.loads(loaded.docker("inspect", "box"))
    assert "Cpus_allowed_list:\t0\n" in Path(f"/proc/{found['State']['Pid']}/status").read_text()
    stats = json.loads(loaded.docker("stats", "--no-stream", "--format", "{{json .}}", "box"))
    assert stats["MemUsage"].endswith("128MiB")
    assert "CPU Period cannot be updated as NanoCPUs has already been set" in loaded.docker_fails(
        "update", "--cpu-period", "5000", "box"
    )
    assert "update the memoryswap at the same time" in loaded.docker_fails("update", "-m", "512m", "box")
    assert "unknown policy" in loaded.docker_fails("update", "--restart", "sometimes", "box")
    loaded.docker("run", "-d", "--rm", "--name", "brief", *SLEEP)
    assert "because AutoRemove is enabled" in loaded.docker_fails("update", "--restart", "always", "brief")
    assert "No such container: gone" in loaded.docker_fails("update", "-m", "64m", "gone")


def test_containers_are_filtered_measured_and_pruned(loaded: Any) -> None:
    loaded.docker("network", "create", "own")
    loaded.docker("run", "-d", "--name", "up", "--network", "own", "-l", "a=1", "-v", "data:/data", *SLEEP)
    script = "busybox dd if=/dev/zero of=/fill bs=1k count=200 2>/dev/null; exit 3"
    loaded.docker("run", "-d", "--name", "ended", "-l", "a=2", "-v", "/anon", "app:1", "sh", "-c", script)
    loaded.docker("create", "--name", "new", "-l", "keep", *SLEEP)
    assert loaded.docker("wait", "ended").strip() == "3"
    for flag, names in (
        ("status=running", ["up"]),
        ("exited=3", ["ended"]),
        ("label=a=1", ["up"]),
        ("network=own", ["up"]),
        ("volume=data", ["up"]),
        ("volume=/anon", ["ended"]),
        ("name=^/?e", ["ended"]),
        ("since=up", ["new", "ended"]),
        ("before=ended", ["up"]),
        ("ancestor=app:1", ["new", "ended", "up"]),
    ):
        assert loaded.docker("ps", "-a", "--filter", flag, "--format", "{{.Names}}").split() == names, flag
    assert "kB (virtual" in loaded.docker("ps", "-as", "--filter", "name=ended", "--format", "{{.Size}}")
    assert json.loads(loaded.docker("inspect", "-s", "ended"))[0]["SizeRw"] >= 200 * 1024
    assert loaded.docker("network", "prune", "-f") == ""
    assert loaded.docker("container", "prune", "-f", "--filter", "until=1h").split("\n")[0].startswith("Total")
    pruned = loaded.docker("container", "prune", "-f", "--filter", "label!=keep")
    assert "Total reclaimed space: 2" in pruned
    assert loaded.docker("ps", "-a", "--format", "{{.Names}}").split() == ["new", "up"]
    assert len(loaded.docker("volume", "ls", "-q", "--filter", "dangling=true").split()) == 1
    assert "Deleted Volumes" in loaded.docker("volume", "prune", "-f")
    loaded.docker("container", "prune", "-f")
    assert loaded.docker("ps", "-aq", "--no-trunc").strip() == loaded.docker("ps", "-q", "--no-trunc").strip()


def test_volumes_have_labels_options_and_users(loaded: Any, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("bound\n")
    loaded.docker("volume", "create", "--label", "tier=a", "plain")
    options = ["-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=1001"]
    loaded.docker("volume", "create", *options, "--label", "tier=b", "memory")
    loaded.docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}/real", "bound")
    mounts = ["-v", "memory:/memory", "-v", "bound:/bound", "-v", "plain:/www", "-v", "fresh:/etc:nocopy"]
    script = "busybox df -k /memory | busybox tail -n 1; busybox stat -c %u /memory; cat /bound/file /www/index.html; "
    done = loaded.docker("run", "--rm", *mounts, "app:1", "sh", "-c", script + "ls /etc").splitlines()
    assert " 1024 " in done[0] and done[1:4] == ["1001", "bound", "app:1"]
    assert "passwd" not in done
    assert loaded.docker("volume", "ls", "-q", "--filter", "label=tier").split() == ["memory", "plain"]
    assert loaded.docker("volume", "ls", "-q", "--filter", "name=oun").split() == ["bound"]
    assert json.loads(loaded.docker("volume", "inspect", "memory"))[0]["Options"]["type"] == "tmpfs"
    loaded.docker("run", "-d", "--name", "user", "-v", "plain:/x", *SLEEP)
    assert "volume is in use" in loaded.docker_fails("volume", "rm", "plain")
    assert 'invalid option: "colour"' in loaded.docker_fails("volume", "create", "-o", "colour=red", "other")
    assert 'plugin "nope" not found' in loaded.docker_fails("volume", "create", "-d", "nope", "other")
    assert "includes invalid characters" in loaded.docker_fails("volume", "create", "a/b")
    pruned = loaded.docker("volume", "prune", "-f", "-a", "--filter", "label!=tier=b")
    assert "bound" in pruned and "fresh" in pruned and "memory" not in pruned and "plain" not in pruned
    assert (tmp_path / "real" / "file").read_text() == "bound\n"
    loaded.docker("rm", "-f", "-v", "user")
    loaded.docker("volume", "rm", "plain", "memory")
