"""What a person types who learns containers from a book, in a terminal, with what he must see."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

PROMPT = r"root@([0-9a-f]{12}):/# "
LEAVE = "\x10\x11"  # ctrl-p, ctrl-q
TWO_WORDS = r"[a-z]+_[a-z]+[0-9]*"
WEBSERVER = "nigelpoulton/pluralsight-docker-ci"


@pytest.fixture
def host(loaded: Any) -> Any:
    """A host that has the book's images."""
    loaded.docker("tag", "app:1", "ubuntu:latest")
    loaded.docker("tag", "app:1", WEBSERVER)
    return loaded


def rows(host: Any, *options: str) -> list[list[str]]:
    """The columns of `docker ps`, without its headings."""
    first, *lines = host.docker("ps", *options).splitlines()
    assert first.split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    return [re.split(r"\s{2,}", line) for line in lines]


def test_a_first_container_is_entered_left_entered_again_and_taken_away(
    host: Any, terminal: Callable[..., Any]
) -> None:
    shell = terminal(host, "run", "-it", "ubuntu:latest", "/bin/bash")
    container = shell.expect(PROMPT)[1]
    shell.type("ps\r")
    shell.expect(r"1 root\s+.*/bin/bash|1 root\s+/bin/sh")
    shell.expect(PROMPT)
    shell.type(LEAVE)
    assert shell.ends() == 0
    (row,) = rows(host)
    assert row[:3] == [container, "ubuntu:latest", '"/bin/bash"']
    assert row[3].endswith("ago") and row[4].startswith("Up ") and re.fullmatch(TWO_WORDS, row[-1])
    pid = host.docker("inspect", "-f", "{{.State.Pid}}", container).strip()
    assert Path(f"/proc/{pid}").exists(), "on the host it is a process like others"
    second = terminal(host, "exec", "-it", row[-1], "bash")
    assert second.expect(PROMPT)[1] == container
    second.type("exit\r")
    assert second.ends() == 0
    assert len(rows(host)) == 1, "the first shell still runs"
    assert host.docker("stop", "-t", "1", row[-1]).strip() == row[-1]
    assert host.docker("rm", row[-1]).strip() == row[-1]
    assert rows(host, "-a") == []


def test_a_container_ends_with_its_first_process(host: Any, terminal: Callable[..., Any]) -> None:
    shell = terminal(host, "run", "-it", "ubuntu:latest", "/bin/bash")
    container = shell.expect(PROMPT)[1]
    shell.type("ping8\r")
    shell.expect("ping8: not found")
    shell.type("exit\r")
    assert shell.ends() == 127, "the code of the last command"
    assert rows(host) == []
    (row,) = rows(host, "-a")
    assert row[0] == container and row[4].startswith("Exited (127)")


def test_an_image_that_is_missing_is_looked_for(host: Any) -> None:
    done = host.run("docker", "run", "-it", "127.0.0.1:1/ubuntu", "bash", check=False)
    assert "the input device is not a TTY" in done.stderr, "without a terminal the client refuses -t"
    done = host.run("docker", "run", "127.0.0.1:1/ubuntu", "bash", check=False)
    assert done.returncode == 125
    assert done.stderr.startswith("Unable to find image '127.0.0.1:1/ubuntu:latest' locally\n")


def test_stopping_and_starting_keeps_the_data(host: Any, terminal: Callable[..., Any]) -> None:
    shell = terminal(host, "run", "--name", "percy", "-it", "ubuntu:latest", "/bin/bash")
    shell.expect(PROMPT)
    shell.type("echo 'containers FTW' > /newfile; ls /\r")
    shell.expect(r"newfile\s+(proc|sys)")
    shell.type(LEAVE)
    assert shell.ends() == 0
    assert host.docker("stop", "-t", "1", "percy") == "percy\n"
    assert rows(host) == []
    assert re.match(r"Exited \((0|137)\)", rows(host, "-a")[0][4])
    assert host.docker("start", "percy") == "percy\n"
    again = terminal(host, "exec", "-it", "percy", "bash")
    again.expect(PROMPT)
    again.type("cat /newfile\r")
    again.expect("containers FTW")
    again.type("exit\r")
    assert again.ends() == 0
    container = rows(host)[0][0]
    assert host.docker("stop", "-t", "0", container[:11]) == f"{container[:11]}\n", "the beginning of an id will do"
    assert host.docker("rm", container[:4]) == f"{container[:4]}\n"


def test_stop_asks_first_and_rm_with_force_does_not(host: Any) -> None:
    polite = "trap 'echo asked; exit 0' TERM; while true; do sleep 0.1; done"
    for name in ("asked", "killed"):
        host.docker("run", "-d", "--name", name, "ubuntu:latest", "sh", "-c", f"echo up; {polite}")
        host.wait(lambda name=name: "up" in host.docker("logs", name))
    host.docker("stop", "asked")
    assert host.docker("logs", "asked") == "up\nasked\n"
    assert rows(host, "-a", "--filter", "name=asked")[0][4].startswith("Exited (0)")
    with_deaf_ears = ("sh", "-c", "trap '' TERM; sleep 1000")
    host.docker("run", "-d", "--name", "deaf", "ubuntu:latest", *with_deaf_ears)
    assert host.docker("rm", "-f", "killed", "deaf").split() == ["killed", "deaf"]
    assert [row[-1] for row in rows(host, "-a")] == ["asked"]


def test_a_web_server_runs_in_the_background_behind_a_port(host: Any) -> None:
    serving = ("httpd", "-f", "-p", "8080", "-h", "/www")
    container = host.docker("run", "-d", "--name", "webserver", "-p", "80:8080", WEBSERVER, *serving).strip()
    assert re.fullmatch("[0-9a-f]{64}", container)
    (row,) = rows(host)
    assert row[0] == container[:12] and "0.0.0.0:80->8080/tcp" in row[5] and row[-1] == "webserver"
    assert host.wait(lambda: host.get("http://127.0.0.1:80/")) == "app:1\n"
    for command, state in (("pause", "(Paused)"), ("unpause", "Up"), ("stop", "Exited"), ("start", "Up")):
        options = ("-t", "1") if command == "stop" else ()
        assert host.docker(command, *options, "webserver") == "webserver\n"
        assert state in rows(host, "-a")[0][4]
    assert host.wait(lambda: host.get("http://127.0.0.1:80/")) == "app:1\n"


def test_an_image_says_what_runs_by_default_and_everything_can_go_at_once(host: Any) -> None:
    assert host.docker("inspect", "-f", "{{.Config.Cmd}}", "ubuntu:latest").strip() == "[/bin/sh]"
    for _ in range(3):
        host.docker("run", "-d", "ubuntu:latest", "sleep", "1000")
    host.docker("run", "ubuntu:latest")
    every = host.docker("ps", "-aq").split()
    assert len(every) == 4
    assert host.docker("rm", *every, "-f").split() == every
    assert host.docker("ps", "-aq") == ""


def test_restart_policies_hold_across_the_engine_s_own_restarts(host: Any) -> None:
    for policy in ("always", "unless-stopped", "on-failure:1", "no"):
        name = policy.partition(":")[0]
        host.docker("run", "-d", "--name", name, "--restart", policy, "ubuntu:latest", "sleep", "1000")
    host.docker("run", "-d", "--name", "stopped", "--restart", "unless-stopped", "ubuntu:latest", "sleep", "1000")
    host.docker("run", "-d", "--name", "ever", "--restart", "always", "ubuntu:latest", "sleep", "1000")
    host.docker("stop", "-t", "0", "stopped", "ever")
    host.docker("run", "-d", "--name", "fails", "--restart", "on-failure:2", "ubuntu:latest", "sh", "-c", "exit 3")
    host.wait(lambda: host.docker("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "fails") == "2 exited\n")
    before = {row[-1] for row in rows(host)}
    assert before == {"always", "unless-stopped", "on-failure", "no"}
    host.kill()
    host.start()
    host.wait(lambda: {row[-1] for row in rows(host)} == before | {"ever"})


def test_health_is_shown_and_told(host: Any) -> None:
    host.docker(
        *("run", "-d", "--name", "well", "--health-cmd", "test -f /ok", "--health-interval", "100ms"),
        *("--health-retries", "2", "ubuntu:latest", "sleep", "1000"),
    )
    host.wait(lambda: "(unhealthy)" in rows(host)[0][4])
    host.docker("exec", "well", "touch", "/ok")
    host.wait(lambda: "(healthy)" in rows(host)[0][4])
    told = host.docker("events", "--since", "10m", "--until", f"{time.time():.9f}", "--format", "{{.Action}}")
    assert "health_status: unhealthy\n" in told and "health_status: healthy\n" in told


def test_want_of_memory_is_told_while_a_container_runs_and_at_its_end(host: Any) -> None:
    eats = "x=aaaaaaaa; while true; do x=$x$x; done"
    host.docker("run", "-d", "--name", "lives", "-m", "16m", "ubuntu:latest", "sh", "-c", f"sh -c '{eats}'; sleep 1000")
    assert host.docker("inspect", "-f", "{{.State.Status}}", "lives") == "running\n"
    host.wait(lambda: host.docker("inspect", "-f", "{{.State.OOMKilled}}", "lives") == "true\n")
    done = host.run("docker", "run", "--name", "ends", "-m", "16m", "ubuntu:latest", "sh", "-c", eats, check=False)
    assert done.returncode == 137
    assert host.docker("inspect", "-f", "{{.State.OOMKilled}} {{.State.Status}}", "ends") == "true exited\n"
    fine = host.run("docker", "run", "--name", "fine", "-m", "16m", "ubuntu:latest", "true")
    assert fine.returncode == 0 and host.docker("inspect", "-f", "{{.State.OOMKilled}}", "fine") == "false\n"
    told = host.docker(
        *("events", "--since", "10m", "--until", f"{time.time():.9f}", "--filter", "event=oom"),
        *("--format", "{{.Actor.Attributes.name}}"),
    )
    assert sorted(told.split()) == ["ends", "lives"]
