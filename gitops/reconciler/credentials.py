"""Registry credentials: Docker's config.json and its helpers. Read when they are needed, never kept, never logged."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gitops import errors
from gitops.objects.image import AuthConfig
from gitops.oci import reference as references

_HELPER = re.compile(r"^[a-z0-9][a-z0-9._-]*$")
_HELPER_TIMEOUT_S = 30
_HUB = "https://index.docker.io/v1/"
"""The key under which Docker keeps the credentials of its default registry."""


def for_image(image: str) -> AuthConfig | None:
    """What the registry of `image` wants; None where nothing is on file.

    Raises:
        errors.Invalid: config.json can't be read. errors.RuntimeFailure: a credential helper failed.
    """
    config = _config()
    domain = references.parse(image).domain
    keys = [_HUB, "docker.io", "index.docker.io"] if domain == references.DEFAULT_DOMAIN else [domain]
    for key in keys:
        helper = config.get("credHelpers", {}).get(key) or config.get("credsStore")
        if helper and (found := _ask(helper, key)):
            return found
    auths = {_host(key): value for key, value in config.get("auths", {}).items() if isinstance(value, Mapping)}
    return next((found for key in keys if (found := _decode(_host(key), auths.get(_host(key))))), None)


def _config() -> dict[str, Any]:
    directory = os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
    path = Path(directory) / "config.json"
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise errors.Invalid(f"{path}: can't be read for registry credentials: {type(error).__name__}") from error
    return found if isinstance(found, dict) else {}


def _host(key: str) -> str:
    """The registry of a key such as `https://registry.example/v2/`."""
    return key if key == _HUB else key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _decode(registry: str, entry: Mapping[str, Any] | None) -> AuthConfig | None:
    if not entry:
        return None
    if token := entry.get("identitytoken"):
        return AuthConfig(serveraddress=registry, identitytoken=str(token))
    try:
        user, _, password = base64.b64decode(entry.get("auth", ""), validate=True).decode().partition(":")
    except ValueError as error:
        raise errors.Invalid(
            f"the credentials of {registry} in Docker's config.json are damaged: log in again"
        ) from error
    return AuthConfig(username=user, password=password.rstrip("\0"), serveraddress=registry) if user else None


def _ask(helper: str, key: str) -> AuthConfig | None:
    if not _HELPER.match(helper):
        raise errors.Invalid(f"Docker's config.json names a credential helper {helper!r}, which is no program's name")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=key.encode(), capture_output=True, timeout=_HELPER_TIMEOUT_S, check=False
        )
        answer = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise errors.RuntimeFailure(f"{program} failed: {type(error).__name__}") from error
    if answer is None:
        return None
    user, secret = str(answer.get("Username", "")), str(answer.get("Secret", ""))
    if user == "<token>":
        return AuthConfig(serveraddress=key, identitytoken=secret)
    return AuthConfig(username=user, password=secret, serveraddress=key)
