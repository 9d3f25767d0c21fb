"""What a person does with it: rebuilds, reverts, swaps ports, interrupts, and looks at the outcome."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

GITOPS = Path(sys.executable).parent / "gitops"
SERVICE = """\
apiVersion: gitops/v1
kind: Service
metadata: {{name: {name}, stack: app}}
spec:
  image: app:v1
  init: true
  command: {command}
  ports: ["{port}:8080"]
  deploy:
    replicas: 2
    restart_policy: {{delay: 1s}}
    update_config: {{parallelism: 1, monitor: 1s, failure_action: rollback}}
"""
HTTPD = "[/bin/busybox, httpd, -f, -p, '8080', -h, /www]"


def service(name: str = "web", port: int = 8080, command: str = HTTPD) -> str:
    return SERVICE.format(name=name, port=port, command=command)


def test_services_swap_their_ports_in_one_apply_and_a_port_of_another_stack_is_refused(
    swarm: Any, project: Any, image: Any
) -> None:
    other = service("api", 8081, "[/bin/sh, -c, 'echo api > /www/index.html; exec busybox httpd -f -p 8080 -h /www']")
    other = other.replace("exec busybox", "exec /bin/busybox")
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": service(), "api.yaml": other})
    swarm.gitops("apply", path, "--yes")
    (path / "web.yaml").write_text(service(port=8081))
    (path / "api.yaml").write_text(other.replace("8081:", "8080:"))
    swarm.gitops("apply", path, "--yes")
    assert (swarm.get("http://127.0.0.1:8080/"), swarm.get("http://127.0.0.1:8081/")) == ("api\n", "v1\n")
    text = service().replace("stack: app", "stack: two")
    second = project({"image.yaml": image("app:v1", "v1").replace("stack: app", "stack: two"), "w.yaml": text}, "two")
    done = swarm.gitops("apply", second, "--yes", check=False)
    assert done.returncode == 5 and "port 8080/tcp: service app_api has it" in done.stderr
    assert not [item for item in swarm.api("/services") if item["Spec"]["Name"].startswith("two")]


def on_terminal(host: Any, *arguments: str | Path, answer: bytes = b"", interrupt_at: str = "") -> tuple[int, str]:
    """Run on a terminal of its own: answer the question, send Ctrl-C once a text is seen; exit code and output."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        host.command(GITOPS, *arguments),
        env=host.environment | {"TERM": "xterm", "COLUMNS": "60", "LINES": "24"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(follower)
    seen, end = "", time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([leader], [], [], 0.1)[0]:
            try:
                seen += os.read(leader, 65536).decode(errors="replace")
            except OSError:
                break
        if answer and "[y/N]" in seen:
            os.write(leader, answer)
            answer = b""
        if interrupt_at and interrupt_at in seen:
            os.write(leader, b"\x03")
            interrupt_at = ""
    os.close(leader)
    return process.wait(30), seen


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_on_a_terminal_it_asks_draws_and_leaves_in_order_when_it_is_interrupted(
    swarm: Any, project: Any, image: Any
) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": service()})
    code, seen = on_terminal(swarm, "apply", path, answer=b"n\n")
    assert code == 5 and "declined, nothing was changed" in seen and swarm.api("/services") == []
    code, seen = on_terminal(swarm, "apply", path, answer=b"\x03")
    assert code == 130 and swarm.api("/services") == []
    code, seen = on_terminal(swarm, "apply", path, answer=b"y\n", interrupt_at="app_web")
    assert code == 130 and "interrupted: what was sent stays" in seen and "^C\r\n" not in seen
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h"), "the cursor is shown again"
    assert "interrupted" in swarm.gitops("status").stdout
    code, seen = on_terminal(swarm, "apply", path, "--yes")
    assert code == 0 and "Converged: 1 service" in seen


def test_sigterm_ends_a_watch_at_once_with_0_and_an_apply_with_what_it_did_on_record(
    swarm: Any, project: Any, image: Any
) -> None:
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": service()})
    for command, code in (("apply", 128 + signal.SIGTERM), ("watch", 0)):
        (path / "image.yaml").write_text(image("app:v1", command))
        arguments = [command, path, *(["--yes"] if command == "apply" else [])]
        process = subprocess.Popen(
            swarm.command(GITOPS, *arguments), env=swarm.environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        while "service app_web" not in process.stdout.readline():
            assert process.poll() is None
        process.terminate()
        process.communicate(timeout=5)
        assert process.returncode == code
        assert "interrupted" in swarm.gitops("status").stdout
