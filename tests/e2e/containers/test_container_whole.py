"""Containers on the whole engine, with real images and networks, through the docker CLI."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitops.oci import builder
from gitops.oci.plan import BuildConfig, BuildPlan, ContentEntry, FileEntry, LinkEntry

pytestmark = pytest.mark.e2e


@pytest.fixture
def engine(make_host: Callable[[], Any], tmp_path: Path) -> Any:
    made = make_host()
    made.start()
    entries = [
        FileEntry(Path("/bin/busybox"), "/bin/busybox", 0o755),
        *(LinkEntry("/bin/busybox", f"/bin/{name}") for name in ("sh", "cat", "wget", "httpd", "sleep", "nslookup")),
        ContentEntry(b"hello from the container\n", "/www/index.html"),
    ]
    plan = BuildPlan([entries], BuildConfig(cmd=["httpd", "-f", "-p", "80", "-h", "/www"]), tags=["web:1"])
    archive = tmp_path / "image.tar"
    with archive.open("wb") as output, builder.build(plan, scratch=tmp_path) as built:
        builder.write_archive(built, output)
    made.docker("load", "-i", str(archive))
    return made


def state(engine: Any, name: str) -> dict[str, Any]:
    return dict(json.loads(engine.docker("inspect", name))[0])


def test_a_published_port_leads_to_the_container_and_is_free_after_its_end(engine: Any) -> None:
    engine.docker("run", "-d", "--name", "one", "-p", "8080:80", "web:1")
    assert engine.wait(lambda: engine.get("http://127.0.0.1:8080/")) == "hello from the container\n"
    shown = state(engine, "one")
    assert shown["NetworkSettings"]["Ports"] == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}
    assert shown["NetworkSettings"]["IPAddress"] == shown["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert "0.0.0.0:8080->80/tcp" in engine.docker("ps")
    engine.docker("create", "--name", "two", "-p", "8080:80", "web:1")
    failed = engine.run("docker", "start", "two", check=False)
    assert "port is already allocated" in failed.stderr
    assert state(engine, "two")["State"]["Status"] == "created"
    engine.docker("stop", "-t", "0", "one")
    engine.docker("start", "two")
    assert engine.wait(lambda: engine.get("http://127.0.0.1:8080/")) == "hello from the container\n"
    engine.docker("rm", "-f", "one", "two")
    assert engine.cgroups() == []
    assert not [mount for mount in engine.mounts() if "bundles" in mount]


def test_containers_of_a_network_know_each_other_by_name(engine: Any) -> None:
    engine.docker("network", "create", "front")
    engine.docker("run", "-d", "--name", "web", "--network", "front", "--network-alias", "site", "web:1")
    for name in ("web", "site"):
        engine.docker(
            "run", "-d", "--name", f"ask-{name}", "--network", "front", "web:1", "wget", "-qO-", f"http://{name}/"
        )
        assert engine.docker("wait", f"ask-{name}") == "0\n"
        assert engine.docker("logs", f"ask-{name}") == "hello from the container\n"


def test_the_engine_s_death_is_not_the_containers_(engine: Any) -> None:
    engine.docker("run", "-d", "--name", "web", "-p", "8080:80", "--restart", "always", "web:1")
    engine.wait(lambda: engine.get("http://127.0.0.1:8080/"))
    before = state(engine, "web")
    engine.kill()
    assert engine.get("http://127.0.0.1:8080/") == "hello from the container\n"
    engine.start()
    after = state(engine, "web")
    assert after["State"]["Pid"] == before["State"]["Pid"]
    assert after["NetworkSettings"]["Networks"] == before["NetworkSettings"]["Networks"]
    assert engine.get("http://127.0.0.1:8080/") == "hello from the container\n"
    assert len(engine.conmons()) == 1
