"""Engines beside each other in one network namespace: both work, and neither sees or removes what is the other's."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture
def beside(served: Any) -> Iterator[Any]:
    """A second engine in the same namespace, with roots and a cgroup parent of its own."""
    host = served.host
    other = type(host)(f"{host.name}b", Path(tempfile.mkdtemp(prefix="gt-")))
    other.command = host.command
    other.start()
    other.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    yield other
    other.close()


def second(lay_out: Callable[..., Path]) -> Path:
    path = lay_out("second")
    for file in path.glob("*.yaml"):
        text = file.read_text().replace("8080:8080", "8081:8080").replace("v1\\n", "other\\n")
        file.write_text(text)
    return path


def tables(host: Any) -> dict[str, str]:
    """Every nft table by name, as text without counters."""
    listed = json.loads(host.run("nft", "-j", "list", "tables").stdout)["nftables"]
    found = {}
    for item in listed:
        if "table" in item:
            family, name = item["table"]["family"], item["table"]["name"]
            found[f"{family} {name}"] = host.run("nft", "-s", "list", "table", family, name).stdout
    return found


def links(host: Any, prefix: str) -> set[str]:
    return {name for name in host.links() if name.startswith(prefix)}


def test_two_engines_in_one_namespace_share_nothing(served: Any, beside: Any, lay_out: Any) -> None:
    host = served.host
    path = second(lay_out)
    beside.gitops("apply", path, "--yes")
    assert beside.get("http://127.0.0.1:8081/") == "other\n"
    first = set(served.web())
    others = {item["Id"] for item in beside.containers()}
    assert len(first) == len(others) == 2 and not first & others
    assert host.docker("network", "ls", "-q") != beside.docker("network", "ls", "-q")
    # A port of one is refused to the other by name.
    beside.docker("create", "--name", "greedy", "-p", "8080:8080", "app:v1")
    refused = beside.run("docker", "start", "greedy", check=False)
    assert "port is already allocated" in refused.stderr or "8080" in refused.stderr, refused.stderr
    # Each crashes and comes back, and touches nothing of the other.
    for mine, its in ((beside, host), (host, beside)):
        kept, seen = tables(host), {item["Id"]: item["State"] for item in its.containers()}
        mine.kill()
        mine.start()
        assert tables(host).keys() == kept.keys()
        assert {item["Id"]: item["State"] for item in its.containers()} == seen
        assert host.get("http://127.0.0.1:8080/") == "v1\n"
        assert host.get("http://127.0.0.1:8081/") == "other\n"
    served.check()
    assert host.gitops("diff", served.path).returncode == 0
    assert beside.gitops("diff", path).returncode == 0
    # One goes with all it has.
    before = host.links()
    beside.gitops(*roots(beside, "engine", "stop"), "--containers")
    beside.daemon = None
    served.settled()
    assert host.get("http://127.0.0.1:8081/") == ""
    gone = set(before) - set(host.links())
    assert gone and not [name for name in gone if name in links(host, "lo")]
    assert len([name for name in tables(host) if "gitops" in name]) == 1
    served.calm()


def roots(host: Any, *words: str) -> list[str]:
    return [*words, "--data-root", str(host.data_root), "--run-root", str(host.run_root)]


@pytest.fixture
def dockerd(served: Any) -> Iterator[Callable[..., str]]:
    """A real dockerd in the host's namespace; the docker CLI on it."""
    host = served.host
    folder = Path(tempfile.mkdtemp(prefix="gt-d-"))
    address = f"unix://{folder}/docker.sock"
    words = ["dockerd", "-H", address, "--data-root", folder / "data", "--exec-root", folder / "exec"]
    words += ["-p", folder / "docker.pid", "--storage-driver", "overlay2"]
    daemon = host.spawn(*words, log=folder / "dockerd.log")

    def docker(*arguments: str, check: bool = True) -> str:
        return str(host.run("docker", "-H", address, *arguments, check=check).stdout)

    def answers() -> bool:
        done = host.run("docker", "-H", address, "version", check=False)
        assert daemon.poll() is None, (folder / "dockerd.log").read_text()[-3000:]
        return bool(done.returncode == 0)

    try:
        host.wait(answers, 40, "dockerd does not answer")
        yield docker
    finally:
        with contextlib.suppress(AssertionError):
            ids = docker("ps", "-aq").split()
            if ids:
                docker("rm", "-f", *ids)
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(30)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            point = line.split()[4]
            if point.startswith(f"{folder}/"):
                subprocess.run(["umount", "-l", point], check=False)
        if str(folder) not in Path("/proc/self/mountinfo").read_text():
            subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)


def busybox(folder: Path) -> Path:
    """An archive for `docker import`: Debian's static busybox and a page."""
    root = folder / "root"
    (root / "bin").mkdir(parents=True)
    (root / "www").mkdir()
    subprocess.run(["cp", "/bin/busybox", root / "bin" / "busybox"], check=True)
    (root / "www" / "index.html").write_text("docker\n")
    archive = folder / "image.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    return archive


def test_beside_dockerd_both_serve_and_leave_each_other_alone(
    served: Any, dockerd: Callable[..., str], tmp_path: Path
) -> None:
    host = served.host
    time.sleep(6)  # our watch looks at what dockerd did to the firewalls
    assert host.get("http://127.0.0.1:8080/") == "v1\n"
    served.settled()
    dockerd("import", str(busybox(tmp_path)), "local/page:v1")
    httpd = ("/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www")
    theirs = dockerd("run", "-d", "--name", "theirs", "-p", "9191:8080", "local/page:v1", *httpd).strip()
    address = dockerd("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "theirs").strip()
    host.wait(lambda: host.get(f"http://{address}:8080/") == "docker\n", 10, "dockerd's container does not answer")
    kept = dockerd("network", "ls", "--no-trunc")
    assert theirs not in host.docker("ps", "-aq", "--no-trunc")
    # We crash, come back, replace a task, are stopped with all: theirs runs on.
    host.kill()
    host.start()
    served.settled()
    former = next(iter(served.web()))
    host.docker("rm", "-f", former)
    served.replaced(former)
    served.settled()
    assert host.get(f"http://{address}:8080/") == "docker\n"
    assert dockerd("network", "ls", "--no-trunc") == kept
    # A port that dockerd has is refused.
    host.docker("create", "--name", "greedy", "-p", "9191:8080", "app:v1", *httpd)
    refused = host.run("docker", "start", "greedy", check=False)
    assert refused.returncode != 0 and "9191" in refused.stderr, refused.stderr
    host.docker("rm", "greedy")
    dockerd("rm", "-f", "theirs")
    served.settled()
    dockerd("run", "-d", "--name", "theirs", "local/page:v1", *httpd)
    host.gitops(*roots(host, "engine", "stop"), "--containers")
    host.daemon = None
    address = dockerd("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "theirs").strip()
    host.wait(lambda: host.get(f"http://{address}:8080/") == "docker\n", 10, "dockerd's container does not answer")
    assert not [name for name in tables(host) if "gitops" in name]
    assert not [line for line in host.run("nft", "list", "ruleset").stdout.splitlines() if "gitops" in line]
    served.calm()
