"""Where names and published ports lead, as a projection of the task table; pure.

Only tasks that run, are healthy and are meant to run are led to: observed and desired state RUNNING, on a node that
isn't down. A node is told the names of the networks that its own tasks are on, and all published ports.

On a network, a service is known by its full name and `tasks.<service>`, by its aliases there, and each task by
`<service>.<slot>.<task id>`; all lower case. A name that two services share leads to both.
"""

from __future__ import annotations

from collections import defaultdict

from gitops.objects.assignment import Endpoints, NetworkNames, PortBackends
from gitops.objects.network import NetworkObject
from gitops.objects.node import Node
from gitops.objects.service import PortConfig, Service
from gitops.objects.task import NetworkAttachment, Task, TaskAddress, TaskState
from gitops.swarm.store.protocol import View


def endpoints(view: View, node_id: str) -> Endpoints:
    """What the node's names and ports are to lead to at this snapshot."""
    down = {node.id for node in view.all(Node) if node.status.state == "down"}
    serving = [task for task in view.all(Task) if _serves(task) and task.node_id not in down]
    serving.sort(key=lambda task: (task.service_name, task.slot, task.id))
    networks = {
        item.network.id: item.network
        for task in view.tasks_of_node(node_id)
        if TaskState.ASSIGNED.rank <= task.status.state.rank <= TaskState.RUNNING.rank
        for item in task.networks_attachments
    }
    return Endpoints(
        version=view.version,
        ports=[port for service in view.all(Service) for port in _ports(service, serving)],
        networks=[
            _names(network, serving)
            for _, network in sorted(networks.items())
            if not network.spec.ingress and network.ipam_options is not None
        ],
    )


def _serves(task: Task) -> bool:
    return task.status.state is TaskState.RUNNING and task.desired_state is TaskState.RUNNING


def _names(network: NetworkObject, serving: list[Task]) -> NetworkNames:
    names: dict[str, dict[str, None]] = defaultdict(dict)
    for task in serving:
        for item in task.networks_attachments:
            if item.network.id != network.id:
                continue
            address = _address(item)
            for name in _names_of(task, item) if address else ():
                names[name.lower()][address] = None
    return NetworkNames(network_id=network.id, names={name: list(found) for name, found in sorted(names.items())})


def _names_of(task: Task, item: NetworkAttachment) -> list[str]:
    service = task.service_name
    return [service, f"tasks.{service}", f"{service}.{task.slot}.{task.id}", *item.aliases]


def _ports(service: Service, serving: list[Task]) -> list[PortBackends]:
    published = [port for port in service.endpoint.ports if port.publish_mode == "ingress" and port.published_port]
    tasks = [task for task in serving if task.service_id == service.id] if published else []
    return [_backends(service, port, tasks) for port in published]


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
