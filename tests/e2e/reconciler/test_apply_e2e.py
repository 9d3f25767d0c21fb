"""Apply, diff, prune and delete with real containers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
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
    update_config: {{parallelism: 2, delay: 1s, monitor: 1s}}
"""


def service(image: str = "app:v1", replicas: int = 2) -> str:
    return SERVICE.format(image=image, replicas=replicas)


def tasks(host: Any, service: str = "app_web") -> list[dict[str, Any]]:
    ids = [item["ID"] for item in host.api("/services") if item["Spec"]["Name"] == service]
    return [task for task in host.api("/tasks") if task["ServiceID"] in ids]


def running(host: Any) -> set[str]:
    return {task["ID"] for task in tasks(host) if task["Status"]["State"] == "running"}


def test_an_apply_makes_it_so_and_a_second_one_changes_nothing(swarm: Any, project: Any, image: Any) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": service()})
    assert swarm.gitops("diff", path, check=False).returncode == 2
    first = swarm.gitops("apply", path, "--yes")
    assert "2/2 running" in first.stdout and "Converged" in first.stdout
    assert swarm.get("http://127.0.0.1:8080/") == "v1\n"
    before = running(swarm)
    versions = {item["ID"]: item["Version"] for item in swarm.api("/services")}
    second = swarm.gitops("apply", path, "--yes")
    assert "No changes" in second.stdout
    assert swarm.gitops("diff", path).returncode == 0
    assert running(swarm) == before
    assert {item["ID"]: item["Version"] for item in swarm.api("/services")} == versions


def test_a_changed_image_rolls_two_at_a_time_and_the_service_answers_all_the_while(
    swarm: Any, project: Any, image: Any
) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": service(replicas=4)})
    swarm.gitops("apply", path, "--yes")
    (path / "image2.yaml").write_text(image("app:v2", "v2"))
    (path / "web.yaml").write_text(service("app:v2", 4))
    plan = json.loads(swarm.gitops("diff", path, "--format", "json", check=False).stdout)
    changes = {item["name"]: item for item in plan["changes"] if item["action"] != "no-op"}
    assert changes["web"]["fields"][0]["path"] == "image" and changes["web"]["action"] == "update"
    answers: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            answers.append(swarm.get("http://127.0.0.1:8080/"))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        swarm.gitops("apply", path, "--yes")
    finally:
        done.set()
        thread.join()
    assert set(answers) == {"v1\n", "v2\n"}
    assert {swarm.get("http://127.0.0.1:8080/") for _ in range(8)} == {"v2\n"}
    history = swarm.docker("service", "ps", "--no-trunc", "app_web")
    assert history.count("app:v2") == 4 and history.count("app:v1") == 4


def test_what_left_the_manifests_and_is_ours_goes_and_what_is_others_stays(
    swarm: Any, project: Any, image: Any
) -> None:
    swarm.docker("config", "create", "somebody-elses", "-", check=False)
    other = "apiVersion: gitops/v1\nkind: Config\nmetadata: {name: notes, stack: app}\nspec: {content: hello}\n"
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": service(), "notes.yaml": other})
    swarm.gitops("apply", path, "--yes")
    assert any(item["Spec"]["Name"].startswith("app_notes") for item in swarm.api("/configs"))
    (path / "web.yaml").unlink()
    (path / "notes.yaml").unlink()
    done = swarm.gitops("apply", path, "--yes")
    assert "left the manifests" in done.stdout
    assert swarm.api("/services") == [] and swarm.containers() == []
    assert "stays for rollbacks" in done.stdout
    assert swarm.gitops("diff", path, check=False).returncode == 0


def test_a_config_and_a_secret_reach_the_container_and_a_change_rolls_the_service(
    swarm: Any, project: Any, image: Any
) -> None:
    text = """\
apiVersion: gitops/v1
kind: Config
metadata: {name: page, stack: app}
spec: {content: "one\\n"}
---
apiVersion: gitops/v1
kind: Secret
metadata: {name: key, stack: app}
spec: {content: "zq1-hush\\n"}
---
apiVersion: gitops/v1
kind: Service
metadata: {name: web, stack: app}
spec:
  image: app:v1
  init: true
  ports: ["8080:8080"]
  configs: [{source: page, target: /www/page}]
  secrets: [{source: key, target: key, mode: 0400}]
  command: [/bin/sh, -c, "ln -s /run/secrets/key /www/key; exec /bin/busybox httpd -f -p 8080 -h /www"]
  deploy: {update_config: {monitor: 1s}}
"""
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": text})
    swarm.gitops("apply", path, "--yes")
    assert swarm.get("http://127.0.0.1:8080/page") == "one\n"
    assert swarm.get("http://127.0.0.1:8080/key") == "zq1-hush\n"
    (path / "web.yaml").write_text(text.replace("one", "two").replace("zq1-hush", "zq2-quiet"))
    shown = swarm.gitops("diff", path, check=False).stdout
    assert "zq2-quiet" not in shown and "zq1-hush" not in shown
    swarm.gitops("apply", path, "--yes")
    assert swarm.get("http://127.0.0.1:8080/page") == "two\n"
    assert swarm.get("http://127.0.0.1:8080/key") == "zq2-quiet\n"
    assert len([item for item in swarm.api("/configs") if item["Spec"]["Name"].startswith("app_page")]) == 2
    assert len(swarm.api("/secrets")) == 2, "the former version stays, for a rollback"
    for path_on_disk in swarm.directory.rglob("*"):
        if path_on_disk.is_file() and not path_on_disk.is_relative_to(swarm.run_root):
            assert b"zq2-quiet" not in path_on_disk.read_bytes(), path_on_disk


def test_removing_a_container_behind_its_back_brings_another_while_the_service_answers(
    swarm: Any, project: Any, image: Any
) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": service()})
    swarm.gitops("apply", path, "--yes")
    victim = swarm.containers()[0]["Id"]
    swarm.docker("rm", "-f", victim)
    for _ in range(20):
        assert swarm.get("http://127.0.0.1:8080/") == "v1\n"
    swarm.wait(lambda: len(running(swarm)) == 2 and len(swarm.containers()) == 2, 15, "it was not replaced")
    assert victim not in {item["Id"] for item in swarm.containers()}


def test_what_no_node_can_hold_ends_with_3_and_the_reason_and_changes_nothing(
    swarm: Any, project: Any, image: Any
) -> None:
    big = service().replace("replicas: 2", "replicas: 2\n    resources: {reservations: {cpus: '64'}}")
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": big})
    done = swarm.gitops("apply", path, "--yes", check=False)
    assert done.returncode == 3 and "insufficient resources" in done.stdout + done.stderr
    assert swarm.gitops("diff", path, check=False).returncode == 3
    assert swarm.api("/services") == []


def test_a_rollout_that_fails_ends_with_4_and_the_reason(swarm: Any, project: Any, image: Any) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": service()})
    swarm.gitops("apply", path, "--yes")
    # With a health check the failing tasks never count as running, so that no request is led to one of them.
    check = "  healthcheck: {test: [CMD, /bin/busybox, 'true'], interval: 1s}\n"
    broken = service().replace("spec:\n", "spec:\n  command: [/bin/sh, -c, 'exit 3']\n" + check)
    (path / "web.yaml").write_text(broken.replace("parallelism: 2", "parallelism: 1"))
    done = swarm.gitops("apply", path, "--yes", check=False)
    assert done.returncode == 4 and "update paused due to failure" in done.stderr
    assert swarm.get("http://127.0.0.1:8080/") == "v1\n", "the other slot still answers"
    (path / "web.yaml").write_text(service())
    assert "Converged" in swarm.gitops("apply", path, "--yes").stdout


def test_a_delete_takes_everything_of_a_stack(swarm: Any, project: Any, image: Any) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": service()})
    links = set(swarm.links())
    swarm.gitops("apply", path, "--yes")
    swarm.gitops("delete", "app", "--yes")
    assert swarm.api("/services") == [] and swarm.containers() == [] and swarm.api("/images/json") == []
    assert swarm.conmons() == []
    swarm.wait(lambda: set(swarm.links()) - links <= {"docker_gwbridge"} or set(swarm.links()) - links, 5)
    assert swarm.gitops("delete", "app", "--yes", check=False).returncode == 1


def test_an_empty_directory_and_another_source_are_refused(swarm: Any, project: Any, image: Any) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": service()})
    swarm.gitops("apply", path, "--yes")
    empty = project({"x/keep.txt": ""}, "empty")
    assert swarm.gitops("apply", empty, "--yes", check=False).returncode == 5
    other = project({"image.yaml": image("app:v1", "v1"), "web.yaml": service()}, "other")
    done = swarm.gitops("apply", other, "--yes", check=False)
    assert done.returncode == 5 and "--take-over" in done.stderr
    assert len(running(swarm)) == 2
    assert swarm.gitops("apply", other, "--yes", "--take-over").returncode == 0


def test_broken_manifests_change_nothing_on_the_engine(swarm: Any, project: Any, image: Any) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": service().replace("replicas", "replicsa")})
    before = swarm.api("/services"), swarm.api("/images/json"), swarm.api("/configs")
    done = swarm.gitops("apply", path, "--yes", check=False)
    assert done.returncode == 1 and "web.yaml:9" in done.stderr and 'did you mean "replicas"' in done.stderr
    assert (swarm.api("/services"), swarm.api("/images/json"), swarm.api("/configs")) == before


def test_an_engine_in_no_swarm_is_not_changed_behind_its_owners_back(host: Any, project: Any, image: Any) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": service()})
    done = host.gitops("apply", path, "--yes", check=False)
    assert done.returncode == 1 and "swarm init" in done.stderr
    assert host.docker("info", "--format", "{{.Swarm.LocalNodeState}}").strip() == "inactive"


def test_no_engine_is_an_error_that_says_how_to_start_one(
    make_host: Callable[[], Any], project: Any, image: Any
) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": service()})
    done = make_host().gitops("diff", path, check=False)
    assert done.returncode == 1 and "gitops engine start" in done.stderr
