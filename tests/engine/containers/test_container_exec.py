"""The process of an exec: the container's own, but for what was asked for."""

from __future__ import annotations

from typing import Any

from gitops.engine.containers import execs, runtime
from gitops.engine.containers.record import ContainerRecord
from gitops.engine.containers.users import Identity
from gitops.objects.container import ContainerConfig, HostConfig
from gitops.objects.execution import ExecCreate

BASE = {
    "args": ["/sbin/docker-init", "--", "server"],
    "cwd": "/srv",
    "terminal": True,
    "consoleSize": {"height": 24, "width": 80},
    "capabilities": {"bounding": ["CAP_CHOWN"]},
    "noNewPrivileges": True,
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
    "oomScoreAdj": 5,
}
RECORD = ContainerRecord(
    id="a" * 64,
    name="/one",
    image_id="i",
    created_ns=1,
    config=ContainerConfig(env=["A=1", "B=2"], hostname="box", tty=True),
    host_config=HostConfig(),
)


def process(size: list[int] | None = None, identity: Identity | None = None, **request: Any) -> dict[str, Any]:
    return execs.process(
        RECORD, BASE, ExecCreate(cmd=["id", "-u"], **request), identity or Identity(), size, ("CHOWN", "SYS_ADMIN")
    )


def test_limits_and_privileges_are_those_of_the_container() -> None:
    made = process()
    assert made["args"] == ["id", "-u"]
    for name in ("capabilities", "noNewPrivileges", "rlimits", "oomScoreAdj", "cwd"):
        assert made[name] == BASE[name]
    assert made["terminal"] is False and "consoleSize" not in made
    assert "TERM=xterm" not in made["env"]


def test_what_is_asked_for_wins() -> None:
    made = process(env=["B=3", "C=4"], working_dir="/tmp", identity=Identity(7, 8, (8,), "/home/seven"))
    assert made["cwd"] == "/tmp"
    assert {"A=1", "B=3", "C=4", "HOME=/home/seven"} <= set(made["env"]) and "B=2" not in made["env"]
    assert made["user"] == {"uid": 7, "gid": 8, "additionalGids": [8], "umask": 0o022}


def test_a_terminal_has_the_size_of_the_start_call_first() -> None:
    assert process(tty=True)["consoleSize"] == {"height": 24, "width": 80}
    assert process(tty=True, console_size=[30, 99])["consoleSize"] == {"height": 30, "width": 99}
    assert process([40, 120], tty=True, console_size=[30, 99])["consoleSize"] == {"height": 40, "width": 120}
    assert "TERM=xterm" in process(tty=True)["env"]


def test_privileged_has_all_that_the_engine_holds_and_no_more() -> None:
    assert process(privileged=True)["capabilities"] == {
        kind: ["CAP_CHOWN", "CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")
    }


def test_a_failure_is_told_as_one_of_an_exec() -> None:
    error = runtime.explain("executable file `nope` not found in $PATH: No such file or directory", "exec failed: ")
    assert str(error) == 'exec failed: exec: "nope": executable file not found in $PATH'
    assert error.exit_status == 127
