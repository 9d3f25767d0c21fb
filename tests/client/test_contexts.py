"""Contexts, in files as the docker CLI writes them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from gitops import errors
from gitops.client import endpoint


def _write(directory: Path, name: str, engine: object, *, tls: bool = False) -> dict[str, str]:
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = directory / "contexts" / "meta" / key
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": engine}}))
    if tls:
        (directory / "contexts" / "tls" / key / "docker").mkdir(parents=True)
    return {"DOCKER_CONFIG": str(directory)}


def test_a_context_is_another_name_of_an_address(tmp_path: Path) -> None:
    environment = _write(tmp_path, "prod", {"Host": "ssh://me@box", "SkipTLSVerify": False})
    found = endpoint.resolve("context://prod", environment)
    assert found.remote is not None
    assert (found.remote.user, found.remote.host) == ("me", "box")
    assert found.host == "context://prod (ssh://me@box)"


def test_a_context_brings_its_own_certificates_and_not_the_environment_s(tmp_path: Path) -> None:
    environment = _write(tmp_path, "prod", {"Host": "tcp://box:2376", "SkipTLSVerify": False}, tls=True)
    found = endpoint.resolve("context://prod", environment | {"DOCKER_CERT_PATH": "/elsewhere"})
    assert found.base_url == "https://box:2376"
    assert found.tls is not None
    assert found.tls.directory.is_relative_to(tmp_path)
    assert found.tls.is_verified


def test_a_context_can_do_without_the_check_of_the_engine_s_certificate(tmp_path: Path) -> None:
    environment = _write(tmp_path, "lab", {"Host": "tcp://box:2376", "SkipTLSVerify": True}, tls=True)
    found = endpoint.resolve("context://lab", environment).tls
    assert found is not None
    assert not found.is_verified


def test_the_default_context_is_docker_s_own_host() -> None:
    assert endpoint.resolve("context://default", {}).socket == Path("/var/run/docker.sock")


def test_a_context_that_is_none_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="no docker context is called 'prod'"):
        endpoint.resolve("context://prod", {"DOCKER_CONFIG": str(tmp_path)})


@pytest.mark.parametrize("engine", [None, [], {"Host": "nonsense"}, {}, {"Host": "context://prod"}])
def test_a_context_that_names_no_engine_is_refused(tmp_path: Path, engine: object) -> None:
    environment = _write(tmp_path, "prod", engine)
    with pytest.raises(errors.GitopsError):
        endpoint.resolve("context://prod", environment)
