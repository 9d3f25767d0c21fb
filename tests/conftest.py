"""Fixtures for all tests."""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
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

CORPUS = Path(os.environ.get("GITOPS_COMPOSE_CORPUS") or Path(__file__).parents[2] / "shared" / "compose-corpus")
_MISSING = "no such file: "


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What runs remember from one to the next lies with the tests' other files."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def compose_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """A copy of the corpus of Compose files of others, with a stand-in for each file that one of them names and the
    corpus lacks; None, and a word about it, where the corpus isn't. It is no part of the project:
    GITOPS_COMPOSE_CORPUS says where it is, else it is looked for beside the checkout.
    """
    if not (CORPUS / "INDEX.tsv").is_file():
        print(f"the corpus isn't at {CORPUS}: set GITOPS_COMPOSE_CORPUS to its directory")
        return None
    place = tmp_path_factory.mktemp("corpus") / "corpus"
    shutil.copytree(CORPUS, place, copy_function=shutil.copyfile)
    for directory in (place, *place.rglob("*/")):
        directory.chmod(0o755)
    for row in (place / "INDEX.tsv").read_text().splitlines()[1:]:
        path = place / row.split("\t")[1]
        while _provide(path, place):
            pass
    return place


def _provide(path: Path, place: Path) -> bool:
    """Make the files that a Compose file names and lacks; whether there were any."""
    from gitops import errors, manifests

    options = manifests.LoadOptions(root=place, environ={}, secret_key=b"k", project_name="corpus")
    try:
        manifests.load(path, options)
    except errors.InvalidManifest as error:
        found = [problem.reason for problem in error.problems if problem.reason.startswith(_MISSING)]
        made = [_make(path.parent / reason.removeprefix(_MISSING).strip("'"), place) for reason in found]
        return any(made)
    return False


def _make(file: Path, place: Path) -> bool:
    if file.exists() or not Path(os.path.normpath(file)).is_relative_to(place):
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("services: {}\n" if file.suffix in (".yaml", ".yml") else "STAND_IN=1\n")
    return True


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
