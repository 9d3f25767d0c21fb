"""Watch: commits, saves, drift, held revisions."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SERVICE = """\
apiVersion: gitops/v1
kind: Service
metadata: {{name: web, stack: app}}
spec:
  image: {image}
  init: true
  ports: ["8080:8080"]
  deploy:
    replicas: {replicas}
    restart_policy: {{delay: 1s}}
    update_config: {{parallelism: 2, delay: 2s, monitor: 1s, failure_action: rollback}}
"""
GITOPS = Path(os.sys.executable).parent / "gitops"  # type: ignore[attr-defined]


def service(image: str = "app:v1", replicas: int = 2) -> str:
    return SERVICE.format(image=image, replicas=replicas)


def git(directory: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", "-C", str(directory), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(directory: Path, message: str) -> str:
    git(directory, "add", "-A", "-f")
    git(directory, "commit", "-q", "-m", message)
    return git(directory, "rev-parse", "HEAD")


def replicas(host: Any) -> tuple[int, int]:
    found = [item for item in host.api("/services?status=true") if item["Spec"]["Name"] == "app_web"]
    status = found[0]["ServiceStatus"] if found else {"RunningTasks": 0, "DesiredTasks": -1}
    return status["RunningTasks"], status["DesiredTasks"]


def recorded(host: Any) -> dict[str, str]:
    labels = [item["Spec"]["Labels"] for item in host.api("/configs") if item["Spec"]["Name"] == "gitops-record-app"]
    return {key.removeprefix("gitops.record."): value for key, value in labels[0].items()} if labels else {}


def two_at_a_time(host: Any) -> bool:
    """Whether four slots came to v2 in two pairs, the update's delay of 2 s between them."""
    tasks = [task for task in host.api("/tasks") if "app:v2" in task["Spec"]["ContainerSpec"]["Image"]]
    starts = sorted(task["CreatedAt"] for task in tasks)
    assert len(starts) == 4, starts
    seconds = [float(start[17:29]) + 60 * int(start[14:16]) for start in starts]
    return seconds[2] - seconds[1] > 1.5


@pytest.fixture
def repository(project: Any, image: Any) -> Path:
    path: Path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": service()})
    git(path, "init", "-q", "-b", "main")
    commit(path, "first")
    return path


def watch(host: Any, *arguments: str | Path) -> Path:
    log: Path = host.directory / "watch.log"
    host.spawn(GITOPS, "watch", *arguments, log=log)
    return log


def applied(host: Any, revision: str) -> bool:
    found = recorded(host)
    return found.get("commit") == revision[:12] and found.get("outcome") == "applied"


def test_commits_are_followed_and_the_history_shows_two_at_a_time(swarm: Any, repository: Path, image: Any) -> None:
    log = watch(swarm, repository)
    first = git(repository, "rev-parse", "HEAD")
    swarm.wait(lambda: applied(swarm, first), 40, "the first commit was not applied")
    (repository / "web.yaml").write_text(service(replicas=4))
    second = commit(repository, "more")
    swarm.wait(lambda: replicas(swarm) == (4, 4) and applied(swarm, second), 40, "replicas did not follow")
    (repository / "image2.yaml").write_text(image("app:v2", "v2"))
    (repository / "web.yaml").write_text(service("app:v2", 4))
    third = commit(repository, "v2")
    swarm.wait(lambda: applied(swarm, third), 60, "v2 was not applied: " + log.read_text())
    assert {swarm.get("http://127.0.0.1:8080/") for _ in range(8)} == {"v2\n"}
    assert two_at_a_time(swarm)
    assert third[:12] in swarm.gitops("status").stdout
    assert swarm.docker("service", "ps", "app_web").count("app:v1") >= 4


def test_a_save_by_rename_a_burst_and_a_deletion_are_noticed(swarm: Any, repository: Path, image: Any) -> None:
    watch(swarm, repository, "--interval", "60s")
    swarm.wait(lambda: replicas(swarm) == (2, 2), 40)
    temporary = repository / ".web.yaml.swp"
    temporary.write_text(service(replicas=3))
    temporary.rename(repository / "web.yaml")
    swarm.wait(lambda: replicas(swarm) == (3, 3), 20, "a save by rename was missed")
    for count in (1, 4, 2, 5, 1):
        (repository / "web.yaml").write_text(service(replicas=count))
    swarm.wait(lambda: replicas(swarm) == (1, 1), 20, "the last of a burst did not win")
    (repository / "web.yaml").unlink()
    swarm.wait(lambda: swarm.api("/services") == [], 20, "a deletion was missed")


def test_drift_through_the_api_is_healed(swarm: Any, repository: Path) -> None:
    watch(swarm, repository, "--interval", "60s")
    swarm.wait(lambda: replicas(swarm) == (2, 2) and recorded(swarm).get("outcome") == "applied", 40)
    swarm.docker("service", "scale", "--detach", "app_web=5")
    swarm.wait(lambda: replicas(swarm) == (2, 2), 30, "the scale by hand was not undone")
    swarm.docker("service", "rm", "app_web")
    swarm.wait(lambda: replicas(swarm) == (2, 2), 40, "the removed service did not come back")


def test_a_revision_that_failed_is_held_until_the_commit_changes(swarm: Any, repository: Path) -> None:
    log = watch(swarm, repository, "--interval", "2s")
    swarm.wait(lambda: recorded(swarm).get("outcome") == "applied", 40)
    (repository / "web.yaml").write_text(service().replace("spec:\n", "spec:\n  command: [/bin/sh, -c, 'exit 3']\n"))
    commit(repository, "broken")
    swarm.wait(lambda: recorded(swarm).get("held"), 60, "nothing is held: " + log.read_text())
    swarm.wait(lambda: "is held" in log.read_text(), 20)
    swarm.wait(lambda: replicas(swarm) == (2, 2), 30, "the rollback did not bring the old state back")
    assert swarm.get("http://127.0.0.1:8080/") == "v1\n"
    version = swarm.api("/services")[0]["Version"]
    swarm.wait(lambda: log.read_text().count("is held") >= 1, 10)
    assert swarm.api("/services")[0]["Version"] == version, "the watch fights the rollback"
    (repository / "web.yaml").write_text(service(replicas=3))
    commit(repository, "mended")
    swarm.wait(lambda: replicas(swarm) == (3, 3) and not recorded(swarm).get("held"), 40)


def test_a_repository_is_followed_from_a_clone_that_mends_itself(
    swarm: Any, repository: Path, image: Any, tmp_path: Path
) -> None:
    bare = tmp_path / "site.git"
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(bare))
    git(repository, "remote", "add", "origin", str(bare))
    swarm_state = swarm.directory / "state"
    environment = swarm.environment | {"XDG_STATE_HOME": str(swarm_state)}
    with (swarm.directory / "watch.log").open("ab") as log:
        process = subprocess.Popen(
            swarm.command(GITOPS, "watch", "--repo", f"file://{bare}", "--ref", "main", "--interval", "1s"),
            env=environment,
            stdout=log,
            stderr=log,
        )
    swarm.processes.append(process)
    first = git(repository, "rev-parse", "HEAD")
    swarm.wait(lambda: applied(swarm, first), 40, "the repository was not applied")
    for path in swarm_state.rglob("HEAD"):
        shutil.rmtree(path.parent / "objects")
    (repository / "web.yaml").write_text(service(replicas=4))
    second = commit(repository, "more")
    git(repository, "push", "-q", "origin", "main")
    swarm.wait(
        lambda: applied(swarm, second) and replicas(swarm) == (4, 4),
        40,
        "the push was not followed: " + (swarm.directory / "watch.log").read_text(),
    )
    (repository / "image2.yaml").write_text(image("app:v2", "v2"))
    (repository / "web.yaml").write_text(service("app:v2", 4))
    third = commit(repository, "v2")
    git(repository, "push", "-q", "origin", "main")
    swarm.wait(lambda: applied(swarm, third), 60, "v2 was not applied")
    assert two_at_a_time(swarm)
    assert third[:12] in swarm.gitops("status").stdout
    history = swarm.docker("service", "ps", "app_web")
    assert history.count("app:v2") == 4 and history.count("app:v1") >= 3


def test_once_is_for_cron_and_says_how_it_ended(swarm: Any, repository: Path) -> None:
    assert swarm.gitops("watch", "--once", repository).returncode == 0
    assert replicas(swarm) == (2, 2)
    (repository / "web.yaml").write_text(service().replace("replicas", "replicsa"))
    assert swarm.gitops("watch", "--once", repository, check=False).returncode == 1
