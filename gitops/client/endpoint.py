"""Where an engine listens: `unix://PATH`, `tcp://HOST:PORT` (with TLS where the environment says so),
`ssh://[USER@]HOST[:PORT][/SOCKET]`, or `context://NAME`, which is one of these by a name of the docker CLI's.

Pure but for reading the environment that it is given and, of contexts, docker's files. Which files a TLS context is
made of is decided here; it is made by the transport, as is the way through ssh.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from gitops import errors
from gitops.client import contexts, ssh
from gitops.client.tlsfiles import TlsFiles, of_environment

HOST_VARIABLE = "GITOPS_HOST"
DEFAULT_HOST = "unix:///run/gitops/engine.sock"
_WAYS = "unix:///path, tcp://host:port, ssh://user@host or context://name"
_UNIX_URL = "http://engine"
_TLS_PORT = 2376
_PLAIN_PORT = 2375


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One engine's address. Exactly one of `socket`, `remote` and `base_url`'s host leads to it."""

    host: str
    """As it was given, for messages."""
    socket: Path | None
    base_url: str
    tls: TlsFiles | None = None
    remote: ssh.Target | None = None
    """The host to reach by ssh."""


def resolve(host: str | None, environment: Mapping[str, str] | None = None) -> Endpoint:
    """The endpoint of `host`, of GITOPS_HOST where it is None, of the built-in engine where that isn't set either.

    Raises:
        errors.Invalid: not an address. errors.NotFound: no such context. errors.Unsupported: a way to connect that
            isn't there.
    """
    known = os.environ if environment is None else environment
    text = host or known.get(HOST_VARIABLE) or DEFAULT_HOST
    scheme, separator, rest = text.partition("://")
    if not separator or not rest:
        raise errors.Invalid(f"invalid engine address {text!r}: {_WAYS} is wanted")
    if scheme == "context":
        return _of_context(text, rest, known)
    return _direct(text, of_environment(known))


def _direct(text: str, tls: TlsFiles | None) -> Endpoint:
    scheme, _, rest = text.partition("://")
    if scheme == "unix":
        return Endpoint(host=text, socket=Path(rest), base_url=_UNIX_URL)
    if scheme == "tcp":
        return _tcp(text, tls)
    if scheme == "ssh":
        return Endpoint(host=text, socket=None, base_url=_UNIX_URL, remote=ssh.parse(text))
    raise errors.Unsupported(f"engine address {text!r}: {scheme}:// is not supported; use {_WAYS}")


def _of_context(text: str, name: str, environment: Mapping[str, str]) -> Endpoint:
    found = contexts.read(name, environment)
    return replace(_direct(found.host, found.tls), host=f"{text} ({found.host})")


def _tcp(text: str, tls: TlsFiles | None) -> Endpoint:
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError as error:
        raise errors.Invalid(f"invalid engine address {text!r}: {error}") from error
    if not parts.hostname or parts.path not in ("", "/") or parts.username:
        raise errors.Invalid(f"invalid engine address {text!r}: tcp://host:port is wanted")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = _TLS_PORT if tls else _PLAIN_PORT
    return Endpoint(
        host=text, socket=None, base_url=f"{'https' if tls else 'http'}://{name}:{port or default}", tls=tls
    )
