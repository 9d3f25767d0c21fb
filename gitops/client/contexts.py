"""Contexts of the docker CLI: engines that have a name on this machine. Read only; `docker context` makes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gitops import errors
from gitops.client.tlsfiles import TlsFiles

_DEFAULT = "default"
_DOCKER_HOST = "unix:///var/run/docker.sock"


@dataclass(frozen=True, slots=True)
class Context:
    """What a context says of its engine."""

    host: str
    tls: TlsFiles | None


def read(name: str, environment: Mapping[str, str]) -> Context:
    """The context of that name, from the directory that DOCKER_CONFIG names, else `~/.docker`.

    Raises:
        errors.NotFound: there is none. errors.Invalid: its file can't be read, or names no engine.
    """
    if name == _DEFAULT:
        return Context(environment.get("DOCKER_HOST") or _DOCKER_HOST, None)
    home = environment.get("HOME", "/root")
    root = Path(environment.get("DOCKER_CONFIG") or f"{home}/.docker") / "contexts"
    key = hashlib.sha256(name.encode()).hexdigest()
    path = root / "meta" / key / "meta.json"
    try:
        host, is_verified = _engine(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise errors.NotFound(f"no docker context is called {name!r}: see `docker context ls`") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise errors.Invalid(f"the docker context {name!r} can't be read: {path}: {error}") from error
    directory = root / "tls" / key / "docker"
    return Context(host, TlsFiles(directory, is_verified) if directory.is_dir() else None)


def _engine(meta: dict[str, dict[str, dict[str, object]]]) -> tuple[str, bool]:
    """The address, and whether its certificate is to be checked."""
    engine = meta["Endpoints"]["docker"]
    return str(engine["Host"]), not engine.get("SkipTLSVerify", False)
