"""`engine install` and `uninstall` on a host of its own, with a stand-in for systemctl that starts what a unit says.

The host is a mount namespace whose /etc and /run are copies: nothing of this machine is touched.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

BIN = Path(sys.executable).parent
SYSTEMCTL = """\
#!{python}
import os, pathlib, re, shlex, signal, socket, subprocess, sys
words = [word for word in sys.argv[1:] if not word.startswith("-")]
with open("{log}", "a") as log:
    print(*sys.argv[1:], file=log)
verb, now = words[0], "--now" in sys.argv
unit, pid = pathlib.Path("/etc/systemd/system/gitops-engine.service"), pathlib.Path("{directory}/pid")

def is_active():
    return pid.exists() and os.path.exists(f"/proc/{{pid.read_text()}}/cmdline") and "Z" != state(pid.read_text())

def state(number):
    return pathlib.Path(f"/proc/{{number}}/stat").read_text().rpartition(")")[2].split()[0]

def stop():
    if is_active():
        fd = os.pidfd_open(int(pid.read_text()))
        signal.pidfd_send_signal(fd, signal.SIGTERM)
        import select
        select.select([fd], [], [], 60)

def start():
    if is_active():
        return
    command = shlex.split(re.search("^ExecStart=(.*)$", unit.read_text(), re.M)[1])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind("{directory}/notify")
        environment = dict(os.environ, NOTIFY_SOCKET="{directory}/notify")
        output = open("{engine_log}", "ab")
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        pid.write_text(str(process.pid))
        notify.settimeout(60)
        while b"READY=1" not in notify.recv(4096):
            pass
    os.unlink("{directory}/notify")

if verb in ("stop", "restart") or (verb == "disable" and now):
    stop()
if verb in ("start", "restart"):
    start()
if verb == "is-active":
    sys.exit(0 if is_active() else 3)
"""


SETUP = """\
set -e
mount -t tmpfs tmpfs {directory}/layers
mkdir {directory}/layers/upper {directory}/layers/work
mount -t overlay overlay -o lowerdir=/etc,upperdir={directory}/layers/upper,workdir={directory}/layers/work /etc
mount -t tmpfs tmpfs /run
sed -i /^gitops:/d /etc/group
echo ready
exec sleep infinity
"""


class Machine:
    """A host with a mount namespace of its own, which a process that sleeps in it keeps."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.directory = host.directory / "machine"
        for name in ("bin", "layers"):
            (self.directory / name).mkdir(parents=True)
        self.calls = self.directory / "calls"
        program = self.directory / "bin" / "systemctl"
        program.write_text(
            SYSTEMCTL.format(python=sys.executable, log=self.calls, directory=self.directory, engine_log=host.log)
        )
        program.chmod(0o755)
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SETUP.format(directory=self.directory)]
        self.holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        host.processes.append(self.holder)
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == "ready\n"

    def run(self, *words: str | Path, path: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        inside = ("nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "env")
        usual = f"{self.directory}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        done: subprocess.CompletedProcess[str] = self.host.run(*inside, f"PATH={path or usual}", *words, check=check)
        return done

    def engine(
        self, verb: str, *words: str | Path, path: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return self.run(BIN / "gitops", "engine", verb, *words, path=path, check=check)

    def docker(self, *words: str) -> str:
        return self.run(shutil.which("docker") or "", *words).stdout.strip()

    def pid(self) -> str:
        return self.run("cat", self.host.run_root / "engine.pid").stdout

    def unit(self) -> str:
        return self.run("cat", "/etc/systemd/system/gitops-engine.service", check=False).stdout


@pytest.fixture
def machine(make_host: Callable[..., Any]) -> Iterator[Machine]:
    made = Machine(make_host())
    yield made
    assert made.holder.stdout is not None
    made.holder.stdout.close()


@pytest.fixture
def roots(machine: Machine) -> tuple[str | Path, ...]:
    host = machine.host
    return "--data-root", host.data_root, "--run-root", host.run_root, "--cgroup-parent", host.name


def test_a_host_that_can_t_have_the_service_says_why_and_is_left_as_it_was(
    machine: Machine, roots: tuple[str | Path, ...]
) -> None:
    refused = machine.engine("install", *roots, check=False)
    assert refused.returncode == 1
    assert "not run by systemd: use `gitops engine start`" in refused.stderr
    assert f"engine run --data-root {machine.host.data_root}" in refused.stderr
    machine.run("mkdir", "-p", "/run/systemd/system")
    refused = machine.engine("install", *roots, path=f"{machine.directory}/bin", check=False)
    assert refused.returncode == 1
    assert "conmon: install the package conmon" in refused.stderr
    assert "crun or runc" in refused.stderr
    shown = machine.engine("install", *roots, "--print")
    assert "KillMode=process" in shown.stdout
    assert machine.unit() == ""
    assert machine.run("getent", "group", "gitops", check=False).returncode == 2
    assert "not installed" in machine.engine("uninstall").stdout
    assert not machine.calls.exists()


def test_the_service_takes_over_what_runs_and_goes_without_a_trace(
    machine: Machine, roots: tuple[str | Path, ...], archive: Callable[[str], Path]
) -> None:
    machine.run("mkdir", "-p", "/run/systemd/system")
    machine.engine("start", *roots)
    machine.docker("load", "-i", str(archive("app:1")))
    machine.docker("run", "-d", "--init", "--name", "one", "app:1", "sleep", "600")
    started = machine.docker("inspect", "--format", "{{.State.StartedAt}}", "one")
    first = machine.pid()

    assert "Written: /etc/systemd/system/gitops-engine.service" in machine.engine("install", *roots).stdout
    second = machine.pid()
    assert second != first
    assert machine.run("stat", "-c", "%G %a", machine.host.run_root / "engine.sock").stdout == "gitops 660\n"
    machine.calls.unlink()
    assert "Unchanged" in machine.engine("install", *roots).stdout
    assert machine.pid() == second
    assert "restart" not in machine.calls.read_text()
    assert "Changed" in machine.engine("install", *roots, "--log-level", "debug").stdout
    assert machine.pid() != second
    assert machine.docker("inspect", "--format", "{{.State.StartedAt}} {{.State.Running}}", "one") == f"{started} true"

    done = machine.engine("uninstall").stdout
    assert "The service is gone, and the group gitops." in done
    assert "1 container runs on" in done
    assert machine.unit() == ""
    assert machine.run("getent", "group", "gitops", check=False).returncode == 2
    assert len(machine.host.conmons()) == 1
    assert "not installed" in machine.engine("uninstall").stdout

    machine.run("groupadd", "gitops")
    machine.engine("install", *roots)
    assert machine.docker("inspect", "--format", "{{.State.StartedAt}} {{.State.Running}}", "one") == f"{started} true"
    assert machine.engine("uninstall", "--purge", check=False).returncode == 5
    assert "The service is gone.\n" in machine.engine("uninstall", "--purge", "--yes").stdout
    assert machine.host.conmons() == []
    assert not machine.host.data_root.exists()
    # A group that was there before stays.
    assert machine.run("getent", "group", "gitops").stdout.startswith("gitops:")
