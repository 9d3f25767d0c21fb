"""Where a registry listens and how far it is trusted: scheme, certificates, loopback rules.

A registry is spoken to over verified TLS. Two exceptions, both Docker's: one on loopback (or named as insecure) may
have a certificate that nobody signed, or no TLS at all, and then plain HTTP is used. A CA in a certificates directory
of the registry ends the exception: who installs one wants it checked.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from gitops import errors
from gitops.oci import reference

CERTIFICATES = (Path("/etc/gitops/certs.d"), Path("/etc/docker/certs.d"))
"""Each has a directory a registry (`host:port`) with its CA, `*.crt`, and perhaps our `*.cert` and `*.key`."""

_HUB = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Trust:
    """How TLS with a peer is set up: CAs beside the system's, our own certificate; or anything is believed."""

    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    is_insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """A client's TLS context of this trust.

        Raises:
            errors.Invalid: a certificate or key can't be read.
        """
        context = ssl.create_default_context()
        # Certificates that do for Docker do for us: the strictness that Python 3.13 brought asks for more.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.is_insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            if self.ca_file is not None:
                context.load_verify_locations(self.ca_file)
            if self.client_certificate is not None:
                context.load_cert_chain(self.client_certificate, self.client_key)
        except OSError as error:  # ssl.SSLError is one
            where = (self.ca_file or self.client_certificate or Path()).parent
            raise errors.Invalid(f"can't read the registry's certificates in {where}: {error}") from error
        return context


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A registry's origin and the trust in it."""

    url: URL
    trust: Trust = Trust()


def host_of(domain: str) -> str:
    """The host and port that serve `domain`."""
    return _HUB if domain == reference.DEFAULT_DOMAIN else domain


def is_loopback(host: str) -> bool:
    """Whether `host`, without a port, is this machine: 127.0.0.0/8, ::1 or localhost."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def candidates(domain: str, *, insecure: frozenset[str], directories: Sequence[Path] = CERTIFICATES) -> list[Endpoint]:
    """The ways to reach the registry of `domain`, the safest first; the next may be tried only where TLS itself failed.

    Raises as `find_trust`.
    """
    host = host_of(domain)
    secure = URL(f"https://{host}")
    trust = find_trust(host, directories)
    if trust.ca_file is None and (_is_insecure(domain, secure.host or "", insecure) or is_loopback(secure.host or "")):
        blind = dataclasses.replace(trust, is_insecure=True)
        return [Endpoint(secure, trust), Endpoint(secure, blind), Endpoint(URL(f"http://{host}"))]
    return [Endpoint(secure, trust)]


def _is_insecure(domain: str, host: str, insecure: frozenset[str]) -> bool:
    """Whether `insecure` has the domain, its host, or a network that the host's address is in."""
    if insecure & {domain, host}:
        return True
    try:
        address = ipaddress.ip_address(host)
        return any(address in ipaddress.ip_network(name, strict=False) for name in insecure if "/" in name)
    except ValueError:
        return False


def find_trust(host: str, directories: Sequence[Path] = CERTIFICATES) -> Trust:
    """What is installed for the registry `host` (with its port, if it has one); the first directory that has it counts.

    Raises:
        errors.Unsupported: more than one CA file or client certificate.
    """
    for directory in (parent / host for parent in directories):
        try:
            names = sorted(entry.name for entry in directory.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        found = {suffix: [name for name in names if name.endswith(suffix)] for suffix in (".crt", ".cert", ".key")}
        if any(len(matches) > 1 for matches in found.values()):
            raise errors.Unsupported(f"several certificates of one kind in {directory}: put them into one file")
        paths = {suffix: directory / matches[0] for suffix, matches in found.items() if matches}
        return Trust(paths.get(".crt"), paths.get(".cert"), paths.get(".key") if ".cert" in paths else None)
    return Trust()
