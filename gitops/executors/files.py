"""Secrets and configs as files in a task's container, templates expanded. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from gitops import errors
from gitops.engine.containers.boundary import InjectedFile
from gitops.executors.templates import Expander
from gitops.objects.secret import Config, Secret
from gitops.objects.service import ConfigReference, ContainerSpec, FileTarget, SecretReference
from gitops.swarm.agent.executor import Dependencies

SECRETS = "/run/secrets"
Functions = Mapping[str, Callable[[str], str]]


def files(spec: ContainerSpec, dependencies: Dependencies, expand: Expander) -> Iterator[InjectedFile]:
    """What a container gets put in.

    Raises:
        errors.NotFound: a secret or config that wasn't delivered.
        errors.Invalid: an owner that is no number, or a template that can't be expanded.
    """
    secrets = {_secret_name(use): (use, _secret(use, dependencies)) for use in spec.secrets}
    configs = {_config_name(use): (use, _config(use, dependencies)) for use in spec.configs if use.file is not None}
    functions: Functions = {
        "secret": partial(_argument, "secret", {name: item.spec.data for name, (_, item) in secrets.items()}),
        "config": partial(_argument, "config", {name: item.spec.data for name, (_, item) in configs.items()}),
        "env": partial(_variable, dict(_pair(entry, expand) for entry in spec.env)),
    }
    for name, (secret_use, secret) in secrets.items():
        path = name if name.startswith("/") else f"{SECRETS}/{name}"
        yield _file(path, _content(secret, path, expand, functions), secret_use.file)
    for name, (config_use, config) in configs.items():
        path = name if name.startswith("/") else f"/{name}"
        yield _file(path, _content(config, path, expand, functions), config_use.file)


def _secret_name(use: SecretReference) -> str:
    return (use.file.name if use.file else "") or use.secret_name


def _config_name(use: ConfigReference) -> str:
    return (use.file.name if use.file else "") or use.config_name


def _secret(use: SecretReference, dependencies: Dependencies) -> Secret:
    secret = dependencies.secrets.get(use.secret_id)
    if secret is None:
        raise errors.NotFound(f"secret {use.secret_name or use.secret_id} was not delivered to this node")
    return secret


def _config(use: ConfigReference, dependencies: Dependencies) -> Config:
    config = dependencies.configs.get(use.config_id)
    if config is None:
        raise errors.NotFound(f"config {use.config_name or use.config_id} was not delivered to this node")
    return config


def _content(item: Secret | Config, path: str, expand: Expander, functions: Functions) -> bytes:
    is_template = item.spec.templating is not None and item.spec.templating.name
    return expand.file(item.spec.data, path, functions) if is_template else item.spec.data


def _argument(kind: str, found: Mapping[str, bytes], target: str) -> str:
    if target not in found:
        raise errors.Invalid(f"the container has no {kind} at {target!r}, which a template refers to")
    try:
        return found[target].decode()
    except UnicodeDecodeError as error:
        raise errors.Invalid(f"the {kind} at {target!r}, which a template refers to, is no UTF-8 text") from error


def _variable(found: Mapping[str, str], name: str) -> str:
    if name not in found:
        raise errors.Invalid(f"the container has no variable {name!r}, which a template refers to")
    return found[name]


def _pair(entry: str, expand: Expander) -> tuple[str, str]:
    name, _, value = expand(entry).partition("=")
    return name, value


def _file(path: str, data: bytes, target: FileTarget | None) -> InjectedFile:
    if target is None:
        return InjectedFile(path, data)
    return InjectedFile(path, data, mode=target.mode, uid=_number(target.uid, path), gid=_number(target.gid, path))


def _number(text: str, path: str) -> int:
    if text and not text.isdecimal():
        raise errors.Invalid(f"the owner of {path} must be a number, not {text!r}")
    return int(text or "0")
