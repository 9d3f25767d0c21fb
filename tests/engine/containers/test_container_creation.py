"""From a create call and an image to a container."""

from __future__ import annotations

import random

import pytest

from gitops import errors
from gitops.engine.containers import creation, injected, mounts, names, signals
from gitops.engine.containers.boundary import InjectedFile
from gitops.engine.containers.record import MountRecord
from gitops.objects.container import (
    ContainerConfig,
    ContainerCreate,
    EndpointSettings,
    HostConfig,
    LogConfig,
    NetworkingConfig,
    PortBinding,
    RestartPolicy,
)
from gitops.objects.mount import BindOptions, Mount, TmpfsOptions, VolumeOptions
from gitops.objects.service import HealthConfig, Ulimit


def anonymous() -> str:
    return "anon"


def make(body: ContainerCreate, image: ContainerConfig | None = None) -> creation.ContainerRecord:
    return creation.make_record(
        "c" * 64, "/n", body, image or ContainerConfig(), "sha256:1", 5, cpus=2, anonymous=anonymous
    )


IMAGE = ContainerConfig(cmd=["serve"], entrypoint=["/entry"], env=["A=image", "B=image"], user="app", working_dir="/w")


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (ContainerConfig(), ["/entry", "serve"]),
        (ContainerConfig(cmd=["other"]), ["/entry", "other"]),
        (ContainerConfig(entrypoint=["/mine"]), ["/mine"]),
        (ContainerConfig(entrypoint="/mine", cmd="x y"), ["/mine", "x y"]),
        (ContainerConfig(entrypoint=[""], cmd=["plain"]), ["plain"]),
        (ContainerConfig(entrypoint=[], cmd=[]), ["serve"]),
        (ContainerConfig(entrypoint=[], cmd=["plain"]), ["plain"]),
    ],
)
def test_command_and_entrypoint_are_merged_as_docker_does(user: ContainerConfig, expected: list[str]) -> None:
    merged = creation.merge(user, IMAGE)
    assert creation.words(merged.entrypoint) + creation.words(merged.cmd) == expected


def test_the_user_s_environment_wins_and_a_bare_name_takes_away() -> None:
    assert creation.merge_env(["A=mine", "B", "C=1", "C=2"], ["A=image", "B=image", "D=image"]) == [
        "A=mine",
        "B",
        "C=2",
        "D=image",
    ]


def test_other_fields_fall_back_to_the_image() -> None:
    merged = creation.merge(ContainerConfig(working_dir="/mine"), IMAGE)
    assert (merged.user, merged.working_dir) == ("app", "/mine")


def test_a_health_check_fills_its_gaps_from_the_image() -> None:
    image = HealthConfig(test=["CMD", "x"], interval=5, retries=4)
    assert creation.merge_health(HealthConfig(retries=9), image) == HealthConfig(
        test=["CMD", "x"], interval=5, retries=9
    )
    assert creation.merge_health(HealthConfig(test=["NONE"]), image).test == ["NONE"]  # type: ignore[union-attr]


def test_a_container_without_a_command_is_refused() -> None:
    with pytest.raises(errors.Invalid, match="no command specified"):
        make(ContainerCreate())


def test_defaults_are_filled_in() -> None:
    made = make(ContainerCreate(cmd=["x"]))
    assert made.config.hostname == "c" * 12
    assert made.host_config.network_mode == "bridge"
    assert made.host_config.shm_size == 64 << 20
    assert made.endpoints == {"bridge": EndpointSettings()}
    assert (made.path, made.args) == ("x", [])


@pytest.mark.parametrize(
    ("host", "text"),
    [
        (HostConfig(memory=1 << 20), "Minimum memory limit allowed is 6MB"),
        (HostConfig(nano_cpus=3_000_000_000), "range of CPUs is from 0.01 to 2.00"),
        (HostConfig(restart_policy=RestartPolicy(name="sometimes")), "unknown policy 'sometimes'"),
        (
            HostConfig(restart_policy=RestartPolicy(name="always", maximum_retry_count=3)),
            "maximum retry count can only",
        ),
        (HostConfig(auto_remove=True, restart_policy=RestartPolicy(name="always")), "can't create 'AutoRemove'"),
        (HostConfig(cap_add=["FLY"]), 'invalid capability: "FLY"'),
        (HostConfig(security_opt=["apparmor=strict"]), "is not supported"),
        (HostConfig(security_opt=["no-new-privileges=maybe"]), "invalid --security-opt"),
        (HostConfig(log_config=LogConfig(type="syslog")), "no log driver named 'syslog'"),
        (HostConfig(log_config=LogConfig(config={"max-size": "big"})), "invalid size"),
        (HostConfig(log_config=LogConfig(config={"max-file": "0"})), "from 1 on"),
        (HostConfig(log_config=LogConfig(config={"fast": "1"})), "unknown log opt 'fast' for json-file log driver"),
        (HostConfig(log_config=LogConfig(config={"compress": "true"})), "compress=true is not supported"),
        (HostConfig(ulimits=[Ulimit("nofile", 1, 2)]), "ulimit soft limit must be less"),
        (HostConfig(ulimits=[Ulimit("fish", 1, 1)]), "invalid ulimit type: fish"),
        (HostConfig(sysctls={"vm.swappiness": "1"}), "sysctl 'vm.swappiness' is not allowed"),
        (HostConfig(sysctls={"net.core.somaxconn": "1"}, network_mode="host"), "not allowed in host network mode"),
        (HostConfig(oom_score_adj=2000), "range for oom score adj"),
        (HostConfig(port_bindings={"99999/tcp": None}), "invalid port specification"),
        (HostConfig(port_bindings={"80/tcp": [PortBinding(host_port="99999")]}), "invalid port specification: '99999'"),
        (HostConfig(port_bindings={"80/tcp": [PortBinding(host_port="²")]}), "invalid port specification"),
        (HostConfig(port_bindings={"80/tcp": [PortBinding(host_port="-1")]}), "invalid port specification"),
        (HostConfig(ulimits=[Ulimit("nofile", hard=100, soft=-1)]), "ulimit soft limit must be less"),
        (HostConfig(ulimits=[Ulimit("nofile", hard=-5, soft=-7)]), "invalid ulimit nofile"),
        (HostConfig(extra_hosts=["a:nowhere"]), "invalid IP address in add-host"),
        (HostConfig(memory_reservation=-5), "invalid memory reservation"),
        (HostConfig(binds=["/a\0b:/c"]), "invalid volume specification"),
        (HostConfig(mounts=[Mount(type="bind", source="/a\0b", target="/c")]), "mount path must be absolute"),
        (HostConfig(binds=["data:/proc"]), "cannot be mounted because it is inside /proc"),
        (HostConfig(binds=["data:/x/../proc/sys"]), "cannot be mounted because it is inside /proc"),
        (HostConfig(tmpfs={"/proc/self/attr": ""}), "cannot be mounted because it is inside /proc"),
    ],
)
def test_what_can_t_be_is_refused_with_a_reason(host: HostConfig, text: str) -> None:
    with pytest.raises((errors.Invalid, errors.Unsupported), match=text):
        make(ContainerCreate(cmd=["x"], host_config=host))


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"working_dir": "rel"}, "needs to be an absolute path"),
        ({"stop_signal": "SIGNOPE"}, "invalid signal: SIGNOPE"),
        (
            {"healthcheck": HealthConfig(test=["CMD", "x"], interval=5)},
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        ({"healthcheck": HealthConfig(test=["RUN", "x"])}, 'unknown type "RUN"'),
        ({"hostname": "a b"}, "invalid hostname format"),
        ({"env": ["=x"]}, "invalid environment variable"),
        ({"user": "a\0b"}, "NUL byte"),
    ],
)
def test_a_bad_process_is_refused_with_a_reason(config: dict[str, object], text: str) -> None:
    with pytest.raises(errors.Invalid, match=text):
        make(ContainerCreate(cmd=["x"], **config))  # type: ignore[arg-type]


def test_the_network_of_the_mode_comes_first() -> None:
    body = ContainerCreate(
        host_config=HostConfig(network_mode="front"),
        networking_config=NetworkingConfig({"back": EndpointSettings(), "front": EndpointSettings(aliases=["a"])}),
    )
    found = creation.endpoint_requests(creation.fill(body.host_config or HostConfig()), body)
    assert list(found) == ["front", "back"] and found["front"].aliases == ["a"]


@pytest.mark.parametrize("mode", ["host", "none", "container:x"])
def test_a_mode_without_networks_takes_none(mode: str) -> None:
    body = ContainerCreate(networking_config=NetworkingConfig({"n": EndpointSettings()}))
    with pytest.raises(errors.Invalid, match="conflicting options"):
        creation.endpoint_requests(HostConfig(network_mode=mode), body)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, (20 << 20, 5)),
        ({"max-size": "10k", "max-file": "3"}, (10240, 3)),
        ({"max-size": "1m"}, (1 << 20, 5)),
        ({"max-size": "-1"}, (0, 5)),
    ],
)
def test_log_options_are_sizes_and_counts(config: dict[str, str] | None, expected: tuple[int, int]) -> None:
    assert creation.log_limits(LogConfig(config=config)) == expected


def test_security_options_are_understood() -> None:
    host = HostConfig(security_opt=["no-new-privileges", "seccomp=unconfined", "label=disable"])
    assert creation.security(host) == creation.Security(no_new_privileges=True, seccomp="unconfined")
    assert creation.security(HostConfig(security_opt=["no-new-privileges:false"])) == creation.Security()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/h:/c", MountRecord(type="bind", source="/h", target="/c", makes_source=True)),
        (
            "/h/:/c/:ro,rslave",
            MountRecord(
                type="bind", source="/h", target="/c", read_only=True, propagation="rslave", makes_source=True,
                mode="ro,rslave",
            ),
        ),
        ("vol:/c:nocopy", MountRecord(type="volume", source="vol", target="/c", copies=False, mode="nocopy")),
        ("/c", MountRecord(type="volume", source="anon", target="/c", is_anonymous=True)),
    ],
)  # fmt: skip
def test_short_mounts_are_understood(text: str, expected: MountRecord) -> None:
    assert mounts.parse_bind(text, anonymous) == expected


@pytest.mark.parametrize(
    "text", ["a:b:c:d", ":/c", "/h:", "/h:/c:fast", "/h:/c:ro,rw", "v:/c:rshared", "../x:/c", "/h:c", "/h:/"]
)
def test_bad_short_mounts_are_refused(text: str) -> None:
    with pytest.raises(errors.Invalid):
        mounts.parse_bind(text, anonymous)


def test_all_kinds_of_mounts_end_in_one_list_outer_first() -> None:
    host = HostConfig(
        binds=["/h:/a/b"],
        mounts=[
            Mount(type="volume", source="vol", target="/a", volume_options=VolumeOptions(no_copy=True)),
            Mount(type="tmpfs", target="/t", tmpfs_options=TmpfsOptions(size_bytes=5, mode=0o700)),
            Mount(type="bind", source="/s", target="/b", read_only=True, bind_options=BindOptions(non_recursive=True)),
        ],
        tmpfs={"/u": "size=1m,mode=700"},
    )
    found = mounts.plan(ContainerConfig(volumes={"/a": {}, "/image": {}}), host, anonymous)
    assert [mount.target for mount in found] == ["/a", "/b", "/image", "/t", "/u", "/a/b"]
    by_target = {mount.target: mount for mount in found}
    assert by_target["/a"].source == "vol" and not by_target["/a"].copies
    assert by_target["/image"].is_anonymous
    assert by_target["/t"].options == "size=5,mode=700"
    assert not by_target["/b"].is_recursive and not by_target["/b"].makes_source


@pytest.mark.parametrize(
    ("host", "text"),
    [
        (HostConfig(binds=["/a:/x", "/b:/x/"]), "Duplicate mount point: /x"),
        (HostConfig(mounts=[Mount(type="bind", target="/x")]), "field Source must not be empty"),
        (HostConfig(mounts=[Mount(type="bind", source="rel", target="/x")]), "mount path must be absolute"),
        (HostConfig(mounts=[Mount(type="tmpfs", source="s", target="/x")]), "field Source must not be specified"),
        (HostConfig(mounts=[Mount(type="npipe", target="/x")]), '"npipe" is not supported'),
        (HostConfig(mounts=[Mount(type="volume", target="/x", tmpfs_options=TmpfsOptions())]), "must not be specified"),
        (HostConfig(mounts=[Mount(type="volume", target="/x", volume_options=VolumeOptions(subpath="s"))]), "Subpath"),
        (HostConfig(tmpfs={"/x": "size=1m,lower=/etc"}), "invalid tmpfs option 'lower=/etc'"),
    ],
)
def test_bad_mounts_are_refused_with_a_reason(host: HostConfig, text: str) -> None:
    with pytest.raises((errors.Invalid, errors.Unsupported), match=text):
        mounts.plan(ContainerConfig(), host, anonymous)


def test_a_name_that_nobody_gave_has_two_words_and_is_free() -> None:
    rng = random.Random(1)
    taken: set[str] = set()
    for _ in range(2000):
        name = names.generate(taken, rng)
        assert name not in taken and names.check(name) == name and "_" in name
        taken.add(name)


@pytest.mark.parametrize("name", ["", "a", "/", "-a", "a b", "a/b", "ä1"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(errors.Invalid, match="Invalid container name"):
        names.check(name)


@pytest.mark.parametrize(
    ("text", "number"), [("TERM", 15), ("sigterm", 15), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("USR1", 10)]
)
def test_signals_have_names_and_numbers(text: str, number: int) -> None:
    assert signals.parse(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "SIGFOO", "RTMIN+99", "_IGN", "DFL"])
def test_no_signal_is_made_up(text: str) -> None:
    with pytest.raises(errors.Invalid, match="invalid signal"):
        signals.parse(text)


def test_what_some_tools_put_into_proc_is_let_in() -> None:
    assert mounts.clean_target("/proc/cpuinfo") == "/proc/cpuinfo" and mounts.clean_target("/procs") == "/procs"


def test_secrets_and_configs_have_places_of_their_own() -> None:
    found = injected.records([InjectedFile("/run//secrets/a", b""), InjectedFile("/b", b"", mode=0o400)])
    assert [(one.path, one.number, one.mode) for one in found] == [("/run/secrets/a", 0, 0o444), ("/b", 1, 0o400)]
    for paths in (["/a", "/x/../a"], ["a"], ["/"], ["/proc/self/x"], ["/a\0"]):
        with pytest.raises(errors.Invalid):
            injected.records([InjectedFile(path, b"") for path in paths])


def test_an_exposed_port_of_an_image_may_be_written_in_capitals() -> None:
    assert creation.parse_port("80/TCP") == (80, "tcp")
    with pytest.raises(errors.Invalid):
        creation.parse_port("８０/tcp")


@pytest.mark.parametrize("text", ["RTMIN+²", "RTMIN+", "RTMIN-1", "²", "0", "65", "SIG"])
def test_no_nonsense_is_a_signal(text: str) -> None:
    with pytest.raises(errors.Invalid, match="invalid signal"):
        signals.parse(text)


def test_a_host_port_is_a_number_or_a_range() -> None:
    assert creation.parse_host_port("") == (0, 0)
    assert creation.parse_host_port("80") == (80, 0)
    assert creation.parse_host_port("8000-8010") == (8000, 8010)
    for wrong in ("x", "8010-8000", "0-7", "1-", "-1", "70000", "1-70000"):
        with pytest.raises(errors.Invalid, match="invalid port specification"):
            creation.parse_host_port(wrong)
