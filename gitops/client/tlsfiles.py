"""A client's side of mutual TLS: which files it takes, and the context that they make."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gitops import errors

_FALSE = frozenset({"0", "no", "false"})


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The client's own certificate and key, and the authority that it trusts: docker's file names."""

    directory: Path
    is_verified: bool = True
    """Whether the engine must prove who it is."""

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.directory / "ca.pem"

    @property
    def certificate(self) -> Path:
        """The client's certificate."""
        return self.directory / "cert.pem"

    @property
    def key(self) -> Path:
        """The client's key."""
        return self.directory / "key.pem"


def of_environment(environment: Mapping[str, str]) -> TlsFiles | None:
    """The files that the environment asks TLS with, or None for plain connections.

    GITOPS_CERT_PATH asks for TLS, and GITOPS_TLS_VERIFY too, with docker's directory; the engine's certificate is
    checked unless GITOPS_TLS_VERIFY says 0. Where neither is set, DOCKER_CERT_PATH and DOCKER_TLS_VERIFY (any text)
    mean what they mean to Docker's clients.
    """
    usual = Path(environment.get("HOME", "/root")) / ".docker"
    path, verify = environment.get("GITOPS_CERT_PATH", ""), environment.get("GITOPS_TLS_VERIFY", "")
    if path or verify:
        is_verified = verify.lower() not in _FALSE
        return TlsFiles(Path(path) if path else usual, is_verified) if path or is_verified else None
    path, verify = environment.get("DOCKER_CERT_PATH", ""), environment.get("DOCKER_TLS_VERIFY", "")
    if path or verify:
        return TlsFiles(Path(path) if path else usual, bool(verify))
    return None


def context(files: TlsFiles) -> ssl.SSLContext:
    """TLS as these files have it: 1.2 or later.

    Raises:
        errors.Invalid: a file can't be used.
    """
    try:
        made = ssl.create_default_context(cafile=str(files.ca) if files.ca.exists() else None)
        # Certificates that do for Docker do for us: the strictness that Python 3.13 brought asks for more.
        made.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not files.is_verified:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        if files.certificate.exists():
            made.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise errors.Invalid(f"the TLS files in {files.directory} can't be used: {error}") from error
    return made
