"""Fixtures for all tests."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")


class Authority:
    """A certificate authority whose files lie in one directory, as docker's clients and dockerd want them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {directory.name}")])
        basic = x509.BasicConstraints(ca=True, path_length=None)
        (directory / "ca.pem").write_bytes(_pem(self._signed(self._name, self._key, [basic], 1)))

    @property
    def ca(self) -> Path:
        return self.directory / "ca.pem"

    def server(self, *names: str) -> tuple[Path, Path]:
        """Certificate and key of a server with these addresses or names."""
        given = names or ("127.0.0.1", "::1", "localhost")
        others = x509.SubjectAlternativeName([_general_name(name) for name in given])
        return self._leaf(self.directory, "server", ExtendedKeyUsageOID.SERVER_AUTH, [others])

    def client(self, name: str = "client", *, days: float = 1) -> Path:
        """A client's directory: ca.pem, cert.pem, key.pem. With `days` below 0 the certificate has expired."""
        directory = self.directory / name
        directory.mkdir()
        (directory / "ca.pem").write_bytes(self.ca.read_bytes())
        certificate, key = self._leaf(directory, name, ExtendedKeyUsageOID.CLIENT_AUTH, [], days)
        certificate.rename(directory / "cert.pem")
        key.rename(directory / "key.pem")
        return directory

    def _leaf(
        self, directory: Path, name: str, usage: x509.ObjectIdentifier, more: list[x509.ExtensionType], days: float = 1
    ) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, secret = directory / f"{name}.pem", directory / f"{name}-key.pem"
        certificate.write_bytes(_pem(self._signed(subject, key, [x509.ExtendedKeyUsage([usage]), *more], days)))
        plain = serialization.NoEncryption()
        secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
        return certificate, secret

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, more: list[x509.ExtensionType], days: float
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=9))
        made = made.not_valid_after(now + datetime.timedelta(days=days))
        for extension in more:
            made = made.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return made.sign(self._key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


@pytest.fixture
def authority(tmp_path: Path) -> Callable[[str], Authority]:
    """Makes certificate authorities by name."""

    def make(name: str = "authority") -> Authority:
        return Authority(tmp_path / name)

    return make
