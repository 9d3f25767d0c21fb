"""Engines behind a real sshd: by our client and by the docker CLI, on hosts that have only one of the two programs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

BIN = Path(sys.executable).parent
SERVER = """\
ListenAddress 127.0.0.1
Port 2222
HostKey {directory}/host
AuthorizedKeysFile {directory}/client.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitUserRC no
SetEnv PATH={programs}
"""
CLIENT = """\
Host box
  HostName 127.0.0.1
  Port 2222
  User root
  IdentityFile {directory}/client
  UserKnownHostsFile {directory}/known
  StrictHostKeyChecking accept-new
"""
SERVICE = """\
apiVersion: gitops/v1
kind: Service
metadata: {name: web, stack: app}
spec: {image: "app:v1", init: true, deploy: {update_config: {monitor: 500ms}}}
"""


@dataclass
class Ssh:
    """A host that can be logged in to, whose users have nothing but what lies in `programs`."""

    host: Any
    directory: Path
    programs: Path

    def run(self, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program that finds a `ssh` which knows the host as `box`."""
        path = f"PATH={self.directory}/near:/usr/local/bin:/usr/bin:/bin"
        done: subprocess.CompletedProcess[str] = self.host.run("env", "-u", "GITOPS_HOST", path, *arguments, **options)
        return done

    def add(self, name: str, text: str) -> None:
        (self.programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.programs / name).chmod(0o755)


@pytest.fixture
def box(host: Any) -> Ssh:
    directory = host.directory / "ssh"
    programs, near = directory / "programs", directory / "near"
    for path in (programs, near):
        path.mkdir(parents=True)
    for key in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / key], check=True)
    (directory / "sshd_config").write_text(SERVER.format(directory=directory, programs=programs))
    (directory / "config").write_text(CLIENT.format(directory=directory))
    (near / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {directory}/config "$@"\n')
    (near / "ssh").chmod(0o755)
    (programs / "sh").symlink_to("/bin/sh")
    # Where sshd keeps its helpers' empty root; made by its service elsewhere.
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    host.spawn(shutil.which("sshd"), "-D", "-e", "-f", directory / "sshd_config", log=directory / "log")
    made = Ssh(host, directory, programs)
    host.wait(lambda: made.run("ssh", "box", "exit 7", check=False).returncode == 7, 30, "sshd does not answer")
    return made


def test_an_engine_is_reached_whichever_program_its_host_has(box: Ssh) -> None:
    socket = box.host.socket.removeprefix("unix://")
    url = f"ssh://box{socket}"
    refused = box.run(BIN / "gitops", "status", "-H", url, check=False)
    assert refused.returncode == 1
    assert "neither gitops nor docker is on the PATH of that host" in refused.stderr
    box.add("gitops", f'exec {BIN}/gitops "$@"')
    assert "engine none" not in box.run(BIN / "gitops", "version", "-H", url).stdout
    (box.programs / "gitops").unlink()
    box.add("docker", f'exec {shutil.which("docker")} "$@"')
    assert "engine none" not in box.run(BIN / "gitops", "version", "-H", url).stdout
    shown = box.run("docker", "-H", url, "info", "--format", "{{.DockerRootDir}}").stdout
    assert shown.strip() == str(box.host.data_root)


def test_the_script_for_ci_logs_in_by_the_key_in_its_variables(box: Ssh) -> None:
    box.add("gitops", f'exec {BIN}/gitops "$@"')
    config, key = box.directory / "config", box.directory / "client"
    config.write_text(config.read_text().replace(f"  IdentityFile {key}\n", ""))
    variables = (f"SSH_KEY={key.read_text()}", f"GITOPS_HOST=ssh://box{box.host.socket.removeprefix('unix://')}")
    script = Path(__file__).parents[3] / "examples" / "ci" / "gitops-ci"
    key.unlink()
    box.host.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    path = f"PATH={box.directory}/near:{BIN}:/usr/bin:/bin"
    output = box.directory / "snapshot.json"
    box.run("env", path, *variables, "SSH_KNOWN_HOSTS=box ssh-ed25519 AAAA", script, "snapshot", output, stdin="")
    assert json.loads(output.read_text())
    # Variables reach processes of ours, and no agent is left with the key.
    refused = box.run("env", path, *variables[1:], script, "snapshot", output, stdin="", check=False)
    assert refused.returncode == 1
    assert "Permission denied (publickey)" in refused.stderr


def test_a_deploy_goes_through_ssh_with_image_and_all(box: Ssh, project: Any, image: Any) -> None:
    box.host.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    box.add("gitops", f'exec {BIN}/gitops "$@"')
    service = (
        "apiVersion: gitops/v1\nkind: Service\nmetadata: {name: web, stack: app}\nspec: {image: 'app:v1', init: true}"
    )
    path = project({"app.yaml": f"{image('app:v1', 'hello')}---\n{service}\n"})
    where = ("-H", f"ssh://box{box.host.socket.removeprefix('unix://')}")
    assert "web" in box.run(BIN / "gitops", "apply", path, "--yes", *where, timeout=110).stdout
    assert box.run(BIN / "gitops", "diff", path, *where).returncode == 0
    assert len(box.host.containers()) == 1
    box.host.wait(lambda: "dial-stdio" not in _commands(), 30, "connections are left")


def _commands() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_what_ssh_says_is_the_reason(box: Ssh) -> None:
    path = box.directory / "config"
    former = path.read_text()
    for config, words in (
        ("IdentityFile /nowhere", "Permission denied (publickey)"),
        ("UserKnownHostsFile /dev/null\n  StrictHostKeyChecking yes", "Host key verification failed"),
        ("Port 2223", "Connection refused"),
    ):
        # The first word on a matter counts in ssh's configuration, but for keys, which are gathered.
        path.write_text(f"Host box\n  {config}\n{former.replace(f'  IdentityFile {box.directory}/client', '')}")
        done = box.run(BIN / "gitops", "status", "-H", "ssh://box", check=False)
        assert done.returncode == 1
        assert "the engine on ssh://box can't be reached: " in done.stderr
        assert words in done.stderr
