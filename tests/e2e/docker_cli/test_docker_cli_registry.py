"""`docker pull` and `run` of images in a real registry (Debian's docker-registry)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e


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
