"""The chain from desired to reachable, by tables of what was seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gitops.cli import explaining
from gitops.objects.container import HealthResult
from gitops.objects.node import Node, NodeDescription, NodeStatus
from gitops.objects.service import (
    ContainerSpec,
    Endpoint,
    EndpointSpec,
    HealthConfig,
    PortConfig,
    Replicated,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateStatus,
)
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.reconciler import converge, why
from gitops.reconciler.record import Outcome, Record
from gitops.reconciler.why import Seen, State

NODES = {"n1": Node(id="n1", description=NodeDescription(hostname="mgr1"), status=NodeStatus(state="ready"))}
PORT = PortConfig(target_port=80, published_port=8080, publish_mode="ingress")


def service(update: str = "", replicas: int = 1, ports: bool = True) -> Service:
    container = ContainerSpec(image="app:v1", healthcheck=HealthConfig(test=["CMD", "true"]))
    spec = ServiceSpec(
        name="app_web",
        task_template=TaskSpec(container_spec=container),
        mode=ServiceMode(replicated=Replicated(replicas=replicas)),
        endpoint_spec=EndpointSpec(ports=[PORT]),
    )
    status = UpdateStatus(state=update, message="update paused") if update else None
    return Service(id="s1", spec=spec, endpoint=Endpoint(ports=[PORT] if ports else []), update_status=status)


def task(state: TaskState, err: str = "", wanted: TaskState = TaskState.RUNNING, number: int = 1) -> Task:
    status = TaskStatus(state=state, err=err, timestamp=f"2026-01-01T00:00:{number:02}Z")
    node = "" if state is TaskState.PENDING else "n1"
    return Task(id=f"t{number}", service_id="s1", slot=1, node_id=node, desired_state=wanted, status=status)


def seen(*tasks: Task, found: Service | None = None, **more: Any) -> Seen:
    found = found or service()
    return Seen("app_web", found, converge.evaluate(found, tasks, (), NODES), tasks, NODES, **more)


def failed(err: str) -> tuple[Task, ...]:
    """A task that failed, and the next attempt."""
    return task(TaskState.FAILED, err, TaskState.SHUTDOWN, 1), task(TaskState.READY, "", TaskState.RUNNING, 2)


@pytest.mark.parametrize(
    ("what", "link", "evidence"),
    [
        (seen(task(TaskState.PENDING, "no suitable node (2 nodes not available)")), "scheduled", "2 nodes not avail"),
        (seen(*failed("No such image: app:v1")), "pulled", "app:v1 on mgr1: No such image"),
        (
            seen(*failed("task: non-zero exit (3)")),
            "running",
            "1 attempt failed, the last one in slot 1: task: non-zero",
        ),
        (
            seen(*failed("task: unhealthy container"), probes=(HealthResult(exit_code=7, output="no answer\n"),)),
            "healthy",
            "check ended with 7: no answer",
        ),
        (seen(found=service("paused")), "planned", "update paused"),
        (
            seen(task(TaskState.RUNNING), found=service(ports=False)),
            "reachable",
            "no published port is assigned for 80",
        ),
        (Seen("app_web", None, None, applied={}), "desired", "somebody removed it"),
    ],
)
def test_the_first_broken_link_is_named_with_its_evidence(what: Seen, link: str, evidence: str) -> None:
    found = why.walk(what)
    assert found.broken is not None and (found.broken.name, found.broken.state) == (link, State.BROKEN)
    assert evidence in found.broken.evidence
    after = why.LINKS.index(link) + 1
    assert [item.state for item in found.links[after:]] == [State.OPEN] * (len(why.LINKS) - after)
    assert explaining.text(found).splitlines()[-1].startswith(f"Broken at {link}: ")


def test_what_is_on_its_way_is_not_called_broken() -> None:
    for state, link in ((TaskState.PREPARING, "pulled"), (TaskState.STARTING, "healthy")):
        found = why.walk(seen(task(state))).broken
        assert found is not None and (found.name, found.state) == (link, State.WAITING)


def test_when_all_is_well_every_link_says_what_it_knows() -> None:
    record = Record("app", "/site#.", "3f2c1ab", "rev", Outcome.APPLIED)
    found = why.walk(seen(task(TaskState.RUNNING), record=record))
    assert found.broken is None and found.to_dict()["broken"] is None
    assert [link.evidence for link in found.links] == [
        "applied from /site#., commit 3f2c1ab, applied",
        "as it was applied last",
        "mgr1 1",
        "app:v1",
        "1/1 running",
        "its health checks pass",
        "port 8080->80/tcp",
    ]


def test_what_somebody_changed_since_the_apply_is_noted_though_all_runs() -> None:
    base = seen(task(TaskState.RUNNING))
    found = why.walk(replace(base, applied={"deploy": {"replicas": 1}}, form={"deploy": {"replicas": 2}}))
    assert (
        found.broken is None and "changed by somebody since it was applied: deploy.replicas" in found.links[1].evidence
    )


def test_a_held_revision_of_the_stack_is_told_and_breaks_nothing_by_itself() -> None:
    record = Record("app", held="rev1", revision="rev1", message="slot 1 of another failed")
    found = why.walk(seen(task(TaskState.RUNNING), record=record))
    assert found.broken is None and "revision rev1 of its stack is held (gitops resume app)" in found.links[1].evidence
