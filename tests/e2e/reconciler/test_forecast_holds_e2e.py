"""What a plan says of tasks is what real containers do: random changes, seen from the tasks' history.

Judged by the order of states and by what was written together, never by how long anything took. A batch is what goes
on at a time when all tasks take alike; on a machine that is busy with other things they don't. So what is compared is
the order of the slots, what is taken at first, and how many were on their way at once.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from gitops.objects.base import parse_time

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ROUNDS = 4
SERVICES = 5
MODES = ("replicated", "replicated", "replicated", "global", "replicated-job", "global-job")


@dataclass(frozen=True)
class Wanted:
    """A service as a manifest declares it."""

    name: str
    mode: str
    replicas: int = 3
    image: str = "app:v1"
    parallelism: int = 1
    delay_s: int = 0
    order: str = "stop-first"
    is_checked: bool = False
    memory: int = 0
    label: int = 0

    def manifest(self) -> str:
        is_job = self.mode.endswith("job")
        deploy: dict[str, Any] = {"mode": self.mode, "labels": {"number": str(self.label)}}
        if self.mode.startswith("replicated"):
            deploy["replicas"] = self.replicas
        if self.mode == "replicated-job":
            deploy["max_concurrent"] = self.parallelism
        if is_job:
            deploy["restart_policy"] = {"condition": "on-failure"}
        else:
            update = {"parallelism": self.parallelism, "delay": f"{self.delay_s}s", "order": self.order}
            deploy["update_config"] = update | {"monitor": "200ms", "failure_action": "continue"}
        if self.memory:
            deploy["resources"] = {"reservations": {"memory": f"{self.memory}M"}}
        spec: dict[str, Any] = {"image": self.image, "init": True, "deploy": deploy}
        if is_job:
            spec["command"] = ["/bin/busybox", "true"]
        elif self.is_checked:
            check = {"test": ["CMD", "/bin/busybox", "true"], "interval": "500ms", "timeout": "60s"}
            spec["healthcheck"] = check
        document = {"apiVersion": "gitops/v1", "kind": "Service", "metadata": {"name": self.name, "stack": "app"}}
        return json.dumps(document | {"spec": spec})


_VALUES: dict[str, list[Any]] = {
    "image": ["app:v1", "app:v2", "app:v3"],
    "replicas": [0, 1, 2, 3, 4],
    "parallelism": [1, 2, 3],
    "delay_s": [0, 0, 1],
    "order": ["stop-first", "start-first"],
    "is_checked": [True, False],
    "memory": [0, 8, 16],
    "label": list(range(100)),
    "mode": list(MODES),
}
_OFTEN = ("image", "image", "image", "memory", "label", "mode")
_BY_MODE = {
    "replicated": ("replicas", "parallelism", "delay_s", "order", "is_checked"),
    "global": ("parallelism", "order", "is_checked"),
    "replicated-job": ("replicas", "parallelism"),
    "global-job": (),
}


def first(rng: random.Random, number: int) -> Wanted:
    mode = rng.choice(MODES)
    values = {name: rng.choice(_VALUES[name]) for name in _BY_MODE[mode]}
    return Wanted(f"s{number}", mode, **values)


def with_changes(rng: random.Random, wanted: Wanted, count: int) -> Wanted:
    """The same with so many things changed; another mode comes as another service in the place of this one."""
    fields = asdict(wanted)
    for name in dict.fromkeys(rng.sample([*_OFTEN, *_BY_MODE[wanted.mode]], count)):
        fields[name] = rng.choice([value for value in _VALUES[name] if value != fields[name]])
    if fields["mode"] != wanted.mode:
        fields["name"] = f"{wanted.name}{rng.choice('abcdef')}"
    return Wanted(**fields)


@dataclass(frozen=True)
class Seen:
    """A task that was made by a change: its slot, when it was made, and when it had come as far as it should."""

    slot: int
    made: int
    there: int


def seen(host: Any, name: str, before: set[str]) -> list[Seen]:
    """The tasks that were made since, in that order; all are to run, or to have run to their end."""
    service = next(item for item in host.api("/services") if item["Spec"]["Name"] == name)
    found = [task for task in host.api("/tasks") if task["ServiceID"] == service["ID"] and task["ID"] not in before]
    wanted = [task for task in found if task["DesiredState"] in ("running", "complete")]
    assert {task["Status"]["State"] for task in wanted} <= {"running", "complete"}
    tasks = [
        Seen(task.get("Slot", 0), parse_time(task["CreatedAt"]), parse_time(task["Status"]["Timestamp"]))
        for task in wanted
    ]
    return sorted(tasks, key=lambda task: (task.made, task.slot))


def live(host: Any, name: str) -> dict[str, int]:
    """The slots of a service's tasks that run and are meant to, by task id."""
    services = {item["ID"]: item["Spec"]["Name"] for item in host.api("/services")}
    return {
        task["ID"]: task.get("Slot", 0)
        for task in host.api("/tasks")
        if services.get(task["ServiceID"]) == name
        and (task["DesiredState"], task["Status"]["State"]) == ("running", "running")
    }


def at_once(tasks: list[Seen]) -> int:
    """How many were on their way at the same time, at most."""
    return max((sum(other.made <= task.made < other.there for other in tasks) for task in tasks), default=0)


def least(before: int, removed: int, restarted: list[Seen], created: list[Seen], order: str) -> int:
    """The least number that ran and was meant to; what a new task stops first doesn't count from then on."""
    steps = [(task.there, 1) for task in created]
    if order == "stop-first":
        steps += [(task.made, -1) for task in restarted] + [(task.there, 1) for task in restarted]
    running = lowest = before - removed
    for _, step in sorted(steps):
        running += step
        lowest = min(lowest, running)
    return lowest


def compare(told: dict[str, Any], before: dict[str, int], made: list[Seen], hostname: str) -> None:
    """Hold the forecast of a service that is there against the tasks that were made."""
    is_by_node = told["mode"].startswith("global")
    batches = [[0 if is_by_node else slot for slot in batch] for batch in told["batches"]]
    taken = [slot for batch in batches for slot in batch]
    created = [slot for slot in ([0] * len(told["created"]) if is_by_node else told["created"]) if slot not in taken]
    restarted = [task for task in made if task.slot in taken]
    assert sorted(task.slot for task in made if task.slot not in taken) == created
    together = [task.slot for task in restarted if task.made == restarted[0].made]
    assert together == sorted(batches[0] if batches else [])
    assert sorted(task.slot for task in restarted) == sorted(taken)
    later = [task.slot for task in restarted if task.made > restarted[0].made]
    assert sorted(later, key=taken.index) == later
    assert at_once(restarted) <= max(map(len, batches), default=0)
    if told["mode"].endswith("job"):
        assert told["completed"] == told["wanted"] == len(made)
        assert told["after"] == ({hostname: len(made)} if made else {})
        return
    staying = len(before) - len(told["removed"]) + len(created)
    assert told["after"] == ({hostname: staying} if staying else {})
    new = [task for task in made if task.slot not in taken]
    assert told["min_healthy"] == least(len(before), len(told["removed"]), restarted, new, told["order"])


@pytest.mark.parametrize("seed", [3])
def test_a_plans_forecast_is_what_real_containers_do(swarm: Any, project: Any, image: Any, seed: int) -> None:
    rng = random.Random(seed)
    images = {f"v{number}.yaml": image(f"app:v{number}", f"v{number}") for number in (1, 2, 3)}
    services = [first(rng, number) for number in range(SERVICES)]
    hostname = swarm.api("/nodes")[0]["Description"]["Hostname"]
    for _ in range(ROUNDS + 1):
        files = images | {f"{item.name}.yaml": item.manifest() for item in services}
        path = project(files)
        for old in path.glob("s*.yaml"):
            if old.name not in files:
                old.unlink()
        plan = json.loads(swarm.gitops("diff", path, "--format", "json", check=False).stdout)
        told = {
            item["engine_name"]: item["forecast"]
            for item in plan["changes"]
            if item["kind"] == "Service" and item["action"] in ("create", "update", "delete")
        }
        before = {name: live(swarm, name) for name in told}
        known = {task["ID"] for task in swarm.api("/tasks")}
        swarm.gitops("apply", path, "--yes", timeout=300)
        there = {item["Spec"]["Name"] for item in swarm.api("/services")}
        assert {name for name, item in told.items() if name in there} == {
            item["engine_name"] for item in plan["changes"] if item["forecast"] and item["action"] != "delete"
        }
        for name, forecast in told.items():
            if name in there:
                compare(forecast, before[name], seen(swarm, name, known), hostname)
            else:
                assert (forecast["after"], forecast["min_healthy"]) == ({}, 0)
        services = [with_changes(rng, item, rng.choice([1, 1, 2])) for item in services]
