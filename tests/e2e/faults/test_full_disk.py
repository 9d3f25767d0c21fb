"""The disk is full: what needs space fails with clear words and leaves nothing half-made, what runs runs on, and when
there is space again everything works without a restart."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SIZE = "48m"


@pytest.fixture
def narrow(make_host: Callable[[], Any]) -> Any:
    """A swarm of one whose data root is a small file system of its own."""
    host = make_host()
    host.data_root.mkdir(mode=0o700)
    # Host.close unmounts it with all else.
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", host.data_root], check=True)
    host.start()
    host.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    return host


@contextlib.contextmanager
def full(host: Any) -> Iterator[None]:
    """Fill the data root to the last byte; empty it again afterwards."""
    filler = host.data_root / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    os.write(descriptor, b"x" * size)
        os.close(descriptor)
        yield
    finally:
        filler.unlink()


@pytest.fixture
def tight(narrow: Any, lay_out: Callable[..., Path], serve: Any) -> Any:
    return serve(narrow, lay_out())


def left_over(host: Any) -> set[str]:
    return {path.name for path in (host.data_root / "tmp").iterdir()} | {
        path.name for path in (host.data_root / "spool").glob("*")
    }


def test_a_full_disk_is_said_and_mended_by_space(tight: Any, project: Any, image: Any) -> None:
    host = tight.host
    daemon = host.daemon.pid
    other = project({"image.yaml": image("other:v1", "other").replace("stack: app", "stack: other")}, "other")
    images, containers = host.api("/images/json"), host.api("/containers/json?all=true")
    with full(host):
        assert host.get("http://127.0.0.1:8080/") == "v1\n"
        done = host.gitops("apply", other, "--yes", check=False)
        assert done.returncode != 0
        said = done.stdout + done.stderr
        assert "space" in said, said
        assert host.api("/images/json") == images
        for words in (["create", "app:v1"], ["volume", "create", "vol"], ["network", "create", "net"]):
            refused = host.run("docker", *words, check=False)
            assert refused.returncode != 0 and "space" in refused.stderr, (words, refused.stderr)
        refused = host.run("docker", "service", "scale", "-d", "app_web=3", check=False)
        assert "space" in refused.stderr + refused.stdout, refused
        assert [item["Id"] for item in host.api("/containers/json?all=true")] == [item["Id"] for item in containers]
        assert "vol" not in host.docker("volume", "ls", "-q").split()
        assert "net" not in host.docker("network", "ls", "--format", "{{.Name}}").split()
        # One of two goes, and can't be replaced; the other one serves.
        former = next(iter(tight.web()))
        os.kill(tight.pid(former), 9)
        host.wait(lambda: former not in tight.web(), 15, "the end is not seen")
        host.run("sleep", "3")
        assert host.get("http://127.0.0.1:8080/") == "v1\n"
    tight.settled(timeout=60)
    assert host.gitops("apply", other, "--yes").returncode == 0
    assert not left_over(host), left_over(host)
    host.docker("create", "--name", "after", "app:v1")
    host.docker("start", "after")
    host.docker("rm", "-f", "after")
    tight.settled()
    assert host.daemon.pid == daemon and host.daemon.poll() is None
    tight.calm()


def test_a_daemon_that_starts_on_a_full_disk_says_so_or_serves(tight: Any) -> None:
    host = tight.host
    former = set(tight.web())
    with full(host):
        host.kill()
        try:
            host.start()
        except AssertionError:
            host.daemon = None
            assert "space" in host.log.read_text(), host.log.read_text()[-2000:]
        assert host.get("http://127.0.0.1:8080/") == "v1\n"
    if host.daemon is None:
        host.start()
    tight.settled(timeout=60)
    assert set(tight.web()) == former
    tight.calm()


def test_containers_can_be_stopped_and_removed_on_a_full_disk_or_it_is_said(tight: Any) -> None:
    host = tight.host
    tight.run_plain("plain")
    with full(host):
        host.run("docker", "stop", "-t", "1", "plain", check=False)
        done = host.run("docker", "rm", "-f", "plain", check=False)
        assert done.returncode == 0 or "space" in done.stderr, done.stderr
    host.run("docker", "rm", "-f", "plain", check=False)
    tight.settled()
    tight.calm()


def test_a_full_run_root_is_said_and_mended_by_space(make_host: Any, lay_out: Any, serve: Any) -> None:
    """Usually a tmpfs: bundles, logs of the daemon and what the runtime keeps are there."""
    host = make_host()
    host.run_root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", host.run_root], check=True)
    host.start()
    host.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    served = serve(host, lay_out())
    filler = host.run_root / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 512)
    host.docker("create", "--name", "plain", "app:v1")
    refused = host.run("docker", "start", "plain", check=False)
    assert refused.returncode != 0 and "space" in refused.stderr, refused.stderr
    assert host.get("http://127.0.0.1:8080/") == "v1\n"
    os.kill(served.pid(next(iter(served.web()))), 9)
    host.run("sleep", "2")
    assert host.get("http://127.0.0.1:8080/") == "v1\n"
    filler.unlink()
    served.settled(timeout=60)
    host.docker("start", "plain")
    host.docker("rm", "-f", "plain")
    served.settled()
    served.calm()
