"""Service: a Compose service plus its identity."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from gitops.manifests.kinds.base import Manifest, Model, optional
from gitops.manifests.kinds.dependencies import DependsOn
from gitops.manifests.kinds.deploy import Deploy
from gitops.manifests.kinds.findings import Findings, problem, shown
from gitops.manifests.kinds.healthcheck import Healthcheck
from gitops.manifests.kinds.hostvalues import Addresses, Capabilities, ExtraHosts, Signal, Sysctls
from gitops.manifests.kinds.mounts import FileUse, Mount
from gitops.manifests.kinds.ports import Port
from gitops.manifests.kinds.values import (
    AbsolutePath,
    Bool,
    Duration,
    Environment,
    ImageName,
    Int,
    Labels,
    OneOrTexts,
    Text,
    Texts,
    Words,
    size,
    text,
    text_map,
)

_RESOURCES = "use deploy.resources"
_LATER = {
    "pull_policy": "an image is pulled when the engine doesn't have it",
    "restart": "use deploy.restart_policy",
    "scale": "use deploy.replicas",
    "container_name": "a service has many containers; they are named after it",
    "expose": "every port is reachable within a network",
    "build": "use an Image with build or archive, and name it in image",
    "extends": "use YAML anchors or a template",
    "profiles": "use a template and values files",
    "network_mode": "use networks",
    "links": "services of a network find each other by name",
    "external_links": "join the network of the other service",
    "volumes_from": "name the volumes",
    "cpus": _RESOURCES,
    "mem_limit": _RESOURCES,
    "mem_reservation": _RESOURCES,
    "pids_limit": _RESOURCES,
    **dict.fromkeys(("log_driver", "log_opt"), "use logging"),
    **dict.fromkeys(
        (
            "annotations", "attach", "blkio_config", "cgroup", "cgroup_parent", "cpu_count", "cpu_percent",
            "cpu_period", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime", "cpu_shares", "cpuset", "credential_spec",
            "develop", "device_cgroup_rules", "devices", "domainname", "gpus", "ipc", "isolation", "label_file",
            "mac_address", "mem_swappiness", "memswap_limit", "models", "oom_kill_disable", "pid", "platform",
            "post_start", "pre_stop", "privileged", "provider", "runtime", "security_opt", "shm_size", "storage_opt",
            "use_api_socket", "userns_mode", "uts", "secrets_from", "pre_start",
        ),
        "",
    ),
}  # fmt: skip
"""The service keys of the Compose specification that aren't honoured yet, and what to do instead."""


class NetworkUse(Model):
    """How a service is on a network."""

    NOT_YET: ClassVar = dict.fromkeys(
        (
            "ipv4_address", "ipv6_address", "link_local_ips", "mac_address", "interface_name", "driver_opts",
            "priority", "gw_priority",
        ),
        "",
    )  # fmt: skip

    aliases: list[str] | None = optional("More names of the service on this network.")


def _networks(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    result: dict[str, Any] = {}
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise problem("must be the name of a network", "", index)
        if item in result:
            raise problem(f"{shown(item)} is given twice", "", index)
        result[item] = None
    return result


Networks = Annotated[
    dict[str, NetworkUse | None],
    BeforeValidator(_networks, json_schema_input_type=list[str] | dict[str, NetworkUse | None]),
]


class EnvFileFields(Model):
    """A file of KEY=VALUE lines."""

    path: str = Field(description="Relative to the manifest, inside the repository.")
    required: Bool | None = optional("Whether it must exist; default true.")
    format: Literal["raw"] | None = optional("raw: values as they stand, quotes included.")


EnvFile = Annotated[
    EnvFileFields,
    BeforeValidator(
        lambda value: {"path": value} if isinstance(value, str) else value, json_schema_input_type=str | EnvFileFields
    ),
]
EnvFiles = Annotated[
    list[EnvFile],
    BeforeValidator(
        lambda value: [value] if isinstance(value, str | dict) else value,
        json_schema_input_type=str | EnvFileFields | list[str | EnvFileFields],
    ),
]


class UlimitFields(Model):
    """A limit of each process."""

    soft: Int = Field(description="The limit that holds; -1: none.", ge=-1)
    hard: Int = Field(description="What a process may raise it to; -1: none.", ge=-1)


def _ulimit(limit: UlimitFields) -> UlimitFields:
    if limit.hard != -1 and (limit.soft > limit.hard or limit.soft == -1):
        raise problem("the soft limit is above the hard one", "lower it", "soft")
    return limit


Ulimit = Annotated[
    UlimitFields,
    AfterValidator(_ulimit),
    BeforeValidator(
        lambda value: {"soft": value, "hard": value} if isinstance(value, int) else value,
        json_schema_input_type=int | UlimitFields,
    ),
]
_ULIMITS = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
)  # fmt: skip


def _ulimits(value: Any) -> Any:
    findings = Findings()
    for name, limit in value.items() if isinstance(value, dict) else ():
        if name not in _ULIMITS:
            findings.add("no such limit", f"one of {', '.join(_ULIMITS)}", name, on_key=True)
        elif isinstance(limit, bool) or (isinstance(limit, int) and limit < -1):
            findings.add("must be a number, -1 for none", "", name)
    findings.finish()
    return value


_LOG_OPTIONS = ("max-size", "max-file")


def _log_options(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    findings = Findings()
    for key in value:
        if key not in _LOG_OPTIONS:
            findings.add("this option is not supported yet", "max-size and max-file are", key, on_key=True)
    options = text_map(value)
    if "max-size" in options:
        try:
            size(options["max-size"])
        except PydanticCustomError as error:
            findings.take(error, "max-size")
    count = options.get("max-file", "1")
    if not count.isdigit() or int(count) < 1:
        findings.add("must be a number of files, at least 1", "", "max-file")
    findings.finish()
    return options


def _log_driver(value: Any) -> Any:
    if isinstance(value, str) and value != "json-file":
        raise problem(f"the log driver {shown(value)} is not supported yet", "use json-file")
    return value


class Logging(Model):
    """Where the output goes."""

    driver: Annotated[str, BeforeValidator(_log_driver, json_schema_input_type=Literal["json-file"])] | None = optional(
        "Only json-file."
    )
    options: (
        Annotated[dict[str, str], BeforeValidator(_log_options, json_schema_input_type=dict[str, str | int])] | None
    ) = optional("max-size (as in 10m) and max-file.")


_HOST_NAME_PARTS = 253


def _hostname(value: Any) -> Any:
    value = text(value)
    if isinstance(value, str):
        plain = value.replace("{{", "").replace("}}", "")
        if not value or len(value) > _HOST_NAME_PARTS or any(mark in plain for mark in " /\t\n:_"):
            raise problem(f"{shown(value)} is no host name")
    return value


Oom = Annotated[Int, Field(ge=-1000, le=1000)]


class ServiceSpec(Model):
    """What the tasks of a service run, and how."""

    NOT_YET: ClassVar = _LATER

    image: ImageName = Field(description="The image, by the reference of an Image, or by its name in a registry.")
    command: Words | None = optional("Arguments in place of the image's cmd.")
    entrypoint: Words | None = optional("The program in place of the image's entrypoint.")
    working_dir: AbsolutePath | None = optional("The directory that it starts in.")
    user: Text | None = optional("user, uid, user:group or uid:gid.")
    group_add: Texts | None = optional("More groups, by name or id.")
    hostname: Annotated[str, BeforeValidator(_hostname, json_schema_input_type=str)] | None = optional(
        "The containers' host name; default: their id."
    )
    init: Bool | None = optional("Run a small init as process 1, which reaps processes.")
    tty: Bool | None = optional("Give it a terminal.")
    stdin_open: Bool | None = optional("Keep its standard input open.")
    read_only: Bool | None = optional("Its root file system can't be written to.")
    stop_signal: Signal | None = optional("The signal that asks it to stop; default: the image's, SIGTERM.")
    stop_grace_period: Duration | None = optional("Until SIGKILL follows; default 10s.")
    environment: Environment | None = optional("Variables: a map, or a list of KEY=VALUE.")
    env_file: EnvFiles | None = optional("Files of variables; `environment` wins.")
    labels: Labels | None = optional("Labels of the containers.")
    healthcheck: Healthcheck | None = optional("How its health is checked.")
    ports: list[Port] | None = optional("Published ports.")
    depends_on: DependsOn | None = optional("Services that must be there before: names, or a map with conditions.")
    networks: Networks | None = optional("Networks that it joins; default: the stack's own, `default`.")
    volumes: list[Mount] | None = optional("Mounts.")
    tmpfs: OneOrTexts | None = optional("Paths that get an empty file system in memory.")
    configs: list[FileUse] | None = optional("Configs as files in its containers.")
    secrets: list[FileUse] | None = optional("Secrets as files in its containers.")
    cap_add: Capabilities | None = optional("Capabilities beyond the usual ones.")
    cap_drop: Capabilities | None = optional("Capabilities that it must not have.")
    sysctls: Sysctls | None = optional("Kernel settings of its namespaces.")
    ulimits: (
        Annotated[dict[str, Ulimit], BeforeValidator(_ulimits, json_schema_input_type=dict[str, int | UlimitFields])]
        | None
    ) = optional("Limits of each process.")
    dns: Addresses | None = optional("Name servers.")
    dns_search: OneOrTexts | None = optional("Search domains.")
    dns_opt: Texts | None = optional("Options of resolv.conf.")
    extra_hosts: ExtraHosts | None = optional("More lines of /etc/hosts, as in db:10.0.0.7.")
    oom_score_adj: Oom | None = optional("How soon the kernel kills it when memory is short.")
    logging: Logging | None = optional("Where its output goes.")
    deploy: Deploy | None = optional("Replicas, updates, restarts, limits, placement.")


def _whole(spec: ServiceSpec) -> ServiceSpec:
    if spec.deploy is not None and spec.deploy.endpoint_mode == "dnsrr":
        for index, port in enumerate(spec.ports or ()):
            if port.mode != "host":
                raise problem(
                    "endpoint_mode dnsrr has no shared ports",
                    "add mode: host, or leave endpoint_mode out",
                    "ports",
                    index,
                )
    if spec.networks is not None and not spec.networks:
        raise problem("an empty list", "leave it out for the stack's own network", "networks")
    return spec


class Service(Manifest, defer_build=False):
    """A service: some tasks that run the same."""

    kind: Literal["Service"] = Field(description="Service.")
    spec: Annotated[ServiceSpec, AfterValidator(_whole)] = Field(description="What the tasks run, and how.")
