"""Services of real containers on one node: replaced, updated, adopted, reached, and cleaned up after."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gitops.oci import builder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SPEC = {
    "Name": "web",
    "TaskTemplate": {
        "ContainerSpec": {"Image": "app:v1", "StopGracePeriod": 2_000_000_000},
        "RestartPolicy": {"Condition": "any", "Delay": 1_000_000_000},
    },
    "Mode": {"Replicated": {"Replicas": 2}},
    "UpdateConfig": {"Parallelism": 1, "Monitor": 1_000_000_000},
    "EndpointSpec": {"Ports": [{"TargetPort": 8080, "PublishedPort": 8080, "Protocol": "tcp"}]},
}


def post(host: Any, path: str, body: dict[str, Any]) -> Any:
    """POST to the daemon."""
    return host.run(
        "curl", "-sS", "--fail-with-body", "--unix-socket", str(host.run_root / "engine.sock"),
        "-H", "Content-Type: application/json", "-d", json.dumps(body), f"http://d{path}", check=False,
    )  # fmt: skip


def call(host: Any, path: str, body: dict[str, Any]) -> Any:
    """POST to the daemon; what it answers."""
    answer = post(host, path, body)
    assert answer.returncode == 0, answer.stdout
    return json.loads(answer.stdout)


def create(host: Any, **changes: Any) -> str:
    return str(call(host, "/services/create", {**SPEC, **changes})["ID"])


def update(host: Any, **changes: Any) -> None:
    """Change fields of the spec; the version moves on by itself while an update is under way."""

    def attempt() -> bool:
        service = host.api("/services/web")
        path = f"/services/web/update?version={service['Version']['Index']}"
        answer = post(host, path, {**service["Spec"], **changes})
        if "out of sequence" in answer.stdout:
            return False
        assert answer.returncode == 0, answer.stdout
        return True

    host.wait(attempt, 10, "the update is always out of sequence")


def template(**changes: Any) -> dict[str, Any]:
    """The task template with other fields in its container."""
    made: dict[str, Any] = json.loads(json.dumps(SPEC["TaskTemplate"]))
    made["ContainerSpec"].update(changes)
    return made


def tasks(host: Any) -> list[dict[str, Any]]:
    return list(host.api("/tasks"))


def running(host: Any, count: int, image: str = "app:v1") -> list[dict[str, Any]]:
    """Wait until so many tasks of `image` run and are wanted, and no other."""

    def look() -> list[dict[str, Any]]:
        wanted = [task for task in tasks(host) if task["DesiredState"] == "running"]
        right = [
            task
            for task in wanted
            if task["Status"]["State"] == "running" and task["Spec"]["ContainerSpec"]["Image"] == image
        ]
        return right if len(right) == len(wanted) == count else []

    return list(host.wait(look, 60, f"there are not {count} tasks of {image}"))


def container(task: dict[str, Any]) -> str:
    return str(task["Status"]["ContainerStatus"]["ContainerID"])


def archive(path: Path, tag: str, text: str) -> Path:
    """An image that serves `text` on port 8080."""
    entries: list[builder.Entry] = [
        builder.FileEntry(Path("/bin/busybox"), "/bin/busybox", 0o755),
        builder.LinkEntry("/bin/busybox", "/bin/sh"),
        builder.ContentEntry(f"{text}\n".encode(), "/www/index.html"),
    ]
    command = ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]
    plan = builder.BuildPlan([entries], builder.BuildConfig(cmd=command), tags=[tag])
    with builder.build(plan) as built, path.open("wb") as output:
        builder.write_archive(built, output)
    return path


@pytest.fixture
def ready(swarm: Any, tmp_path: Path) -> Any:
    """A swarm that has the images `app:v1` and `app:v2`."""
    for version in ("v1", "v2"):
        swarm.docker("load", "-i", str(archive(tmp_path / f"{version}.tar", f"app:{version}", version)))
    return swarm


def test_i19_a_container_that_is_removed_by_force_is_replaced_while_the_service_answers(ready: Any) -> None:
    create(ready)
    before = running(ready, 2)
    ready.wait(lambda: ready.get("http://127.0.0.1:8080/") == "v1\n", 10)
    victim = before[0]
    ready.docker("rm", "-f", container(victim))
    for _ in range(20):
        assert ready.get("http://127.0.0.1:8080/") == "v1\n"
    after = running(ready, 2)
    assert victim["ID"] not in {task["ID"] for task in after}
    old = next(task for task in tasks(ready) if task["ID"] == victim["ID"])
    assert old["Status"]["State"] == "failed"
    assert old["DesiredState"] == "shutdown"
    assert {item["Slot"] for item in after} == {1, 2}


def test_containers_carry_dockers_names_and_labels(ready: Any) -> None:
    service_id = create(ready, TaskTemplate=template(Env=["ME={{.Service.Name}}.{{.Task.Slot}}"]))
    for task in running(ready, 2):
        inspected = ready.api(f"/containers/{container(task)}/json")
        assert inspected["Name"] == f"/web.{task['Slot']}.{task['ID']}"
        assert inspected["Config"]["Labels"]["com.docker.swarm.service.id"] == service_id
        assert inspected["Config"]["Labels"]["com.docker.swarm.task.id"] == task["ID"]
        assert f"ME=web.{task['Slot']}" in inspected["Config"]["Env"]


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
def test_a_rolling_update_is_never_without_an_answer(ready: Any, order: str) -> None:
    create(ready)
    running(ready, 2)
    ready.wait(lambda: ready.get("http://127.0.0.1:8080/") == "v1\n", 10)
    answers: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            answers.append(ready.get("http://127.0.0.1:8080/"))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        update(ready, TaskTemplate=template(Image="app:v2"), UpdateConfig={**SPEC["UpdateConfig"], "Order": order})
        running(ready, 2, "app:v2")
        ready.wait(lambda: ready.api("/services/web")["UpdateStatus"]["State"] == "completed", 30)
    finally:
        done.set()
        thread.join()
    assert set(answers) == {"v1\n", "v2\n"}
    assert ready.get("http://127.0.0.1:8080/") == "v2\n"


def test_i20_a_killed_daemon_adopts_its_tasks_and_doubles_nothing(ready: Any) -> None:
    create(ready)
    before = {task["ID"]: container(task) for task in running(ready, 2)}
    links, mounts = ready.links(), ready.mounts()
    for _ in range(2):
        ready.kill()
        ready.start()
        after = {task["ID"]: container(task) for task in running(ready, 2)}
        assert after == before
        assert len(tasks(ready)) == 2
    assert len(ready.containers()) == 2
    assert (sorted(ready.links()), ready.mounts()) == (sorted(links), mounts)
    ready.wait(lambda: ready.get("http://127.0.0.1:8080/") == "v1\n", 10)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [20, 21])
def test_a_daemon_that_is_killed_or_stopped_at_random_moments_of_updates_converges(ready: Any, seed: int) -> None:
    rng = random.Random(seed)
    create(ready, TaskTemplate=template(Init=True))
    for number in range(8):
        image = f"app:v{number % 2 + 1}"
        order = rng.choice(["stop-first", "start-first"])
        update(
            ready,
            TaskTemplate=template(Image=image, Init=True),
            Mode={"Replicated": {"Replicas": rng.randint(1, 4)}},
            UpdateConfig={**SPEC["UpdateConfig"], "Order": order, "Parallelism": 2},
        )
        time.sleep(rng.random() * 4)
        ready.kill() if rng.random() < 0.5 else ready.stop()
        ready.start()
    update(ready, TaskTemplate=template(Image="app:v2", Init=True), Mode={"Replicated": {"Replicas": 3}})
    alive = {container(task) for task in running(ready, 3, "app:v2")}
    ready.wait(lambda: {item["Id"] for item in ready.containers()} == alive, 60, "other containers run")
    held = {container(task) for task in tasks(ready) if task["Status"].get("ContainerStatus")}
    ready.wait(lambda: set(ready.docker("ps", "-aq", "--no-trunc").split()) <= held, 60, "leftovers are not swept")
    ready.wait(lambda: len(ready.conmons()) == 3 and set(ready.cgroups()) == alive, 30, "processes are left")
    for _ in range(10):
        assert ready.get("http://127.0.0.1:8080/") == "v2\n"


def test_what_died_while_no_daemon_ran_is_replaced(ready: Any) -> None:
    create(ready)
    before = running(ready, 2)
    pid = before[0]["Status"]["ContainerStatus"]["PID"]
    ready.kill()
    os.kill(pid, signal.SIGKILL)
    ready.start()
    ready.wait(lambda: len([task for task in tasks(ready) if task["Status"]["State"] == "failed"]) == 1, 30)
    after = running(ready, 2)
    assert before[1]["ID"] in {task["ID"] for task in after}


def test_d19_a_task_runs_when_it_is_healthy_and_is_replaced_when_it_is_not_any_more(ready: Any) -> None:
    check = {"Test": ["CMD", "/bin/busybox", "test", "!", "-e", "/ill"], "Interval": 500_000_000, "Retries": 1}
    create(ready, TaskTemplate=template(Healthcheck=check), Mode={"Replicated": {"Replicas": 1}})
    (task,) = running(ready, 1)
    inspected = ready.api(f"/containers/{container(task)}/json")
    assert inspected["State"]["Health"]["Status"] == "healthy"
    pid = inspected["State"]["Pid"]
    ready.run("nsenter", "-t", str(pid), "-m", "/bin/busybox", "touch", "/ill")
    ready.wait(lambda: any(item["Status"]["State"] == "failed" for item in tasks(ready)), 30)
    (other,) = running(ready, 1)
    assert other["ID"] != task["ID"]


def test_a_name_on_a_network_leads_to_healthy_tasks_wherever_they_were_put(ready: Any) -> None:
    ready.docker("network", "create", "-d", "overlay", "back")
    networks = [{"Target": "back", "Aliases": ["short"]}]
    create(ready, TaskTemplate={**template(Init=True), "Networks": networks})
    create(
        ready,
        Name="asker",
        TaskTemplate={**template(Init=True), "Networks": networks},
        Mode={"Replicated": {"Replicas": 1}},
        EndpointSpec={},
    )
    running(ready, 3)

    def resolve(name: str) -> set[str]:
        (asker,) = [task for task in running(ready, 3) if task["Slot"] == 1 and name_of(ready, task) == "asker"]
        script = f"nslookup {name} 127.0.0.11 | sed 1,2d"
        pid = str(asker["Status"]["ContainerStatus"]["PID"])
        found = ready.run("nsenter", "-t", pid, "-n", "/bin/busybox", "sh", "-c", f"busybox {script}", check=False)
        return {line.split()[-1] for line in found.stdout.splitlines() if line.startswith("Address")}

    def addresses() -> set[str]:
        wanted = [task for task in running(ready, 3) if name_of(ready, task) == "web"]
        return {item["Addresses"][0].partition("/")[0] for task in wanted for item in attached(task, "back")}

    for name in ("web", "tasks.web", "short"):
        ready.wait(lambda name=name: resolve(name) >= addresses() and addresses(), 10, f"{name} does not resolve")
    ready.docker("rm", "-f", container(next(task for task in running(ready, 3) if name_of(ready, task) == "web")))
    ready.wait(lambda: resolve("web") == addresses(), 20, "the name does not follow the tasks")


def name_of(host: Any, task: dict[str, Any]) -> str:
    return str(host.api(f"/services/{task['ServiceID']}")["Spec"]["Name"])


def attached(task: dict[str, Any], network: str) -> list[dict[str, Any]]:
    return [item for item in task["NetworksAttachments"] if item["Network"]["Spec"]["Name"] == network]


def test_an_image_that_can_not_be_had_is_said_and_pauses_an_update(ready: Any) -> None:
    create(ready)
    running(ready, 2)
    update(ready, TaskTemplate=template(Image="127.0.0.1:9/none:v1"))
    ready.wait(lambda: (ready.api("/services/web").get("UpdateStatus") or {}).get("State") == "paused", 60)
    rejected = next(task for task in tasks(ready) if task["Status"]["State"] == "rejected")
    assert "No such image: 127.0.0.1:9/none:v1" in rejected["Status"]["Err"]
    assert len(ready.containers()) == 1


def test_secrets_and_configs_are_in_the_container_and_nowhere_on_disk(ready: Any) -> None:
    mark = "c2VjcmV0LW1hcmsteHl6enk="
    secret = call(ready, "/secrets/create", {"Name": "pw", "Data": mark})["ID"]
    config = call(ready, "/configs/create", {"Name": "conf", "Data": "eD0x"})["ID"]
    target = {"UID": "0", "GID": "0", "Mode": 0o400}
    references = {
        "Secrets": [{"SecretID": secret, "SecretName": "pw", "File": {"Name": "pw", **target}}],
        "Configs": [{"ConfigID": config, "ConfigName": "conf", "File": {"Name": "/etc/app.conf", **target}}],
    }
    create(ready, TaskTemplate=template(**references), Mode={"Replicated": {"Replicas": 1}})
    (task,) = running(ready, 1)
    pid = ready.api(f"/containers/{container(task)}/json")["State"]["Pid"]

    def read(path: str) -> str:
        return str(ready.run("nsenter", "-t", str(pid), "-m", "/bin/busybox", "cat", path).stdout)

    assert read("/run/secrets/pw") == "secret-mark-xyzzy"
    assert read("/etc/app.conf") == "x=1"
    assert ready.run("grep", "-rl", "secret-mark-xyzzy", ready.data_root, check=False).stdout == ""


def test_a_removed_service_leaves_nothing(ready: Any) -> None:
    # The first service makes the predefined bridge, which stays.
    create_and_remove(ready)
    links, mounts = ready.links(), ready.mounts()
    create_and_remove(ready)
    assert (ready.links(), ready.mounts()) == (links, mounts)
    assert ready.cgroups() == []
    assert ready.conmons() == []
    assert not [link for link in links if "veth" in link]


def test_a_swarm_network_is_on_the_host_while_tasks_use_it(ready: Any) -> None:
    create_and_remove(ready)
    links = ready.links()
    ready.docker("network", "create", "-d", "overlay", "back")
    assert ready.links() == links
    create(ready, TaskTemplate={**template(), "Networks": [{"Target": "back"}]})
    running(ready, 2)
    assert len(ready.links()) > len(links)
    ready.docker("service", "rm", "web")
    ready.wait(lambda: ready.links() == links, 30, "the network's bridge is left")
    ready.docker("network", "rm", "back")


def test_a_port_of_mode_host_leads_to_the_task_of_this_node(ready: Any) -> None:
    ports = [{"TargetPort": 8080, "PublishedPort": 8090, "Protocol": "tcp", "PublishMode": "host"}]
    create(ready, EndpointSpec={"Ports": ports}, Mode={"Replicated": {"Replicas": 1}})
    (task,) = running(ready, 1)
    assert ready.get("http://127.0.0.1:8090/") == "v1\n"
    assert task["Status"]["PortStatus"]["Ports"][0]["PublishedPort"] == 8090
    update(ready, Mode={"Replicated": {"Replicas": 2}})
    waiting = ready.wait(lambda: [item for item in tasks(ready) if item["Status"].get("Err")], 10)
    assert "host-mode port already in use" in waiting[0]["Status"]["Err"]


def create_and_remove(ready: Any) -> None:
    create(ready)
    running(ready, 2)
    ready.wait(lambda: ready.get("http://127.0.0.1:8080/") == "v1\n", 10)
    ready.docker("service", "rm", "web")
    ready.wait(lambda: tasks(ready) == [], 30, "task objects are left")
    ready.wait(lambda: ready.containers() == [] and ready.docker("ps", "-aq") == "", 30, "containers are left")
    ready.wait(lambda: ready.get("http://127.0.0.1:8080/") == "", 10, "the port still answers")
