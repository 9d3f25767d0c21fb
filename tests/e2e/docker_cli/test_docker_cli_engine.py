"""The real docker CLI against one engine: what it shows, what it makes, what it is told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

Archive = Callable[[str], Path]


@pytest.fixture
def loaded(host: Any, archive: Archive) -> Any:
    """A host that has the image app:1."""
    host.docker("load", "-i", str(archive("app:1")))
    return host


def test_version_and_info_show_our_state(host: Any) -> None:
    version = json.loads(host.docker("version", "--format", "{{json .}}"))
    # Debian 12's client speaks 1.41.
    assert version["Client"]["ApiVersion"] == min("1.47", version["Client"]["DefaultAPIVersion"])
    assert version["Server"]["ApiVersion"] == "1.47"
    assert {item["Name"] for item in version["Server"]["Components"]} == {"Engine", "crun", "conmon"}
    info = json.loads(host.docker("info", "--format", "{{json .}}"))
    assert info["Swarm"]["LocalNodeState"] == "inactive"
    assert info["DockerRootDir"] == str(host.data_root)
    assert "ERROR" not in host.docker("info")


def test_an_image_is_loaded_named_shown_and_removed(loaded: Any) -> None:
    assert "app" in loaded.docker("images")
    (image,) = json.loads(loaded.docker("image", "inspect", "app:1"))
    assert image["RepoTags"] == ["app:1"]
    assert image["Config"]["Labels"] == {"made.by": "test"}
    assert "test" in loaded.docker("history", "app:1")
    loaded.docker("tag", "app:1", "localhost:5000/other:2")
    assert loaded.docker("images", "-q", "--filter", "reference=localhost:5000/other").strip()
    assert loaded.docker("rmi", "localhost:5000/other:2").strip() == "Untagged: localhost:5000/other:2"
    assert "Deleted: sha256:" in loaded.docker("rmi", "app:1")
    assert loaded.docker("images", "-q") == ""
    assert "No such image: app:1" in loaded.docker_fails("rmi", "app:1")


def test_a_container_runs_answers_logs_and_goes(loaded: Any) -> None:
    command = ["sh", "-c", "echo ready; echo oh >&2; exec httpd -f -p 8080 -h /www"]
    loaded.docker("run", "-d", "--name", "web", "-p", "8080:8080", "--label", "tier=front", "app:1", *command)
    assert loaded.wait(lambda: loaded.get("http://127.0.0.1:8080/")) == "app:1\n"
    assert loaded.docker("ps", "--format", "{{.Names}} {{.Image}} {{.Ports}}").strip() == (
        "web app:1 0.0.0.0:8080->8080/tcp"
    )
    assert loaded.docker("ps", "-q", "--filter", "label=tier=back") == ""
    assert loaded.docker("port", "web").strip() == "8080/tcp -> 0.0.0.0:8080"
    assert "httpd" in loaded.docker("top", "web")
    done = loaded.run("docker", "logs", "web")
    assert (done.stdout, done.stderr) == ("ready\n", "oh\n")
    (found,) = json.loads(loaded.docker("inspect", "web"))
    assert found["State"]["Status"] == "running"
    assert found["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert "container is running" in loaded.docker_fails("rm", "web")
    assert loaded.docker("rm", "-f", "web").strip() == "web"
    assert loaded.docker("ps", "-aq") == ""
    assert "No such container: web" in loaded.docker_fails("logs", "web")
    assert "No such object: web" in loaded.docker_fails("inspect", "web")


def test_logs_follow_a_container_to_its_end_and_wait_tells_its_code(loaded: Any) -> None:
    loaded.docker(
        "run", "-d", "--name", "talk", "app:1", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done; exit 7"
    )
    assert loaded.docker("logs", "-f", "talk") == "1\n2\n3\n"
    assert loaded.docker("wait", "talk").strip() == "7"
    assert "Exited (7)" in loaded.docker("ps", "-a")
    assert loaded.docker("logs", "--tail", "1", "talk") == "3\n"
    stamped = loaded.docker("logs", "-t", "--since", "2020-01-01T00:00:00Z", "talk").splitlines()
    assert [line.split()[1] for line in stamped] == ["1", "2", "3"]


def test_stop_start_pause_rename_and_kill(loaded: Any) -> None:
    loaded.docker("run", "-d", "--name", "one", "app:1", "sleep", "1000")
    loaded.docker("pause", "one")
    assert "(Paused)" in loaded.docker("ps")
    loaded.docker("unpause", "one")
    loaded.docker("rename", "one", "two")
    loaded.docker("kill", "two")
    assert loaded.docker("wait", "two").strip() == "137"
    loaded.docker("start", "two")
    loaded.docker("stop", "-t", "0", "two")
    assert loaded.docker("ps", "-q") == ""
    loaded.docker("restart", "-t", "0", "two")
    assert loaded.docker("ps", "--format", "{{.Names}}").strip() == "two"
    assert 'name "/two" is already in use' in loaded.docker_fails("create", "--name", "two", "app:1")
    assert "is not running" in loaded.docker_fails("kill", loaded.docker("create", "app:1").strip())


def test_a_container_that_removes_itself_is_gone_after_wait(loaded: Any) -> None:
    container = loaded.docker("run", "-d", "--rm", "app:1", "sleep", "0.2").strip()
    loaded.wait(lambda: not loaded.docker("ps", "-aq"), 10)
    assert "No such container" in loaded.docker_fails("wait", container)


def test_a_program_that_is_not_there_is_told_with_the_usual_code(loaded: Any) -> None:
    done = loaded.run("docker", "run", "-d", "app:1", "/no/such", check=False)
    assert done.returncode == 127
    assert "executable file not found" in done.stderr


def test_networks_and_volumes_are_made_listed_and_removed(loaded: Any) -> None:
    assert {"bridge", "host", "none"} <= set(loaded.docker("network", "ls", "--format", "{{.Name}}").split())
    loaded.docker("network", "create", "--label", "a=b", "front")
    assert loaded.docker("network", "ls", "-q", "--filter", "label=a=b").strip()
    assert "already exists" in loaded.docker_fails("network", "create", "front")
    loaded.docker("volume", "create", "data")
    loaded.docker("run", "-d", "--name", "db", "--network", "front", "-v", "data:/data", "app:1", "sleep", "1000")
    loaded.docker("run", "-d", "--name", "ask", "--network", "front", "app:1", "nslookup", "db")
    loaded.docker("wait", "ask")
    (network,) = json.loads(loaded.docker("network", "inspect", "front"))
    (address,) = [item["IPv4Address"].partition("/")[0] for item in network["Containers"].values()]
    assert address in loaded.docker("logs", "ask")
    assert "active endpoints" in loaded.docker_fails("network", "rm", "front")
    assert "volume is in use" in loaded.docker_fails("volume", "rm", "data")
    loaded.docker("rm", "-f", "db", "ask")
    assert loaded.docker("network", "rm", "front").strip() == "front"
    assert "data" in loaded.docker("volume", "ls")
    assert loaded.docker("volume", "rm", "data").strip() == "data"


def test_events_tell_what_happened(loaded: Any) -> None:
    loaded.docker("run", "-d", "--name", "e1", "app:1", "true")
    loaded.docker("wait", "e1")
    loaded.docker("rm", "e1")
    until = str(int(time.time()) + 1)
    past = loaded.docker(
        *("events", "--since", "2020-01-01", "--until", until, "--filter", "container=e1", "--format", "{{.Action}}")
    )
    assert past.split() == ["create", "start", "die", "destroy"]


def test_what_is_not_there_yet_is_said_by_name(loaded: Any) -> None:
    loaded.docker("run", "-d", "--name", "x1", "app:1", "sleep", "1000")
    assert "HostConfig.CgroupParent is not supported" in loaded.docker_fails("create", "--cgroup-parent", "x", "app:1")
    assert "This node is not a swarm manager" in loaded.docker_fails("service", "ls")
    assert "invalid filter 'colour'" in loaded.docker_fails("ps", "--filter", "colour=red")


def test_disk_usage_is_shown(loaded: Any) -> None:
    assert "Images" in loaded.docker("system", "df")


def test_a_pull_from_a_registry_that_is_not_there_fails_clearly(host: Any) -> None:
    assert "127.0.0.1:1" in host.docker_fails("pull", "127.0.0.1:1/app:1")
