"""Dockerfile instructions applied to an image's config: `docker import --change`, `docker commit --change`. Pure.

Those that only say what to run: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import structs

from gitops import errors
from gitops.objects import base
from gitops.objects.container import ContainerConfig
from gitops.objects.service import HealthConfig

_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?")
_HEALTH_OPTIONS = {
    "interval": "interval",
    "timeout": "timeout",
    "start-period": "start_period",
    "start-interval": "start_interval",
}


def apply(config: ContainerConfig, changes: Sequence[str]) -> ContainerConfig:
    """`config` after the instructions of `changes`, in their order; each entry may hold several lines.

    An ENTRYPOINT that no CMD came before takes the former command away, as in a Dockerfile.

    Raises:
        errors.Invalid: what is no instruction, or one that can't be a change.
    """
    lines = [line.strip() for entry in changes for line in entry.splitlines()]
    has_cmd = False
    for line in lines:
        if line and not line.startswith("#"):
            found = _instruction(config, line)
            has_cmd = has_cmd or "cmd" in found
            if "entrypoint" in found and not has_cmd:
                found["cmd"] = None
            config = structs.replace(config, **found)
    return config


def _instruction(config: ContainerConfig, line: str) -> dict[str, Any]:
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    work = _WORK.get(word.upper())
    if work is None:
        raise errors.Invalid(f"{line!r}: {word.upper()} is not a valid change command, {', '.join(sorted(_WORK))} are")
    if not rest:
        raise errors.Invalid(f"{line!r}: {word.upper()} requires at least one argument")
    try:
        return work(config, rest)
    except (ValueError, errors.Invalid) as error:
        raise errors.Invalid(f"{line!r}: {error}") from error


def _command(text: str) -> list[str]:
    """The exec form, a JSON array, or else the shell form."""
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if isinstance(found, list) and all(isinstance(item, str) for item in found):
            return found
    return [*_SHELL, text]


def _words(text: str) -> list[str]:
    """A JSON array, or words."""
    found = _command(text)
    return shlex.split(text) if found[:2] == list(_SHELL) else found


def _pairs(text: str) -> dict[str, str]:
    """`k=v k2="v 2"`, or the old `k v`."""
    words = shlex.split(text)
    if "=" not in words[0]:
        name, _, value = text.partition(" ")
        if not value:
            raise ValueError("a name and a value are wanted: name=value")
        return {name: value.strip()}
    if bare := [word for word in words if "=" not in word]:
        raise ValueError(f"{bare[0]!r} is not of the form name=value")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _cmd(_: ContainerConfig, text: str) -> dict[str, Any]:
    return {"cmd": _command(text)}


def _entrypoint(_: ContainerConfig, text: str) -> dict[str, Any]:
    return {"entrypoint": _command(text)}


def _env(config: ContainerConfig, text: str) -> dict[str, Any]:
    merged = dict(line.partition("=")[::2] for line in config.env or [])
    return {"env": [f"{name}={value}" for name, value in {**merged, **_pairs(text)}.items()]}


def _label(config: ContainerConfig, text: str) -> dict[str, Any]:
    return {"labels": {**(config.labels or {}), **_pairs(text)}}


def _expose(config: ContainerConfig, text: str) -> dict[str, Any]:
    ports: dict[str, Any] = {}
    for word in shlex.split(text):
        match = _PORT.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if match is None or not 0 < first <= last <= 65535:
            raise ValueError(f"{word!r} is not a port: 80, 80/udp and 8000-8010/tcp are")
        ports.update({f"{port}/{match[3] or 'tcp'}": {} for port in range(first, last + 1)})
    return {"exposed_ports": {**(config.exposed_ports or {}), **ports}}


def _volume(config: ContainerConfig, text: str) -> dict[str, Any]:
    return {"volumes": {**(config.volumes or {}), **{path: {} for path in _words(text)}}}


def _workdir(config: ContainerConfig, text: str) -> dict[str, Any]:
    return {"working_dir": posixpath.normpath(posixpath.join(config.working_dir or "/", text))}


def _user(_: ContainerConfig, text: str) -> dict[str, Any]:
    return {"user": text}


def _stop_signal(_: ContainerConfig, text: str) -> dict[str, Any]:
    return {"stop_signal": text}


def _healthcheck(_: ContainerConfig, text: str) -> dict[str, Any]:
    options: dict[str, int] = {}
    while match := re.match(r"--([a-z-]+)=(\S+)\s*", text):
        name, value = match.groups()
        if name == "retries" and value.isdigit():
            options["retries"] = int(value)
        elif name in _HEALTH_OPTIONS:
            options[_HEALTH_OPTIONS[name]] = base.parse_duration(value)
        else:
            raise ValueError(f"--{name}={value} is not an option of HEALTHCHECK")
        text = text[match.end() :] or "?"
    kind, *words = text.split(None, 1)
    rest = words[0] if words else ""
    if kind.upper() == "NONE":
        return {"healthcheck": HealthConfig(test=["NONE"])}
    if kind.upper() != "CMD" or not rest.strip():
        raise ValueError("HEALTHCHECK is followed by NONE, or by CMD and a command")
    command = _command(rest.strip())
    test = ["CMD-SHELL", command[2]] if command[:2] == list(_SHELL) else ["CMD", *command]
    return {"healthcheck": HealthConfig(test=test, **options)}


_WORK: Mapping[str, Callable[[ContainerConfig, str], dict[str, Any]]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
