"""History, rollback, the lease and suspension, with real containers: on the built-in engine and on a real Docker Swarm.

The port is one of mode host, which needs no kernel's balancer; so a task stops before another one starts.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]

GITOPS = Path(sys.executable).parent / "gitops"
STACK = """\
apiVersion: gitops/v1
kind: Config
metadata: {{name: page, stack: app}}
spec: {{content: "{page}\\n"}}
---
apiVersion: gitops/v1
kind: Service
metadata: {{name: web, stack: app}}
spec:
  image: {image}
  init: true
  ports: [{{target: 8080, published: 8080, mode: host}}]
  configs: [{{source: page, target: /www/page}}]
  {more}
  deploy:
    restart_policy: {{delay: 500ms}}
    update_config: {{monitor: 500ms}}
"""
HOLD = """\
import asyncio, sys
from gitops import client
from gitops.reconciler import lease

async def main():
    async with client.connect(None) as engine, lease.hold(engine, ["app"], "somebody@elsewhere", ttl_s=4):
        print("held", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def stack(image: str, page: str, more: str = "") -> str:
    return STACK.format(image=image, page=page, more=more)


def commit(path: Path, text: str) -> None:
    for words in (["add", "-A"], ["-c", "user.name=Ann", "-c", "user.email=a@b", "commit", "-qm", text]):
        subprocess.run(["git", "-C", path, *words], check=True)


def serves(host: Any, text: str, page: str) -> None:
    """Its server answers with these in the end: that a task runs says nothing of the program in it."""
    wanted = (f"{text}\n", f"{page}\n")
    host.wait(lambda: tuple(host.get(f"http://127.0.0.1:8080/{path}") for path in ("", "page")) == wanted, 60)


def versions(host: Any) -> dict[str, int]:
    return {item["Spec"]["Name"]: item["Version"]["Index"] for item in host.api("/configs")}


def history(host: Any, *arguments: str) -> Any:
    return json.loads(host.gitops("history", "app", *arguments, "--format", "json").stdout)


def hold(host: Any) -> subprocess.Popen[bytes]:
    """A process that holds the lease of `app` as an apply that writes does."""
    log: Path = host.directory / "holder.log"
    process: subprocess.Popen[bytes] = host.spawn(sys.executable, "-c", HOLD, log=log)
    host.wait(lambda: log.read_text() == "held\n", 60)
    return process


def is_waiting(host: Any) -> bool:
    found = [item for item in host.api("/configs") if item["Spec"]["Name"] == "gitops-record-app"]
    return bool(found) and found[0]["Spec"]["Labels"].get("gitops.record.lease-phase") == "waiting"


def test_every_apply_is_in_the_history_and_a_rollback_brings_image_and_config_back(
    engine_host: Any, project: Any, image: Any
) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": stack("app:v1", "one")})
    subprocess.run(["git", "init", "-q", path], check=True)
    commit(path, "first words")
    engine_host.gitops("apply", path, "--yes")
    (path / "image.yaml").write_text(image("app:v2", "v2"))
    (path / "web.yaml").write_text(stack("app:v2", "two"))
    commit(path, "second words")
    engine_host.gitops("apply", path, "--yes")
    serves(engine_host, "v2", "two")
    before = versions(engine_host)
    engine_host.gitops("apply", path, "--yes")
    assert versions(engine_host) == before, "a run that changed nothing wrote something"

    found = history(engine_host)
    assert [(item["number"], item["outcome"], item["author"], item["subject"]) for item in found] == [
        (2, "applied", "Ann", "second words"),
        (1, "applied", "Ann", "first words"),
    ]
    assert found[1]["counts"] == {"create": 3 + 1} and found[0]["duration_s"] > 0
    whole = history(engine_host, "2")
    assert {item["kind"] for item in whole["objects"]} == {"Image", "Network", "Config", "Service"}
    assert "configs" in str([item["paths"] for item in whole["changes"]])
    assert "second words" in engine_host.gitops("history", "app").stdout
    assert "kept are 2, 1" in engine_host.gitops("rollback", "app", "7", "--yes", check=False).stderr

    done = engine_host.gitops("rollback", "app", "--yes")
    assert "Back to revision 1, first words" in done.stdout and "image" in done.stdout
    serves(engine_host, "v1", "one")
    newest = history(engine_host)[0]
    assert newest["number"] == 3 and newest["rollback_to"] == 1 and newest["subject"] == "first words"
    refused = engine_host.gitops("watch", path, "--once", check=False)
    assert refused.returncode == 5 and "held" in refused.stderr, "watch fought the rollback"
    serves(engine_host, "v1", "one")

    engine_host.gitops("rollback", "app", "2", "--yes")
    serves(engine_host, "v2", "two")
    assert engine_host.gitops("diff", path, check=False).returncode == 0
    removed = [item for item in engine_host.api("/configs") if item["Spec"]["Name"].startswith("app_page")]
    assert len(removed) == 2
    old = min(removed, key=lambda item: item["CreatedAt"])
    engine_host.docker("config", "rm", old["Spec"]["Name"])
    gone = engine_host.gitops("rollback", "app", "1", "--yes", check=False)
    assert gone.returncode == 5 and old["Spec"]["Name"] in gone.stderr and "apply commit" in gone.stderr
    engine_host.gitops("delete", "app", "--yes")
    assert not [item for item in engine_host.api("/configs") if item["Spec"]["Name"].startswith(("gitops-", "app_"))]


def test_an_image_that_is_rebuilt_under_its_tag_rolls_and_its_former_versions_stay_for_rollbacks(
    engine_host: Any, project: Any, image: Any
) -> None:
    path = project({"image.yaml": image("app:v1", "one"), "web.yaml": stack("app:v1", "page")})
    engine_host.gitops("apply", path, "--yes")
    for count, text in enumerate(("two", "three"), 2):
        (path / "image.yaml").write_text(image("app:v1", text))
        shown = engine_host.gitops("diff", path, check=False).stdout
        assert "app:v1" in shown and "2 to update" in shown
        engine_host.gitops("apply", path, "--yes")
        serves(engine_host, text, "page")
        assert len(engine_host.api("/images/json")) == count, "the present version and those of kept revisions"
        assert engine_host.gitops("diff", path).returncode == 0
    engine_host.docker("service", "rollback", "--detach", "app_web")
    serves(engine_host, "two", "page")
    engine_host.gitops("rollback", "app", "1", "--yes")
    serves(engine_host, "one", "page")
    engine_host.gitops("delete", "app", "--yes")
    assert engine_host.api("/images/json") == []


def test_a_failed_apply_rolls_the_whole_set_back_if_it_is_told_to(engine_host: Any, project: Any, image: Any) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": stack("app:v1", "one")})
    first = engine_host.gitops("apply", path, "--yes", "--on-failure", "rollback")
    assert first.returncode == 0
    fails = "healthcheck: {test: [CMD, /bin/busybox, 'true'], interval: 1s}\n  command: [/bin/sh, -c, exit 1]"
    (path / "web.yaml").write_text(stack("app:v1", "two", fails))
    done = engine_host.gitops(
        "apply", path, "--yes", "--on-failure", "rollback", "--timeout", "60", check=False, timeout=180
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert "app_web" in done.stderr and "rolled back to revision 1 of stack 'app'" in done.stderr
    serves(engine_host, "v1", "one")
    assert [(item["outcome"], item["rollback_to"]) for item in history(engine_host)] == [
        ("applied", 1),
        ("rolled-back", None),
        ("applied", None),
    ]
    assert "rolled-back" in engine_host.gitops("status", "app").stdout
    assert engine_host.gitops("watch", path, "--once", check=False).returncode == 5


def test_an_apply_is_kept_from_one_that_writes_and_follows_a_killed_one_without_anybodys_help(
    engine_host: Any, project: Any, image: Any
) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": stack("app:v1", "one")})
    holder = hold(engine_host)
    done = engine_host.gitops("apply", path, "--yes", check=False)
    assert done.returncode == 5 and "somebody@elsewhere" in done.stderr
    assert engine_host.api("/services") == [], "it changed something though it was refused"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    done = engine_host.gitops("apply", path, "--yes")
    assert "taken over from somebody@elsewhere" in done.stdout
    serves(engine_host, "v1", "one")


def test_a_newer_apply_takes_over_from_one_that_waits_and_from_one_that_was_killed(
    engine_host: Any, project: Any, image: Any
) -> None:
    never = "healthcheck: {test: [CMD, /bin/sh, -c, exit 1], interval: 1s, retries: 1000}"
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": stack("app:v1", "one", never)})
    log = engine_host.directory / "first.log"
    first = engine_host.spawn(GITOPS, "apply", path, "--yes", log=log)
    engine_host.wait(lambda: is_waiting(engine_host), 60)
    (path / "web.yaml").write_text(stack("app:v1", "two"))
    second = engine_host.gitops("apply", path, "--yes")
    assert "taken over from" in second.stdout
    assert first.wait(30) == 5 and "taken over by" in log.read_text()
    serves(engine_host, "v1", "two")
    assert [item["outcome"] for item in history(engine_host)] == ["applied", "interrupted"]

    (path / "web.yaml").write_text(stack("app:v1", "three", never))
    third = engine_host.spawn(GITOPS, "apply", path, "--yes", log=log)
    engine_host.wait(lambda: is_waiting(engine_host), 60)
    third.send_signal(signal.SIGKILL)
    third.wait()
    (path / "web.yaml").write_text(stack("app:v1", "four"))
    engine_host.gitops("apply", path, "--yes")
    serves(engine_host, "v1", "four")
    assert [item["outcome"] for item in history(engine_host)][:2] == ["applied", "interrupted"]


def test_a_suspended_stack_is_left_alone_until_it_is_resumed(engine_host: Any, project: Any, image: Any) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": stack("app:v1", "one")})
    engine_host.gitops("apply", path, "--yes")
    assert "is suspended" in engine_host.gitops("suspend", "app", "--reason", "a migration").stdout
    assert "a migration" in engine_host.gitops("status", "app").stdout
    log = engine_host.directory / "watch.log"
    engine_host.spawn(GITOPS, "watch", path, log=log)
    (path / "web.yaml").write_text(stack("app:v1", "two"))
    refused = engine_host.gitops("apply", path, "--yes", check=False)
    assert refused.returncode == 5 and "a migration" in refused.stderr and "gitops resume app" in refused.stderr
    engine_host.wait(lambda: "a migration" in log.read_text(), 60)
    serves(engine_host, "v1", "one")
    assert "no longer suspended" in engine_host.gitops("resume", "app").stdout
    serves(engine_host, "v1", "two")
