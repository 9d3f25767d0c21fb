"""Pure rules: capabilities, system call filter, users, health, restarts, runtime errors, texts."""

from __future__ import annotations

import base64
import json
import platform
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops import errors
from gitops.engine.containers import (
    capabilities,
    health,
    hostfiles,
    record,
    restarts,
    runtime,
    seccomp,
    users,
)
from gitops.objects import spans
from gitops.objects.base import MILLISECOND, SECOND
from gitops.objects.container import ContainerConfig, HealthResult, HostConfig, RestartPolicy
from gitops.objects.service import HealthConfig

# Capabilities


def effective(add: list[str], drop: list[str], *, privileged: bool = False) -> list[str]:
    return capabilities.effective(add, drop, privileged=privileged, held=capabilities.ALL)


def test_the_default_capabilities_are_docker_s() -> None:
    mask = sum(1 << capabilities.ALL.index(name.removeprefix("CAP_")) for name in effective([], []))
    assert f"{mask:016x}" == "00000000a80425fb"


@pytest.mark.parametrize(
    ("add", "drop", "has", "lacks"),
    [
        (["net_admin"], [], ["NET_ADMIN", "CHOWN"], []),
        ([], ["CAP_CHOWN"], ["KILL"], ["CHOWN"]),
        (["NET_ADMIN"], ["ALL"], ["NET_ADMIN"], ["CHOWN", "KILL"]),
        (["ALL"], ["SYS_ADMIN"], ["NET_ADMIN"], ["SYS_ADMIN"]),
    ],
)
def test_capabilities_are_added_and_dropped(add: list[str], drop: list[str], has: list[str], lacks: list[str]) -> None:
    found = {name.removeprefix("CAP_") for name in effective(add, drop)}
    assert found >= set(has) and not found & set(lacks)


def test_capabilities_that_the_daemon_lacks_are_left_out() -> None:
    assert capabilities.effective([], [], privileged=True, held=["CHOWN"]) == ["CAP_CHOWN"]


# Seccomp

PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["arm"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
        {"names": ["keyctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": [{"index": 0}]},
    ],
}


def allowed(caps: list[str], machine: str = "x86_64") -> list[str]:
    return [name for group in seccomp.filtered(PROFILE, caps, machine)["syscalls"] for name in group["names"]]


def test_groups_whose_conditions_fail_are_left_out() -> None:
    assert allowed([]) == ["read", "clone", "arch_prctl", "keyctl"]
    assert allowed(["CAP_SYS_ADMIN"]) == ["read", "mount", "arch_prctl", "keyctl"]
    assert allowed([], "aarch64") == ["read", "clone", "arm", "keyctl"]


def test_conditions_don_t_reach_the_runtime() -> None:
    result = seccomp.filtered(PROFILE, [], "x86_64")
    assert "archMap" not in result
    assert result["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert result["syscalls"][-1] == {
        "names": ["keyctl"],
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": 38,
        "args": [{"index": 0}],
    }


def test_a_compiled_filter_is_kept_for_what_it_was_made_from(tmp_path: Path) -> None:
    cache = seccomp.SeccompCache(tmp_path, "crun 1")
    key, _ = cache.filter(["CAP_CHOWN"])
    other, _ = cache.filter(["CAP_SYS_ADMIN"])
    assert key != other and cache.program(key) is None
    cache.keep(key, b"12345678")
    assert cache.program(key) == base64.b64encode(b"12345678").decode() and cache.program(other) is None
    again = seccomp.SeccompCache(tmp_path, "crun 1")
    again.load()
    assert again.program(key) is not None
    assert seccomp.SeccompCache(tmp_path, "crun 2").filter(["CAP_CHOWN"])[0] != key


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"syscalls": []}',
        '{"defaultAction": "A", "syscalls": ["action"]}',
        '{"defaultAction": "A", "syscalls": [{"action": "A", "names": "read"}]}',
        '{"defaultAction": "A", "syscalls": [{"action": "A", "includes": ["caps"]}]}',
        '{"defaultAction": "A", "syscalls": ' + "[" * 100_000,
    ],
)
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(errors.Invalid, match="Decoding seccomp profile failed"):
        seccomp.SeccompCache(tmp_path, "crun 1").filter([], text)


def test_a_profile_of_one_s_own_is_filtered_too(tmp_path: Path) -> None:
    _, found = seccomp.SeccompCache(tmp_path, "crun 1").filter([], json.dumps(PROFILE))
    assert found["syscalls"] == seccomp.filtered(PROFILE, [], platform.machine())["syscalls"]


def test_a_filter_that_can_t_be_kept_is_no_failure(tmp_path: Path) -> None:
    cache = seccomp.SeccompCache(tmp_path / "gone", "crun 1")
    cache.keep("k", b"12345678")
    assert cache.program("k") == base64.b64encode(b"12345678").decode()


def test_a_program_cut_short_is_not_kept(tmp_path: Path) -> None:
    cache = seccomp.SeccompCache(tmp_path, "crun 1")
    cache.keep("k", b"1234567")
    assert cache.program("k") is None


@pytest.mark.parametrize("text", ["", "[]", '{"a":1}', '{"defaultAction":"x","syscalls":[{"names":["a"]}]}'])
def test_a_profile_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(errors.Invalid, match="Decoding seccomp profile failed"):
        seccomp.SeccompCache(tmp_path, "").filter([], text)


# Users

PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\nbad line\nneg:x:-1:5::/:\n1000:x:7:8::/odd:\napp:x:1001:1002:,,:/srv/app:/bin/sh\n"
)
GROUP = "root:x:0:\nstaff:x:50:app,other\nvideo:x:44:root\nbroken\n"


@pytest.mark.parametrize(
    ("user", "extra", "expected"),
    [
        ("", [], users.Identity(0, 0, (0, 44), "/root")),
        ("app", [], users.Identity(1001, 1002, (1002, 50), "/srv/app")),
        ("1001", [], users.Identity(1001, 1002, (1002, 50), "/srv/app")),
        ("app:video", [], users.Identity(1001, 44, (44,), "/srv/app")),
        ("app", ["video", "99"], users.Identity(1001, 1002, (1002, 50, 44, 99), "/srv/app")),
        ("4242", [], users.Identity(4242, 0, (0,), "/")),
        ("4242:4343", [], users.Identity(4242, 4343, (4343,), "/")),
        (":50", [], users.Identity(0, 50, (50,), "/root")),
        ("1000", [], users.Identity(7, 8, (8,), "/odd")),
    ],
)
def test_users_are_found_as_docker_finds_them(user: str, extra: list[str], expected: users.Identity) -> None:
    assert users.identify(user, extra, PASSWD, GROUP) == expected


@pytest.mark.parametrize("user", ["nobody", "app:nogroup", "2147483648", "99999999999999", "neg", "-1"])
def test_users_that_aren_t_there_are_refused(user: str) -> None:
    with pytest.raises(errors.Invalid):
        users.identify(user, [], PASSWD, GROUP)


@given(st.text(), st.text(), st.text(max_size=20))
def test_no_passwd_file_can_break_the_lookup(passwd: str, group: str, user: str) -> None:
    try:
        found = users.identify(user, [], passwd, group)
    except errors.Invalid:
        return
    assert 0 <= found.uid <= users.MAX_ID and 0 <= found.gid <= users.MAX_ID


# Health

PROBE = health.Probe(("x",), 30 * SECOND, SECOND, 10 * SECOND, 2 * SECOND, 3)


def probe_result(code: int) -> HealthResult:
    return health.result(1, 2, code, b"out")


def walk(codes: list[int], at_s: int) -> list[str]:
    verdict = health.Verdict()
    statuses = []
    for code in codes:
        verdict = health.judge(verdict, probe_result(code), PROBE, at_s * SECOND)
        statuses.append(verdict.status)
    return statuses


@pytest.mark.parametrize(
    ("codes", "at_s", "expected"),
    [
        ([0], 20, ["healthy"]),
        ([1, 1, 1], 20, ["starting", "starting", "unhealthy"]),
        ([1, 1, 1, 1], 5, ["starting"] * 4),
        ([1, 0, 1, 1, 1], 5, ["starting", "healthy", "healthy", "healthy", "unhealthy"]),
        ([1, 1, 0, 1, 1], 20, ["starting", "starting", "healthy", "healthy", "healthy"]),
        ([1, 1, 1, 0], 20, ["starting", "starting", "unhealthy", "healthy"]),
    ],
)
def test_health_goes_by_docker_s_rules(codes: list[int], at_s: int, expected: list[str]) -> None:
    assert walk(codes, at_s) == expected


def test_only_the_last_five_results_are_kept_and_output_is_cut() -> None:
    verdict = health.Verdict()
    for code in range(9):
        verdict = health.judge(verdict, probe_result(code), PROBE, 0)
    assert [entry.exit_code for entry in verdict.log] == [4, 5, 6, 7, 8]
    assert health.result(1, 2, 0, b"x" * 5000).output == "x" * 4096 + "..."
    assert health.timed_out(1, 2, PROBE).output == "Health check exceeded timeout (1s)"


def test_probes_come_faster_while_it_starts() -> None:
    assert health.pause_ns("starting", PROBE, 5 * SECOND) == 2 * SECOND
    assert health.pause_ns("starting", PROBE, 11 * SECOND) == 30 * SECOND
    assert health.pause_ns("healthy", PROBE, 5 * SECOND) == 30 * SECOND


@pytest.mark.parametrize(
    ("test", "args"),
    [(["CMD", "a", "b"], ("a", "b")), (["CMD-SHELL", "a b"], ("/bin/sh", "-c", "a b")), (["NONE"], None), ([], None)],
)
def test_a_probe_is_a_command_or_a_line_for_the_shell(test: list[str], args: tuple[str, ...] | None) -> None:
    found = health.probe_of(HealthConfig(test=test, interval=5 * MILLISECOND))
    assert (found and found.args) == args
    if found:
        assert (found.timeout, found.retries, found.start_interval) == (30 * SECOND, 3, 5 * SECOND)


# Restarts


def ended(
    policy: str, *, code: int = 1, count: int = 0, limit: int = 0, stopped: bool = False
) -> record.ContainerRecord:
    host = HostConfig(restart_policy=RestartPolicy(policy, limit))
    return record.ContainerRecord(
        id="x", name="/x", image_id="", created_ns=1, config=ContainerConfig(), host_config=host,
        exit_code=code, restart_count=count, was_stopped=stopped, started_ns=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("now", "after_exit", "at_boot"),
    [
        (ended("no"), False, False),
        (ended("always", code=0), True, True),
        (ended("always", stopped=True), False, True),
        (ended("unless-stopped"), True, True),
        (ended("unless-stopped", stopped=True), False, False),
        (ended("on-failure"), True, True),
        (ended("on-failure", code=0), False, False),
        (ended("on-failure", count=2, limit=3), True, True),
        (ended("on-failure", count=3, limit=3), False, False),
    ],
)
def test_restart_policies_are_docker_s(now: record.ContainerRecord, after_exit: bool, at_boot: bool) -> None:
    assert (restarts.after_exit(now), restarts.at_boot(now)) == (after_exit, at_boot)


def test_a_container_never_started_is_not_started_at_boot() -> None:
    assert not restarts.at_boot(record.replace(ended("always"), started_ns=0))


def test_pauses_double_until_a_minute_and_begin_again_after_a_steady_run() -> None:
    pause, seen = 0.0, []
    for _ in range(12):
        pause = restarts.pause_s(pause, SECOND)
        seen.append(pause)
    assert seen[:4] == [0.1, 0.2, 0.4, 0.8] and seen[-1] == 60.0
    assert restarts.pause_s(60.0, 10 * SECOND) == 0.1


# Runtime errors


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        (
            "executable file `nope` not found in $PATH: No such file or directory\n",
            127,
            'exec: "nope": executable file not found in $PATH',
        ),
        (
            'time="x" level=error msg="runc create failed: unable to start container process: '
            'exec: \\"nope\\": executable file not found in $PATH"',
            127,
            'exec: "nope": executable file not found',
        ),
        (
            "executable file `/bin/nope` not found: No such file or directory",
            127,
            'exec: "/bin/nope": executable file not found in $PATH',
        ),
        ("open executable: Permission denied", 126, "permission denied"),
        ("the path `/etc` is not a regular file: Operation not permitted", 126, "permission denied"),
        ("the path `/x` exists but it is not executable: Operation not permitted", 126, "permission denied"),
        ("open executable: Operation not permitted", 126, "permission denied"),
        ("error stat'ing file `/x`: No such file or directory", 128, "error stat'ing file `/x`"),
        ("OOM: the memory limit could be too low: x", 128, "raise the memory limit"),
        ("", 128, "without a word"),
    ],
)  # fmt: skip
def test_the_runtime_s_errors_are_told_in_docker_s_words(text: str, code: int, part: str) -> None:
    found = runtime.explain(text)
    assert found.exit_status == code and part in str(found)
    assert isinstance(found, errors.Invalid) == (code in (126, 127))


# Texts


def test_hosts_names_the_container_and_what_was_added() -> None:
    text = hostfiles.hosts(
        "box", "lan", ["10.0.0.2", ""], ["db:1.2.3.4", "5.6.7.8 a b", "host:host-gateway", "six:[::1]"], "10.0.0.1"
    )
    lines = text.splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-5:] == ["1.2.3.4\tdb", "5.6.7.8\ta b", "10.0.0.1\thost", "::1\tsix", "10.0.0.2\tbox.lan box"]


@pytest.mark.parametrize(
    "entry", ["db", "db:", ":1.2.3.4", "", "1.2.3.4 ", "a:nowhere", "a:1.2.3.4\n6.6.6.6\tb", "a\n6.6.6.6\tb:1.2.3.4"]
)
def test_bad_extra_hosts_are_refused(entry: str) -> None:
    with pytest.raises(errors.Invalid, match="add-host"):
        hostfiles.extra_lines([entry])


def test_the_host_s_gateway_must_be_there() -> None:
    with pytest.raises(errors.Invalid, match="on no network that has a gateway"):
        hostfiles.extra_lines(["host:host-gateway"])


def test_resolv_conf_keeps_what_the_container_doesn_t_say() -> None:
    host = "# x\nnameserver 1.1.1.1\nnameserver 2.2.2.2\nsearch lan\noptions edns0\n"
    assert hostfiles.from_host(host, ["127.0.0.11"], [], []) == "nameserver 127.0.0.11\nsearch lan\noptions edns0\n"
    assert hostfiles.from_host(host, [], ["."], ["ndots:0"]) == (
        "nameserver 1.1.1.1\nnameserver 2.2.2.2\noptions ndots:0\n"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (300, "5 minutes"),
        (3600, "About an hour"), (7200, "2 hours"), (47 * 3600, "47 hours"), (72 * 3600, "3 days"),
        (21 * 86400, "3 weeks"), (90 * 86400, "3 months"), (800 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_spans_of_time_are_in_docker_s_words(seconds: int, text: str) -> None:
    assert spans.human(seconds * SECOND) == text
