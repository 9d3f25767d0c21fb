"""The service keys of the Compose specification that no service of a swarm can have, each with the way out."""

from __future__ import annotations

_RESOURCES = "use deploy.resources"
_CPUS = "use deploy.resources.limits.cpus"
_MEMORY = "use deploy.resources.limits.memory"
_DEVICES = "services have no devices: start the container with `docker run` on its node"
_NAMESPACE = "each container has one of its own: share files by a volume, and talk over a network"
_HOOK = (
    "call it from the image's entrypoint, or run it as a job (deploy.mode: replicated-job) and name it in depends_on"
)
_ANY_CGROUP = "the engine places the cgroups: use deploy.resources"

SERVICE: dict[str, str] = {
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
    "annotations": "use labels",
    "attach": "the output of services is read with `docker service logs`",
    "blkio_config": "services have no limits for disks: keep busy ones apart with deploy.placement",
    "cgroup": _ANY_CGROUP,
    "cgroup_parent": _ANY_CGROUP,
    **dict.fromkeys(
        ("cpu_count", "cpu_percent", "cpu_period", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime", "cpu_shares"), _CPUS
    ),
    "cpuset": _CPUS,
    "credential_spec": "it is for Windows",
    "isolation": "it is for Windows",
    "develop": "use `gitops watch`",
    **dict.fromkeys(("devices", "device_cgroup_rules", "gpus"), _DEVICES),
    "domainname": "write the whole name in hostname",
    "ipc": _NAMESPACE,
    "pid": _NAMESPACE,
    "uts": _NAMESPACE,
    "userns_mode": "leave it out: what a container may do on its host is said by user, cap_add and cap_drop",
    "label_file": "write labels",
    "mac_address": "the swarm gives addresses: use names",
    **dict.fromkeys(("mem_swappiness", "memswap_limit", "oom_kill_disable"), _MEMORY),
    "models": "give the model's address in environment",
    "platform": "use deploy.placement.constraints, as in node.platform.arch == x86_64",
    **dict.fromkeys(("pre_start", "post_start", "pre_stop"), _HOOK),
    "privileged": "name what it needs in cap_add",
    "provider": "write a Service for what provides it, or give its address in environment",
    "pull_refresh_after": "write a tag or a digest that changes with the image",
    "runtime": "the engine chooses the runtime",
    "shm_size": "mount a tmpfs: volumes: [{type: tmpfs, target: /dev/shm, tmpfs: {size: 1G}}]",
    "storage_opt": "limit what is written by a tmpfs with a size, or by a volume",
    "use_api_socket": "mount the socket as a volume, /var/run/docker.sock:/var/run/docker.sock",
}
