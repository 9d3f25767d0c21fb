"""What waits for what while an apply goes on, what is kept back when something fails, and what is said of it: on the
built-in engine and on a real Docker Swarm."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gitops.objects.base import parse_time

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

SERVICE = """\
apiVersion: gitops/v1
kind: Service
metadata: {{name: {name}, stack: app}}
spec:
  image: app:v1
  init: true
  {more}
  deploy: {{{deploy}restart_policy: {{delay: 100ms}}, update_config: {{monitor: 500ms}}}}
---
"""
SOON_HEALTHY = (
    "healthcheck: {test: [CMD, /bin/sh, -c, 'test -e /tick || { /bin/busybox touch /tick; exit 1; }'], interval: 1s}"
)
NEVER_HEALTHY = "healthcheck: {test: [CMD, /bin/busybox, 'false'], interval: 1s, retries: 100}"
BROKEN = "command: [/bin/sh, -c, exit 3]\n  healthcheck: {test: [CMD, /bin/busybox, 'true'], interval: 1s}"
"""With a check it never counts as running, however long an engine takes to see that it has ended."""


def service(name: str, more: str = "stop_signal: SIGTERM", deploy: str = "") -> str:
    return SERVICE.format(name=name, more=more, deploy=f"{deploy}, " if deploy else "")


def depends(name: str, condition: str) -> str:
    return f"depends_on: {{{name}: {{condition: {condition}}}}}"


def names(host: Any) -> set[str]:
    return {item["Spec"]["Name"] for item in host.api("/services")}


def tasks(host: Any, name: str) -> list[dict[str, Any]]:
    ids = {item["ID"] for item in host.api("/services") if item["Spec"]["Name"] == name}
    return [task for task in host.api("/tasks") if task["ServiceID"] in ids]


def created(host: Any, name: str) -> int:
    return min(parse_time(task["CreatedAt"]) for task in tasks(host, name))


def ran_at(host: Any, name: str) -> int:
    found = [task for task in tasks(host, name) if task["Status"]["State"] == "running"]
    return min(parse_time(task["Status"]["Timestamp"]) for task in found)


def test_a_service_is_made_when_what_it_depends_on_is_healthy_and_others_do_not_wait_for_that(
    engine_host: Any, project: Any, image: Any
) -> None:
    text = service("web", depends("db", "healthy")) + service("db", SOON_HEALTHY) + service("other")
    path = project({"image.yaml": image("app:v1", "v1"), "all.yaml": text})
    done = engine_host.gitops("apply", path, "--yes", "--timeout", "2m")
    assert "service app_web: waits for app_db (healthy)" in done.stdout
    assert created(engine_host, "app_web") > ran_at(engine_host, "app_db"), "web did not wait"
    assert created(engine_host, "app_other") < ran_at(engine_host, "app_db"), "other waited"
    again = engine_host.gitops("apply", path, "--yes")
    assert "waits for" not in again.stdout
    # What is there and healthy already holds nothing up, and a change of it is waited for.
    (path / "all.yaml").write_text(text.replace("name: web", "name: web2"))
    assert engine_host.gitops("apply", path, "--yes").stdout.count("waits for") == 0
    assert names(engine_host) == {"app_web2", "app_db", "app_other"}


def test_everything_that_failed_is_told_at_once_with_what_was_kept_back_and_the_rest_goes_on(
    engine_host: Any, project: Any, image: Any
) -> None:
    old = "apiVersion: gitops/v1\nkind: Network\nmetadata: {name: old, stack: app}\n"
    path = project({"image.yaml": image("app:v1", "v1"), "all.yaml": service("other"), "old.yaml": old})
    engine_host.gitops("apply", path, "--yes")
    (path / "old.yaml").unlink()
    text = "".join(
        (
            service("other", deploy="replicas: 2"),
            service("db", BROKEN),
            service("cache", BROKEN),
            service("web", depends("db", "healthy")),
            service("front", depends("web", "started")),
        )
    )
    (path / "all.yaml").write_text(text)
    done = engine_host.gitops("apply", path, "--yes", check=False)
    assert done.returncode == 4, done.stderr
    broken = r"0/1 running: slot 1 failed \d+ times: task: non-zero exit \(3\)"
    for text_of_one in (
        f"service app_db: {broken}",
        f"service app_cache: {broken}",
        rf"service app_web waits for app_db \(healthy\): {broken}",
        rf"service app_front waits for app_web \(started\), which waits for app_db \(healthy\): {broken}",
    ):
        assert re.search(text_of_one, done.stderr), done.stderr
    assert "not removed before the rest is there: network app_old" in done.stderr
    assert "service app_other: converged, 2/2 running" in done.stdout
    assert names(engine_host) == {"app_other", "app_db", "app_cache"}
    assert any(item["Name"] == "app_old" for item in engine_host.api("/networks"))
    # Put right, the next apply does what is left.
    (path / "all.yaml").write_text(text.replace(BROKEN, "stop_signal: SIGTERM"))
    engine_host.gitops("apply", path, "--yes")
    assert names(engine_host) == {"app_other", "app_db", "app_cache", "app_web", "app_front"}
    assert not any(item["Name"] == "app_old" for item in engine_host.api("/networks"))


def test_each_object_has_its_own_deadline_and_the_error_names_what_is_late(
    engine_host: Any, project: Any, image: Any
) -> None:
    text = "".join(
        (
            service("slow", NEVER_HEALTHY, "deadline: 3s"),
            service("web", depends("slow", "healthy")),
            service("eager", depends("slow", "started")),
        )
    )
    path = project({"image.yaml": image("app:v1", "v1"), "all.yaml": text})
    done = engine_host.gitops("apply", path, "--yes", "--timeout", "5m", check=False)
    assert done.returncode == 4, done.stderr
    assert "service app_slow: not there after 3 s: 0/1 running" in done.stderr
    assert "service app_web waits for app_slow (healthy): not there after 3 s" in done.stderr
    assert "service app_eager: converged" in done.stdout
    assert names(engine_host) == {"app_slow", "app_eager"}


def test_a_service_waits_for_what_completes_and_what_has_completed_counts_as_there(
    engine_host: Any, project: Any, image: Any
) -> None:
    wait = "command: [/bin/sh, -c, /bin/busybox sleep 2]"
    once = service("seed", wait).replace("restart_policy: {delay: 100ms}", "restart_policy: {condition: none}")
    job = service("migrate", wait, "mode: replicated-job, replicas: 2")
    job = job.replace(
        "restart_policy: {delay: 100ms}, update_config: {monitor: 500ms}", "restart_policy: {condition: none}"
    )
    needs = "depends_on: {NAME: {condition: completed_successfully}}"
    web = service("web", needs.replace("NAME", "migrate")) + service("api", needs.replace("NAME", "seed"))
    path = project({"image.yaml": image("app:v1", "v1"), "all.yaml": web + job + once})
    done = engine_host.gitops("apply", path, "--yes")
    for waits, other, count in (("app_web", "app_migrate", 2), ("app_api", "app_seed", 1)):
        assert f"service {waits}: waits for {other} (completed_successfully)" in done.stdout
        ended = [task["Status"] for task in tasks(engine_host, other)]
        assert [status["State"] for status in ended] == ["complete"] * count
        assert created(engine_host, waits) > max(parse_time(status["Timestamp"]) for status in ended)
    before = {task["ID"] for task in engine_host.api("/tasks")}
    assert "No changes" in engine_host.gitops("apply", path, "--yes").stdout
    assert {task["ID"] for task in engine_host.api("/tasks")} == before
    # What fails instead keeps back what waits for it.
    text = (web + job + once).replace("sleep 2", "false").replace("name: web", "name: web2")
    (path / "all.yaml").write_text(text.replace("name: api", "name: api2"))
    failed = engine_host.gitops("apply", path, "--yes", check=False)
    assert failed.returncode == 4, failed.stderr
    waits = "waits for app_{} (completed_successfully): 0/{}"
    assert "service app_web2 " + waits.format("migrate", "2 completed: slot") in failed.stderr, failed.stderr
    assert "service app_api2 " + waits.format("seed", "1 running") in failed.stderr, failed.stderr
    assert names(engine_host) == {"app_web", "app_api", "app_migrate", "app_seed"}
