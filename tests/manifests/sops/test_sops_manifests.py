"""Secrets and configs that come from encrypted files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyrage
import pytest
from click.testing import CliRunner

from gitops import errors, manifests
from gitops.cli import secrets
from gitops.manifests.sops import document
from gitops.objects.secret import SecretSpec

SECRET = """\
apiVersion: gitops/v1
kind: Secret
metadata: {name: db, stack: shop}
spec:
  sops: {file: db.yaml.enc, format: yaml, key: db.password}
"""
OPTIONS = manifests.LoadOptions(secret_key=b"k" * 32)


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    found = pyrage.x25519.Identity.generate()
    monkeypatch.setenv("SOPS_AGE_KEY", str(found))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    return found


@pytest.fixture
def repository(identity: Any, tmp_path: Path) -> Path:
    place = tmp_path / "repository"
    place.mkdir()
    (place / "secret.yaml").write_text(SECRET)
    write(place, "hunter2", identity)
    return place


def write(place: Path, password: str, identity: Any) -> None:
    clear = f"db: {{password: {password}}}\n".encode()
    (place / "db.yaml.enc").write_bytes(document.encrypt(clear, "yaml", [str(identity.to_public())]))


def spec(place: Path, options: manifests.LoadOptions = OPTIONS) -> SecretSpec:
    found = manifests.load(place, options).of("Secret")[0].spec
    assert isinstance(found, SecretSpec)
    return found


def test_the_value_is_that_of_the_key(repository: Path) -> None:
    assert spec(repository).data == b"hunter2"


def test_the_same_value_encrypted_anew_has_the_same_name_and_another_value_another(
    repository: Path, identity: Any
) -> None:
    first = spec(repository).name
    write(repository, "hunter2", identity)
    assert spec(repository).name == first
    write(repository, "hunter3", identity)
    assert spec(repository).name != first


def test_without_a_key_the_error_names_file_line_field_and_recipient(
    repository: Path, identity: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOPS_AGE_KEY")
    with pytest.raises(errors.InvalidManifest) as raised:
        manifests.load(repository, OPTIONS)
    (problem,) = raised.value.problems
    assert (problem.file, problem.line, problem.field) == ("secret.yaml", 5, "spec.sops")
    assert str(identity.to_public()) in problem.reason and "SOPS_AGE_KEY_FILE" in problem.reason


def test_checking_manifests_needs_no_key(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOPS_AGE_KEY")
    found = manifests.load(repository, replace(OPTIONS, opens_sops=False))
    assert [item.file for item in found.encrypted] == ["db.yaml.enc"]


def test_a_broken_value_is_told_without_showing_it(repository: Path) -> None:
    file = repository / "db.yaml.enc"
    file.write_text(file.read_text().replace("password:", "passwort:", 1))
    with pytest.raises(errors.InvalidManifest, match="does not decrypt") as raised:
        manifests.load(repository, OPTIONS)
    assert "hunter2" not in str(raised.value)


def test_a_file_outside_the_repository_is_refused(repository: Path) -> None:
    (repository / "db.yaml.enc").rename(repository.parent / "db.yaml.enc")
    (repository / "secret.yaml").write_text(SECRET.replace("db.yaml.enc", "../db.yaml.enc"))
    with pytest.raises(errors.InvalidManifest, match="repository"):
        manifests.load(repository, OPTIONS)


def test_check_says_who_can_open_what(repository: Path, identity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(secrets.secret, ["check", str(repository)])
    assert done.exit_code == 0 and "shop/db" in done.output and "yes" in done.output
    monkeypatch.setenv("SOPS_AGE_KEY", str(pyrage.x25519.Identity.generate()))
    done = CliRunner().invoke(secrets.secret, ["check", str(repository)])
    assert isinstance(done.exception, errors.Invalid) and str(identity.to_public()) in str(done.exception)


def test_a_file_is_encrypted_beside_the_one_in_clear(tmp_path: Path, identity: Any) -> None:
    (tmp_path / "a.env").write_text("PASSWORD=hunter2\n")
    arguments = ["encrypt", str(tmp_path / "a.env"), "--age", str(identity.to_public()), "-o", str(tmp_path / "b.env")]
    done = CliRunner().invoke(secrets.secret, arguments)
    assert done.exit_code == 0, done.output
    assert "hunter2" not in (tmp_path / "b.env").read_text()
    wrong = CliRunner().invoke(secrets.secret, [*arguments[:3], "age1nobody", *arguments[4:]])
    assert "is no age recipient" in str(wrong.exception)
