"""From a task to the container that runs it: the body of a create call and the files to put in. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from gitops import errors
from gitops.engine.containers.boundary import InjectedFile
from gitops.executors import files
from gitops.executors.templates import Expander, task_name
from gitops.objects import base, defaults
from gitops.objects.container import (
    ContainerCreate,
    EndpointSettings,
    HostConfig,
    IPAMEndpoint,
    LogConfig,
    NetworkingConfig,
    PortBinding,
)
from gitops.objects.mount import Mount
from gitops.objects.network import NetworkObject
from gitops.objects.service import (
    ContainerSpec,
    Limits,
    PortConfig,
    Privileges,
    Resources,
)
from gitops.objects.task import NetworkAttachment, Task
from gitops.swarm.agent.executor import Dependencies

TASK_ID = "com.docker.swarm.task.id"
"""The label that says which task a container runs."""
PREDEFINED = ("host", "none", "bridge")
"""Networks that every host has of its own."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A container to be made."""

    name: str
    body: ContainerCreate
    files: tuple[InjectedFile, ...]
    has_gateway_leg: bool


def plan(task: Task, dependencies: Dependencies) -> Plan:
    """The container of `task`.

    Raises:
        errors.Invalid: something in the spec that can't be, or a placeholder that isn't known.
        errors.Unsupported: a runtime other than containers.
        errors.NotFound: a secret or config that wasn't delivered.
    """
    spec = task.spec.container_spec
    if spec is None or task.spec.runtime not in ("", "container"):
        raise errors.Unsupported(f"task {task.id} is no container: runtime {task.spec.runtime or 'none'!r}")
    expand = Expander(task, dependencies.node)
    mode = _network_mode(task)
    body = ContainerCreate(
        hostname=expand(spec.hostname),
        user=spec.user,
        exposed_ports={_port(port): {} for port in host_ports(task)} or None,
        tty=spec.tty,
        open_stdin=spec.open_stdin,
        env=[expand(entry) for entry in spec.env],
        cmd=list(spec.args) or None,
        healthcheck=spec.healthcheck,
        image=spec.image,
        working_dir=spec.dir,
        entrypoint=list(spec.command) or None,
        labels=dict(spec.labels) | labels(task),
        stop_signal=spec.stop_signal or None,
        stop_timeout=grace_s(task),
        host_config=_host_config(task, spec, expand, mode),
        networking_config=None if mode in PREDEFINED else _networking(task),
    )
    injected = tuple(files.files(spec, dependencies, expand))
    return Plan(task_name(task), body, injected, has_gateway_leg=mode not in PREDEFINED)


def labels(task: Task) -> dict[str, str]:
    """The labels by which a task's container is known, Docker's."""
    return {
        "com.docker.swarm.node.id": task.node_id,
        "com.docker.swarm.service.id": task.service_id,
        "com.docker.swarm.service.name": task.service_name,
        "com.docker.swarm.task": "",
        TASK_ID: task.id,
        "com.docker.swarm.task.name": task_name(task),
    }


def overlays(task: Task, dependencies: Dependencies) -> list[NetworkObject]:
    """The swarm networks that the task's container joins."""
    networks = [attachment.network for attachment in _joined(task)]
    return [dependencies.networks.get(network.id, network) for network in networks]


def host_ports(task: Task) -> list[PortConfig]:
    """The ports that the task publishes on its node alone."""
    endpoint = task.endpoint
    if endpoint is None:
        return []
    ports = endpoint.ports or (endpoint.spec.ports if endpoint.spec else [])
    return [port for port in ports if port.publish_mode == "host"]


def grace_s(task: Task) -> int:
    """Seconds between stop signal and kill, rounded up."""
    spec = task.spec.container_spec
    period = spec.stop_grace_period if spec and spec.stop_grace_period is not None else defaults.STOP_GRACE_PERIOD
    return math.ceil(period / base.SECOND)


def _joined(task: Task) -> list[NetworkAttachment]:
    """What the container joins. The mesh isn't among it: published ports come in over the gateway leg."""
    return [
        attachment
        for attachment in task.networks_attachments
        if not attachment.network.spec.ingress and attachment.network.spec.name not in PREDEFINED
    ]


def _network_mode(task: Task) -> str:
    names = {attachment.network.spec.name for attachment in task.networks_attachments}
    names.update(network.target for network in task.spec.networks)
    predefined = [name for name in PREDEFINED if name in names]
    return predefined[0] if predefined else "default"


def _networking(task: Task) -> NetworkingConfig | None:
    endpoints = {attachment.network.id: _endpoint(attachment) for attachment in _joined(task)}
    return NetworkingConfig(endpoints_config=endpoints) if endpoints else None


def _endpoint(attachment: NetworkAttachment) -> EndpointSettings:
    address = attachment.addresses[0].partition("/")[0] if attachment.addresses else ""
    # Aliases are the service's names; they are the manager's to give, and lead to healthy tasks only.
    return EndpointSettings(ipam_config=IPAMEndpoint(ipv4_address=address) if address else None)


def _host_config(task: Task, spec: ContainerSpec, expand: Expander, mode: str) -> HostConfig:
    resources = task.spec.resources
    limits = (resources.limits if resources else None) or Limits()
    reservations = (resources.reservations if resources else None) or Resources()
    dns = spec.dns_config
    return HostConfig(
        network_mode=mode,
        port_bindings={_port(port): [_binding(port)] for port in host_ports(task)} or None,
        log_config=LogConfig(task.spec.log_driver.name, dict(task.spec.log_driver.options))
        if task.spec.log_driver
        else None,
        cap_add=list(spec.capability_add) or None,
        cap_drop=list(spec.capability_drop) or None,
        dns=list(dns.nameservers) if dns else None,
        dns_search=list(dns.search) if dns else None,
        dns_options=list(dns.options) if dns else None,
        extra_hosts=_hosts(spec.hosts) or None,
        group_add=list(spec.groups) or None,
        oom_score_adj=spec.oom_score_adj,
        readonly_rootfs=spec.read_only,
        sysctls=dict(spec.sysctls) or None,
        nano_cpus=limits.nano_cpus,
        memory=limits.memory_bytes,
        memory_reservation=reservations.memory_bytes,
        pids_limit=limits.pids or None,
        ulimits=list(spec.ulimits) or None,
        init=spec.init,
        security_opt=security(spec.privileges) or None,
        mounts=[_mount(mount, expand) for mount in spec.mounts] or None,
    )


def security(privileges: Privileges | None) -> list[str]:
    """The options of a container that a service's privileges mean. Defaults of the engine need no word."""
    if privileges is None:
        return []
    seccomp, armor, context = privileges.seccomp, privileges.app_armor, privileges.selinux_context
    found = ["no-new-privileges=true"] if privileges.no_new_privileges else []
    if seccomp is not None and seccomp.mode == "unconfined":
        found.append("seccomp=unconfined")
    if seccomp is not None and seccomp.mode == "custom":
        found.append(f"seccomp={seccomp.profile.decode()}")
    if armor is not None and armor.mode == "disabled":
        found.append("apparmor=unconfined")
    if context is not None and context.disable:
        found.append("label=disable")
    return found


def _mount(mount: Mount, expand: Expander) -> Mount:
    options = mount.volume_options
    if options is not None:
        driver = options.driver_config
        if driver is not None:
            driver = replace(driver, options={key: expand(value) for key, value in driver.options.items()})
        volume_labels = {key: expand(value) for key, value in options.labels.items()}
        options = replace(options, labels=volume_labels, driver_config=driver)
    return replace(mount, source=expand(mount.source), target=expand(mount.target), volume_options=options)


def _hosts(entries: Iterable[str]) -> list[str]:
    """`address name…` as services have it, to `name:address` as containers have it."""
    hosts: list[str] = []
    for entry in entries:
        address, *names = entry.split() or [""]
        hosts.extend(f"{name}:{address}" for name in names)
    return hosts


def _port(port: PortConfig) -> str:
    return f"{port.target_port}/{port.protocol}"


def _binding(port: PortConfig) -> PortBinding:
    return PortBinding(host_port=str(port.published_port) if port.published_port else "")
