"""What the operator holds: credentials for registries, and the key for secrets."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from gitops import errors
from gitops.reconciler import credentials, secretkey


def config(monkeypatch: pytest.MonkeyPatch, directory: Path, content: object) -> None:
    (directory / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    monkeypatch.setenv("DOCKER_CONFIG", str(directory))


def encoded(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def test_credentials_are_found_by_the_images_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    auths = {"registry.example:5000": encoded("me:pass:word"), "https://other.example/v2/": encoded("you:x")}
    config(monkeypatch, tmp_path, {"auths": auths})
    found = credentials.for_image("registry.example:5000/app:1")
    assert found is not None and (found.username, found.password) == ("me", "pass:word")
    other = credentials.for_image("other.example/app")
    assert other is not None and other.username == "you"
    assert credentials.for_image("third.example/app") is None
    assert "pass" not in repr(found)


def test_without_a_file_there_are_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert credentials.for_image("nginx") is None


def test_a_damaged_file_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config(monkeypatch, tmp_path, "{")
    with pytest.raises(errors.Invalid, match=r"config\.json"):
        credentials.for_image("nginx")


def test_a_helper_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text('#!/bin/sh\nread key\necho "{\\"Username\\": \\"$key\\", \\"Secret\\": \\"s\\"}"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    config(monkeypatch, tmp_path, {"credHelpers": {"registry.example": "test"}})
    found = credentials.for_image("registry.example/app")
    assert found is not None and (found.username, found.password) == ("registry.example", "s")


def test_a_helper_with_a_path_for_a_name_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config(monkeypatch, tmp_path, {"credsStore": "../evil"})
    with pytest.raises(errors.Invalid, match="no program's name"):
        credentials.for_image("registry.example/app")


def test_the_key_is_made_once_and_only_its_owner_can_read_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(secretkey.FILE_VARIABLE, str(tmp_path / "deep" / "key"))
    key = secretkey.read()
    assert len(key) == 32 and secretkey.read() == key
    assert (tmp_path / "deep" / "key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_can_read_or_that_is_short_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    monkeypatch.setenv(secretkey.FILE_VARIABLE, str(path))
    path.write_bytes(b"x" * 32)
    path.chmod(0o644)
    with pytest.raises(errors.Invalid, match="chmod 600"):
        secretkey.read()
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(errors.Invalid, match="32 are needed"):
        secretkey.read()
