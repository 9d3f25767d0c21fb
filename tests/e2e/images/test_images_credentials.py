"""A real registry with passwords and with TLS."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gitops import errors
from gitops.objects import image

pytestmark = pytest.mark.e2e

PASSWORD = "correct horse"
USERS = "alice:$2b$04$YRHaZpA3SYJeEhIFpV3fIOELwBfW2Nf7v7aCJdzQfp.UIk5zQ1zv2\n"
"""The same password by bcrypt, the only way that the registry knows."""


@pytest.fixture
def guarded(start_registry: Any, tmp_path: Path) -> Any:
    (tmp_path / "users").write_text(USERS)
    return start_registry(auth={"htpasswd": {"realm": "here", "path": str(tmp_path / "users")}})


async def test_a_registry_with_passwords_is_pulled_from_with_the_right_one(
    guarded: Any, image_layout: Any, host: Any, tools: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    image_layout.name("v1", image_layout.image([tools.make_layer({"a": b"1"})]))
    guarded.push(image_layout, "v1", "app:v1", f"--dest-creds=alice:{PASSWORD}")
    name = f"{guarded.host}/app:v1"
    with pytest.raises(errors.Denied, match="no basic auth credentials"):
        await host.pull(name)
    with pytest.raises(errors.Denied, match="incorrect username or password") as caught:
        await host.pull(name, auth=image.AuthConfig(username="alice", password="wrong-one"))
    assert "wrong-one" not in str(caught.value)
    image_id = await host.pull(name, auth=image.AuthConfig(username="alice", password=PASSWORD))
    assert host.read(image_id, "a") == b"1"
    assert PASSWORD not in caplog.text and "wrong-one" not in caplog.text
    for path in [host.root / "engine.db", host.root / "engine.db-wal"]:
        assert PASSWORD.encode() not in path.read_bytes()


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate that signs itself, for 127.0.0.1."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "registry.pem", directory / "registry.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@pytest.mark.parametrize("is_installed", [True, False])
async def test_a_registry_with_tls_is_pulled_from(
    is_installed: bool, start_registry: Any, image_layout: Any, host: Any, tools: Any, tmp_path: Path
) -> None:
    certificate, key = make_certificate(tmp_path)
    registry = start_registry(http={"tls": {"certificate": str(certificate), "key": str(key)}})
    image_layout.name("v1", image_layout.image([tools.make_layer({"a": b"1"})]))
    registry.push(image_layout, "v1", "app:v1")
    if is_installed:
        directory = tmp_path / "certs.d" / registry.host
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_bytes(certificate.read_bytes())
    image_id = await host.pull(f"{registry.host}/app:v1")
    assert host.read(image_id, "a") == b"1"
