"""`docker pull` and `run` of images in a real registry (Debian's docker-registry)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e


PASSWORD = "correct horse"
USERS = "alice:$2b$04$YRHaZpA3SYJeEhIFpV3fIOELwBfW2Nf7v7aCJdzQfp.UIk5zQ1zv2\n"
"""The same password by bcrypt, the only way that the registry knows."""


@pytest.fixture
def registry(host: Any, archive: Callable[[str], Path], tmp_path: Path) -> str:
    """The address of a registry that holds app:1 and app:2."""
    config = tmp_path / "registry.yml"
    config.write_text(
        "version: 0.1\nstorage: {filesystem: {rootdirectory: " + str(tmp_path / "registry") + "}}\n"
        "http: {addr: '127.0.0.1:5000'}\n"
    )
    host.spawn("docker-registry", "serve", config, log=tmp_path / "registry.log")
    host.wait(lambda: host.get("http://127.0.0.1:5000/v2/"), 10, "the registry does not answer")
    for tag in ("1", "2"):
        source = f"docker-archive:{archive(f'app:{tag}')}"
        host.run("skopeo", "copy", "--dest-tls-verify=false", source, f"docker://127.0.0.1:5000/app:{tag}")
    return "127.0.0.1:5000"


def test_pulls_by_tag_digest_and_all_tags(host: Any, registry: str) -> None:
    first = host.docker("pull", f"{registry}/app:1")
    assert f"Status: Downloaded newer image for {registry}/app:1" in first
    assert "Digest: sha256:" in first
    assert "Image is up to date" in host.docker("pull", f"{registry}/app:1")
    digest = next(line.split()[1] for line in first.splitlines() if line.startswith("Digest:"))
    host.docker("rmi", f"{registry}/app:1")
    host.docker("pull", f"{registry}/app@{digest}")
    assert host.docker("images", "--digests", "--format", "{{.Digest}}").strip() == digest
    host.docker("pull", "-a", f"{registry}/app")
    assert set(host.docker("images", f"{registry}/app", "--format", "{{.Tag}}").split()) >= {"1", "2"}


def test_run_pulls_what_is_missing(host: Any, registry: str) -> None:
    done = host.run("docker", "run", "-d", "--name", "r1", f"{registry}/app:2", "true")
    assert "Unable to find image" in done.stderr
    assert host.docker("wait", "r1").strip() == "0"


def test_a_tag_that_is_not_there_has_docker_s_text(host: Any, registry: str) -> None:
    done = host.run("docker", "pull", f"{registry}/app:9", check=False)
    assert done.returncode == 1
    assert f"manifest for {registry}/app:9 not found" in done.stderr


def in_registry(host: Any, name: str) -> str:
    shown = host.run("skopeo", "inspect", "--tls-verify=false", f"docker://{name}").stdout
    return str(json.loads(shown)["Digest"])


def test_a_push_keeps_the_digest_and_sends_nothing_twice(
    host: Any, registry: str, archive: Callable[[str], Path]
) -> None:
    host.docker("load", "-i", str(archive("local:1")))
    host.docker("tag", "local:1", f"{registry}/team/local:v1")
    first = host.docker("push", f"{registry}/team/local:v1")
    digest = in_registry(host, f"{registry}/team/local:v1")
    assert f"The push refers to repository [{registry}/team/local]" in first and "Pushed" in first
    assert f"v1: digest: {digest} size: " in first
    assert f"{registry}/team/local@{digest}" in host.docker("inspect", "-f", "{{.RepoDigests}}", "local:1")
    assert "Layer already exists" in host.docker("push", f"{registry}/team/local:v1")
    # What is pulled again is the same, and what came from a registry goes on under its own digest.
    host.docker("rmi", "-f", "local:1", f"{registry}/team/local:v1")
    host.docker("pull", f"{registry}/team/local@{digest}")
    host.docker("pull", f"{registry}/app:1")
    host.docker("tag", f"{registry}/app:1", f"{registry}/copy:9")
    assert "Mounted from app" in host.docker("push", f"{registry}/copy:9")
    assert in_registry(host, f"{registry}/copy:9") == in_registry(host, f"{registry}/app:1")


def test_a_push_of_all_tags_and_of_none(host: Any, registry: str, archive: Callable[[str], Path]) -> None:
    host.docker("load", "-i", str(archive("local:1")))
    for tag in ("a", "b"):
        host.docker("tag", "local:1", f"{registry}/many:{tag}")
    assert host.docker("push", "-a", f"{registry}/many").count("digest: sha256:") == 2
    assert set(json.loads(host.get(f"http://{registry}/v2/many/tags/list"))["tags"]) == {"a", "b"}
    done = host.run("docker", "push", f"{registry}/many:c", check=False)
    assert done.returncode == 1 and f"An image does not exist locally with the tag: {registry}/many" in done.stderr


def test_a_push_wants_the_registry_s_credentials(
    host: Any, guarded: str, archive: Callable[[str], Path], tmp_path: Path
) -> None:
    host.docker("load", "-i", str(archive("local:1")))
    host.docker("tag", "local:1", f"{guarded}/local:1")
    done = host.run("docker", "push", f"{guarded}/local:1", check=False)
    assert done.returncode == 1 and "no basic auth credentials" in done.stderr
    config = Path(host.environment["DOCKER_CONFIG"]) / "config.json"
    config.parent.mkdir(exist_ok=True)
    auth = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
    config.write_text(json.dumps({"auths": {guarded: {"auth": auth}}}))
    assert "digest: sha256:" in host.docker("push", f"{guarded}/local:1")
    assert PASSWORD not in host.log.read_text() and auth not in host.log.read_text()


@pytest.fixture
def guarded(host: Any, archive: Callable[[str], Path], tmp_path: Path) -> str:
    """The address of a registry that holds app:1 for alice only."""
    (tmp_path / "users").write_text(USERS)
    config = tmp_path / "guarded.yml"
    config.write_text(
        "version: 0.1\nstorage: {filesystem: {rootdirectory: " + str(tmp_path / "guarded") + "}}\n"
        "http: {addr: '127.0.0.1:5001'}\n"
        "auth: {htpasswd: {realm: here, path: " + str(tmp_path / "users") + "}}\n"
    )
    host.spawn("docker-registry", "serve", config, log=tmp_path / "guarded.log")
    target = "docker://127.0.0.1:5001/app:1"
    command = ["skopeo", "copy", "--dest-tls-verify=false", "--retry-times=5", f"--dest-creds=alice:{PASSWORD}"]
    host.wait(
        lambda: host.run(*command, f"docker-archive:{archive('app:1')}", target, check=False).returncode == 0,
        20,
        "the registry takes nothing",
    )
    return "127.0.0.1:5001"


def test_a_service_pulls_with_the_credentials_that_it_was_given(host: Any, guarded: str) -> None:
    host.docker("swarm", "init")
    auth = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
    config = Path(host.environment["DOCKER_CONFIG"]) / "config.json"
    config.parent.mkdir(exist_ok=True)
    config.write_text(json.dumps({"auths": {guarded: {"auth": auth}}}))
    image = f"{guarded}/app:1"
    host.docker("service", "create", "-d", "--name", "without", image, "sleep", "600")
    host.wait(lambda: "Rejected" in host.docker("service", "ps", "without"), 20, "the task was not rejected")
    host.docker("service", "update", "-d", "--with-registry-auth", "--force", "without")
    host.wait(lambda: "1/1" in host.docker("service", "ls"), 30, "the service does not run")
    config.unlink()
    shown = host.docker("service", "inspect", "without") + host.docker("inspect", "without")
    assert PASSWORD not in shown and auth not in shown
    # The image goes, and so must its user; a later attempt pulls with what is kept.
    host.docker("service", "scale", "-d", "without=0")
    host.wait(lambda: not host.docker("ps", "-aq").strip(), 30, "containers stay")
    host.docker("rmi", "-f", *host.docker("images", "-q").split())
    host.docker("service", "scale", "-d", "without=1")
    host.wait(lambda: "1/1" in host.docker("service", "ls"), 30, "the service does not run again")
    secrets = (PASSWORD.encode(), auth.encode())
    for path in (*host.data_root.glob("swarm/*.db*"), host.log):
        data = path.read_bytes()
        assert not any(secret in data for secret in secrets), path
