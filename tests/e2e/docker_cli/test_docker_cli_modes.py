"""Global services and jobs by the real docker CLI, with its own waiting and its own words for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

SLEEP = "trap 'exit 0' TERM; sleep 600 & wait"
COMMON = ("--no-resolve-image", "--stop-grace-period", "1s", "--restart-delay", "100ms")


@pytest.fixture
def loaded(swarm: Any, archive: Callable[[str], Path]) -> Any:
    """A swarm of one that has the image app:1."""
    swarm.docker("load", "-i", str(archive("app:1")))
    return swarm


def create(host: Any, name: str, *arguments: str, command: str) -> None:
    host.docker("service", "create", "--quiet", "--name", name, *COMMON, *arguments, "app:1", "sh", "-c", command)


def replicas(host: Any, name: str) -> str:
    listed: str = host.docker("service", "ls", "--filter", f"name={name}", "--format", "{{.Mode}} {{.Replicas}}")
    return listed.strip()


def test_g01_a_global_service_runs_on_the_node_and_goes_and_comes_with_it(loaded: Any) -> None:
    create(
        loaded, "all", "--mode", "global", "--update-monitor", "500ms", command="trap 'exit 0' TERM; sleep 600 & wait"
    )
    assert replicas(loaded, "all") == "global 1/1"
    node = loaded.docker("info", "--format", "{{.Swarm.NodeID}}").strip()
    assert loaded.docker("service", "ps", "all", "--format", "{{.Name}}").strip() == f"all.{node}"
    (name,) = loaded.docker("ps", "--format", "{{.Names}}").split()
    assert name.startswith(f"all.{node}.")
    loaded.docker("service", "update", "--quiet", "--force", "all")
    assert loaded.docker("service", "ps", "all").count("app:1") == 2
    loaded.docker("node", "update", "--availability", "drain", node)
    loaded.wait(lambda: replicas(loaded, "all") == "global 0/0" and not loaded.docker("ps", "-q"), 30)
    loaded.docker("node", "update", "--availability", "active", node)
    loaded.wait(lambda: replicas(loaded, "all") == "global 1/1", 30)
    refused = loaded.run("docker", "service", "scale", "all=2", check=False)
    assert "scale can only be used with replicated or replicated-job mode" in refused.stderr


def test_j01_a_replicated_job_runs_to_its_end_and_again_when_forced(loaded: Any) -> None:
    create(loaded, "five", "--mode", "replicated-job", "--replicas", "5", "--max-concurrent", "2", command="sleep 0.2")
    assert replicas(loaded, "five") == "replicated job 0/0 (5/5 completed)"
    first = set(loaded.docker("service", "ps", "-q", "five").split())
    assert len(first) == 5
    status = json.loads(loaded.docker("service", "inspect", "five"))[0]["JobStatus"]
    loaded.docker("service", "update", "--quiet", "--force", "five")
    loaded.wait(lambda: replicas(loaded, "five") == "replicated job 0/0 (5/5 completed)", 60)
    again = json.loads(loaded.docker("service", "inspect", "five"))[0]["JobStatus"]
    assert again["JobIteration"]["Index"] == status["JobIteration"].get("Index", 0) + 1
    assert again["LastExecution"] > status["LastExecution"]
    loaded.wait(lambda: len(loaded.docker("service", "ps", "-q", "five").split()) == 5, 30)
    assert first.isdisjoint(loaded.docker("service", "ps", "-q", "five").split())


def test_j09_a_global_job_runs_once_on_the_node(loaded: Any) -> None:
    create(loaded, "once", "--mode", "global-job", command="echo done")
    assert replicas(loaded, "once") == "global job 0/0 (1/1 completed)"
    assert loaded.docker("service", "logs", "--raw", "once").strip() == "done"


def test_j10_a_job_that_fails_is_tried_as_often_as_it_may_be(loaded: Any) -> None:
    loaded.docker(
        *("service", "create", "--detach", "--quiet", "--name", "bad", *COMMON, "--mode", "replicated-job"),
        *("--restart-condition", "on-failure", "--restart-max-attempts", "2", "app:1", "sh", "-c", "exit 3"),
    )

    def states() -> list[str]:
        listed: str = loaded.docker("service", "ps", "bad", "--format", "{{.CurrentState}}")
        return [line.split()[0] for line in listed.splitlines()]

    loaded.wait(lambda: states() == ["Failed"] * 3, 60)
    assert replicas(loaded, "bad") == "replicated job 0/0 (0/1 completed)"


def test_j13_an_update_config_is_refused_for_a_job(loaded: Any) -> None:
    refused = loaded.run(
        *("docker", "service", "create", "--detach", "--mode", "global-job", "--no-resolve-image"),
        *("--update-parallelism", "2", "app:1", "true"),
        check=False,
    )
    assert refused.returncode != 0
    assert "update" in refused.stderr
