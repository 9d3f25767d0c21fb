"""Service: a Compose service plus its identity."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from gitops.manifests.kinds import refused
from gitops.manifests.kinds.base import Manifest, Model, optional
from gitops.manifests.kinds.dependencies import DependsOn
from gitops.manifests.kinds.deploy import JOBS, Deploy
from gitops.manifests.kinds.deploy import whole as _deploy
from gitops.manifests.kinds.findings import Findings, problem, shown
from gitops.manifests.kinds.healthcheck import Healthcheck
from gitops.manifests.kinds.hostvalues import Addresses, Capabilities, ExtraHosts, Signal, Sysctls
from gitops.manifests.kinds.mounts import FileUse, Mount
from gitops.manifests.kinds.ports import Port
from gitops.manifests.kinds.restart import RestartWord
from gitops.manifests.kinds.security import SecurityOpt
from gitops.manifests.kinds.values import (
    AbsolutePath,
    Bool,
    Duration,
    Environment,
    ImageName,
    Int,
    OneOrTexts,
    PlainLabels,
    Text,
    Texts,
    Words,
    size,
    text,
    text_map,
)


class NetworkUse(Model):
    """How a service is on a network."""

    NEVER: ClassVar = {
        **dict.fromkeys(
            ("ipv4_address", "ipv6_address", "link_local_ips", "mac_address"), "the swarm gives addresses: use names"
        ),
        **dict.fromkeys(("priority", "gw_priority", "interface_name"), "the engine puts the interfaces in order"),
        "driver_opts": "write them on the Network",
    }

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


_LOG_DRIVERS = ("json-file", "local", "none")


def _log_driver(value: Any) -> Any:
    if isinstance(value, str) and value not in _LOG_DRIVERS:
        raise problem(f"the log driver {shown(value)} is not supported yet", f"use {', '.join(_LOG_DRIVERS)}")
    return value


class LoggingFields(Model):
    """Where the output goes."""

    driver: (
        Annotated[str, BeforeValidator(_log_driver, json_schema_input_type=Literal["json-file", "local", "none"])]
        | None
    ) = optional("json-file (default), local or none.")
    options: (
        Annotated[dict[str, str], BeforeValidator(_log_options, json_schema_input_type=dict[str, str | int])] | None
    ) = optional("max-size (as in 10m) and max-file.")


def _no_log(logging: LoggingFields) -> LoggingFields:
    if logging.driver == "none" and logging.options:
        raise problem("no log is kept, so nothing can be said of it", "leave the options out", "options", on_key=True)
    return logging


Logging = Annotated[LoggingFields, AfterValidator(_no_log)]


_HOST_NAME_PARTS = 253


def _hostname(value: Any) -> Any:
    value = text(value)
    if isinstance(value, str):
        plain = value.replace("{{", "").replace("}}", "")
        if not value or len(value) > _HOST_NAME_PARTS or any(mark in plain for mark in " /\t\n:_"):
            raise problem(f"{shown(value)} is no host name")
    return value


def _pull_policy(value: Any) -> Any:
    if value in ("missing", "if_not_present"):
        return "missing"
    ways = {
        "always": "a tag is looked up when its manifest changes: write a new tag or a digest",
        "never": "use an Image with archive or build, and name it in image",
        "build": "use an Image with build, and name it in image",
    }
    if isinstance(value, str):
        hint = ways.get(value, "write missing, or leave it out")
        raise problem(f"{shown(value)}: an image is pulled by the node that lacks it", hint)
    return value


Oom = Annotated[Int, Field(ge=-1000, le=1000)]


class ServiceSpec(Model):
    """What the tasks of a service run, and how."""

    NEVER: ClassVar = refused.SERVICE

    image: ImageName = Field(description="The image, by the reference of an Image, or by its name in a registry.")
    pull_policy: (
        Annotated[
            Literal["missing"],
            BeforeValidator(_pull_policy, json_schema_input_type=Literal["missing", "if_not_present"]),
        ]
        | None
    ) = optional("Only missing: a node pulls what it lacks.")
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
    labels: PlainLabels | None = optional("Labels of the containers.")
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
    security_opt: SecurityOpt | None = optional("no-new-privileges, seccomp, apparmor and label.")
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
    restart: RestartWord | None = optional(
        "no, always, unless-stopped or on-failure[:attempts]; deploy.restart_policy says more."
    )
    deploy: Annotated[Deploy, AfterValidator(_deploy)] | None = optional(
        "Replicas, updates, restarts, limits, placement."
    )


def _check_restart(condition: str, deploy: Deploy) -> None:
    if deploy.restart_policy is not None:
        raise problem("deploy.restart_policy says it too", "keep one of them", "restart", on_key=True)
    if condition == "any" and deploy.mode in JOBS:
        raise problem("a job that always starts again never ends", "write on-failure or no", "restart")


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
    if spec.restart is not None and spec.deploy is not None:
        _check_restart(spec.restart[0], spec.deploy)
    if spec.networks is not None and not spec.networks:
        raise problem("an empty list", "leave it out for the stack's own network", "networks")
    return spec


class Service(Manifest, defer_build=False):
    """A service: some tasks that run the same."""

    kind: Literal["Service"] = Field(description="Service.")
    spec: Annotated[ServiceSpec, AfterValidator(_whole)] = Field(description="What the tasks run, and how.")
