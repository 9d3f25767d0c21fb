"""The engine on TCP with mutual TLS: the docker CLI and our client, and clients that must stay outside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

BIN = Path(sys.executable).parent
URL = "tcp://127.0.0.1:2376"
Make = Callable[..., Any]


@pytest.fixture
def ca(authority: Make) -> Any:
    return authority("ours")


@pytest.fixture
def tls(make_host: Make, ca: Any) -> Any:
    """A host whose engine listens on TCP for clients of the authority."""
    host = make_host()
    certificate, key = ca.server()
    host.options += ["--host", "tcp://0.0.0.0:2376", "--tlsverify", "--tlscacert", ca.ca]
    host.options += ["--tlscert", certificate, "--tlskey", key]
    host.start()
    return host


def docker(host: Any, directory: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    files = [f"--tlscacert={directory}/ca.pem", f"--tlscert={directory}/cert.pem", f"--tlskey={directory}/key.pem"]
    environment = ("env", "-u", "DOCKER_HOST")
    done: subprocess.CompletedProcess[str] = host.run(
        *environment, "docker", "--tlsverify", *files, "-H", URL, *arguments, **options
    )
    return done


def test_the_docker_cli_works_by_mutual_tls(tls: Any, ca: Any, archive: Callable[[str], Path]) -> None:
    mine = ca.client()
    docker(tls, mine, "load", "-i", str(archive("app:1")))
    docker(tls, mine, "run", "-d", "--name", "one", "app:1", "sh", "-c", "seq 1 50000; echo done")
    assert docker(tls, mine, "wait", "one").stdout == "0\n"
    assert docker(tls, mine, "logs", "--follow", "one").stdout.splitlines() == [*map(str, range(1, 50001)), "done"]
    docker(tls, mine, "rm", "one")
    _use_streams(tls, mine)
    # The local socket is there beside it.
    assert "running" in tls.gitops("engine", "status", "--run-root", tls.run_root).stdout
    ours = tls.run("env", f"GITOPS_HOST={URL}", f"GITOPS_CERT_PATH={mine}", BIN / "gitops", "version").stdout
    assert "engine none" not in ours


def _use_streams(host: Any, mine: Path) -> None:
    """Without input the CLI closes its direction at once: the output must come nevertheless, and the exit code."""
    docker(host, mine, "run", "-d", "--init", "--name", "two", "app:1", "sleep", "600")
    for number in range(4):
        done = docker(
            host, mine, "exec", "two", "sh", "-c", f"sleep 0.1; echo out; echo err >&2; exit {number}", check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (number, "out\n", "err\n")
    assert docker(host, mine, "exec", "two", "seq", "1", "200000").stdout.splitlines()[-1] == "200000"
    text = "".join(f"line {number}\n" for number in range(50_000))
    assert docker(host, mine, "exec", "-i", "two", "cat", stdin=text).stdout == text
    assert docker(host, mine, "run", "--rm", "-i", "app:1", "cat", stdin="once\n").stdout == "once\n"
    docker(host, mine, "rm", "-f", "two")


def test_clients_without_a_certificate_of_the_authority_stay_outside(tls: Any, ca: Any, authority: Make) -> None:
    foreign, expired = authority("theirs").client(), ca.client("expired", days=-1)
    (foreign / "ca.pem").write_bytes(ca.ca.read_bytes())
    for directory, reason in ((foreign, "unknown certificate authority"), (expired, "expired certificate")):
        done = docker(tls, directory, "version", check=False)
        assert done.returncode == 1
        assert reason in done.stderr
    (foreign / "cert.pem").unlink()
    environment = ("env", "-u", "DOCKER_HOST", f"GITOPS_CERT_PATH={foreign}", f"GITOPS_HOST={URL}")
    done = tls.run(*environment, BIN / "gitops", "status", check=False)
    assert done.returncode == 1
    assert "refuses this client's certificate (certificate required)" in done.stderr
    plain = tls.run("curl", "-sS", "http://127.0.0.1:2376/_ping", check=False)
    assert plain.returncode != 0
    assert "OK" not in plain.stdout
    for version, code in (("1.3", 0), ("1.2", 0), ("1.1", 35)):
        mine = ca.client(f"mine-{version}")
        files = ("--cacert", mine / "ca.pem", "--cert", mine / "cert.pem", "--key", mine / "key.pem")
        words = ("curl", "-sS", f"--tlsv{version}", "--tls-max", version, "--ciphers", "DEFAULT@SECLEVEL=0")
        assert tls.run(*words, *files, "https://127.0.0.1:2376/_ping", check=False).returncode == code
    assert "Traceback" not in tls.log.read_text()


def test_a_real_dockerd_behind_tls_is_reached_and_its_refusal_is_told(dockerd: Any, ca: Any) -> None:
    dockerd.stop()
    ca.server()
    dockerd.tls = ca.directory
    dockerd.start()
    mine, expired = ca.client(), ca.client("expired", days=-1)

    def gitops(verb: str, directory: Path) -> subprocess.CompletedProcess[str]:
        variables = (f"GITOPS_HOST={URL}", f"GITOPS_CERT_PATH={directory}")
        done: subprocess.CompletedProcess[str] = dockerd.run("env", *variables, BIN / "gitops", verb, check=False)
        return done

    dockerd.wait(lambda: "engine none" not in gitops("version", mine).stdout, 30, "dockerd is not reached")
    done = gitops("status", expired)
    assert done.returncode == 1
    assert "this client's certificate" in done.stderr


def test_an_engine_does_not_start_where_everybody_could_use_it(make_host: Make) -> None:
    host = make_host()
    roots = ("--data-root", host.data_root, "--run-root", host.run_root)
    done = host.gitops("engine", "run", *roots, "--host", "tcp://0.0.0.0:2375", check=False)
    assert done.returncode == 5
    assert "whoever reaches it would be root here" in done.stderr
