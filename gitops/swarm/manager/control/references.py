"""From the names in a service's spec to ids, and who uses what.

A client may name networks, secrets and configs by id or by name; stored are ids, with the names of secrets and configs
beside them. All that is missing is told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from msgspec.structs import replace

from gitops import errors
from gitops.objects.network import NetworkObject
from gitops.objects.secret import Config, Secret
from gitops.objects.service import (
    ConfigReference,
    ContainerSpec,
    NetworkAttachmentConfig,
    PortConfig,
    SecretReference,
    Service,
    ServiceSpec,
    TaskSpec,
)
from gitops.swarm.manager import refusals
from gitops.swarm.manager.control.base import find
from gitops.swarm.store.protocol import View

F = TypeVar("F", Secret, Config)


def resolve(view: View, spec: ServiceSpec) -> ServiceSpec:
    """`spec` with the ids of all that it refers to.

    Raises:
        errors.NotFound: a network is missing.
        errors.Invalid: a secret or config is missing, or a network that services can't join.
    """
    template = spec.task_template
    networks = [_network(view, item) for item in template.networks]
    _check_networks(view, networks)
    return replace(spec, task_template=replace(_with_files(view, template), networks=networks))


def _network(view: View, attachment: NetworkAttachmentConfig) -> NetworkAttachmentConfig:
    network = find(view, NetworkObject, attachment.target)
    if network.spec.ingress:
        raise refusals.invalid(f'Service cannot be explicitly attached to the ingress network "{network.spec.name}"')
    return replace(attachment, target=network.id)


def _check_networks(view: View, attachments: list[NetworkAttachmentConfig]) -> None:
    seen: set[str] = set()
    for attachment in attachments:
        if attachment.target in seen:
            network = view.get(NetworkObject, attachment.target)
            raise refusals.invalid(f"network {network.spec.name if network else attachment.target} is attached twice")
        seen.add(attachment.target)


def _with_files(view: View, template: TaskSpec) -> TaskSpec:
    container = template.container_spec
    if container is None:
        return template
    missing_secrets: list[str] = []
    missing_configs: list[str] = []
    secrets = [_secret(view, item, missing_secrets) for item in container.secrets]
    configs = [_config(view, item, missing_configs) for item in container.configs]
    problems = [
        f"{word if len(names) == 1 else word + 's'} not found: {', '.join(names)}"
        for word, names in (("secret", missing_secrets), ("config", missing_configs))
        if names
    ]
    refusals.check(problems)
    return replace(template, container_spec=replace(container, secrets=secrets, configs=configs))


def _secret(view: View, reference: SecretReference, missing: list[str]) -> SecretReference:
    found = _file(view, Secret, reference.secret_id, reference.secret_name)
    if found is None:
        missing.append(reference.secret_name or reference.secret_id)
        return reference
    return replace(reference, secret_id=found[0], secret_name=found[1])


def _config(view: View, reference: ConfigReference, missing: list[str]) -> ConfigReference:
    found = _file(view, Config, reference.config_id, reference.config_name)
    if found is None:
        missing.append(reference.config_name or reference.config_id)
        return reference
    return replace(reference, config_id=found[0], config_name=found[1])


def _file(view: View, kind: type[F], object_id: str, name: str) -> tuple[str, str] | None:
    """Id and name of what is meant; None when it is missing, or its name isn't the one given."""
    if not object_id:
        found = view.by_name(kind, name)
    else:
        found = view.get(kind, object_id)
        if found is not None and name and found.spec.name != name:
            return None
    return None if found is None else (found.id, found.spec.name)


def container_of(service: Service) -> ContainerSpec:
    """The service's container; an empty one where it has none."""
    return service.spec.task_template.container_spec or ContainerSpec()


def users_of_secret(view: View, secret_id: str) -> list[str]:
    """Names of the services that use a secret."""
    return _users(view, lambda service: (item.secret_id == secret_id for item in container_of(service).secrets))


def users_of_config(view: View, config_id: str) -> list[str]:
    """Names of the services that use a config."""
    return _users(view, lambda service: (item.config_id == config_id for item in container_of(service).configs))


def _users(view: View, uses: Callable[[Service], Iterator[bool]]) -> list[str]:
    return [service.spec.name for service in view.all(Service) if any(uses(service))]


def check_ports(view: View, spec: ServiceSpec, service_id: str) -> None:
    """Raise errors.Invalid when a published port is another service's.

    Ingress ports are the whole swarm's; host ports of two services get along, each on its own nodes.
    """
    wanted = [port for port in (spec.endpoint_spec.ports if spec.endpoint_spec else []) if port.published_port]
    if not wanted:
        return
    problems: list[str] = []
    for other in view.all(Service):
        if other.id == service_id:
            continue
        for theirs in published(other):
            for port in wanted:
                is_same = (port.protocol, port.published_port) == (theirs.protocol, theirs.published_port)
                if not is_same or port.publish_mode == theirs.publish_mode == "host":
                    continue
                kind = "an ingress port" if theirs.publish_mode == "ingress" else "a host-published port"
                problems.append(
                    f"port '{port.published_port}' is already in use by service '{other.spec.name}' ({other.id}) "
                    f"as {kind}"
                )
    refusals.check(problems)


def published(service: Service) -> list[PortConfig]:
    """The ports that a service has or will have: declared ones, and those that the allocator chose for it."""
    spec = service.spec.endpoint_spec
    if spec is None:
        return []
    # What was chosen for a former spec is about to be given back.
    chosen = service.endpoint.ports if service.endpoint.spec == spec else []
    return [port for port in dict.fromkeys((*spec.ports, *chosen)) if port.published_port]


def check_exists(view: View, spec: ServiceSpec) -> None:
    """Raise errors.Invalid when a stored spec refers to something that was removed since."""
    try:
        resolve(view, spec)
    except errors.NotFound as error:
        raise refusals.precondition(str(error)) from error
