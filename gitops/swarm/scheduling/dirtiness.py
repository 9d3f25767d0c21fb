"""Whether a task still is what its service says, or must be replaced by an update.

Compared are the task's template and the endpoint, with defaults filled in, so that a default that is written out
changes nothing. A service's labels, replicas and update settings never make a task dirty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from gitops.objects import defaults
from gitops.objects.node import Node
from gitops.objects.service import EndpointSpec, Placement, Service, ServiceSpec, TaskSpec
from gitops.objects.task import Task
from gitops.swarm.scheduling import constraints


def is_dirty(service: Service, task: Task, node: Node | None) -> bool:
    """Whether `task` differs from `service`; `node` is the task's, None when it has none (or it is gone).

    Where only the placement differs the task stays as long as its node satisfies the new one.
    """
    if service.spec_version == task.spec_version:
        return False
    wanted, actual = _normal(service.spec.task_template), _normal(task.spec)
    if _endpoint(service.spec.endpoint_spec) != _endpoint(task.endpoint.spec if task.endpoint else None):
        return True
    if wanted == actual:
        return False
    if replace(wanted, placement=actual.placement) != actual:
        return True
    return node is None or not constraints.is_placeable(wanted.placement or Placement(), node)


def is_slot_dirty(service: Service, tasks: Sequence[Task], node_of: Callable[[str], Node | None]) -> bool:
    """Whether an update has something to do in a slot: more than one task, or one that differs."""
    if len(tasks) != 1:
        return True
    return is_dirty(service, tasks[0], node_of(tasks[0].node_id) if tasks[0].node_id else None)


def _normal(template: TaskSpec) -> TaskSpec:
    return defaults.fill(ServiceSpec(task_template=template)).task_template


def _endpoint(spec: EndpointSpec | None) -> EndpointSpec:
    filled = defaults.fill(ServiceSpec(endpoint_spec=spec)).endpoint_spec
    assert filled is not None, "defaults give every service an endpoint"
    # An endpoint is a set of ports: Docker's clients send them in any order.
    return replace(filled, ports=sorted(filled.ports, key=lambda port: (port.protocol, port.target_port, repr(port))))
