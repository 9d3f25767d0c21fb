"""What may be asked of the host, and what of it this host gives."""

from __future__ import annotations

import dataclasses

import pytest

from gitops import errors
from gitops.engine.containers import allowances, creation, devices, making, mounts, resources, sharing, updating
from gitops.engine.containers.record import MountRecord
from gitops.objects.container import (
    ContainerConfig,
    ContainerCreate,
    DeviceMapping,
    EndpointSettings,
    HostConfig,
    IPAMEndpoint,
    PortBinding,
    RestartPolicy,
    WeightDevice,
)
from gitops.objects.image import ImageInspect, RootFS
from gitops.objects.service import Ulimit

V1 = resources.HostLimits(
    is_v2=False,
    has_swap_limit=True,
    rlimits={"nofile": (100, 1000)},
    may_raise_limits=False,
    oom_score_adj=0,
    cpus=frozenset({0, 1, 3}),
)
V2 = dataclasses.replace(V1, is_v2=True, has_swap_limit=False, may_raise_limits=True)


@pytest.mark.parametrize(
    ("host", "text"),
    [
        (HostConfig(nano_cpus=10**9, cpu_period=1000), "Nano CPUs and CPU Period"),
        (HostConfig(nano_cpus=10**9, cpu_quota=1000), "Nano CPUs and CPU Quota"),
        (HostConfig(cpu_period=999), "CPU cfs period can not be less than 1ms"),
        (HostConfig(cpu_quota=999), "CPU cfs quota can not be less than 1ms"),
        (HostConfig(cpuset_cpus="1-0"), "Invalid value 1-0 for cpuset cpus"),
        (HostConfig(cpuset_mems="x"), "Invalid value x for cpuset mems"),
        (HostConfig(memory_swappiness=101), "valid memory swappiness range is 0-100"),
        (HostConfig(blkio_weight=9), "from 10 to 1000"),
        (HostConfig(blkio_weight_device=[WeightDevice("/dev/sda", 1001)]), "from 10 to 1000"),
        (HostConfig(memory_reservation=1024), "Minimum memory reservation allowed is 6MB"),
    ],
)
def test_limits_that_no_host_could_give_are_refused(host: HostConfig, text: str) -> None:
    with pytest.raises(errors.Invalid, match=text):
        allowances.check(host, 8)


def test_a_list_of_cpus_is_read_and_held_against_the_host_s() -> None:
    assert allowances.parse_set("0-2,7") == {0, 1, 2, 7}
    assert allowances.parse_set("0-") is None
    allowances.fit(HostConfig(cpuset_cpus="0,3"), V1)
    with pytest.raises(errors.Invalid, match="Requested CPUs are not available - requested 2, available: 0-1,3"):
        allowances.fit(HostConfig(cpuset_cpus="2"), V1)


def test_what_the_kernel_lacks_is_left_out_with_a_warning() -> None:
    wanted = HostConfig(blkio_weight=500, memory=2**30, memory_swap=2**31, memory_swappiness=5, oom_kill_disable=True)
    got, warnings = allowances.fit(wanted, V2)
    assert (got.blkio_weight, got.memory_swap, got.memory_swappiness, got.oom_kill_disable) == (0, -1, None, None)
    assert len(warnings) == 4
    got, warnings = allowances.fit(wanted, V1)
    assert (got.memory_swappiness, got.oom_kill_disable) == (5, True)
    assert len(warnings) == 1


def test_a_limit_that_is_cut_and_ports_that_are_lost_are_told() -> None:
    ports: dict[str, list[PortBinding] | None] = {"80/tcp": [PortBinding()]}
    host = HostConfig(ulimits=[Ulimit("nofile", 2000, 10)], network_mode="host", port_bindings=ports)
    _, warnings = allowances.fit(host, V1)
    assert warnings == [
        "The engine may not raise hard limits on this machine: ulimit nofile is cut to 1000.",
        "Published ports are discarded when using host network mode",
    ]


@pytest.mark.parametrize(
    ("config", "host", "text"),
    [
        (ContainerConfig(), HostConfig(pid_mode="x"), "invalid PID mode: x"),
        (ContainerConfig(), HostConfig(ipc_mode="container:"), "invalid IPC mode: container:"),
        (ContainerConfig(), HostConfig(uts_mode="x"), "invalid UTS mode: x"),
        (ContainerConfig(), HostConfig(userns_mode="auto"), "invalid userns mode: auto"),
        (ContainerConfig(), HostConfig(cgroupns_mode="x"), "invalid cgroup namespace mode: x"),
        (ContainerConfig(hostname="a"), HostConfig(uts_mode="host"), "hostname and the UTS mode"),
        (ContainerConfig(), HostConfig(network_mode="container:"), "invalid container format"),
        (ContainerConfig(hostname="a"), HostConfig(network_mode="container:b"), "hostname and the network mode"),
        (ContainerConfig(), HostConfig(network_mode="container:b", dns=["1.1.1.1"]), "dns and the network mode"),
        (ContainerConfig(), HostConfig(network_mode="container:b", publish_all_ports=True), "port publishing"),
        (ContainerConfig(exposed_ports={"1/tcp": {}}), HostConfig(network_mode="container:b"), "port exposing"),
    ],
)
def test_modes_that_are_none_or_contradict_other_options_are_refused(
    config: ContainerConfig, host: HostConfig, text: str
) -> None:
    with pytest.raises(errors.Invalid, match=text):
        sharing.check(config, host)


def test_a_device_rule_is_read() -> None:
    assert devices.parse_rule("c 10:* rw") == {"allow": True, "type": "c", "major": 10, "access": "rw"}
    for wrong in ("d 1:1 r", "c 1 r", "c 1:1 x", "c 1:1 rwmr"):
        with pytest.raises(errors.Invalid, match="invalid device cgroup rule format"):
            devices.parse_rule(wrong)


def test_a_device_is_looked_up_and_a_directory_gives_all_in_it() -> None:
    found = devices.find(HostConfig(devices=[DeviceMapping("/dev/null", "/dev/hole", "r")]))
    (node,) = found.nodes
    assert (node["path"], node["type"], node["major"], node["minor"]) == ("/dev/hole", "c", 1, 3)
    assert found.rules[0] == {"allow": True, "access": "r", "type": "c", "major": 1, "minor": 3}
    with pytest.raises(errors.Invalid, match='custom device "/dev/no-such": no such file or directory'):
        devices.find(HostConfig(devices=[DeviceMapping("/dev/no-such", "", "")]))
    with pytest.raises(errors.Invalid, match="not a device node"):
        devices.find(HostConfig(devices=[DeviceMapping("/etc/passwd", "", "")]))


def test_mounts_of_another_container_come_with_its_volumes() -> None:
    theirs = [
        MountRecord(type="volume", source="v", target="/v"),
        MountRecord(type="bind", source="/b", target="/b"),
        MountRecord(type="tmpfs", target="/t"),
    ]
    got = mounts.inherit(theirs, "ro")
    assert [(mount.target, mount.read_only, mount.copies) for mount in got] == [
        ("/v", True, False),
        ("/b", True, False),
    ]
    with pytest.raises(errors.Invalid, match="invalid mode"):
        mounts.inherit(theirs, "rx")
    made = mounts.plan(ContainerConfig(volumes={"/v": {}}), HostConfig(binds=["/own:/b"]), lambda: "anon", got)
    assert {mount.target: mount.source for mount in made} == {"/v": "v", "/b": "/own"}


def test_places_on_the_default_bridge_take_no_address_and_no_alias() -> None:
    with pytest.raises(errors.Invalid, match="user specified IP address is supported on user defined networks only"):
        creation.check_endpoint("bridge", EndpointSettings(ipam_config=IPAMEndpoint("172.17.0.9")))
    with pytest.raises(errors.Invalid, match="network-scoped alias"):
        creation.check_endpoint("bridge", EndpointSettings(aliases=["a"]))
    with pytest.raises(errors.Unsupported, match="links on the default bridge"):
        creation.check_endpoint("bridge", EndpointSettings(links=["a:b"]))
    with pytest.raises(errors.Invalid, match="invalid MAC address"):
        creation.check_endpoint("net", EndpointSettings(mac_address="x"))


def test_an_image_for_another_platform_counts_as_not_there() -> None:
    image = ImageInspect(
        id="sha256:1", repo_tags=[], repo_digests=[], created="", config=None, architecture="amd64", os="linux", size=0,
        root_fs=RootFS(),
    )  # fmt: skip
    making.check_platform(image, "app:1", "")
    making.check_platform(image, "app:1", "linux/amd64")
    with pytest.raises(errors.NotFound, match=r"its platform \(linux/amd64\) does not match the specified"):
        making.check_platform(image, "app:1", "linux/arm64")
    with pytest.raises(errors.Invalid, match="invalid platform"):
        making.check_platform(image, "app:1", "linux/")


def test_a_link_layer_address_of_older_clients_goes_to_the_first_network() -> None:
    body = ContainerCreate(mac_address="02:00:00:00:00:01", host_config=HostConfig(network_mode="n"))
    assert body.host_config is not None
    assert creation.endpoint_requests(body.host_config, body)["n"].mac_address == "02:00:00:00:00:01"


def test_an_update_changes_what_it_names_and_no_more() -> None:
    now = HostConfig(memory=2**27, pids_limit=50, restart_policy=RestartPolicy("always"))
    after = updating.merged(now, HostConfig(memory=2**28, restart_policy=RestartPolicy("")))
    assert (after.memory, after.pids_limit, after.restart_policy) == (2**28, 50, RestartPolicy("always"))
    assert updating.merged(now, HostConfig(pids_limit=-1)).pids_limit == -1
    with pytest.raises(errors.Conflict, match="CPU Quota has already been set"):
        updating.merged(HostConfig(cpu_quota=5000), HostConfig(nano_cpus=10**9))
    with pytest.raises(errors.Conflict, match="AutoRemove is enabled"):
        updating.merged(HostConfig(auto_remove=True), HostConfig(restart_policy=RestartPolicy("always")))


def test_links_are_names_for_others_on_networks_of_one_s_own() -> None:
    assert creation.parse_link("/db:database") == ("database", "db")
    assert creation.parse_link("db") == ("db", "db")
    assert creation.parse_link("a" * 64 + ":x") == ("x", "a" * 12)
    for wrong in ("", ":x", "a:", "a:b:c"):
        with pytest.raises(errors.Invalid, match="bad format for links"):
            creation.parse_link(wrong)
    host = HostConfig(network_mode="own", links=["db:database"])
    assert creation.endpoint_requests(host, ContainerCreate())["own"].links == ["db:database"]
    with pytest.raises(errors.Invalid, match="host type networking can't be used with links"):
        creation.endpoint_requests(HostConfig(network_mode="host", links=["db"]), ContainerCreate())
