"""The part of the ledger that is about services."""

from __future__ import annotations

from gitops.manifests.compose.shapes import (
    ANYTHING,
    BOOL,
    BOOL_TEXT,
    COUNT,
    INT,
    INT_TEXT,
    NAMES,
    NULL,
    NUMBER,
    NUMBER_TEXT,
    SIZE,
    TEXT,
    WHOLE_SIZE,
    Key,
    Shape,
    between,
    fields,
    list_of,
    map_of,
    matching,
    one_of,
)

TEXTS = list_of(TEXT)
UNIQUE = list_of(TEXT, is_unique=True)
TEXT_OR_UNIQUE = TEXT | UNIQUE
LIST_OR_MAP = map_of(TEXT | NUMBER | BOOL | NULL) | UNIQUE
COMMAND = NULL | TEXT | TEXTS
_MAYBE_NUMBERS = list_of(TEXT | NUMBER, is_unique=True)
EXTRA_HOSTS = map_of(TEXT | TEXTS) | UNIQUE
_OPTIONS = map_of(TEXT | NUMBER, is_open=True)

_ULIMIT = {"hard": Key(INT_TEXT), "soft": Key(INT_TEXT)}
ULIMITS = map_of(INT_TEXT | fields(_ULIMIT, ["soft", "hard"]), "^[a-z]+$", is_open=True)

_FILE_USE = {
    "source": Key(TEXT),
    "target": Key(TEXT),
    "uid": Key(TEXT),
    "gid": Key(TEXT),
    "mode": Key(SIZE, "honoured", "a number is what it is in YAML: 0440 is octal, 440 isn't"),
}
FILE_USES = list_of(TEXT | fields(_FILE_USE))

_NO_HOOKS = "a swarm has no hooks: do it in the image's entrypoint"
_HOOK = fields(
    {
        "command": Key(COMMAND, "warned"),
        "user": Key(TEXT, "warned"),
        "privileged": Key(BOOL_TEXT, "warned"),
        "working_dir": Key(TEXT, "warned"),
        "environment": Key(LIST_OR_MAP, "warned"),
    },
    ["command"],
)

_BUILD_NOTE = "images are built elsewhere, or by an Image manifest"


def _meaningless(**shapes: Shape) -> dict[str, Key]:
    return {name: Key(shape, "meaningless") for name, shape in shapes.items()}


def _warned(note: str, **shapes: Shape) -> dict[str, Key]:
    return {name: Key(shape, "warned", note) for name, shape in shapes.items()}


_BUILD = _meaningless(
    context=TEXT,
    dockerfile=TEXT,
    dockerfile_inline=TEXT,
    entitlements=TEXTS,
    args=LIST_OR_MAP,
    ssh=LIST_OR_MAP,
    labels=LIST_OR_MAP,
    cache_from=TEXTS,
    cache_to=TEXTS,
    no_cache=BOOL | TEXT,
    additional_contexts=LIST_OR_MAP,
    network=TEXT,
    provenance=BOOL | TEXT,
    sbom=BOOL | TEXT,
    pull=BOOL | TEXT,
    target=TEXT,
    shm_size=WHOLE_SIZE,
    extra_hosts=EXTRA_HOSTS,
    isolation=TEXT,
    privileged=BOOL | TEXT,
    secrets=FILE_USES,
    tags=TEXTS,
    ulimits=ULIMITS,
    platforms=TEXTS,
)
_WATCH = _meaningless(
    ignore=TEXT_OR_UNIQUE,
    include=TEXT_OR_UNIQUE,
    path=TEXT,
    action=one_of("rebuild", "sync", "restart", "sync+restart", "sync+exec"),
    target=TEXT,
    exec=_HOOK,
    initial_sync=BOOL,
)
_DEVELOP = _meaningless(watch=list_of(fields(_WATCH, ["path", "action"])))

_NO_BLKIO = "a swarm sets no limits of block devices"
_RATE = fields(_warned(_NO_BLKIO, path=TEXT, rate=WHOLE_SIZE), has_extensions=False)
_WEIGHT = fields(_warned(_NO_BLKIO, path=TEXT, weight=COUNT), has_extensions=False)
_BLKIO = _warned(
    _NO_BLKIO,
    device_read_bps=list_of(_RATE),
    device_read_iops=list_of(_RATE),
    device_write_bps=list_of(_RATE),
    device_write_iops=list_of(_RATE),
    weight=COUNT,
    weight_device=list_of(_WEIGHT),
)

_UPDATE = {
    "parallelism": Key(INT_TEXT),
    "delay": Key(TEXT),
    "failure_action": Key(TEXT),
    "monitor": Key(TEXT),
    "max_failure_ratio": Key(NUMBER_TEXT),
    "order": Key(one_of("start-first", "stop-first")),
}
_NO_DEVICES = "tasks are placed without a look at devices: use placement.constraints"
_DEVICE_REQUEST = _warned(
    _NO_DEVICES, capabilities=UNIQUE, count=COUNT, device_ids=UNIQUE, driver=TEXT, options=LIST_OR_MAP
)
_DISCRETE = _warned(_NO_DEVICES, kind=TEXT, value=SIZE)
_GENERIC = _warned(_NO_DEVICES, discrete_resource_spec=fields(_DISCRETE))
_LIMITS = {"cpus": Key(SIZE), "memory": Key(TEXT), "pids": Key(INT_TEXT)}
_RESERVATIONS = {
    "cpus": Key(SIZE),
    "memory": Key(TEXT),
    "generic_resources": Key(list_of(fields(_GENERIC)), "warned", _NO_DEVICES),
    "devices": Key(list_of(fields(_DEVICE_REQUEST, ["capabilities"])), "warned", _NO_DEVICES),
}
_RESOURCES = {"limits": Key(fields(_LIMITS)), "reservations": Key(fields(_RESERVATIONS))}
_RESTART = {
    "condition": Key(TEXT),
    "delay": Key(TEXT),
    "max_attempts": Key(INT_TEXT),
    "window": Key(TEXT),
}
_PLACEMENT = {
    "constraints": Key(TEXTS),
    "preferences": Key(list_of(fields({"spread": Key(TEXT)}))),
    "max_replicas_per_node": Key(INT_TEXT),
}
DEPLOY = {
    "mode": Key(TEXT),
    "endpoint_mode": Key(TEXT, "honoured", "`vip`, the default, is said by leaving it out"),
    "replicas": Key(INT_TEXT),
    "labels": Key(LIST_OR_MAP),
    "rollback_config": Key(fields(_UPDATE)),
    "update_config": Key(fields(_UPDATE)),
    "resources": Key(fields(_RESOURCES)),
    "restart_policy": Key(fields(_RESTART)),
    "placement": Key(fields(_PLACEMENT)),
}

_HEALTHCHECK = {
    "disable": Key(BOOL_TEXT),
    "interval": Key(TEXT),
    "retries": Key(NUMBER_TEXT),
    "test": Key(TEXT | TEXTS),
    "timeout": Key(TEXT),
    "start_period": Key(TEXT),
    "start_interval": Key(TEXT),
}
_DEPENDENCY = {
    "restart": Key(BOOL_TEXT, "warned", "a service isn't restarted for what another one does"),
    "required": Key(BOOL),
    "condition": Key(one_of("service_started", "service_healthy", "service_completed_successfully")),
}
_NO_ADDRESS = "the engine gives addresses; services find each other by name"
_NETWORK_USE = {
    "aliases": Key(UNIQUE),
    "interface_name": Key(TEXT, "warned", "the engine names interfaces"),
    "ipv4_address": Key(TEXT, "warned", _NO_ADDRESS),
    "ipv6_address": Key(TEXT, "warned", _NO_ADDRESS),
    "link_local_ips": Key(UNIQUE, "warned", _NO_ADDRESS),
    "mac_address": Key(TEXT, "warned", _NO_ADDRESS),
    "driver_opts": Key(_OPTIONS, "warned"),
    "priority": Key(NUMBER, "warned"),
    "gw_priority": Key(NUMBER, "warned"),
}
_PORT = {
    "name": Key(TEXT),
    "mode": Key(TEXT),
    "host_ip": Key(
        TEXT,
        "emulated",
        "a swarm publishes on all addresses: all of them is what 0.0.0.0 and :: mean, and a port of one address alone "
        "is not published, with a warning, rather than opened to everybody",
    ),
    "target": Key(COUNT),
    "published": Key(COUNT),
    "protocol": Key(TEXT),
    "app_protocol": Key(TEXT, "meaningless", "a note for people"),
}
_BIND = {
    "propagation": Key(TEXT),
    "create_host_path": Key(BOOL_TEXT, "honoured", "where it isn't written the path must be there"),
    "recursive": Key(one_of("enabled", "disabled", "writable", "readonly")),
    "selinux": Key(one_of("z", "Z"), "meaningless", "files aren't relabelled"),
}
_VOLUME_USE = {
    "labels": Key(LIST_OR_MAP, "warned", "write them on the volume"),
    "nocopy": Key(BOOL_TEXT),
    "subpath": Key(TEXT),
}
_TMPFS = {"size": Key(between(INT, 0) | TEXT), "mode": Key(SIZE)}
_MOUNT = {
    "type": Key(
        one_of("bind", "volume", "tmpfs", "cluster", "npipe", "image"),
        "honoured",
        "bind, volume and tmpfs; others are left out, with a warning",
    ),
    "source": Key(TEXT, "honoured", "a relative path is made absolute, from the project's directory, on each node"),
    "target": Key(TEXT),
    "read_only": Key(BOOL_TEXT),
    "consistency": Key(TEXT, "meaningless", "of old, for other systems than Linux"),
    "bind": Key(fields(_BIND)),
    "volume": Key(fields(_VOLUME_USE)),
    "tmpfs": Key(fields(_TMPFS)),
    "image": Key(fields(_warned("", subpath=TEXT)), "warned", "an image can't be mounted"),
}
_DEVICE = _warned("", source=TEXT, target=TEXT, permissions=TEXT)
_NO_DEVICE = "a swarm gives no devices to tasks"
_GPU = fields(
    _warned(_NO_DEVICES, capabilities=UNIQUE, count=COUNT, device_ids=UNIQUE, driver=TEXT, options=LIST_OR_MAP),
    is_open=True,
)
_LOGGING = {
    "driver": Key(TEXT, "honoured", "json-file, local and none; json-file stands in for others, with a warning"),
    "options": Key(
        map_of(TEXT | NUMBER | NULL, is_open=True),
        "honoured",
        "max-size and max-file; others are left out, with a warning",
    ),
}
_ENV_FILE = {"path": Key(TEXT), "format": Key(TEXT), "required": Key(BOOL_TEXT)}
_PROVIDED = TEXT | NUMBER | BOOL | list_of(TEXT | NUMBER | BOOL)
_PROVIDER = _warned("", type=TEXT, options=map_of(_PROVIDED, is_open=True))
_MODEL_USE = map_of(fields(_warned("", endpoint_var=TEXT, model_var=TEXT)), NAMES, is_open=True)
_CREDENTIALS = _warned("", config=TEXT, file=TEXT, registry=TEXT)

_IN_SWARM = "a swarm has no such setting"
_CPU = "use cpus, or deploy.resources"
_LIMITED = "as a limit of deploy.resources"
SERVICE = {
    "develop": Key(fields(_DEVELOP) | NULL, "meaningless", "for `docker compose watch`"),
    "deploy": Key(fields(DEPLOY) | NULL),
    "annotations": Key(LIST_OR_MAP, "warned", _IN_SWARM),
    "attach": Key(BOOL | TEXT, "meaningless", "what `docker compose up` shows"),
    "build": Key(
        TEXT | fields(_BUILD),
        "emulated",
        "with `image` it has no say; without one the image has the name that Compose gives it, "
        "`<stack>-<service>`, and is built elsewhere, or by an Image manifest of this reference",
    ),
    "blkio_config": Key(fields(_BLKIO, has_extensions=False), "warned", _NO_BLKIO),
    "cap_add": Key(UNIQUE),
    "cap_drop": Key(UNIQUE),
    "cgroup": Key(one_of("host", "private"), "warned", "each container has a cgroup namespace of its own"),
    "cgroup_parent": Key(TEXT, "warned", "the engine places cgroups"),
    "command": Key(COMMAND),
    "configs": Key(FILE_USES),
    "container_name": Key(
        matching("[a-zA-Z0-9][a-zA-Z0-9_.-]+", "name of a container"),
        "warned",
        "a service may have many containers; other services reach it by the service's name",
    ),
    "cpu_count": Key(TEXT | between(INT, 0), "warned", _CPU),
    "cpu_percent": Key(TEXT | between(INT, 0, 100), "warned", _CPU),
    "cpu_shares": Key(SIZE, "warned", _CPU),
    "cpu_quota": Key(SIZE, "warned", _CPU),
    "cpu_period": Key(SIZE, "warned", _CPU),
    "cpu_rt_period": Key(SIZE, "warned", _CPU),
    "cpu_rt_runtime": Key(SIZE, "warned", _CPU),
    "cpus": Key(SIZE, "emulated", _LIMITED),
    "cpuset": Key(TEXT, "warned", _CPU),
    "credential_spec": Key(fields(_CREDENTIALS), "warned", "for Windows"),
    "depends_on": Key(
        UNIQUE | map_of(fields(_DEPENDENCY, ["condition"]), NAMES),
        "honoured",
        "what closes a circle, or has no active profile, is left out, with a warning",
    ),
    "device_cgroup_rules": Key(UNIQUE, "warned", _NO_DEVICE),
    "devices": Key(list_of(TEXT | fields(_DEVICE, ["source"])), "warned", _NO_DEVICE),
    "dns": Key(TEXT_OR_UNIQUE),
    "dns_opt": Key(UNIQUE),
    "dns_search": Key(TEXT_OR_UNIQUE),
    "domainname": Key(TEXT, "warned", "write it into hostname"),
    "entrypoint": Key(COMMAND),
    "env_file": Key(
        TEXT | list_of(TEXT | fields(_ENV_FILE, ["path"], has_extensions=False)),
        "emulated",
        "read here, with variables filled in; `environment` wins",
    ),
    "label_file": Key(TEXT | TEXTS, "emulated", "read here; `labels` wins"),
    "environment": Key(LIST_OR_MAP, "honoured", "a name without a value is the variable of `.env` or the environment"),
    "expose": Key(_MAYBE_NUMBERS, "meaningless", "every port is reachable within a network"),
    "extends": Key(
        TEXT | fields({"service": Key(TEXT), "file": Key(TEXT)}, ["service"], has_extensions=False),
        "honoured",
        "in the same file, or in another one of the repository",
    ),
    "provider": Key(
        fields(_PROVIDER, ["type"]), "emulated", "the service is left out, with a warning: no container of it is run"
    ),
    "external_links": Key(UNIQUE, "warned", "join the network of the other service"),
    "extra_hosts": Key(EXTRA_HOSTS, "honoured", "`host-gateway` is left out, with a warning"),
    "gpus": Key(one_of("all") | list_of(_GPU), "warned", _NO_DEVICES),
    "group_add": Key(_MAYBE_NUMBERS),
    "healthcheck": Key(fields(_HEALTHCHECK)),
    "hostname": Key(TEXT),
    "image": Key(TEXT, "honoured", "without one, and without `build`: as with `build`, with a warning"),
    "init": Key(BOOL_TEXT),
    "ipc": Key(TEXT, "warned", _IN_SWARM),
    "isolation": Key(TEXT, "warned", "for Windows"),
    "labels": Key(LIST_OR_MAP),
    "links": Key(UNIQUE, "emulated", "services find each other by name; another name is left out, with a warning"),
    "logging": Key(fields(_LOGGING)),
    "mac_address": Key(TEXT, "warned", _NO_ADDRESS),
    "mem_limit": Key(SIZE, "emulated", _LIMITED),
    "mem_reservation": Key(WHOLE_SIZE, "emulated", "as a reservation of deploy.resources"),
    "mem_swappiness": Key(COUNT, "warned", _IN_SWARM),
    "memswap_limit": Key(SIZE, "warned", _IN_SWARM),
    "network_mode": Key(TEXT, "warned", "the service joins networks: its own, or the stack's"),
    "models": Key(UNIQUE | _MODEL_USE, "warned", "run the model as a service"),
    "networks": Key(UNIQUE | map_of(fields(_NETWORK_USE) | NULL, NAMES)),
    "oom_kill_disable": Key(BOOL_TEXT, "warned", _IN_SWARM),
    "oom_score_adj": Key(INT_TEXT),
    "pid": Key(TEXT | NULL, "warned", _IN_SWARM),
    "pids_limit": Key(NUMBER_TEXT, "emulated", _LIMITED),
    "platform": Key(TEXT, "warned", "use deploy.placement.constraints: node.platform.os and node.platform.arch"),
    "ports": Key(list_of(NUMBER | TEXT | fields(_PORT), is_unique=True)),
    "post_start": Key(list_of(_HOOK), "warned", _NO_HOOKS),
    "pre_stop": Key(list_of(_HOOK), "warned", _NO_HOOKS),
    "privileged": Key(BOOL_TEXT, "warned", "a swarm runs nothing privileged: use cap_add"),
    "profiles": Key(UNIQUE),
    "pull_policy": Key(
        matching("always|never|build|if_not_present|missing|refresh|daily|weekly|every_([0-9]+[wdhms])+", "policy"),
        "honoured",
        "missing, which is what nodes do; others have no effect, with a warning",
    ),
    "pull_refresh_after": Key(TEXT, "warned", "an image is pulled when the engine doesn't have it"),
    "read_only": Key(BOOL_TEXT),
    "restart": Key(TEXT, "emulated", "as deploy.restart_policy, which wins"),
    "runtime": Key(TEXT, "warned", _IN_SWARM),
    "scale": Key(INT_TEXT, "emulated", "as deploy.replicas, which wins"),
    "security_opt": Key(
        UNIQUE, "honoured", "no-new-privileges, seccomp, apparmor=unconfined and label=disable; others are refused"
    ),
    "shm_size": Key(SIZE, "warned", "mount a tmpfs at /dev/shm"),
    "secrets": Key(FILE_USES),
    "sysctls": Key(LIST_OR_MAP),
    "stdin_open": Key(BOOL_TEXT),
    "stop_grace_period": Key(TEXT),
    "stop_signal": Key(TEXT),
    "storage_opt": Key(Shape({dict: None}, "a map"), "warned", _IN_SWARM),
    "tmpfs": Key(TEXT_OR_UNIQUE),
    "tty": Key(BOOL_TEXT),
    "ulimits": Key(ULIMITS),
    "use_api_socket": Key(BOOL, "warned", "mount the socket, if you must"),
    "user": Key(TEXT),
    "uts": Key(TEXT, "warned", _IN_SWARM),
    "userns_mode": Key(TEXT, "warned", _IN_SWARM),
    "volumes": Key(list_of(TEXT | fields(_MOUNT, ["type"]), is_unique=True)),
    "volumes_from": Key(UNIQUE, "emulated", "the mounts of the other service; those of a container are left out"),
    "working_dir": Key(TEXT),
}

__all__ = ["ANYTHING", "DEPLOY", "LIST_OR_MAP", "SERVICE"]
