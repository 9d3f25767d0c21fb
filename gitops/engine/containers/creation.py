"""From the body of a create call and an image's config to what a container is: merging, defaults, checks. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from gitops import errors
from gitops.engine.containers import allowances, capabilities, devices, hostfiles, mounts, sharing, signals
from gitops.engine.containers.record import ContainerRecord, FileRecord, MountRecord
from gitops.objects.base import MILLISECOND
from gitops.objects.container import (
    ContainerConfig,
    ContainerCreate,
    EndpointSettings,
    HostConfig,
    LogConfig,
    RestartPolicy,
)
from gitops.objects.service import HealthConfig

SHM_SIZE = 64 * 1024 * 1024
LINK_HINT = "put both on a network of your own, where containers find each other by name"
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
_SYSCTL = re.compile(r"(kernel\.(msg\w+|sem|shm\w+|domainname)|fs\.mqueue\.\w+|net\.[\w.\-/]+)")
_LABEL = re.compile(r"disable|(user|role|type|level|filetype):.+")
_PORT = re.compile(r"([0-9]{1,5})(?:/(tcp|udp|sctp))?")


def merge(user: ContainerConfig, image: ContainerConfig) -> ContainerConfig:
    """The user's words before the image's, as Docker merges them."""
    cmd, entrypoint = words(user.cmd), words(user.entrypoint)
    if not entrypoint:
        cmd = cmd or words(image.cmd)
        # An empty list says "no entrypoint", as [""] does; only where nothing is said, the image's holds.
        entrypoint = words(image.entrypoint) if user.entrypoint is None else []
    elif entrypoint == [""]:
        entrypoint = []
    return msgspec.structs.replace(
        ContainerConfig(**{name: getattr(user, name) for name in ContainerConfig.__struct_fields__}),
        cmd=cmd or None,
        entrypoint=entrypoint or None,
        env=merge_env(user.env or (), image.env or ()),
        user=user.user or image.user,
        working_dir=user.working_dir or image.working_dir,
        labels={**(image.labels or {}), **(user.labels or {})},
        volumes={**(image.volumes or {}), **(user.volumes or {})} or None,
        exposed_ports={**(image.exposed_ports or {}), **(user.exposed_ports or {})} or None,
        stop_signal=user.stop_signal or image.stop_signal,
        stop_timeout=image.stop_timeout if user.stop_timeout is None else user.stop_timeout,
        healthcheck=merge_health(user.healthcheck, image.healthcheck),
    )


def words(value: list[str] | str | None) -> list[str]:
    """A command as a list; a bare string is one word."""
    return [value] if isinstance(value, str) else list(value or ())


def merge_env(user: Sequence[str], image: Sequence[str]) -> list[str]:
    """The user's variables, then those of the image that he doesn't set; the last of two with one name counts."""
    own: dict[str, str] = {}
    for entry in user:
        name = entry.partition("=")[0]
        if not name or "\0" in entry:
            raise errors.Invalid(f"invalid environment variable: {entry!r}")
        own[name] = entry
    rest = {name: entry for entry in image if (name := entry.partition("=")[0]) and name not in own}
    # A name without "=" stays: it takes a variable away, the image's or one of our own.
    return [*own.values(), *rest.values()]


def merge_health(user: HealthConfig | None, image: HealthConfig | None) -> HealthConfig | None:
    """The user's check with the image's values where his are 0; `["NONE"]` switches it off."""
    if user is None or image is None:
        return user or image
    return HealthConfig(
        test=user.test or image.test,
        interval=user.interval or image.interval,
        timeout=user.timeout or image.timeout,
        start_period=user.start_period or image.start_period,
        start_interval=user.start_interval or image.start_interval,
        retries=user.retries or image.retries,
    )


def make_record(
    container: str,
    name: str,
    body: ContainerCreate,
    image: ContainerConfig,
    image_id: str,
    created_ns: int,
    *,
    cpus: int,
    anonymous: Callable[[], str],
    files: Sequence[FileRecord] = (),
    gateway_leg: bool = False,
    inherited: Sequence[MountRecord] = (),
) -> ContainerRecord:
    """A new container; `inherited` are mounts that it takes over from others.

    Raises:
        errors.Invalid: something that can't be. errors.Unsupported: something that this engine doesn't have.
    """
    config = merge(body, image)
    host = fill(body.host_config or HostConfig())
    if body.network_disabled:
        host = msgspec.structs.replace(host, network_mode="none")
    sharing.check(body, host)
    check(config, host, cpus)
    endpoints = endpoint_requests(host, body)
    command = words(config.entrypoint) + words(config.cmd)
    if not command:
        raise errors.Invalid("no command specified")
    if not config.hostname and host.network_mode != "host" and not sharing.donor(host.network_mode):
        config = msgspec.structs.replace(config, hostname=container[:12])
    return ContainerRecord(
        id=container,
        name=name,
        image_id=image_id,
        created_ns=created_ns,
        config=config,
        host_config=host,
        path=command[0],
        args=command[1:],
        endpoints=endpoints,
        gateway_leg=gateway_leg,
        mounts=mounts.plan(config, host, anonymous, inherited),
        files=list(files),
    )


def fill(host: HostConfig) -> HostConfig:
    """`host` with the defaults that inspection shows."""
    mode = "bridge" if host.network_mode in ("", "default") else host.network_mode
    policy = host.restart_policy or RestartPolicy()
    log = host.log_config or LogConfig()
    return msgspec.structs.replace(
        host,
        network_mode=mode,
        ipc_mode=host.ipc_mode or sharing.PRIVATE,
        shm_size=host.shm_size or SHM_SIZE,
        restart_policy=msgspec.structs.replace(policy, name=policy.name or "no"),
        log_config=LogConfig(type=log.type or "json-file", config=log.config or {}),
    )


def endpoint_requests(host: HostConfig, body: ContainerCreate) -> dict[str, EndpointSettings]:
    """The networks to join with what was asked for on each; the one of the network mode comes first."""
    asked = dict((body.networking_config and body.networking_config.endpoints_config) or {})
    mode = host.network_mode
    mac, links = body.mac_address, host.links or []
    if mode in ("host", "none") or sharing.donor(mode):
        if set(asked) - {mode}:
            raise errors.Invalid(f"conflicting options: network mode {mode} and networks {', '.join(sorted(asked))}")
        if mode != "none" and (mac or any(place.mac_address for place in asked.values())):
            raise errors.Invalid("conflicting options: mac-address and the network mode")
        if links and mode != "none":
            kind = "host type networking" if mode == "host" else "container type network"
            raise errors.Invalid(
                f"conflicting options: {kind} can't be used with links. This would result in undefined behavior"
            )
        return {}
    if mode != "bridge" or "bridge" in asked or not asked:
        first = asked.pop(mode, None) or EndpointSettings()
        asked = {mode: first, **asked}
    if mac:
        main = next(iter(asked))
        if asked[main].mac_address not in ("", mac):
            raise errors.Invalid("the container-wide MAC address must match the endpoint-specific MAC address")
        asked[main] = msgspec.structs.replace(asked[main], mac_address=mac)
    if links:
        # Older clients say it of the container only.
        main = next(iter(asked))
        asked[main] = msgspec.structs.replace(asked[main], links=asked[main].links or links)
    for name, settings in asked.items():
        check_endpoint(name, settings)
    return asked


def parse_link(text: str) -> tuple[str, str]:
    """`NAME[:ALIAS]` as the alias, and the container that it is for.

    Raises:
        errors.Invalid: it isn't of that form.
    """
    name, _, alias = text.partition(":")
    name = name.removeprefix("/")
    alias = alias.rpartition("/")[2] or name
    if not name or text.count(":") > 1 or text.endswith(":"):
        raise errors.Invalid(f"bad format for links: {text}")
    # By its full id nobody is found by name.
    return alias, name[:12] if re.fullmatch("[0-9a-f]{64}", name) else name


def check_endpoint(network: str, settings: EndpointSettings) -> None:
    """Raises `errors.Invalid` or `errors.Unsupported` for what a place on a network can't have."""
    for link in settings.links or ():
        parse_link(link)
    if settings.links and network == "bridge":
        raise errors.Unsupported(f"links on the default bridge are not supported by this engine: {LINK_HINT}")
    for option in settings.driver_opts or ():
        # Those of others ask nothing of our driver; they are kept and shown.
        if option.startswith("com.docker.network."):
            raise errors.Unsupported(f"option {option} of a place on network {network} is not supported by this engine")
    wanted = settings.ipam_config
    if wanted is not None and wanted.link_local_ips:
        raise errors.Unsupported("link-local addresses of containers are not supported by this engine")
    if settings.mac_address and not _MAC.fullmatch(settings.mac_address):
        raise errors.Invalid(f"invalid MAC address: {settings.mac_address}")
    if network != "bridge":
        return
    if wanted is not None and (wanted.ipv4_address or wanted.ipv6_address):
        raise errors.Invalid("user specified IP address is supported on user defined networks only")
    if settings.aliases:
        raise errors.Invalid("network-scoped alias is supported only for containers in user defined networks")


def check(config: ContainerConfig, host: HostConfig, cpus: int) -> None:
    """Raises `errors.Invalid` or `errors.Unsupported`, with Docker's texts where there are any."""
    _check_process(config)
    _check_health(config.healthcheck)
    allowances.check(host, cpus)
    allowances.check_restart(host)
    _check_security(host)
    devices.check(host)
    log_limits(host.log_config or LogConfig())
    hostfiles.extra_lines(host.extra_hosts or (), gateway="0.0.0.0")
    for port in [*(config.exposed_ports or ()), *(host.port_bindings or ())]:
        parse_port(port)
    for places in (host.port_bindings or {}).values():
        for place in places or ():
            parse_host_port(place.host_port)
    for name in host.sysctls or ():
        if not _SYSCTL.fullmatch(name):
            raise errors.Invalid(f"sysctl '{name}' is not allowed")
        if name.startswith("net.") and host.network_mode == "host":
            raise errors.Invalid(f"sysctl '{name}' not allowed in host network mode")


def _check_process(config: ContainerConfig) -> None:
    if config.working_dir and not config.working_dir.startswith("/"):
        raise errors.Invalid(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    if config.stop_signal:
        signals.parse(config.stop_signal)
    said = [*words(config.entrypoint), *words(config.cmd), config.working_dir, config.user, config.hostname]
    for text in [*said, *(config.env or ())]:
        if "\0" in text:
            raise errors.Invalid(f"a NUL byte in {text!r}: a process can't be given one")
    if len(config.hostname) > 63 or not re.fullmatch(r"[a-zA-Z0-9._-]*", config.hostname):
        raise errors.Invalid(f"invalid hostname format: {config.hostname}")


def _check_health(check: HealthConfig | None) -> None:
    if check is None:
        return
    if check.test and check.test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise errors.Invalid(f'unknown type "{check.test[0]}" in Healthcheck: use NONE, CMD or CMD-SHELL')
    named = {
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
    }
    for name, value in named.items():
        if value != 0 and value < MILLISECOND:
            raise errors.Invalid(f"{name} in Healthcheck cannot be less than 1ms")
    if check.retries < 0:
        raise errors.Invalid("Retries in Healthcheck cannot be negative")


def _check_security(host: HostConfig) -> None:
    for name in [*(host.cap_add or ()), *(host.cap_drop or ())]:
        capabilities.normalise(name)
    security(host)


class Security(msgspec.Struct, frozen=True):
    """What `SecurityOpt` says. `seccomp` is empty for the default, `unconfined`, or a profile's JSON."""

    no_new_privileges: bool = False
    seccomp: str = ""


def security(host: HostConfig) -> Security:
    """Parse `SecurityOpt`."""
    result = Security()
    for option in host.security_opt or ():
        key, value = re.split(r"[=:]", option, maxsplit=1) if re.search(r"[=:]", option) else (option, "")
        if key == "no-new-privileges":
            if value not in ("", "true", "false"):
                raise errors.Invalid(f'invalid --security-opt: "{option}"')
            result = msgspec.structs.replace(result, no_new_privileges=value != "false")
        elif key == "seccomp" and value:
            result = msgspec.structs.replace(result, seccomp="" if value == "builtin" else value)
        elif key == "label" and _LABEL.fullmatch(value):
            continue  # a host without SELinux, and this engine asks for none, has no labels: as with Docker
        elif (key, value) != ("apparmor", "unconfined"):
            raise errors.Unsupported(
                f'security option "{option}" is not supported: there are no-new-privileges, seccomp=, '
                "apparmor=unconfined and label="
            )
    return result


LOG_DRIVERS = ("json-file", "local", "none")
LOG_MAX_SIZE = 20 * 1024 * 1024
LOG_MAX_FILES = 5
_LOG_OPTIONS: dict[str, tuple[str, ...]] = {
    "max-size": (),
    "max-file": (),
    "compress": ("false",),
    "mode": ("blocking",),
    "labels": ("",),
    "env": ("",),
    "tag": ("",),
}
"""Docker's options, and the values of the others that change nothing."""
_SIZE = re.compile(r"([0-9]{1,15})([kKmMgG]?)[bB]?")


def log_limits(log: LogConfig) -> tuple[int, int]:
    """Bytes of a log file before it is rotated, and how many are kept; by default 20 MB and 5, as Docker's `local`.

    Raises:
        errors.Invalid: a driver or an option that isn't there. errors.Unsupported: one that this engine doesn't have.
    """
    if log.type not in LOG_DRIVERS:
        raise errors.Invalid(f"logger: no log driver named '{log.type}' is registered")
    size, files = LOG_MAX_SIZE, LOG_MAX_FILES
    for key, value in (log.config or {}).items():
        if log.type == "none" or key not in _LOG_OPTIONS:
            raise errors.Invalid(f"unknown log opt '{key}' for {log.type} log driver")
        if key == "max-size":
            size = 0 if value == "-1" else _parse_size(key, value)
        elif key == "max-file":
            files = _parse_count(key, value)
        elif value not in _LOG_OPTIONS[key]:
            raise errors.Unsupported(f"log option {key}={value} is not supported: there are max-size and max-file")
    return size, files


def _parse_count(key: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10) or int(value) < 1:
        raise errors.Invalid(f"{key} must be a number from 1 on, not {value!r}")
    return int(value)


def _parse_size(key: str, value: str) -> int:
    match = _SIZE.fullmatch(value)
    size = int(match[1]) * 1024 ** " kmg".index(match[2].lower() or " ") if match else 0
    if size < 1:
        raise errors.Invalid(f"{key}: invalid size: '{value}'")
    return size


def parse_port(text: str) -> tuple[int, str]:
    """`80/tcp` as number and protocol.

    Raises:
        errors.Invalid: no port.
    """
    match = _PORT.fullmatch(text.lower())
    if match is None or not 1 <= int(match[1]) <= 65535:
        raise errors.Invalid(f"invalid port specification: {text!r}")
    return int(match[1]), match[2] or "tcp"


def parse_host_port(text: str) -> tuple[int, int]:
    """The host's port of a binding, and the last one of a range (0 for none); "" and 0 ask for a free one.

    Raises:
        errors.Invalid: no port.
    """
    first, is_range, last = text.partition("-")
    numbers = [_host_port(text, first), _host_port(text, last) if is_range else 0]
    if is_range and not 0 < numbers[0] <= numbers[1]:
        raise errors.Invalid(f"invalid port specification: {text!r}")
    return numbers[0], numbers[1]


def _host_port(text: str, part: str) -> int:
    if part and not (part.isascii() and part.isdigit() and len(part) <= 5 and int(part) <= 65535):
        raise errors.Invalid(f"invalid port specification: {text!r}")
    return int(part or 0)
