"""The real docker CLI against a swarm of one: services with the CLI's own waiting, stacks, secrets, configs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

Archive = Callable[[str], Path]
SERVE = "trap 'exit 0' TERM; httpd -f -p 8080 -h /www & wait"
"""Serves, and ends at once when it is told to: as the first process, httpd alone would ignore the signal."""
QUICK = ("--no-resolve-image", "--stop-grace-period", "1s", "--update-monitor", "500ms", "--restart-delay", "100ms")


@pytest.fixture
def loaded(swarm: Any, archive: Archive) -> Any:
    """A swarm of one that has the images app:1 and app:2."""
    for tag in ("app:1", "app:2"):
        swarm.docker("load", "-i", str(archive(tag)))
    return swarm


def _create(host: Any, name: str, *arguments: str, command: tuple[str, ...] = ("sh", "-c", SERVE)) -> None:
    host.docker("service", "create", "--quiet", "--name", name, *QUICK, *arguments, "app:1", *command)


def _running(host: Any, service: str) -> list[str]:
    return sorted(
        host.docker("service", "ps", service, "--filter", "desired-state=running", "--format", "{{.ID}}").split()
    )


def test_a_swarm_is_made_shown_and_left(host: Any) -> None:
    assert "is now a manager" in host.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    again = host.run("docker", "swarm", "init", check=False)
    assert "already part of a swarm" in again.stderr
    info = json.loads(host.docker("info", "--format", "{{json .}}"))["Swarm"]
    assert (info["LocalNodeState"], info["ControlAvailable"], info["Managers"]) == ("active", True, 1)
    assert host.docker("node", "ls", "--format", "{{.Self}} {{.Status}} {{.ManagerStatus}}").strip() == (
        "true Ready Leader"
    )
    assert "ingress" in host.docker("network", "ls")
    host.docker("node", "update", "--label-add", "disk=ssd", info["NodeID"])
    assert json.loads(host.docker("node", "inspect", "self"))[0]["Spec"]["Labels"] == {"disk": "ssd"}
    host.docker("swarm", "update", "--task-history-limit", "2")
    assert "Task History Retention Limit: 2" in host.docker("info")
    assert "Use `--force`" in host.run("docker", "swarm", "leave", check=False).stderr
    host.docker("swarm", "leave", "--force")
    assert "not a swarm manager" in host.run("docker", "node", "ls", check=False).stderr


def test_a_service_is_made_scaled_updated_rolled_back_and_removed(loaded: Any) -> None:
    _create(loaded, "web", "--replicas", "2", "-p", "8080:8080")
    assert loaded.docker("service", "ls", "--format", "{{.Name}} {{.Replicas}} {{.Ports}}").strip() == (
        "web 2/2 *:8080->8080/tcp"
    )
    assert loaded.get("http://127.0.0.1:8080/") == "app:1\n"
    assert "Replicas:\t2" in loaded.docker("service", "inspect", "--pretty", "web")
    before = _running(loaded, "web")
    assert "converged" in loaded.docker("service", "scale", "web=3")
    assert set(before) < set(_running(loaded, "web"))
    loaded.docker("service", "update", "--quiet", "--no-resolve-image", "--image", "app:2", "web")
    assert loaded.get("http://127.0.0.1:8080/") == "app:2\n"
    assert loaded.docker("service", "ps", "web").count("app:1") == 3
    loaded.docker("service", "rollback", "--quiet", "web")
    assert loaded.get("http://127.0.0.1:8080/") == "app:1\n"
    # The CLI stops waiting before the rollback's own time of watching is over.
    loaded.wait(lambda: "rollback_completed" in loaded.docker("service", "inspect", "web"), 20)
    assert loaded.docker("service", "rm", "web").strip() == "web"
    loaded.wait(lambda: not loaded.docker("ps", "-aq"), 20, "containers of a removed service stay")
    missing = loaded.run("docker", "service", "inspect", "web", check=False)
    assert missing.returncode == 1
    assert "no such service: web" in missing.stderr.lower()


def test_a_container_that_is_removed_by_hand_is_replaced(loaded: Any) -> None:
    _create(loaded, "web", "--replicas", "2", "-p", "8080:8080")
    before = _running(loaded, "web")
    loaded.docker("rm", "-f", loaded.docker("ps", "-q").split()[0])
    loaded.wait(lambda: _running(loaded, "web") != before and len(loaded.containers()) == 2, 20)
    assert loaded.get("http://127.0.0.1:8080/") == "app:1\n"


def test_secrets_configs_names_and_logs_reach_a_task(loaded: Any) -> None:
    loaded.run("docker", "secret", "create", "pw", "-", stdin="hush")
    loaded.run("docker", "config", "create", "--label", "a=b", "cf", "-", stdin="plain")
    loaded.docker("network", "create", "-d", "overlay", "front")
    _create(loaded, "web", "--network", "front")
    script = "cat /run/secrets/pw /etc/cf; echo; nslookup web; trap 'exit 0' TERM; sleep 1000 & wait"
    options = ("--network", "front", "--secret", "pw", "--config", "source=cf,target=/etc/cf")
    _create(loaded, "ask", *options, command=("sh", "-c", script))
    loaded.wait(lambda: "Name:\tweb" in loaded.docker("service", "logs", "--raw", "ask"), 10)
    assert "hushplain\n" in loaded.docker("service", "logs", "--raw", "ask")
    assert loaded.docker("service", "logs", "--tail", "1", "ask").startswith("ask.1.")
    assert "hush" not in loaded.docker("secret", "inspect", "pw")
    assert "aHVzaA" not in loaded.docker("secret", "inspect", "pw")
    assert "plain" in loaded.docker("config", "inspect", "--pretty", "cf")
    used = loaded.run("docker", "secret", "rm", "pw", check=False)
    assert "secret 'pw' is in use by the following service: ask" in used.stderr
    assert "hush" not in loaded.log.read_text()
    task = loaded.docker("service", "ps", "-q", "ask").strip()
    assert json.loads(loaded.docker("inspect", task))[0]["Status"]["State"] == "running"


def test_a_service_that_no_node_can_hold_says_why(loaded: Any) -> None:
    _create(loaded, "far", "--detach", "--constraint", "node.labels.region==moon")
    found = loaded.wait(
        lambda: "no suitable node" in (text := loaded.docker("service", "ps", "--no-trunc", "far")) and text, 10
    )
    assert "scheduling constraints not satisfied on 1 node" in found


def test_what_is_wrong_with_a_service_is_said(loaded: Any) -> None:
    _create(loaded, "web", "--detach")
    for arguments, text in (
        (["--name", "web", "app:1"], "name conflicts with an existing object"),
        (["--name", "bad name", "app:1"], "name must be valid"),
        (["--name", "x", "--limit-memory", "1k", "app:1"], "memory"),
    ):
        done = loaded.run("docker", "service", "create", "--no-resolve-image", "--detach", *arguments, check=False)
        assert done.returncode == 1, arguments
        assert text in done.stderr


def test_stacks_are_deployed_listed_and_removed(loaded: Any, tmp_path: Path) -> None:
    compose = {
        "version": "3.8",
        "services": {
            "web": {
                "image": "app:1",
                "command": ["sh", "-c", SERVE],
                "ports": ["8080:8080"],
                "networks": {"default": {"aliases": ["front"]}},
                "deploy": {"replicas": 2, "update_config": {"parallelism": 2}},
            }
        },
    }
    (tmp_path / "stack.json").write_text(json.dumps(compose))
    options = ("--resolve-image", "never", "-c", str(tmp_path / "stack.json"))
    deploy = ("stack", "deploy", *options, "book")
    loaded.docker(*deploy)
    loaded.wait(lambda: "2/2" in loaded.docker("stack", "services", "book"), 20)
    assert loaded.docker("stack", "ls", "--format", "{{.Name}} {{.Services}}").strip() == "book 1"
    assert "book_web.2" in loaded.docker("stack", "ps", "book")
    assert loaded.get("http://127.0.0.1:8080/") == "app:1\n"
    before = _running(loaded, "book_web")
    loaded.docker(*deploy)
    assert _running(loaded, "book_web") == before
    # A network stays as long as a task that stops is on it: then the first call removes the service only.
    loaded.wait(lambda: loaded.run("docker", "stack", "rm", "book", check=False).returncode == 0, 20)
    loaded.wait(lambda: not loaded.docker("ps", "-aq"), 20)
    assert "book" not in loaded.docker("network", "ls")
    assert loaded.docker("stack", "ls", "--format", "{{.Name}}") == ""


def test_a_killed_daemon_comes_back_with_its_swarm_and_the_same_tasks(loaded: Any) -> None:
    _create(loaded, "web", "--replicas", "2", "-p", "8080:8080")
    tasks, conmons = _running(loaded, "web"), loaded.conmons()
    loaded.kill()
    assert loaded.get("http://127.0.0.1:8080/") == "app:1\n"
    loaded.start()
    loaded.wait(lambda: "2/2" in loaded.docker("service", "ls"), 20)
    assert (_running(loaded, "web"), loaded.conmons()) == (tasks, conmons)
    assert loaded.get("http://127.0.0.1:8080/") == "app:1\n"


def test_events_of_the_swarm_are_told(loaded: Any) -> None:
    log = loaded.directory / "events"
    watching = (
        "docker",
        "events",
        "--filter",
        "scope=swarm",
        "--format",
        "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}",
    )
    loaded.spawn(*watching, log=log)
    # The subscription stands when the first of these shows.
    loaded.wait(
        lambda: loaded.docker("config", "create", f"c{log.stat().st_ctime_ns}", "/dev/null", check=False) or True
    )
    _create(loaded, "web", "--detach")
    loaded.docker("service", "rm", "web")
    loaded.wait(lambda: "service remove web" in log.read_text(), 10)
    assert "service create web" in log.read_text()
