"""Where names and published ports lead, as a projection of the task table; pure.

Only tasks that run, are healthy and are meant to run (or to run to their end) are led to, on a node that isn't down. A
node is told the names of the networks that its own tasks are on, and all published ports.

On a network, a service is known by its full name and `tasks.<service>`, by its aliases there, and each task by
`<service>.<slot>.<task id>` (a node's id in place of the slot, where the service has a task on each); all lower case. A
name that two services share leads to both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from gitops.objects.assignment import Endpoints, NetworkNames, PortBackends
from gitops.objects.node import Node
from gitops.objects.service import PortConfig, Service
from gitops.objects.task import NetworkAttachment, Task, TaskAddress, TaskState
from gitops.swarm.store.protocol import View


def endpoints(view: View, node_id: str) -> Endpoints:
    """What the node's names and ports are to lead to at this snapshot."""
    serving = _serving(view)
    own = {
        item.network.id
        for task in view.tasks_of_node(node_id)
        if TaskState.ASSIGNED.rank <= task.status.state.rank <= TaskState.RUNNING.rank
        for item in task.networks_attachments
        if not item.network.spec.ingress and item.network.ipam_options is not None
    }
    return Endpoints(version=view.version, ports=_all_ports(view, serving), networks=_all_names(own, serving))


def _serving(view: View) -> list[Task]:
    """The tasks to be led to, in an order that depends on nothing else."""
    down = {node.id for node in view.all(Node) if node.status.state == "down"}
    tasks = [task for task in view.all(Task) if _serves(task) and task.node_id not in down]
    return sorted(tasks, key=lambda task: (task.service_name, task.slot, task.place, task.id))


def _serves(task: Task) -> bool:
    return task.status.state is TaskState.RUNNING and task.desired_state in (TaskState.RUNNING, TaskState.COMPLETE)


def _all_names(networks: Iterable[str], serving: Iterable[Task]) -> list[NetworkNames]:
    """The names on each of `networks`."""
    found: dict[str, dict[str, dict[str, None]]] = {network_id: {} for network_id in sorted(networks)}
    for task in serving:
        for item in task.networks_attachments:
            names, address = found.get(item.network.id), _address(item)
            if names is None or not address:
                continue
            for name in _names_of(task, item):
                names.setdefault(name.lower(), {})[address] = None
    return [
        NetworkNames(network_id=network_id, names={name: list(led) for name, led in sorted(names.items())})
        for network_id, names in found.items()
    ]


def _names_of(task: Task, item: NetworkAttachment) -> list[str]:
    service = task.service_name
    return [service, f"tasks.{service}", f"{service}.{task.place}.{task.id}", *item.aliases]


def _all_ports(view: View, serving: Iterable[Task]) -> list[PortBackends]:
    """The published ports of all services."""
    by_service: dict[str, list[Task]] = defaultdict(list)
    for task in serving:
        by_service[task.service_id].append(task)
    return [
        _backends(service, port, by_service.get(service.id, []))
        for service in view.all(Service)
        for port in service.endpoint.ports
        if port.publish_mode == "ingress" and port.published_port
    ]


def _backends(service: Service, port: PortConfig, tasks: list[Task]) -> PortBackends:
    """The tasks behind a port; while an update changes the port inside, the old ones serve until a new one can."""
    by_target: dict[int, list[TaskAddress]] = defaultdict(list)
    for task in tasks:
        for own in task.endpoint.ports if task.endpoint else []:
            if (own.publish_mode, own.protocol, own.published_port) == ("ingress", port.protocol, port.published_port):
                address = next((_address(item) for item in task.networks_attachments if item.network.spec.ingress), "")
                by_target[own.target_port].append(TaskAddress(task.id, task.node_id, address))
    target = port.target_port
    if target not in by_target and by_target:
        target = max(by_target, key=lambda number: (len(by_target[number]), -number))
    return PortBackends(
        service_id=service.id,
        protocol=port.protocol,
        published_port=port.published_port,
        target_port=target,
        backends=by_target.get(target, []),
    )


def _address(item: NetworkAttachment) -> str:
    return item.addresses[0].partition("/")[0] if item.addresses else ""
