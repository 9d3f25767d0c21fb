"""Where an engine listens: `unix://PATH` or `tcp://HOST:PORT`, the latter with TLS where the environment says so.

Pure but for reading the environment that it is given. Which files a TLS context is made of is decided here; it is made
by the transport.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gitops import errors

HOST_VARIABLE = "GITOPS_HOST"
DEFAULT_HOST = "unix:///run/gitops/engine.sock"
_TLS_PORT = 2376
_PLAIN_PORT = 2375


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The client's own certificate and key, and the authority that it trusts: docker's file names."""

    directory: Path
    is_verified: bool = True

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


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One engine's address. Exactly one of `socket` and `base_url`'s host leads to it."""

    host: str
    """As it was given, for messages."""
    socket: Path | None
    base_url: str
    tls: TlsFiles | None = None


def resolve(host: str | None, environment: Mapping[str, str] | None = None) -> Endpoint:
    """The endpoint of `host`, of GITOPS_HOST where it is None, of the built-in engine where that isn't set either.

    Raises:
        errors.Invalid: not an address. errors.Unsupported: a way to connect that isn't there.
    """
    known = os.environ if environment is None else environment
    text = host or known.get(HOST_VARIABLE) or DEFAULT_HOST
    scheme, separator, rest = text.partition("://")
    if not separator or not rest:
        raise errors.Invalid(f"invalid engine address {text!r}: unix:///path or tcp://host:port is wanted")
    if scheme == "unix":
        return Endpoint(host=text, socket=Path(rest), base_url="http://engine")
    if scheme == "tcp":
        return _tcp(text, known)
    raise errors.Unsupported(
        f"engine address {text!r}: {scheme}:// is not supported; use unix:///path or tcp://host:port"
    )


def _tcp(text: str, environment: Mapping[str, str]) -> Endpoint:
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError as error:
        raise errors.Invalid(f"invalid engine address {text!r}: {error}") from error
    if not parts.hostname or parts.path not in ("", "/") or parts.username:
        raise errors.Invalid(f"invalid engine address {text!r}: tcp://host:port is wanted")
    tls = _tls_files(environment)
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = _TLS_PORT if tls else _PLAIN_PORT
    return Endpoint(
        host=text, socket=None, base_url=f"{'https' if tls else 'http'}://{name}:{port or default}", tls=tls
    )


def _tls_files(environment: Mapping[str, str]) -> TlsFiles | None:
    """As docker: DOCKER_TLS_VERIFY (any text) asks for verified TLS, DOCKER_CERT_PATH says where the files are."""
    is_verified = bool(environment.get("DOCKER_TLS_VERIFY"))
    given = environment.get("DOCKER_CERT_PATH", "")
    if not is_verified and not given:
        return None
    return TlsFiles(Path(given) if given else Path(environment.get("HOME", "/root")) / ".docker", is_verified)
