"""What a plan refuses of a change to a service: fewer healthy tasks than are asked for, and another mode."""

from __future__ import annotations

import pytest

from gitops.manifests import Desired, DesiredSet, Position, StackSettings, canonical, extensions
from gitops.objects.base import Version
from gitops.objects.node import Node, NodeDescription, NodeSpec, NodeStatus
from gitops.objects.service import (
    ContainerSpec,
    Global,
    Replicated,
    Resources,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.reconciler import planner
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Plan

NODE = Node(
    id="n1",
    spec=NodeSpec(role="manager"),
    status=NodeStatus(state="ready"),
    description=NodeDescription(hostname="host-a", resources=Resources(nano_cpus=2 * 10**9, memory_bytes=2**30)),
)
OWNER = {"gitops.kind": "Service", "gitops.name": "web"}


def spec(image: str, min_available: int | None = None, order: str = "", mode: ServiceMode | None = None) -> ServiceSpec:
    return ServiceSpec(
        name="web",
        labels={**OWNER, **extensions.labels_of((), None, min_available)},
        task_template=TaskSpec(container_spec=ContainerSpec(image=image)),
        mode=mode or ServiceMode(replicated=Replicated(2)),
        update_config=UpdateConfig(order=order),
    )


def plan(wanted: ServiceSpec, running: int = 2) -> Plan:
    """The plan for a service of two tasks, of which so many run."""
    before = Service(id="s1", spec=spec("app:v1"), spec_version=Version(1))
    tasks = [
        Task(
            id=f"t{slot}",
            service_id="s1",
            service_name="web",
            slot=slot,
            node_id="n1",
            spec=before.spec.task_template,
            spec_version=Version(1),
            status=TaskStatus(state=TaskState.RUNNING),
        )
        for slot in range(1, running + 1)
    ]
    item = Desired("Service", "", "web", "web", Position("a.yaml", 1, 1), wanted, canonical.service(wanted), "")
    found = DesiredSet((item,), {"": StackSettings("")}, {})
    live = Live(services={"web": before}, nodes=(NODE,), tasks=tuple(tasks))
    return planner.make(planner.Request(found, {}, frozenset({""})), live)


@pytest.mark.parametrize(
    ("min_available", "order", "is_refused"),
    [(2, "stop-first", True), (2, "start-first", False), (1, "stop-first", False), (None, "stop-first", False)],
)
def test_a_change_may_not_leave_fewer_healthy_tasks_than_asked_for(
    min_available: int | None, order: str, is_refused: bool
) -> None:
    found = plan(spec("app:v2", min_available, order)).refused
    assert bool(found) is is_refused
    if found:
        assert "1 healthy tasks on the way, fewer than its min_available of 2" in found[0]


def test_a_service_that_has_fewer_already_may_be_mended() -> None:
    assert plan(spec("app:v2", 2, "stop-first"), running=1).refused == ()


def test_another_mode_is_refused_with_the_way_out() -> None:
    (found,) = plan(spec("app:v1", mode=ServiceMode(global_=Global()))).refused
    assert "service web can't change its mode from replicated to global" in found and "delete it first" in found
