"""What a spec may say, in Docker's words and limits; pure. Each check yields all that is wrong, not the first of it.

References to other objects are not looked at here: `control.references` does that.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from gitops import errors
from gitops.objects import base
from gitops.objects.node import ClusterSpec, NodeSpec
from gitops.objects.secret import ConfigSpec, SecretSpec
from gitops.objects.service import (
    ContainerSpec,
    EndpointSpec,
    FileTarget,
    HealthConfig,
    Limits,
    Placement,
    Privileges,
    Resources,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from gitops.swarm.scheduling import constraints, modes

MIN_NANO_CPUS = 1_000_000
MIN_MEMORY = 4 * 1024 * 1024
MAX_SECRET = 500 * 1024
MAX_CONFIG = 1000 * 1024
MIN_CERTIFICATE_EXPIRY = 3600 * base.SECOND
_DNS_NAME = re.compile(r"[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*")
_FILE_NAME = re.compile(r"[a-zA-Z0-9]+(?:[a-zA-Z0-9-_.]*[a-zA-Z0-9])?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?/|\[[0-9a-fA-F:]+\](?::[0-9]+)?/)?"
    rf"{_COMPONENT}(?:/{_COMPONENT})*(?::\w[\w.-]{{0,127}})?(?:@[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{{32,}})?",
    re.ASCII,
)
_STATES = ("none", "on-failure", "any")
_ACTIONS = ("pause", "continue", "rollback")
_ORDERS = ("stop-first", "start-first")


def service(spec: ServiceSpec) -> list[str]:
    """What is wrong with a service's spec.

    Raises:
        errors.Unsupported: a runtime that this version can't run.
    """
    return [
        *name(spec.name),
        *_task(spec.task_template),
        *_mode(spec),
        *_update(spec.update_config, "update"),
        *_update(spec.rollback_config, "rollback"),
        *_endpoint(spec.endpoint_spec),
    ]


def name(text: str) -> Iterator[str]:
    """Names of services and networks: a DNS label, with underscores."""
    if not text:
        yield "meta: name must be provided"
    elif not _DNS_NAME.fullmatch(text):
        yield "name must be valid as a DNS name component"
    elif len(text) > 63:
        yield "name must be 63 characters or fewer"


def _mode(spec: ServiceSpec) -> Iterator[str]:
    mode = spec.mode
    if sum(each is not None for each in (mode.replicated, mode.global_, mode.replicated_job, mode.global_job)) > 1:
        yield "must specify only one service mode"
    if modes.replicas(spec) < 0:
        yield "Number of replicas must be non-negative"
    if modes.max_concurrent(mode) < 0:
        yield "Maximum concurrent jobs must not be negative"
    if modes.total_completions(mode) < 0:
        yield "Total completed jobs must not be negative"
    if modes.is_job(mode) and (spec.update_config is not None or spec.rollback_config is not None):
        yield "update config is not allowed for jobs"


def _task(template: TaskSpec) -> Iterator[str]:
    if template.runtime not in ("", "container"):
        raise errors.Unsupported(f"runtime {template.runtime!r} is not supported: only containers run as services")
    if template.container_spec is None:
        yield "TaskSpec: missing runtime"
    else:
        yield from _container(template.container_spec)
    resources = template.resources
    if resources is not None:
        yield from _resources(resources.limits)
        yield from _resources(resources.reservations)
    yield from _restart(template.restart_policy)
    yield from _placement(template.placement)


def _resources(given: Limits | Resources | None) -> Iterator[str]:
    if given is None:
        return
    if given.nano_cpus and given.nano_cpus < MIN_NANO_CPUS:
        yield f"invalid cpu value {given.nano_cpus / 1e9:g}: Must be at least {MIN_NANO_CPUS / 1e9:g}"
    if given.memory_bytes and given.memory_bytes < MIN_MEMORY:
        yield f"invalid memory value {given.memory_bytes}: Must be at least 4MiB"
    if isinstance(given, Limits) and given.pids < 0:
        yield f"invalid pids value {given.pids}: Must not be negative"


def _restart(policy: RestartPolicy | None) -> Iterator[str]:
    if policy is None:
        return
    if policy.condition and policy.condition not in _STATES:
        yield f'invalid RestartCondition: "{policy.condition}"'
    if (policy.delay or 0) < 0:
        yield "TaskSpec: restart-delay cannot be negative"
    if (policy.window or 0) < 0:
        yield "TaskSpec: restart-window cannot be negative"
    if (policy.max_attempts or 0) < 0:
        yield "TaskSpec: restart-max-attempts cannot be negative"


def _update(config: UpdateConfig | None, word: str) -> Iterator[str]:
    if config is None:
        return
    if config.delay < 0:
        yield f"TaskSpec: {word}-delay cannot be negative"
    if (config.monitor or 0) < 0:
        yield f"TaskSpec: {word}-monitor cannot be negative"
    if (config.parallelism or 0) < 0:
        yield f"TaskSpec: {word}-parallelism cannot be negative"
    if not 0 <= config.max_failure_ratio <= 1:
        yield f"TaskSpec: {word}-maxfailureratio cannot be less than 0 or bigger than 1"
    if config.failure_action and config.failure_action not in (_ACTIONS if word == "update" else _ACTIONS[:2]):
        yield f'unrecognized {word} failure action "{config.failure_action}"'
    if config.order and config.order not in _ORDERS:
        yield f'unrecognized {word} order "{config.order}"'


def _placement(placement: Placement | None) -> Iterator[str]:
    if placement is None:
        return
    for text in placement.constraints:
        try:
            constraints.parse([text])
        except errors.Invalid as error:
            yield str(error)
    for preference in placement.preferences:
        descriptor = preference.spread.spread_descriptor if preference.spread else ""
        if not descriptor.lower().startswith(("node.labels.", "engine.labels.")):
            yield f'invalid spread preference "{descriptor}": only node.labels.KEY and engine.labels.KEY can be spread'
    if placement.max_replicas < 0:
        yield "max replicas per node cannot be negative"


def _container(spec: ContainerSpec) -> Iterator[str]:
    if not spec.image:
        yield "ContainerSpec: image reference must be provided"
    elif not _IMAGE.fullmatch(spec.image):
        yield f'ContainerSpec: "{spec.image}" is not a valid repository/tag'
    for target, count in Counter(mount.target for mount in spec.mounts).items():
        if count > 1:
            yield f"ContainerSpec: duplicate mount point: {target}"
    for mount in spec.mounts:
        if not mount.target:
            yield "ContainerSpec: a mount has no target"
        if mount.type not in ("bind", "volume", "tmpfs"):
            yield f'invalid MountType: "{mount.type}"'
    for entry in spec.env:
        if not entry.partition("=")[0]:
            yield f"ContainerSpec: invalid environment variable: {entry}"
    if (spec.stop_grace_period or 0) < 0:
        yield "ContainerSpec: stop-grace-period cannot be negative"
    yield from _privileges(spec.privileges)
    yield from _health(spec.healthcheck)
    yield from _files("secret", ((item.secret_id, item.secret_name, item.file) for item in spec.secrets))
    yield from _files("config", ((item.config_id, item.config_name, item.file) for item in spec.configs))


def _privileges(given: Privileges | None) -> Iterator[str]:
    if given is None:
        return
    seccomp, armor = given.seccomp, given.app_armor
    if seccomp is not None:
        if seccomp.mode not in ("", "default", "unconfined", "custom"):
            yield f'ContainerSpec: unknown seccomp mode "{seccomp.mode}"'
        if bool(seccomp.profile) != (seccomp.mode == "custom"):
            yield "ContainerSpec: a seccomp profile goes with mode custom, and with that alone"
    if armor is not None and armor.mode not in ("", "default", "disabled"):
        yield f'ContainerSpec: unknown AppArmor mode "{armor.mode}"'


def _health(check: HealthConfig | None) -> Iterator[str]:
    if check is None:
        return
    for word, value in (
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ):
        if value and value < base.MILLISECOND:
            yield f"ContainerSpec: {word} in HealthConfig cannot be less than 1ms"
    if check.retries < 0:
        yield "ContainerSpec: Retries in HealthConfig cannot be negative"
    if check.test and check.test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        yield f'ContainerSpec: unknown type "{check.test[0]}" of health check test'


def _files(word: str, references: Iterable[tuple[str, str, FileTarget | None]]) -> Iterator[str]:
    holders: dict[str, str] = {}
    for object_id, object_name, file in references:
        if not object_id and not object_name:
            yield f"malformed {word} reference"
            continue
        if file is None or not file.name:
            yield f"malformed file {word} reference, no target provided"
            continue
        shown = object_name or object_id
        if file.name in holders:
            yield f"{word} references '{holders[file.name]}' and '{shown}' have a conflicting target: '{file.name}'"
        holders[file.name] = shown


def _endpoint(spec: EndpointSpec | None) -> Iterator[str]:
    if spec is None:
        return
    if spec.mode not in ("", "vip", "dnsrr"):
        yield f'invalid endpoint mode "{spec.mode}"'
    for port in spec.ports:
        if not 1 <= port.target_port <= 65535:
            yield f"invalid target port {port.target_port}: must be between 1 and 65535"
        if not 0 <= port.published_port <= 65535:
            yield f"invalid published port {port.published_port}: must be between 0 and 65535"
        if port.protocol not in ("tcp", "udp", "sctp"):
            yield f'invalid protocol "{port.protocol}": must be tcp, udp or sctp'
        if port.publish_mode not in ("ingress", "host"):
            yield f'invalid publish mode "{port.publish_mode}": must be ingress or host'
    if spec.mode == "dnsrr" and any(port.publish_mode == "ingress" for port in spec.ports):
        yield "EndpointSpec: port published with ingress mode can't be used with dnsrr mode"
    published = Counter((p.publish_mode, p.protocol, p.published_port) for p in spec.ports if p.published_port)
    if any(count > 1 for count in published.values()):
        yield "EndpointSpec: duplicate published ports provided"


def secret(spec: SecretSpec) -> list[str]:
    """What is wrong with a secret's spec."""
    return [*_file_name(spec.name), *_size("secret", len(spec.data), MAX_SECRET)]


def config(spec: ConfigSpec) -> list[str]:
    """What is wrong with a config's spec."""
    return [*_file_name(spec.name), *_size("config", len(spec.data), MAX_CONFIG)]


def _file_name(text: str) -> Iterator[str]:
    if not text:
        yield "name must be provided"
    elif len(text) > 64 or not _FILE_NAME.fullmatch(text):
        yield (
            "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, "
            "and the start and end character must be [a-zA-Z0-9]"
        )


def _size(word: str, size: int, limit: int) -> Iterator[str]:
    if not 0 < size < limit:
        yield f"{word} data must be larger than 0 and less than {limit} bytes"


def node(spec: NodeSpec) -> list[str]:
    """What is wrong with a node's spec."""
    found: list[str] = []
    if spec.role not in ("worker", "manager"):
        found.append(f'Invalid Role: "{spec.role}"')
    if spec.availability not in ("active", "pause", "drain"):
        found.append(f'Invalid Availability: "{spec.availability}"')
    return found


def cluster(spec: ClusterSpec) -> list[str]:
    """What is wrong with the swarm's spec.

    Raises:
        errors.Unsupported: a default for tasks, which this version doesn't apply.
    """
    if spec.task_defaults.log_driver is not None and spec.task_defaults.log_driver.name:
        raise errors.Unsupported("TaskDefaults.LogDriver is not supported by this version: set it in each service")
    found: list[str] = []
    if spec.name not in ("", "default"):
        found.append("modification of cluster name is not allowed")
    if spec.dispatcher.heartbeat_period <= 0:
        found.append("heartbeat time period cannot be negative or zero")
    if spec.ca_config.node_cert_expiry < MIN_CERTIFICATE_EXPIRY:
        found.append("minimum certificate expiry time is: 1h0m0s")
    return found
