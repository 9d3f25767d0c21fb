"""The flags of `run` and `create`, as the docker CLI has them, and the container that they ask for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gitops import errors

if TYPE_CHECKING:
    from gitops.objects.container import ContainerCreate

Command = TypeVar("Command", bound=Callable[..., Any])
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def _many(*names: str, help: str, metavar: str = "VALUE") -> Callable[[Command], Command]:
    return click.option(*names, multiple=True, metavar=metavar, help=help)


_FLAGS = (
    click.option("--name", help="The container's name."),
    _many("-e", "--env", help="Set a variable.", metavar="NAME[=VALUE]"),
    _many("--env-file", "env_files", help="Read variables from a file.", metavar="FILE"),
    _many("-p", "--publish", help="Publish a port.", metavar="[IP:][PORT:]PORT[/PROTOCOL]"),
    click.option("-P", "--publish-all", is_flag=True, help="Publish all exposed ports to free ones of the host."),
    _many("--expose", help="Expose a port.", metavar="PORT[/PROTOCOL]"),
    _many("-v", "--volume", "volumes", help="Mount a volume or a directory.", metavar="[SOURCE:]TARGET[:OPTIONS]"),
    _many(
        "--mount",
        "mounts",
        help="Mount what the words say.",
        metavar="type=TYPE,source=SOURCE,target=TARGET[,readonly]",
    ),
    _many("--tmpfs", help="Mount a tmpfs.", metavar="TARGET[:OPTIONS]"),
    click.option("--network", metavar="NETWORK", help="Join a network; bridge, host, none or container:NAME too."),
    _many("--network-alias", "aliases", help="One more name on that network.", metavar="NAME"),
    click.option("--ip", metavar="ADDRESS", help="Its address on that network."),
    click.option("-h", "--hostname", help="Its host name."),
    _many("--dns", help="A DNS server.", metavar="ADDRESS"),
    _many("--add-host", "hosts", help="A line of its /etc/hosts.", metavar="NAME:ADDRESS"),
    click.option("-w", "--workdir", help="Its working directory."),
    click.option("-u", "--user", metavar="USER[:GROUP]", help="Who it runs as."),
    _many("--group-add", help="One more group.", metavar="GROUP"),
    click.option("--entrypoint", help="Run this instead of the image's entrypoint."),
    click.option("--restart", default="no", metavar="POLICY", help="no, always, unless-stopped or on-failure[:TIMES]."),
    click.option("--rm", "auto_remove", is_flag=True, help="Remove it when it has ended."),
    click.option("--init", is_flag=True, help="Run an init in it that reaps processes."),
    click.option("-m", "--memory", metavar="SIZE", help="Its limit of memory, as in 512m."),
    click.option("--cpus", type=float, help="Its limit of processors, as in 1.5."),
    click.option("--pids-limit", type=int, help="Its limit of processes."),
    click.option("--shm-size", metavar="SIZE", help="The size of /dev/shm."),
    _many("--ulimit", "ulimits", help="A limit of its processes.", metavar="NAME=SOFT[:HARD]"),
    _many("--sysctl", "sysctls", help="A setting of its kernel namespaces.", metavar="NAME=VALUE"),
    _many("--cap-add", help="Add a capability.", metavar="NAME"),
    _many("--cap-drop", help="Drop a capability.", metavar="NAME"),
    _many("--security-opt", help="A security option.", metavar="OPTION"),
    _many("--device", "devices", help="A device of the host.", metavar="PATH[:PATH[:rwm]]"),
    click.option("--privileged", is_flag=True, help="Give it all that the host may."),
    click.option("--read-only", is_flag=True, help="Mount its root file system read-only."),
    click.option("--pid", metavar="MODE", help="Its process namespace: host or container:NAME."),
    click.option("--ipc", metavar="MODE", help="Its IPC namespace."),
    click.option("--stop-signal", metavar="SIGNAL", help="What asks it to end."),
    click.option("--stop-timeout", type=int, metavar="SECONDS", help="How long it may take to end."),
    _many("-l", "--label", "labels", help="A label.", metavar="NAME[=VALUE]"),
    click.option("--health-cmd", metavar="COMMAND", help="What checks its health."),
    click.option("--health-interval", metavar="TIME", help="Between two checks."),
    click.option("--health-timeout", metavar="TIME", help="For one check."),
    click.option("--health-retries", type=int, help="Failures in a row that make it unhealthy."),
    click.option("--no-healthcheck", is_flag=True, help="Don't check its health, whatever the image says."),
    click.option("--log-driver", metavar="DRIVER", help="Where its output goes."),
    _many("--log-opt", "log_opts", help="An option of that.", metavar="NAME=VALUE"),
    click.option("-i", "--interactive", is_flag=True, help="Keep its input open."),
    click.option("-t", "--tty", is_flag=True, help="Give it a terminal."),
)


def flags(command: Command) -> Command:
    """Everything that `made` takes."""
    for option in reversed(_FLAGS):
        command = option(command)
    return command


def made(image: str, command: Sequence[str], given: dict[str, Any]) -> ContainerCreate:
    """The container that an image, a command and the flags ask for; streams as in the background.

    Raises:
        errors.Invalid: a value that can't be read. errors.NotFound: no such file of variables.
    """
    from gitops.objects.container import ContainerCreate, NetworkingConfig

    return ContainerCreate(
        image=image,
        cmd=list(command) or None,
        entrypoint=None if given["entrypoint"] is None else ([given["entrypoint"]] if given["entrypoint"] else [""]),
        hostname=given["hostname"] or "",
        user=given["user"] or "",
        working_dir=given["workdir"] or "",
        env=_env(given) or None,
        tty=given["tty"],
        open_stdin=given["interactive"],
        labels=pairs(given["labels"], "--label") or None,
        exposed_ports={_port(text): {} for text in (*given["expose"], *_published(given))} or None,
        volumes={text: {} for text in given["volumes"] if ":" not in text} or None,
        stop_signal=given["stop_signal"],
        stop_timeout=given["stop_timeout"],
        healthcheck=_health(given),
        host_config=_host_config(given),
        networking_config=NetworkingConfig(_places(given)) if _places(given) else None,
    )


def _host_config(given: dict[str, Any]) -> Any:
    from gitops.objects.container import DeviceMapping, HostConfig, LogConfig, RestartPolicy

    policy, _, times = given["restart"].partition(":")
    driver = given["log_driver"] or ("json-file" if given["log_opts"] else "")
    return HostConfig(
        binds=[text for text in given["volumes"] if ":" in text] or None,
        mounts=[_mount(text) for text in given["mounts"]] or None,
        tmpfs={path: options for path, _, options in (text.partition(":") for text in given["tmpfs"])} or None,
        network_mode=given["network"] or "default",
        port_bindings=_published(given) or None,
        publish_all_ports=given["publish_all"],
        restart_policy=RestartPolicy(policy, number(times or "0", "--restart")),
        auto_remove=given["auto_remove"],
        init=given["init"] or None,
        memory=_size(given["memory"], "--memory"),
        nano_cpus=round((given["cpus"] or 0) * 1_000_000_000),
        pids_limit=given["pids_limit"],
        shm_size=_size(given["shm_size"], "--shm-size"),
        ulimits=[_ulimit(text) for text in given["ulimits"]] or None,
        sysctls=pairs(given["sysctls"], "--sysctl") or None,
        cap_add=list(given["cap_add"]) or None,
        cap_drop=list(given["cap_drop"]) or None,
        security_opt=list(given["security_opt"]) or None,
        devices=[DeviceMapping(*_device(text)) for text in given["devices"]] or None,
        privileged=given["privileged"],
        readonly_rootfs=given["read_only"],
        pid_mode=given["pid"] or "",
        ipc_mode=given["ipc"] or "",
        dns=list(given["dns"]) or None,
        extra_hosts=list(given["hosts"]) or None,
        group_add=list(given["group_add"]) or None,
        log_config=LogConfig(driver, pairs(given["log_opts"], "--log-opt") or None) if driver else None,
    )


def _mount(text: str) -> Any:
    from gitops.objects import mount

    words = dict(word.partition("=")[::2] for word in text.split(","))
    known = {name: words.pop(name, "") for name in ("type", "source", "src", "target", "dst", "destination")}
    read_only = any(words.pop(name, "false") in ("", "1", "true") for name in ("readonly", "ro"))
    size, subpath = words.pop("tmpfs-size", ""), words.pop("volume-subpath", "")
    no_copy, propagation = words.pop("volume-nocopy", "false"), words.pop("bind-propagation", "")
    if words:
        raise errors.Invalid(f"--mount {text}: {min(words)!r} is no word of it that is known here")
    is_volume = bool(subpath) or no_copy in ("", "1", "true")
    return mount.Mount(
        type=known["type"] or "volume",
        source=known["source"] or known["src"],
        target=known["target"] or known["dst"] or known["destination"],
        read_only=read_only,
        bind_options=mount.BindOptions(propagation=propagation) if propagation else None,
        volume_options=mount.VolumeOptions(no_copy=no_copy in ("", "1", "true"), subpath=subpath)
        if is_volume
        else None,
        tmpfs_options=mount.TmpfsOptions(size_bytes=_size(size, f"--mount {text}")) if size else None,
    )


def _env(given: dict[str, Any]) -> list[str]:
    import os

    lines = [line for file in given["env_files"] for line in _lines(Path(file))] + list(given["env"])
    found = []
    for line in lines:
        name, mark, _ = line.partition("=")
        # A name alone takes the value that it has here, and nothing where it has none.
        if mark:
            found.append(line)
        elif name in os.environ:
            found.append(f"{name}={os.environ[name]}")
    return found


def _lines(file: Path) -> Iterable[str]:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.NotFound(f"--env-file {file} can't be read: {error}") from error
    return [line.lstrip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _published(given: dict[str, Any]) -> dict[str, Any]:
    from gitops.objects.container import PortBinding

    found: dict[str, Any] = {}
    for text in given["publish"]:
        spec, _, protocol = text.partition("/")
        address, host, target = _split(spec, text)
        targets, hosts = _range(target, text), _range(host, text) if host else [0]
        if len(hosts) not in (1, len(targets)):
            raise errors.Invalid(f"--publish {text}: the ranges differ in length")
        for index, port in enumerate(targets):
            chosen = hosts[index] if len(hosts) > 1 else hosts[0]
            found.setdefault(f"{port}/{protocol or 'tcp'}", []).append(PortBinding(address, str(chosen or "")))
    return found


def _split(spec: str, text: str) -> tuple[str, str, str]:
    match = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[^:]*):)??(?:([0-9-]*):)?([0-9-]+)", spec)
    if match is None:
        raise errors.Invalid(f"--publish {text}: [IP:][PORT:]PORT[/PROTOCOL] is wanted")
    address, host, target = match.groups()
    return (address or "").strip("[]"), host or "", target


def _range(text: str, whole: str) -> list[int]:
    first, _, last = text.partition("-")
    begin = number(first, f"--publish {whole}")
    end = number(last, f"--publish {whole}") if last else begin
    if not 0 < begin <= end < 65536:
        raise errors.Invalid(f"--publish {whole}: ports are between 1 and 65535")
    return list(range(begin, end + 1))


def _port(text: str) -> str:
    return text if "/" in text else f"{text}/tcp"


def _places(given: dict[str, Any]) -> dict[str, Any]:
    from gitops.objects.container import EndpointSettings, IPAMEndpoint

    if not given["aliases"] and not given["ip"]:
        return {}
    address = IPAMEndpoint(ipv4_address=given["ip"]) if given["ip"] else None
    aliases = list(given["aliases"]) or None
    return {given["network"] or "bridge": EndpointSettings(ipam_config=address, aliases=aliases)}


def _health(given: dict[str, Any]) -> Any:
    from gitops.objects import base
    from gitops.objects.service import HealthConfig

    if given["no_healthcheck"]:
        return HealthConfig(test=["NONE"])
    times = {name: given[f"health_{name}"] for name in ("interval", "timeout")}
    if not given["health_cmd"] and not any(times.values()) and given["health_retries"] is None:
        return None
    spans = {name: base.parse_duration(text) for name, text in times.items() if text}
    test = ["CMD-SHELL", given["health_cmd"]] if given["health_cmd"] else []
    return HealthConfig(test=test, retries=given["health_retries"] or 0, **spans)


def pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
    """`NAME=VALUE`s of a flag, the last one of a name.

    Raises:
        errors.Invalid: one has no name.
    """
    found = {name: value for name, _, value in (text.partition("=") for text in texts)}
    if "" in found:
        raise errors.Invalid(f"{flag}: a name is wanted, as in NAME=VALUE")
    return found


def _ulimit(text: str) -> Any:
    from gitops.objects.service import Ulimit

    name, mark, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    if not mark:
        raise errors.Invalid(f"--ulimit {text}: NAME=SOFT[:HARD] is wanted")
    return Ulimit(name, hard=number(hard or soft, f"--ulimit {text}"), soft=number(soft, f"--ulimit {text}"))


def _device(text: str) -> tuple[str, str, str]:
    host, *others = text.split(":")
    if len(others) == 1 and re.fullmatch("[rwm]+", others[0]):
        return host, host, others[0]
    return host, others[0] if others else host, others[1] if len(others) > 1 else "rwm"


def number(text: str, flag: str) -> int:
    """A number of a flag.

    Raises:
        errors.Invalid: it isn't one.
    """
    try:
        return int(text)
    except ValueError as error:
        raise errors.Invalid(f"{flag}: {text!r} is no number") from error


def _size(text: str | None, flag: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?", (text or "0").lower())
    if match is None:
        raise errors.Invalid(f"{flag}: {text!r} is no size, as in 512m")
    return int(float(match[1]) * _SIZES[match[2]])
