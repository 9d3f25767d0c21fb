"""`gitops run`, `ps`, `exec` and the others do and show what the docker CLI does and shows."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

GITOPS = Path(sys.executable).with_name("gitops")


def both(host: Any, *arguments: str) -> None:
    """Both clients print the same, spans of time and the space between columns apart."""

    def shown(program: str | Path) -> list[str]:
        text = host.run(program, *arguments).stdout
        text = re.sub(r"(About an? \w+|Less than a second|\d+ \w+) ago|Up (Less than a second|\d+ \w+)", "then", text)
        return [re.sub(r"\s{2,}", "  ", line).rstrip() for line in text.splitlines()]

    assert shown(GITOPS) == shown("docker"), arguments


def ours(host: Any, *arguments: str, **more: Any) -> Any:
    return host.run(GITOPS, *arguments, check=False, **more)


def test_a_container_s_life(loaded: Any) -> None:
    host = loaded
    words = ("--name", "web", "-e", "A=b", "-p", "8080:8080", "-l", "tier=front", "--init", "-m", "64m")
    made = ours(host, "run", "-d", *words, "app:1", "sh", "-c", "echo ready; exec httpd -f -p 8080 -h /www")
    identity = made.stdout.strip()
    assert re.fullmatch("[0-9a-f]{64}", identity), made.stderr
    assert host.wait(lambda: host.get("http://127.0.0.1:8080/")) == "app:1\n"
    for listing in (("ps",), ("ps", "-a", "--no-trunc"), ("ps", "-q"), ("images",), ("images", "-q", "--no-trunc")):
        both(host, *listing)
    both(host, "ps", "--filter", "label=tier=back")
    both(host, "logs", "web")
    both(host, "network", "ls")
    both(host, "image", "history", "app:1")
    (found,) = json.loads(ours(host, "inspect", "web").stdout)
    assert found["Id"] == identity and found["HostConfig"]["Memory"] == 64 << 20
    done = ours(host, "exec", "-e", "X=y", "-w", "/www", "web", "sh", "-c", "echo $X $PWD; echo oh >&2; exit 3")
    assert (done.stdout, done.stderr, done.returncode) == ("y /www\n", "oh\n", 3)
    assert ours(host, "exec", "-i", "web", "cat", stdin="typed\n").stdout == "typed\n"
    assert "httpd" in ours(host, "top", "web").stdout
    for command in ("pause", "unpause", "restart", "stop", "start", "kill"):
        assert ours(host, command, "web").stdout == "web\n", command
    assert ours(host, "rename", "web", "old").returncode == 0
    assert ours(host, "wait", "old").stdout == "137\n"
    done = ours(host, "rm", "nobody", "old")
    assert done.returncode == 1 and done.stdout == "old\n" and "No such container: nobody" in done.stderr
    assert ours(host, "ps", "-aq").stdout == ""


def test_a_run_in_the_foreground_ends_as_its_container(loaded: Any) -> None:
    host = loaded
    done = ours(host, "run", "--rm", "app:1", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    assert ours(host, "run", "--rm", "-i", "app:1", "wc", "-c", stdin="x" * 100_000).stdout.strip() == "100000"
    assert ours(host, "run", "--rm", "app:1", "seq", "1", "50000").stdout.splitlines()[-1] == "50000"
    assert ours(host, "run", "--rm", "app:1", "nothing-there").returncode == 127
    refused = ours(host, "run", "--rm", "-p", "nonsense", "app:1", "true")
    assert refused.returncode == 1 and "--publish nonsense" in refused.stderr
    assert host.docker("ps", "-aq") == ""


def test_a_terminal_is_passed_on_and_can_be_left(loaded: Any, terminal: Callable[..., Any]) -> None:
    shell = terminal(loaded, "run", "-it", "--name", "box", "app:1", "sh", rows=30, columns=99, program=GITOPS)
    shell.expect("# ")
    shell.type("stty size\r")
    shell.expect("30 99")
    shell.type("\x10\x11")
    assert shell.ends() == 0
    assert loaded.docker("inspect", "-f", "{{.State.Running}}", "box").strip() == "true"
    again = terminal(loaded, "attach", "box", program=GITOPS)
    again.type("exit 5\r")
    assert again.ends() == 5
    loaded.docker("start", "box")
    inside = terminal(loaded, "exec", "-it", "box", "sh", program=GITOPS)
    inside.expect("# ")
    inside.type("exit 6\r")
    assert inside.ends() == 6


def test_networks_volumes_and_names_of_images(loaded: Any) -> None:
    host = loaded
    assert ours(host, "network", "create", "--subnet", "10.99.0.0/24", "front").returncode == 0
    assert ours(host, "volume", "create", "--label", "a=b", "data").stdout == "data\n"
    both(host, "volume", "ls")
    both(host, "network", "ls", "-q", "--filter", "name=front")
    assert (
        json.loads(ours(host, "network", "inspect", "front").stdout)[0]["IPAM"]["Config"][0]["Subnet"] == "10.99.0.0/24"
    )
    assert (
        ours(host, "volume", "rm", "data").stdout == "data\n" and ours(host, "network", "rm", "front").returncode == 0
    )
    assert ours(host, "tag", "app:1", "other:2").returncode == 0
    both(host, "images", "other")
    assert ours(host, "rmi", "other:2").stdout == "Untagged: other:2\n"
    script = ours(host, "completion", "bash").stdout
    assert "_GITOPS_COMPLETE=bash_complete" in script and "complete -o" in script
