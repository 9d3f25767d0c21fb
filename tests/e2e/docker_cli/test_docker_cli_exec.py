"""`docker exec` and `docker stats` with the real CLI."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture
def box(loaded: Any) -> Any:
    """A host on which the container box runs, and no other."""
    loaded.docker("run", "-d", "--name", "box", "-e", "A=1", "app:1", "sleep", "1000")
    return loaded


def run(host: Any, *arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
    """Exit code and both streams of `docker exec …`."""
    done = host.run("docker", "exec", *arguments, check=False, stdin=stdin)
    return done.returncode, done.stdout, done.stderr


def test_output_input_and_exit_code_are_the_process_s(box: Any) -> None:
    assert run(box, "box", "sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")
    assert run(box, "-i", "box", "cat", stdin="in\n") == (0, "in\n", "")
    assert run(box, "box", "cat", stdin="unheard\n") == (0, "", "")
    assert run(box, "box", "sh", "-c", "kill -9 $$")[0] == 137
    data = hashlib.shake_256(b"seed").hexdigest(5_000_000)
    assert run(box, "-i", "box", "cat", stdin=data) == (0, data, "")


def test_user_directory_and_environment_are_what_was_asked_for(box: Any) -> None:
    script = "id -u; id -g; pwd; echo $A $B $HOME"
    assert run(box, "box", "sh", "-c", script)[1] == "0\n0\n/\n1 /root\n"
    found = run(box, "-u", "5:6", "-w", "/www", "-e", "A=2", "-e", "B=3", "box", "sh", "-c", script)
    assert found[1] == "5\n6\n/www\n2 3 /\n"


def test_the_container_s_limits_on_privilege_hold(box: Any) -> None:
    def status(*options: str, container: str = "box") -> dict[str, str]:
        text = run(box, *options, container, "cat", "/proc/self/status")[1]
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    box.docker("run", "-d", "--name", "bare", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "app:1",
               "sleep", "1000")  # fmt: skip
    found = status(container="bare")
    assert (found["CapEff"], found["NoNewPrivs"], found["Seccomp"]) == ("0000000000000000", "1", "2")
    assert status()["CapEff"] == "00000000a80425fb"
    assert int(status("--privileged")["CapEff"], 16) > int(status()["CapEff"], 16)
    assert status("--privileged")["Seccomp"] == "2"
    assert status("-u", "5")["CapEff"] == "0000000000000000"


def test_what_can_not_be_run_has_docker_s_codes_and_texts(box: Any) -> None:
    code, out, _ = run(box, "box", "/no/such")
    assert code == 127 and "OCI runtime exec failed" in out and "executable file not found" in out
    assert run(box, "box", "/etc")[0] == 126
    assert run(box, "-w", "/no/such", "box", "true")[0] == 127
    code, out, _ = run(box, "-u", "nobody-here", "box", "true")
    assert code == 126 and "unable to find user nobody-here" in out
    assert "executable file not found" in run(box, "-d", "box", "/no/such")[2]
    box.docker("pause", "box")
    assert "is paused, unpause the container before exec" in run(box, "box", "true")[2]
    box.docker("unpause", "box")
    box.docker("kill", "box")
    box.docker("wait", "box")
    assert "is not running" in run(box, "box", "true")[2]
    assert "No such container" in run(box, "other", "true")[2]


def test_a_terminal_has_its_size_and_its_exit_code(box: Any, terminal: Callable[..., Any]) -> None:
    shell = terminal(box, "exec", "-it", "box", "sh", rows=30, columns=99)
    shell.expect("/ # ")
    shell.type("stty size; ps\r")
    shell.expect("30 99")
    shell.expect("1 root .*sleep 1000")
    shell.type("exit 5\r")
    assert shell.ends() == 5
    assert box.docker("ps", "-q"), "the container's own first process is another one"


def test_a_terminal_that_is_left_goes_on_and_ends_with_its_container(box: Any, terminal: Callable[..., Any]) -> None:
    shell = terminal(box, "exec", "-it", "box", "sh")
    shell.expect("/ # ")
    shell.type("\x10\x11")
    assert "read escape sequence" in shell.shown or shell.ends() in (0, 1)
    (running,) = json.loads(box.docker("inspect", "box"))[0]["ExecIDs"]
    assert box.api(f"/exec/{running}/json")["Running"] is True
    box.docker("stop", "-t", "0", "box")
    box.wait(lambda: box.api(f"/exec/{running}/json")["Running"] is False)
    assert box.api(f"/exec/{running}/json")["ExitCode"] == 137


def test_one_that_is_detached_outlives_its_client_and_the_engine_forgets_it_at_its_end(box: Any) -> None:
    box.docker("exec", "-d", "box", "sh", "-c", "echo yes > /there; sleep 1000")
    box.wait(lambda: run(box, "box", "cat", "/there")[1] == "yes\n")
    (running,) = json.loads(box.docker("inspect", "box"))[0]["ExecIDs"]
    box.kill()
    box.start()
    assert "sleep 1000" in box.docker("top", "box")
    assert run(box, "box", "echo", "still")[1] == "still\n"
    socket = box.socket.removeprefix("unix://")
    gone = box.run("curl", "-sS", "--unix-socket", socket, f"http://d/exec/{running}/json").stdout
    assert json.loads(gone)["message"] == f"No such exec instance: {running}"


def test_each_is_told_and_nothing_is_left_of_it(box: Any) -> None:
    done = [
        subprocess.Popen(box.command("docker", "exec", "box", "sh", "-c", f"exit {number}"), env=box.environment)
        for number in range(8)
    ]
    assert [process.wait(60) for process in done] == list(range(8))
    container = json.loads(box.docker("inspect", "box"))[0]["Id"]
    lines = box.docker(
        *("events", "--since", "2020-01-01", "--until", f"{time.time():.9f}", "--format", "{{json .}}")
    ).splitlines()
    events = [event for line in lines if (event := json.loads(line))["Actor"]["ID"] == container]
    ends = [event["Actor"]["Attributes"]["exitCode"] for event in events if event["Action"] == "exec_die"]
    assert sorted(ends) == [str(number) for number in range(8)]
    actions = {event["Action"] for event in events}
    assert {"exec_create: sh -c exit 3", "exec_start: sh -c exit 3"} <= actions
    bundle = box.run_root / "bundles" / container
    box.wait(lambda: not list((bundle / "execs").iterdir()), message="files of an exec are left")
    assert not list((box.run_root / "consoles").iterdir())


def test_top_shows_the_container_s_processes_and_no_others(box: Any) -> None:
    box.docker("run", "-d", "--name", "seer", "--pid", "host", "app:1", "sleep", "2000")
    assert [line.split()[-1] for line in box.docker("top", "seer").splitlines()] == ["CMD", "2000"]
    assert box.docker("top", "box", "-o", "pid,args").splitlines()[1].endswith("sleep 1000")
    assert "Couldn't find PID field" in box.run("docker", "top", "box", "-o", "args", check=False).stderr
    box.docker("kill", "seer")
    box.docker("wait", "seer")
    assert "is not running" in box.run("docker", "top", "seer", check=False).stderr


def test_stats_show_what_a_container_uses(box: Any) -> None:
    box.docker("run", "-d", "--name", "busy", "--memory", "64m", "--pids-limit", "20", "app:1", "sh", "-c",
               "while true; do true; done")  # fmt: skip
    shown = [json.loads(line) for line in box.docker("stats", "--no-stream", "--format", "{{json .}}").splitlines()]
    found = {line["Name"]: line for line in shown}
    assert set(found) == {"box", "busy"}
    assert float(found["busy"]["CPUPerc"].rstrip("%")) > 5
    assert found["busy"]["MemUsage"].endswith("/ 64MiB")
    assert found["busy"]["PIDs"] == "1"
    assert found["box"]["NetIO"] != "--"
    assert box.api("/containers/busy/stats?stream=0&one-shot=1")["pids_stats"] == {"current": 1, "limit": 20}
    box.docker("kill", "busy")
    assert box.api("/containers/busy/stats?stream=0")["memory_stats"] == {}
