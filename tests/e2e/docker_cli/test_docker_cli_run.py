"""`docker run` in the foreground, `docker attach`: streams, exit codes, terminals, signals, with the real CLI."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

PROMPT = "/ # "
LEAVE = "\x10\x11"  # ctrl-p, ctrl-q


def run(host: Any, *arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
    """Exit code and both streams of `docker run --rm …`."""
    done = host.run("docker", "run", "--rm", *arguments, check=False, stdin=stdin)
    return done.returncode, done.stdout, done.stderr


def test_output_comes_whole_on_both_streams_with_the_exit_code(loaded: Any) -> None:
    for number in range(5):
        assert run(loaded, "app:1", "echo", str(number)) == (0, f"{number}\n", "")
    assert run(loaded, "app:1", "sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")
    assert loaded.docker("ps", "-aq") == ""


def test_a_start_that_fails_has_docker_s_exit_codes_and_leaves_nothing(loaded: Any) -> None:
    code, _, error = run(loaded, "app:1", "/no/such")
    assert code == 127 and "executable file not found" in error
    code, _, error = run(loaded, "app:1", "/etc")
    assert code == 126 and "permission denied" in error
    assert run(loaded, "--memory", "1m", "app:1", "true")[0] == 125
    loaded.wait(lambda: loaded.docker("ps", "-aq") == "", message="a container that couldn't be started is left")


def test_input_reaches_the_container_and_its_end_too(loaded: Any) -> None:
    assert run(loaded, "-i", "app:1", "cat", stdin="one\ntwo\n") == (0, "one\ntwo\n", "")
    assert run(loaded, "app:1", "cat", stdin="unheard\n") == (0, "", "")
    assert run(loaded, "-i", "app:1", "true", stdin="x" * 1_000_000) == (0, "", "")


def test_large_output_flows_both_ways_without_loss(loaded: Any, tmp_path: Path) -> None:
    data = hashlib.shake_256(b"seed").digest(20_000_000)
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "in").open("rb") as source:
        done = subprocess.run(
            loaded.command("docker", "run", "--rm", "-i", "app:1", "cat"),
            env=loaded.environment,
            stdin=source,
            capture_output=True,
            timeout=120,
            check=True,
        )
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_a_slow_client_gets_all_and_one_that_vanishes_frees_the_container(loaded: Any) -> None:
    talk = ("run", "--name", "talk", "app:1", "sh", "-c", "head -c 8000000 /dev/zero; echo done >&2; sleep 1000")
    client = subprocess.Popen(
        loaded.command("docker", *talk), env=loaded.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert client.stdout is not None
    assert client.stdout.read(4_000_000) == bytes(4_000_000)
    client.kill()
    client.wait()
    client.stdout.close()
    socket = loaded.socket.removeprefix("unix://")
    logs = ("curl", "-sS", "--output", "-", "--unix-socket", socket, "http://d/containers/talk/logs?stderr=1")
    loaded.wait(lambda: "done" in loaded.run(*logs).stdout)


def test_a_killed_container_ends_although_its_client_does_not_read(loaded: Any) -> None:
    client = subprocess.Popen(
        loaded.command("docker", "run", "--name", "flood", "app:1", "sh", "-c", "while true; do seq 100000; done"),
        env=loaded.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert client.stdout is not None and client.stdout.read(1) == b"1"
    loaded.docker("kill", "flood")
    assert loaded.docker("wait", "flood").strip() == "137"
    client.stdout.close()
    client.wait(60)


def test_a_terminal_has_a_prompt_a_size_and_keys_to_leave_it(loaded: Any, terminal: Callable[..., Any]) -> None:
    shell = terminal(loaded, "run", "-it", "--name", "percy", "app:1", "sh", rows=33, columns=101)
    shell.expect(PROMPT)
    container = loaded.docker("ps", "-q").strip()
    shell.type("hostname; stty size\r")
    shell.expect(rf"{container}\s+33 101")
    shell.expect(PROMPT)
    shell.resize(20, 70)
    loaded.wait(lambda: _events(loaded, "percy").count("resize") >= 2)
    shell.type("stty size\r")
    shell.expect("20 70")
    shell.type(LEAVE)
    assert shell.ends() == 0
    loaded.wait(lambda: "detach" in _events(loaded, "percy"))
    assert loaded.docker("ps", "--format", "{{.Names}}").strip() == "percy"
    again = terminal(loaded, "attach", "percy")
    again.expect(PROMPT)
    again.type("exit 4\r")
    assert again.ends() == 4
    assert "Exited (4)" in loaded.docker("ps", "-a")
    assert "attach" in _events(loaded, "percy")


def _events(host: Any, container: str) -> list[str]:
    return str(
        host.docker(
            *("events", "--since", "2020-01-01", "--until", f"{time.time():.9f}"),
            *("--filter", f"container={container}"),
            *("--format", "{{.Action}}"),
        )
    ).split()


def test_keys_of_one_s_own_leave_a_terminal(loaded: Any, terminal: Callable[..., Any]) -> None:
    shell = terminal(loaded, "run", "-it", "--name", "own", "--detach-keys", "ctrl-x,q", "app:1", "sh")
    shell.expect(PROMPT)
    shell.type("\x18q")
    assert shell.ends() == 0
    assert loaded.docker("ps", "--format", "{{.Names}}").strip() == "own"


def test_signals_for_the_client_reach_the_container(loaded: Any) -> None:
    script = "trap 'echo term; exit 5' TERM; echo ready; while true; do sleep 0.1; done"
    client = subprocess.Popen(
        loaded.command("docker", "run", "--rm", "app:1", "sh", "-c", script),
        env=loaded.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    client.send_signal(signal.SIGTERM)
    assert client.stdout.read() == "term\n"
    client.stdout.close()
    assert client.wait(60) == 5


def test_several_clients_see_one_output_and_start_attaches_from_the_first_byte(loaded: Any) -> None:
    loaded.docker("create", "--name", "once", "-i", "app:1", "sh", "-c", "echo first; cat")
    done = loaded.run("docker", "start", "-ai", "once", stdin="second\n")
    assert done.stdout == "first\nsecond\n"
    loaded.docker("run", "-di", "--name", "many", "app:1", "sh", "-c", "read line; echo got $line")
    command = loaded.command("docker", "attach", "--no-stdin", "many")
    watchers = [subprocess.Popen(command, env=loaded.environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    loaded.wait(lambda: _events(loaded, "many").count("attach") == 2)
    assert loaded.run("docker", "attach", "many", stdin="it\n").stdout == "got it\n"
    assert [watcher.communicate(timeout=60)[0] for watcher in watchers] == ["got it\n"] * 2


def test_who_can_not_be_attached_to_is_told_why(loaded: Any) -> None:
    loaded.docker("run", "-d", "--name", "still", "app:1", "sleep", "1000")
    loaded.docker("pause", "still")
    socket = loaded.socket.removeprefix("unix://")

    def post(path: str) -> str:
        return str(loaded.run("curl", "-sS", "--unix-socket", socket, "-XPOST", f"http://d/containers/{path}").stdout)

    assert "paused" in post("still/attach?stream=1&stdout=1")
    loaded.docker("unpause", "still")
    assert "Invalid detach keys" in post("still/attach?stream=1&stdout=1&detachKeys=nokey")
    assert "No such container" in post("other/attach?stream=1&stdout=1")
    assert "h and w are wanted" in post("still/resize?h=20")
    loaded.docker("kill", "still")
    loaded.docker("wait", "still")
    assert "is not running" in post("still/resize?h=20&w=20")
