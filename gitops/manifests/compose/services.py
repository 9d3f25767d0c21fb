"""A service of a Compose file in the words of our Service manifest.

What has the same word and meaning is passed on as it is; what follows here is what has not. Nothing is checked twice:
values are judged by the Service's own model afterwards.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gitops.manifests.compose import inputs as reading
from gitops.manifests.compose.inputs import Inputs, Variables
from gitops.manifests.kinds import mounts
from gitops.manifests.problems import Issue
from gitops.manifests.repository import Refused
from gitops.manifests.text.construct import Path
from gitops.manifests.text.scalars import SpelledInt

_EVERYWHERE = ("0.0.0.0", "::", "[::]")
_PORT = re.compile(
    r"(?:(?P<ip>\[[0-9a-fA-F:.]+\]|[^:]*):)??(?:(?P<published>[0-9]*(?:-[0-9]+)?):)?(?P<target>[0-9]+(?:-[0-9]+)?)"
    r"(?:/(?P<protocol>[a-z]+))?"
)
_LOG_DRIVERS = ("json-file", "local", "none")
_LOG_OPTIONS = ("max-size", "max-file")
_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_SHORT_OPTIONS = frozenset(("z", "Z", "cached", "delegated", "consistent"))


@dataclass(slots=True)
class Translation:
    """What becomes of one object: its spec, where parts of it come from, and what there is to say."""

    spec: dict[str, Any]
    moves: dict[Path, Path] = field(default_factory=dict)
    """Paths below `spec` whose place in the Compose file, below the object, is another one."""
    issues: list[Issue] = field(default_factory=list)
    """Problems, with paths of the Compose file below the object."""
    warnings: list[Issue] = field(default_factory=list)

    def warn(self, path: Path, reason: str, hint: str = "") -> None:
        """Say that something is without effect, or means something else here."""
        self.warnings.append(Issue(path, reason, hint, on_key=True))


@dataclass(slots=True)
class Context:
    """What a service is translated in."""

    stack: str
    directory: str
    inputs: Inputs
    variables: Variables
    services: dict[str, dict[str, Any]]
    """All services of the project that are active."""
    inactive: frozenset[str]
    """Those whose profile isn't, and those that run no container."""


def translate(name: str, service: dict[str, Any], context: Context) -> Translation:
    """A service's spec."""
    found = Translation({key: value for key, value in service.items() if key not in _TRANSLATED and value is not None})
    for key, convert in _BY_KEY.items():
        if service.get(key) is not None:
            convert(found, service, context)
    for convert in (_environment, _labels, _volumes, _deploy):
        convert(found, service, context)
    if "image" not in found.spec:
        found.spec["image"] = _image(found, name, service, context)
        found.moves["image",] = ("build",) if "build" in service else ()
    return found


def _image(found: Translation, name: str, service: dict[str, Any], context: Context) -> str:
    image = f"{context.stack}-{name}".lower()
    if "build" in service:
        found.warn(
            ("build",), f"is not built here: the image {image} is used", "build it before, or write an Image for it"
        )
    else:
        found.warn((), f"has neither image nor build: the image {image} is used", "write image")
    return image


def _words(key: str) -> Callable[[Translation, dict[str, Any], Context], None]:
    def convert(found: Translation, service: dict[str, Any], context: Context) -> None:
        if service[key] not in (None, "", []):
            found.spec[key] = service[key]

    return convert


def _pairs(value: Any) -> dict[str, Any]:
    """A map, of a map or a list of KEY=VALUE; no value is None."""
    if isinstance(value, list):
        return {name: text if mark else None for name, mark, text in (item.partition("=") for item in value)}
    return dict(value or {})


def _environment(found: Translation, service: dict[str, Any], context: Context) -> None:
    variables: dict[str, Any] = {}
    files = service.get("env_file")
    for index, file in enumerate(files if isinstance(files, list) else [files] if files else ()):
        file = {"path": file} if isinstance(file, str) else file
        path: Path = ("env_file", index) if isinstance(files, list) else ("env_file",)
        if file.get("required") is False and not context.inputs.exists(context.directory, file["path"]):
            continue
        variables |= _env_file(found, path, file, context)
    for name, value in _pairs(service.get("environment")).items():
        if value is None:
            value = context.variables.get(name)
            if value is None:
                continue
        variables[name] = value
    if variables:
        found.spec["environment"] = variables


def _env_file(found: Translation, path: Path, file: dict[str, Any], context: Context) -> dict[str, str]:
    is_raw = file.get("format") == "raw"
    try:
        return reading.env_file(context.inputs, context.directory, file["path"], context.variables, is_raw=is_raw)
    except Refused as error:
        found.issues.append(Issue(path, error.reason, error.hint))
        return {}


def _labels(found: Translation, service: dict[str, Any], context: Context) -> None:
    labels: dict[str, Any] = {}
    files = service.get("label_file")
    for index, file in enumerate(files if isinstance(files, list) else [files] if files else ()):
        path: Path = ("label_file", index) if isinstance(files, list) else ("label_file",)
        labels |= _env_file(found, path, {"path": file}, context)
    labels |= _pairs(service.get("labels"))
    if labels:
        found.spec["labels"] = labels


def _ports(found: Translation, service: dict[str, Any], context: Context) -> None:
    ports: list[Any] = []
    for index, port in enumerate(service["ports"]):
        long = _long_port(port)
        if long is None:
            found.issues.append(Issue(("ports", index), f"{port!r} is no port", "as in 8080:80 or 8080:80/udp"))
            continue
        address = str(long.pop("host_ip", "") or "")
        if address and address not in _EVERYWHERE:
            reason = f"is not published: a swarm can't publish on {address} alone"
            found.warn(("ports", index), reason, "without the address it is published on all of them")
            continue
        for each in _spread(long):
            found.moves["ports", len(ports)] = ("ports", index)
            ports.append(each)
    if ports:
        found.spec["ports"] = ports


def _long_port(port: Any) -> dict[str, Any] | None:
    if isinstance(port, dict):
        return {key: value for key, value in port.items() if value != ""}
    text = str(port)
    if "." in text and text.count(":") == 0 and isinstance(port, float):
        return None
    match = _PORT.fullmatch(text)
    if match is None:
        return None
    result: dict[str, Any] = {"target": match["target"]}
    if match["published"]:
        result["published"] = match["published"]
    if match["protocol"]:
        result["protocol"] = match["protocol"]
    if match["ip"]:
        result["host_ip"] = match["ip"]
    return result


def _spread(port: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A range of published ports for one port of the container is all of them, as in Docker."""
    first, mark, last = str(port.get("published", "")).partition("-")
    if not mark or "-" in str(port.get("target", "")) or not (first.isdigit() and last.isdigit()):
        yield port
        return
    for number in range(int(first), min(int(last), int(first) + 65535) + 1):
        yield {**port, "published": number}


def _volumes(found: Translation, service: dict[str, Any], context: Context) -> None:
    volumes: list[Any] = []
    for index, volume in enumerate(service.get("volumes") or ()):
        long = _long_mount(volume)
        if long is None:
            found.issues.append(Issue(("volumes", index), f"{volume!r} is no mount", "as in data:/var/lib/data:ro"))
            continue
        if long["type"] not in ("bind", "volume", "tmpfs"):
            found.warn(("volumes", index), f"is left out: a mount of type {long['type']}", "use bind, volume or tmpfs")
            continue
        if long["type"] == "bind":
            long["source"] = _host_path(str(long.get("source", "")), context)
        for other in ("bind", "volume", "tmpfs", "image"):
            if other != long["type"] or not long.get(other):
                long.pop(other, None)
        _tmpfs_options(long)
        found.moves["volumes", len(volumes)] = ("volumes", index)
        volumes.append(long)
    for index, text in enumerate(service.get("volumes_from") or ()):
        _borrow(found, volumes, index, text, context)
    if volumes:
        found.spec["volumes"] = volumes


def _tmpfs_options(mount: dict[str, Any]) -> None:
    options = mount.get("tmpfs")
    if isinstance(options, dict) and "mode" in options:
        options["mode"] = _mode(options["mode"])


def _long_mount(volume: Any) -> dict[str, Any] | None:
    """A mount in its long form; None if it is none."""
    if isinstance(volume, dict):
        return {key: dict(value) if isinstance(value, dict) else value for key, value in volume.items()}
    parts = volume.split(":")
    if len(parts) == 1 and parts[0]:
        return {"type": "volume", "target": parts[0]}
    if len(parts) > 3 or not all(parts):
        return None
    kind = "bind" if parts[0].startswith(("/", ".", "~")) else "volume"
    mount: dict[str, Any] = {"type": kind, "source": parts[0], "target": parts[1]}
    for option in parts[2].split(",") if len(parts) > 2 else ():
        if option in ("ro", "rw"):
            mount["read_only"] = option == "ro"
        elif option in ("nocopy", "volume-nocopy"):
            mount["volume"] = {"nocopy": True}
        elif option in _PROPAGATION:
            mount["bind"] = {"propagation": option}
        elif option not in _SHORT_OPTIONS:
            return None
    return mount


def _host_path(source: str, context: Context) -> str:
    """A path of the host, made absolute as Compose does."""
    if mounts.is_windows_path(source):
        return source
    if source.startswith("~"):
        source = os.path.join(context.variables.get("HOME") or os.path.expanduser("~"), source[1:].lstrip("/"))
    return os.path.normpath(os.path.join(context.directory, source)) if source else source


def _borrow(found: Translation, volumes: list[Any], index: int, text: str, context: Context) -> None:
    """The mounts of another service, as `volumes_from` has them."""
    name, _, mode = text.partition(":")
    other = context.services.get(name)
    if other is None:
        found.warn(("volumes_from", index), f"is left out: there is no service {name!r}", "name the volumes")
        return
    targets = {mount["target"] for mount in volumes}
    for volume in other.get("volumes") or ():
        long = _long_mount(volume)
        if (
            long is None
            or long["type"] not in ("bind", "volume")
            or long["target"] in targets
            or not long.get("source")
        ):
            continue
        if long["type"] == "bind":
            long["source"] = _host_path(long["source"], context)
        if mode == "ro":
            long["read_only"] = True
        found.moves["volumes", len(volumes)] = ("volumes_from", index)
        volumes.append(long)


def _files(key: str) -> Callable[[Translation, dict[str, Any], Context], None]:
    def convert(found: Translation, service: dict[str, Any], context: Context) -> None:
        uses = []
        for use in service[key] or ():
            long = {"source": use} if isinstance(use, str) else dict(use)
            if "mode" in long:
                long["mode"] = _mode(long["mode"])
            uses.append(long)
        if uses:
            found.spec[key] = uses

    return convert


def _mode(value: Any) -> Any:
    """Permission bits: a number is what it is in YAML, a text is octal."""
    if isinstance(value, int) and not isinstance(value, SpelledInt):
        return f"{value:04o}"
    return value


def _networks(found: Translation, service: dict[str, Any], context: Context) -> None:
    networks = service["networks"]
    if networks:
        found.spec["networks"] = list(networks) if isinstance(networks, list) else networks


def _depends_on(found: Translation, service: dict[str, Any], context: Context) -> None:
    given = service["depends_on"]
    wanted: dict[str, Any] = {}
    for name, use in (dict.fromkeys(given) if isinstance(given, list) else given or {}).items():
        if name in context.inactive:
            found.warn(("depends_on", name), f"is left out: {name} isn't run", "activate its profile by --profile")
        else:
            wanted[name] = use
    if wanted:
        found.spec["depends_on"] = wanted


def _logging(found: Translation, service: dict[str, Any], context: Context) -> None:
    logging = service["logging"]
    driver, options = logging.get("driver"), logging.get("options") or {}
    if driver not in (None, "", *_LOG_DRIVERS):
        found.warn(("logging", "driver"), f"is json-file here, not {driver}", "collect the engine's logs")
        return
    for name in options:
        if name not in _LOG_OPTIONS:
            found.warn(("logging", "options", name), "is not honoured", "max-size and max-file are")
    kept = {name: value for name, value in options.items() if name in _LOG_OPTIONS and value is not None}
    if kept or driver:
        found.spec["logging"] = {"driver": driver or "json-file", **({"options": kept} if kept else {})}


def _pull_policy(found: Translation, service: dict[str, Any], context: Context) -> None:
    if service["pull_policy"] not in ("", "missing", "if_not_present"):
        found.warn(("pull_policy",), "is not honoured", "a node pulls an image that it doesn't have")


def _extra_hosts(found: Translation, service: dict[str, Any], context: Context) -> None:
    hosts: list[str] = []
    given = service["extra_hosts"]
    for index, (place, text) in enumerate(_hosts(given)):
        if text.endswith("host-gateway"):
            found.warn(("extra_hosts", place), "is not honoured", "give an address")
            continue
        found.moves["extra_hosts", len(hosts)] = ("extra_hosts", place if isinstance(given, dict) else index)
        hosts.append(text)
    if hosts:
        found.spec["extra_hosts"] = hosts


def _hosts(given: Any) -> Iterator[tuple[Any, str]]:
    if isinstance(given, list):
        yield from enumerate(given)
        return
    for host, addresses in given.items():
        for address in addresses if isinstance(addresses, list) else [addresses]:
            yield host, f"{host}={address}"


def _links(found: Translation, service: dict[str, Any], context: Context) -> None:
    for index, link in enumerate(service["links"]):
        name, mark, alias = link.partition(":")
        if mark and alias != name:
            hint = f"write it into the aliases of {name} in a network"
            found.warn(("links", index), f"the name {alias} is not honoured", hint)


def _healthcheck(found: Translation, service: dict[str, Any], context: Context) -> None:
    check = dict(service["healthcheck"])
    test = check.get("test")
    if check.get("disable"):
        found.spec["healthcheck"] = {"disable": True}
        return
    check.pop("disable", None)
    if isinstance(test, list) and test[:1] == ["CMD-SHELL"] and len(test) > 2:
        check["test"] = ["CMD-SHELL", " ".join(test[1:])]
    if test in ("", []):
        del check["test"]
    if "retries" in check:
        check["retries"] = _whole(check["retries"])
    found.spec["healthcheck"] = check


def _deploy(found: Translation, service: dict[str, Any], context: Context) -> None:
    deploy = {key: value for key, value in (service.get("deploy") or {}).items() if value not in (None, "")}
    if deploy.get("endpoint_mode") == "vip":
        del deploy["endpoint_mode"]
    if "scale" in service and "replicas" not in deploy:
        deploy["replicas"] = service["scale"]
        found.moves["deploy", "replicas"] = ("scale",)
    _limits(found, deploy, service)
    if "restart" in service and "restart_policy" not in deploy:
        policy = _restart(found, service["restart"])
        if policy is not None:
            deploy["restart_policy"] = policy
            found.moves["deploy", "restart_policy"] = ("restart",)
    if deploy:
        found.spec["deploy"] = deploy


_RESOURCES = (
    ("cpus", "limits", "cpus"),
    ("mem_limit", "limits", "memory"),
    ("pids_limit", "limits", "pids"),
    ("mem_reservation", "reservations", "memory"),
)


def _limits(found: Translation, deploy: dict[str, Any], service: dict[str, Any]) -> None:
    """The old keys of limits, where `deploy.resources` says nothing."""
    given = {key: service[key] for key, _, _ in _RESOURCES if service.get(key) not in (None, "", 0, "0", -1)}
    if not given:
        return
    resources = {key: dict(value) for key, value in (deploy.get("resources") or {}).items() if value}
    for key, part, name in _RESOURCES:
        if key in given and name not in resources.get(part, {}):
            value = _whole(given[key]) if key == "pids_limit" else given[key]
            resources.setdefault(part, {})[name] = value
            found.moves["deploy", "resources", part, name] = (key,)
    deploy["resources"] = resources


def _whole(value: Any) -> Any:
    """A whole number that is written as another one, `3.0`; what is none stays for the model to judge."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _restart(found: Translation, restart: str) -> dict[str, Any] | None:
    word, _, count = restart.partition(":")
    if word in ("always", "unless-stopped"):
        return {"condition": "any"}
    if word == "no":
        return {"condition": "none"}
    if word == "on-failure" and (count.isdigit() or not count):
        return {"condition": "on-failure", **({"max_attempts": int(count)} if count else {})}
    if restart:
        hint = "no, always, unless-stopped, on-failure or on-failure:3"
        found.issues.append(Issue(("restart",), f"{restart!r} is no restart policy", hint))
    return None


Convert = Callable[[Translation, dict[str, Any], Context], None]
_BY_KEY: dict[str, Convert] = {
    "command": _words("command"),
    "entrypoint": _words("entrypoint"),
    "ports": _ports,
    "configs": _files("configs"),
    "secrets": _files("secrets"),
    "networks": _networks,
    "depends_on": _depends_on,
    "logging": _logging,
    "pull_policy": _pull_policy,
    "extra_hosts": _extra_hosts,
    "links": _links,
    "healthcheck": _healthcheck,
}
_SEVERAL = (
    "build", "profiles", "provider", "extends", "volumes", "volumes_from", "labels", "label_file", "environment",
    "env_file", "deploy", "scale", "cpus", "mem_limit", "mem_reservation", "pids_limit", "restart",
)  # fmt: skip
"""Keys that are read together with others, or by others."""
_TRANSLATED = frozenset((*_BY_KEY, *_SEVERAL))
