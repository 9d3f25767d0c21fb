"""Whether a task still is what its service says (O24, O25, U04, U05)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gitops.objects.base import SECOND, Version
from gitops.objects.service import (
    ContainerSpec,
    Endpoint,
    EndpointSpec,
    Placement,
    Platform,
    PortConfig,
    Replicated,
    RestartPolicy,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from gitops.objects.task import Task
from gitops.swarm.scheduling import dirtiness

TEMPLATE = TaskSpec(container_spec=ContainerSpec(image="tu-demo:v1"))
PORTS = EndpointSpec(ports=[PortConfig(target_port=80), PortConfig(target_port=443)])
SPEC = ServiceSpec(name="web", task_template=TEMPLATE, endpoint_spec=PORTS)
TASK = Task(id="t", spec=TEMPLATE, spec_version=Version(1), endpoint=Endpoint(spec=PORTS), node_id="n1")


def is_dirty(spec: ServiceSpec, task: Task = TASK, node: Any = None, version: int = 2) -> bool:
    return dirtiness.is_dirty(Service(id="s", spec=spec, spec_version=Version(version)), task, node)


def with_template(**fields: Any) -> ServiceSpec:
    return replace(SPEC, task_template=replace(TEMPLATE, **fields))


def test_o24_the_same_version_is_clean_whatever_the_spec_says() -> None:
    assert not is_dirty(with_template(force_update=1), version=1)


def test_o24_an_equal_spec_of_another_version_is_clean() -> None:
    assert not is_dirty(SPEC)


@pytest.mark.parametrize(
    "fields",
    [
        {"container_spec": ContainerSpec(image="tu-demo:v2")},
        {"container_spec": ContainerSpec(image="tu-demo:v1", env=["A=1"])},
        {"force_update": 1},
        {"restart_policy": RestartPolicy(condition="none")},
    ],
)
def test_o24_a_changed_template_is_dirty(fields: dict[str, Any]) -> None:
    assert is_dirty(with_template(**fields))


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, labels={"a": "b"}),
        replace(SPEC, mode=ServiceMode(replicated=Replicated(replicas=9))),
        replace(SPEC, update_config=UpdateConfig(parallelism=3)),
        replace(SPEC, rollback_config=UpdateConfig(order="start-first")),
    ],
)
def test_o24_labels_replicas_and_update_settings_never_make_dirty(spec: ServiceSpec) -> None:
    assert not is_dirty(spec)


def test_a_default_that_is_written_out_changes_nothing() -> None:
    assert not is_dirty(
        with_template(
            container_spec=ContainerSpec(image="tu-demo:v1", stop_grace_period=10 * SECOND),
            restart_policy=RestartPolicy(condition="any", delay=5 * SECOND, max_attempts=0),
            placement=Placement(),
            runtime="container",
        )
    )


def test_ports_in_another_order_are_the_same_ports_and_other_ports_are_not() -> None:
    assert not is_dirty(replace(SPEC, endpoint_spec=EndpointSpec(mode="vip", ports=PORTS.ports[::-1])))
    assert is_dirty(replace(SPEC, endpoint_spec=EndpointSpec(ports=PORTS.ports[:1])))
    assert is_dirty(replace(SPEC, endpoint_spec=None))


def test_o25_changed_constraints_dirty_only_tasks_whose_node_does_not_fit(node: Any) -> None:
    spec = with_template(placement=Placement(constraints=["node.labels.zone==a"]))
    assert not is_dirty(spec, node=node("n1", labels={"zone": "a"}))
    assert is_dirty(spec, node=node("n1", labels={"zone": "b"}))
    assert is_dirty(spec, node=None)


def test_changed_platforms_dirty_only_tasks_whose_node_is_another(node: Any) -> None:
    spec = with_template(placement=Placement(platforms=[Platform(architecture="arm64", os="linux")]))
    assert not is_dirty(spec, node=node("n1", arch="aarch64"))
    assert is_dirty(spec, node=node("n1", arch="x86_64"))


def test_a_fitting_node_does_not_save_a_task_whose_template_changed_too(node: Any) -> None:
    spec = with_template(placement=Placement(max_replicas=1), force_update=1)
    assert is_dirty(spec, node=node("n1"))
    assert is_dirty(replace(with_template(placement=Placement(max_replicas=1)), endpoint_spec=None), node=node("n1"))


def test_a_slot_is_dirty_by_its_task_or_by_having_several(node: Any) -> None:
    service = Service(id="s", spec=SPEC, spec_version=Version(2))
    assert not dirtiness.is_slot_dirty(service, [TASK], lambda node_id: node(node_id))
    assert dirtiness.is_slot_dirty(service, [TASK, TASK], lambda node_id: node(node_id))
    assert dirtiness.is_slot_dirty(service, [replace(TASK, spec=TaskSpec())], lambda node_id: node(node_id))
