"""The OCI configuration that a container gets."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from gitops.engine.containers import resources, sharing, spec
from gitops.engine.containers.devices import Devices
from gitops.engine.containers.record import ContainerRecord, MountRecord
from gitops.engine.containers.users import Identity
from gitops.objects.container import ContainerConfig, HostConfig
from gitops.objects.service import Ulimit

V1 = resources.HostLimits(is_v2=False, has_swap_limit=True, rlimits={}, may_raise_limits=True, oom_score_adj=0)
V2 = dataclasses.replace(V1, is_v2=True)


def record(host: HostConfig | None = None, **config: Any) -> ContainerRecord:
    return ContainerRecord(
        id="a" * 64,
        name="/one",
        image_id="sha256:1",
        created_ns=1,
        config=ContainerConfig(hostname="box", **config),
        host_config=host or HostConfig(shm_size=64 << 20),
        path="prog",
        args=["-x"],
    )


def build(made: ContainerRecord, **around: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"rootfs": "/r", "cgroups_path": "/p/a", "limits": V1, "capabilities": ["CAP_CHOWN"]}
    return spec.build(made, spec.Surroundings(**{**values, **around}))


def options(built: dict[str, Any], target: str) -> list[str]:
    return next(mount["options"] for mount in built["mounts"] if mount["destination"] == target)


def test_the_process_has_docker_s_defaults() -> None:
    process = build(record(env=["A=1"]))["process"]
    assert process["args"] == ["prog", "-x"]
    assert process["cwd"] == "/"
    assert process["env"] == [f"PATH={spec.DEFAULT_PATH}", "HOSTNAME=box", "A=1", "HOME=/"]
    assert process["noNewPrivileges"] is False
    assert "inheritable" not in process["capabilities"] and "ambient" not in process["capabilities"]


def test_the_user_s_variables_win_over_the_defaults() -> None:
    process = build(record(env=["PATH=/x", "HOME=/h", "HOSTNAME=other"], tty=True))["process"]
    assert process["env"] == ["PATH=/x", "HOSTNAME=other", "TERM=xterm", "HOME=/h"]


def test_a_bare_name_takes_a_variable_away() -> None:
    process = build(record(env=["PATH", "A", "B=1"]))["process"]
    assert process["env"] == ["HOSTNAME=box", "B=1", "HOME=/"]


def test_the_home_directory_is_that_of_the_user() -> None:
    process = build(record(), identity=Identity(5, 6, (7,), "/home/five"))["process"]
    assert "HOME=/home/five" in process["env"]
    assert process["user"] == {"uid": 5, "gid": 6, "additionalGids": [7], "umask": 0o022}


def test_an_init_runs_before_the_program() -> None:
    built = build(record(), init="/usr/bin/tini-static")
    assert built["process"]["args"] == ["/sbin/docker-init", "--", "prog", "-x"]
    assert "ro" in options(built, "/sbin/docker-init")


def test_paths_of_the_kernel_are_hidden_or_read_only() -> None:
    linux = build(record())["linux"]
    assert "/proc/kcore" in linux["maskedPaths"]
    assert "/proc/sys" in linux["readonlyPaths"]
    assert linux["cgroupsPath"] == "/p/a"
    assert linux["resources"]["devices"][0] == {"allow": False, "access": "rwm"}


def test_a_privileged_container_sees_everything() -> None:
    built = build(record(HostConfig(privileged=True, shm_size=1)), devices=Devices(nodes=[{"path": "/dev/x"}]))
    linux = built["linux"]
    assert linux["maskedPaths"] == [] and linux["readonlyPaths"] == []
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert linux["devices"] == [{"path": "/dev/x"}]
    assert "ro" not in options(built, "/sys")


@pytest.mark.parametrize(
    ("network", "expected"),
    [("", {"type": "network"}), ("/run/n", {"type": "network", "path": "/run/n"}), (None, None)],
)
def test_the_network_is_new_joined_or_the_host_s(network: str | None, expected: dict[str, str] | None) -> None:
    linux = build(record(), network=network)["linux"]
    found = next((space for space in linux["namespaces"] if space["type"] == "network"), None)
    assert found == expected
    assert bool(linux["sysctl"]) == (network is not None)


def test_a_compiled_filter_takes_the_place_of_the_profile() -> None:
    rules = {"defaultAction": "SCMP_ACT_ERRNO"}
    plain = build(record(), seccomp_filter=rules)
    assert plain["linux"]["seccomp"] == rules and "annotations" not in plain
    compiled = build(record(), seccomp_filter=rules, seccomp_program="QUJD")
    assert "seccomp" not in compiled["linux"]
    assert compiled["annotations"] == {"run.oci.seccomp_bpf_data": "QUJD"}


def test_outer_mounts_come_before_inner_ones() -> None:
    mounts = [MountRecord(type="tmpfs", target="/a/b/c"), MountRecord(type="tmpfs", target="/z")]
    made = msgspec.structs.replace(record(), mounts=mounts)
    built = build(made, binds=[spec.Bind("/s", "/a/b"), spec.Bind("/t", "/a")])
    order = [mount["destination"] for mount in built["mounts"]]
    assert order.index("/a") < order.index("/a/b") < order.index("/a/b/c")


def test_a_mount_of_the_user_at_dev_shm_replaces_ours() -> None:
    made = msgspec.structs.replace(
        record(), mounts=[MountRecord(type="tmpfs", target="/dev/shm", options="size=1m,exec")]
    )
    built = build(made)
    assert [mount["destination"] for mount in built["mounts"]].count("/dev/shm") == 1
    assert options(built, "/dev/shm") == ["nosuid", "nodev", "size=1m", "exec"]


def test_limits_reach_the_cgroup() -> None:
    host = HostConfig(
        memory=64 << 20, nano_cpus=1_500_000_000, pids_limit=10, cpu_shares=512, memory_reservation=1 << 20
    )
    assert resources.cgroup(host, V1) == {
        "memory": {"limit": 64 << 20, "reservation": 1 << 20, "swap": 128 << 20},
        "cpu": {"period": 100_000, "quota": 150_000, "shares": 512},
        "pids": {"limit": 10},
    }


@pytest.mark.parametrize("pids", [None, 0, -1])
def test_no_limit_of_processes_leaves_it_out(pids: int | None) -> None:
    assert "pids" not in resources.cgroup(HostConfig(pids_limit=pids), V1)


def test_swap_is_left_out_where_the_kernel_has_no_accounting() -> None:
    limits = resources.HostLimits(False, False, {}, True, 0)
    assert resources.cgroup(HostConfig(memory=1 << 30, memory_swap=-1), limits) == {"memory": {"limit": 1 << 30}}


def test_ulimits_are_cut_to_the_daemon_s_where_it_may_not_raise_them() -> None:
    limits = resources.HostLimits(False, True, {"nofile": (100, 1000), "core": (0, -1)}, False, 5)
    found = resources.rlimits([Ulimit("nofile", -1, 5000), Ulimit("core", -1, -1)], limits)
    assert found == [
        {"type": "RLIMIT_NOFILE", "hard": 1000, "soft": 1000},
        {"type": "RLIMIT_CORE", "hard": 2**64 - 1, "soft": 2**64 - 1},
    ]
    assert resources.oom_score(-500, limits) == 5
    assert resources.oom_score(-500, V1) == -500


def kinds(built: dict[str, Any]) -> dict[str, str]:
    return {entry["type"]: entry.get("path", "") for entry in built["linux"]["namespaces"]}


def test_namespaces_are_shared_as_was_asked_for() -> None:
    joined = sharing.Joined({"pid": "/proc/7/ns/pid", "ipc": None, "uts": None}, shm="/dev/shm")
    built = build(record(), joined=joined)
    assert kinds(built) == {"mount": "", "pid": "/proc/7/ns/pid", "network": ""}
    assert "hostname" not in built
    assert next(mount for mount in built["mounts"] if mount["destination"] == "/dev/shm")["source"] == "/dev/shm"


def test_a_cgroup_namespace_comes_with_version_two_or_by_request() -> None:
    assert "cgroup" not in kinds(build(record()))
    assert "cgroup" in kinds(build(record(), limits=V2))
    assert "cgroup" in kinds(build(record(HostConfig(cgroupns_mode="private", shm_size=1))))
    assert "cgroup" not in kinds(build(record(HostConfig(cgroupns_mode="host", shm_size=1)), limits=V2))


def test_devices_bring_their_rules_and_limits() -> None:
    rule = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}
    devices = Devices([{"path": "/dev/fuse"}], [rule], {"weight": 10})
    linux = build(record(), devices=devices)["linux"]
    assert linux["devices"] == [{"path": "/dev/fuse"}]
    assert linux["resources"]["devices"][-1] == rule
    assert linux["resources"]["blockIO"] == {"weight": 10}


def test_no_paths_are_hidden_where_that_was_asked_for() -> None:
    linux = build(record(HostConfig(masked_paths=[], readonly_paths=["/proc/bus"], shm_size=1)))["linux"]
    assert (linux["maskedPaths"], linux["readonlyPaths"]) == ([], ["/proc/bus"])


def test_cpus_by_quota_and_by_number_reach_the_runtime() -> None:
    host = HostConfig(cpu_period=50_000, cpu_quota=25_000, cpuset_cpus="0", cpuset_mems="0", memory_swappiness=5)
    assert resources.cgroup(host, V1)["cpu"] == {"period": 50_000, "quota": 25_000, "cpus": "0", "mems": "0"}
    assert resources.cgroup(host, V1)["memory"] == {"swappiness": 5}
    assert "memory" not in resources.cgroup(host, V2)
