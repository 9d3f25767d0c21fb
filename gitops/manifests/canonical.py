"""The canonical form: one normaliser for what was declared and for what is live.

`service`, `network`, `volume`, `secret` and `config` take the API's objects, wherever they come from, and give plain
data in the manifest's words (`deploy.update_config.delay`), with every default filled in. What has a natural key
is a map, so that order never makes a difference: ports by `published:target/protocol`, mounts by target, networks,
secrets and configs by name. Durations are nanoseconds, sizes bytes, CPUs billionths. Two objects mean the same exactly
if their canonical forms are equal. What the engine fills in by itself (platforms, the counter of forced updates, our
own hash) is left out. Pure.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gitops import errors
from gitops.manifests import extensions, imagename
from gitops.objects import defaults, labels
from gitops.objects.container import Volume, VolumeCreate
from gitops.objects.mount import Mount
from gitops.objects.network import IPAM, NetworkCreate, NetworkObject, NetworkResource
from gitops.objects.secret import ConfigSpec, SecretSpec
from gitops.objects.service import (
    ConfigReference,
    ContainerSpec,
    EndpointSpec,
    HealthConfig,
    NetworkAttachmentConfig,
    Placement,
    PortConfig,
    Privileges,
    ResourceRequirements,
    SeccompOptions,
    SecretReference,
    ServiceSpec,
    UpdateConfig,
)

Canonical = dict[str, Any]
UNSET: Mapping[str, Any] = {"unset": True}
"""The value of a variable that is named without a value: the image's one is taken away."""
_VERSION_DIGITS = 12
_JOBS = ("replicated-job", "global-job")
_NETWORK_OPTIONS_OF_ENGINE = ("com.docker.network.driver.overlay.vxlanid_list",)


@dataclass(frozen=True, slots=True)
class Names:
    """Ids to engine names, for live objects, which refer to others by id. An unknown id stays what it is."""

    networks: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    configs: Mapping[str, str] = field(default_factory=dict)


NO_NAMES = Names()


def digest(canonical: Mapping[str, Any]) -> str:
    """SHA-256 over a canonical form, in hex."""
    return hashlib.sha256(msgspec.json.encode(canonical, order="sorted")).hexdigest()


def service(spec: ServiceSpec, names: Names = NO_NAMES) -> Canonical:
    """A service's spec."""
    spec = defaults.fill(spec)
    template = spec.task_template
    container = template.container_spec or ContainerSpec()
    result = _container(container, names)
    result["networks"] = _networks(template.networks, names)
    result["ports"] = _ports(spec.endpoint_spec)
    if template.log_driver and (template.log_driver.name or template.log_driver.options):
        result["logging"] = clean({"driver": template.log_driver.name, "options": dict(template.log_driver.options)})
    ours, ours_of_deploy, rest = extensions.canonical(spec.labels)
    result |= ours
    result["deploy"] = _deploy(spec, rest) | ours_of_deploy
    return clean(result)


def _container(spec: ContainerSpec, names: Names) -> Canonical:
    dns = spec.dns_config
    return {
        "image": _image_name(spec.image),
        "entrypoint": list(spec.command),
        "command": list(spec.args),
        "working_dir": spec.dir,
        "user": spec.user,
        "group_add": sorted(set(spec.groups)),
        "hostname": spec.hostname,
        "init": spec.init,
        "tty": spec.tty or None,
        "stdin_open": spec.open_stdin or None,
        "read_only": spec.read_only or None,
        "stop_signal": _signal(spec.stop_signal),
        "stop_grace_period": spec.stop_grace_period,
        "environment": _environment(spec.env),
        "labels": _labels(spec.labels),
        "healthcheck": healthcheck(spec.healthcheck),
        "volumes": _keyed("volumes", ((mount.target, _mount(mount)) for mount in spec.mounts)),
        "configs": _file_uses(spec.configs, names),
        "secrets": _file_uses(spec.secrets, names),
        "cap_add": _capabilities(spec.capability_add),
        "cap_drop": _capabilities(spec.capability_drop),
        "security_opt": _privileges(spec.privileges),
        "sysctls": dict(spec.sysctls),
        "ulimits": {limit.name: {"soft": limit.soft, "hard": limit.hard} for limit in spec.ulimits},
        "dns": list(dns.nameservers) if dns else None,
        "dns_search": list(dns.search) if dns else None,
        "dns_opt": list(dns.options) if dns else None,
        "extra_hosts": _hosts(spec.hosts),
        "oom_score_adj": spec.oom_score_adj or None,
        "isolation": spec.isolation if spec.isolation != "default" else None,
    }


def _privileges(found: Privileges | None) -> Canonical | None:
    if found is None:
        return None
    context, credentials = found.selinux_context, found.credential_spec
    return {
        "no-new-privileges": found.no_new_privileges or None,
        "seccomp": _seccomp(found.seccomp),
        "apparmor": "unconfined" if found.app_armor and found.app_armor.mode == "disabled" else None,
        "label": {
            "disable": context.disable or None,
            "user": context.user,
            "role": context.role,
            "type": context.type,
            "level": context.level,
        }
        if context
        else None,
        "credential_spec": {
            "config": credentials.config,
            "file": credentials.file,
            "registry": credentials.registry,
        }
        if credentials
        else None,
    }


def _seccomp(found: SeccompOptions | None) -> str | None:
    if found is None or found.mode in ("", "default"):
        return None
    return f"sha256:{hashlib.sha256(found.profile).hexdigest()}" if found.mode == "custom" else found.mode


def _deploy(spec: ServiceSpec, own_labels: Mapping[str, str]) -> Canonical:
    mode, replicas = _mode(spec)
    policy = defaults.restart_policy(spec.task_template.restart_policy)
    is_job = mode in _JOBS
    return {
        "mode": mode,
        "replicas": replicas,
        "max_concurrent": _max_concurrent(spec),
        "endpoint_mode": spec.endpoint_spec.mode if spec.endpoint_spec else None,
        "labels": _labels(own_labels),
        "update_config": None if is_job else _update(spec.update_config),
        "rollback_config": None if is_job else _update(spec.rollback_config),
        "restart_policy": {
            # A job that completed is never run again; `any` is then no more than `on-failure`.
            "condition": "on-failure" if is_job and policy.condition == "any" else policy.condition,
            "delay": policy.delay,
            "max_attempts": policy.max_attempts,
            "window": policy.window,
        },
        "resources": _resources(spec.task_template.resources),
        "placement": _placement(spec.task_template.placement),
    }


def _mode(spec: ServiceSpec) -> tuple[str, int | None]:
    mode = spec.mode
    if mode.global_ is not None:
        return "global", None
    if mode.global_job is not None:
        return "global-job", None
    if mode.replicated_job is not None:
        total = mode.replicated_job.total_completions
        return "replicated-job", _max_concurrent(spec) if total is None else total
    return "replicated", mode.replicated.replicas if mode.replicated else None


def _max_concurrent(spec: ServiceSpec) -> int | None:
    job = spec.mode.replicated_job
    return None if job is None else 1 if job.max_concurrent is None else job.max_concurrent


def _update(config: UpdateConfig | None) -> Canonical:
    full = defaults.update_config(config)
    return {
        "parallelism": full.parallelism,
        "delay": full.delay,
        "failure_action": full.failure_action,
        "monitor": full.monitor,
        # The API carries a 32-bit float.
        "max_failure_ratio": round(full.max_failure_ratio, 6),
        "order": full.order,
    }


def _resources(resources: ResourceRequirements | None) -> Canonical:
    limits = resources.limits if resources else None
    reservations = resources.reservations if resources else None
    return {
        "limits": {
            "cpus": limits.nano_cpus or None,
            "memory": limits.memory_bytes or None,
            "pids": limits.pids or None,
        }
        if limits
        else None,
        "reservations": {"cpus": reservations.nano_cpus or None, "memory": reservations.memory_bytes or None}
        if reservations
        else None,
    }


def _placement(placement: Placement | None) -> Canonical | None:
    if placement is None:
        return None
    return {
        "constraints": sorted({_constraint(text) for text in placement.constraints}),
        "preferences": [item.spread.spread_descriptor for item in placement.preferences if item.spread],
        "max_replicas_per_node": placement.max_replicas or None,
    }


def _constraint(text: str) -> str:
    for operator in ("==", "!="):
        key, mark, value = text.partition(operator)
        if mark:
            return f"{key.strip()}{operator}{value.strip()}"
    return text


def _ports(endpoint: EndpointSpec | None) -> Canonical:
    return _keyed("ports", (_port(port) for port in (endpoint.ports if endpoint else ())))


def _port(port: PortConfig) -> tuple[str, Canonical]:
    target = f"{port.target_port}/{port.protocol or 'tcp'}"
    key = f"{port.published_port}:{target}" if port.published_port else target
    return key, clean({"mode": port.publish_mode or "ingress", "name": port.name})


def _networks(attachments: Sequence[NetworkAttachmentConfig], names: Names) -> Canonical:
    return {
        names.networks.get(item.target, item.target): clean(
            {"aliases": sorted(set(item.aliases)), "driver_opts": dict(item.driver_opts)}
        )
        for item in attachments
    }


def _mount(mount: Mount) -> Canonical:
    bind, volume, tmpfs = mount.bind_options, mount.volume_options, mount.tmpfs_options
    driver = volume.driver_config if volume else None
    return clean(
        {
            "type": mount.type,
            "source": mount.source,
            "read_only": mount.read_only or None,
            "consistency": mount.consistency if mount.consistency != "default" else None,
            "bind": {
                "propagation": bind.propagation if bind.propagation != "rprivate" else None,
                "non_recursive": bind.non_recursive or None,
                "create_mountpoint": bind.create_mountpoint or None,
                "read_only_non_recursive": bind.read_only_non_recursive or None,
                "read_only_force_recursive": bind.read_only_force_recursive or None,
            }
            if bind
            else None,
            "volume": {
                "nocopy": volume.no_copy or None,
                "labels": _labels(volume.labels),
                "driver": driver.name if driver and driver.name != "local" else None,
                "driver_opts": dict(driver.options) if driver else None,
                "subpath": volume.subpath,
            }
            if volume
            else None,
            "tmpfs": {"size": tmpfs.size_bytes or None, "mode": tmpfs.mode or None} if tmpfs else None,
        }
    )


def _file_uses(uses: Iterable[SecretReference | ConfigReference], names: Names) -> Canonical:
    return _keyed("files", (_file_use(use, names) for use in uses))


def _file_use(use: SecretReference | ConfigReference, names: Names) -> tuple[str, Canonical]:
    if isinstance(use, SecretReference):
        source = names.secrets.get(use.secret_id, "") or use.secret_name or use.secret_id
    else:
        source = names.configs.get(use.config_id, "") or use.config_name or use.config_id
    file = use.file
    if file is None:
        return source, {"source": source}
    return file.name, {"source": source, "uid": file.uid or "0", "gid": file.gid or "0", "mode": file.mode}


def _keyed(what: str, items: Iterable[tuple[str, Any]]) -> Canonical:
    """A map by natural key. A key that comes twice (no manifest gives one) gets a number, so that nothing is lost."""
    result: Canonical = {}
    for key, value in items:
        unique, number = key, 2
        while unique in result:
            unique, number = f"{key}#{number}", number + 1
        result[unique] = value
    return result


def _environment(variables: Sequence[str]) -> Canonical:
    result: Canonical = {}
    for item in variables:
        key, mark, value = item.partition("=")
        result[key] = value if mark else dict(UNSET)
    return result


def healthcheck(check: HealthConfig | None) -> Canonical | None:
    """A health check of a service or an image."""
    if check is None:
        return None
    return {
        "test": list(check.test),
        "interval": check.interval or None,
        "timeout": check.timeout or None,
        "start_period": check.start_period or None,
        "start_interval": check.start_interval or None,
        "retries": check.retries or None,
    }


def _capabilities(found: Sequence[str]) -> list[str]:
    upper = (item.upper() for item in found)
    return sorted({item if item == "ALL" or item.startswith("CAP_") else f"CAP_{item}" for item in upper})


def _hosts(lines: Sequence[str]) -> Canonical:
    result: dict[str, list[str]] = {}
    for line in lines:
        address, *hosts = line.split()
        for host in hosts:
            result.setdefault(host, []).append(address)
    return {host: sorted(set(addresses)) for host, addresses in result.items()}


def _signal(text: str) -> str:
    """The one name of a signal that goes by a number or by several names."""
    upper = text.upper()
    if not upper:
        return upper
    try:
        number = int(upper) if upper.isdigit() else getattr(signal.Signals, f"SIG{upper.removeprefix('SIG')}")
        return signal.Signals(number).name
    except (AttributeError, ValueError):
        return upper if upper.isdigit() or upper.startswith("SIG") else f"SIG{upper}"  # a real-time one


def _image_name(text: str) -> str:
    try:
        return imagename.familiar(text)
    except errors.Invalid:
        return text  # an id, or something of another client: compared as it stands


def _labels(found: Mapping[str, str] | None) -> dict[str, str]:
    return {key: value for key, value in (found or {}).items() if key != labels.HASH}


def _fixed_labels(found: Mapping[str, str] | None) -> dict[str, str]:
    """Of an object whose labels can't be changed: without that which protects it, so that it can come and go."""
    return {key: value for key, value in _labels(found).items() if key != labels.PROTECT}


def network(value: NetworkCreate | NetworkResource | NetworkObject, declared: NetworkCreate | None = None) -> Canonical:
    """A network. The engine chooses addresses where none are declared: with `declared`, these are left out."""
    if isinstance(value, NetworkObject):
        spec = value.spec
        driver, options = (
            (spec.driver_configuration.name, spec.driver_configuration.options)
            if (spec.driver_configuration)
            else ("", {})
        )
        ipam = spec.ipam_options
        found, internal, attachable = spec.labels, spec.internal, spec.attachable
    else:
        driver, options, ipam = value.driver, value.options or {}, value.ipam
        found, internal, attachable = value.labels or {}, value.internal, value.attachable
    pools = _pools(ipam)
    if declared is not None:
        asked = _pools(declared.ipam)
        pools = {subnet: _asked(pool, asked.get(subnet, pool)) for subnet, pool in pools.items()} if asked else {}
    result = clean(
        {
            "driver": driver or "overlay",
            "driver_opts": {key: item for key, item in options.items() if key not in _NETWORK_OPTIONS_OF_ENGINE},
            "internal": internal or None,
            "attachable": attachable or None,
            "labels": _fixed_labels(found),
        }
    )
    if pools:
        result["ipam"] = {"config": pools}
    return result


def _asked(pool: Canonical, asked: Canonical) -> Canonical:
    """A live pool without what the engine chose by itself."""
    return {key: value for key, value in pool.items() if key in asked}


def _pools(ipam: IPAM | None) -> dict[str, Canonical]:
    return {
        pool.subnet: clean(
            {"gateway": pool.gateway, "ip_range": pool.ip_range, "aux_addresses": dict(pool.auxiliary_addresses)}
        )
        for pool in (ipam.config if ipam and ipam.config else ())
        if pool.subnet
    }


def volume(value: VolumeCreate | Volume) -> Canonical:
    """A volume."""
    options = value.driver_opts if isinstance(value, VolumeCreate) else value.options
    return clean(
        {"driver": value.driver or "local", "driver_opts": dict(options or {}), "labels": _fixed_labels(value.labels)}
    )


def secret(spec: SecretSpec) -> Canonical:
    """A secret: its value only as the version that its name carries."""
    return _versioned(spec)


def config(spec: ConfigSpec) -> Canonical:
    """A config: its content as the version that its name carries."""
    return _versioned(spec)


def _versioned(spec: SecretSpec | ConfigSpec) -> Canonical:
    driver = spec.templating.name if spec.templating else None
    return clean({"version": _version(spec.name), "labels": _labels(spec.labels), "template_driver": driver})


def _version(name: str) -> str:
    end = name.rpartition("-")[2]
    is_version = len(end) == _VERSION_DIGITS and all(mark in "0123456789abcdef" for mark in end)
    return end if is_version else ""


def clean(value: Canonical) -> Canonical:
    """Without what says nothing: None, "", empty lists and maps; values of maps that people key stay."""
    result: Canonical = {}
    for key, item in value.items():
        if item is None or item == "":
            continue
        if item and isinstance(item, dict) and key not in _KEYED:
            item = clean(item)
        if item or isinstance(item, _NUMBERS):
            result[key] = item
    return result


_NUMBERS = (bool, int, float)
_KEYED = frozenset(
    {
        *("environment", "labels", "ports", "networks", "volumes", "configs", "secrets", "sysctls", "ulimits"),
        *("extra_hosts", "depends_on", "aux_addresses", "driver_opts", "options", "env", "files"),
    }
)
"""Maps with keys of people: an empty value in them says something (`environment.DEBUG` is set, and empty)."""
