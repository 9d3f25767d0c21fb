"""Options of the commands that start, install or look for an engine, and the settings that they make."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gitops import config as settings
from gitops import errors

F = TypeVar("F", bound=Callable[..., Any])
_LEVELS = ("debug", "info", "warning", "error")
_FILE = click.Path(path_type=Path, dir_okay=False)


def roots(command: F) -> F:
    """The options that tell engines on one machine apart."""
    for option in (
        click.option(
            "--run-root",
            type=click.Path(path_type=Path),
            default=settings.RUN_ROOT,
            show_default=True,
            help="Sockets, pid files and what else a reboot may lose.",
        ),
        click.option(
            "--data-root",
            type=click.Path(path_type=Path),
            default=settings.DATA_ROOT,
            show_default=True,
            help="Images, containers, volumes, the swarm's state.",
        ),
    ):
        command = option(command)
    return command


def engine(command: F) -> F:
    """The options of an engine that is to be started: the arguments of `config_of`, and `log_level`."""
    for option in (
        click.option("--allow-plain-tcp", is_flag=True, help="Listen on tcp:// without TLS on any address."),
        click.option("--tlskey", type=_FILE, metavar="FILE", help="The engine's key, for tcp://."),
        click.option("--tlscert", type=_FILE, metavar="FILE", help="The engine's certificate, for tcp://."),
        click.option("--tlscacert", type=_FILE, metavar="FILE", help="The authority whose clients tcp:// lets in."),
        click.option("--tlsverify", is_flag=True, help="Serve tcp:// by mutual TLS only; needs the three files."),
        click.option(
            "--registry-mirror",
            "registry_mirrors",
            multiple=True,
            metavar="URL",
            help="Asked before the public registry; may be repeated.",
        ),
        click.option(
            "--insecure-registry",
            "insecure_registries",
            multiple=True,
            metavar="HOST[:PORT]|CIDR",
            help="A registry with a certificate that nobody signed, or with plain HTTP; may be repeated.",
        ),
        click.option("--log-level", type=click.Choice(_LEVELS), default="info", show_default=True, help="What to log."),
        click.option(
            "--host",
            "-H",
            "hosts",
            multiple=True,
            metavar="HOST",
            help="Where to listen, unix://PATH or tcp://ADDRESS:PORT; may be repeated.  "
            "[default: engine.sock in the run root]",
        ),
        click.option(
            "--cgroup-parent", default="gitops", show_default=True, help="The cgroup that containers are made under."
        ),
    ):
        command = option(command)
    return roots(command)


def config_of(
    data_root: Path,
    run_root: Path,
    cgroup_parent: str = "gitops",
    hosts: tuple[str, ...] = (),
    tlsverify: bool = False,
    tlscacert: Path | None = None,
    tlscert: Path | None = None,
    tlskey: Path | None = None,
    allow_plain_tcp: bool = False,
    insecure_registries: tuple[str, ...] = (),
    registry_mirrors: tuple[str, ...] = (),
) -> settings.EngineConfig:
    """The settings that the options ask for.

    Raises:
        errors.Invalid: options that make no sense, alone or together.
    """
    if not cgroup_parent.strip("/") or ".." in cgroup_parent.split("/"):
        raise errors.Invalid(f"invalid cgroup parent {cgroup_parent!r}: a name like gitops is wanted")
    tls = _tls(tlsverify, {"--tlscacert": tlscacert, "--tlscert": tlscert, "--tlskey": tlskey})
    if (tls or allow_plain_tcp) and not any(host.startswith("tcp://") for host in hosts):
        raise errors.Invalid("options of tcp:// are given, and nothing listens there: add --host tcp://ADDRESS:PORT")
    for mirror in registry_mirrors:
        if not re.fullmatch(r"https?://[^/@?#\s]+/?", mirror):
            raise errors.Invalid(f"invalid mirror {mirror!r}: an address such as https://mirror.example:5000 is wanted")
    for registry in insecure_registries:
        if "://" in registry or not re.fullmatch(r"[\w.:\[\]-]+(/\d+)?", registry):
            raise errors.Invalid(f"invalid insecure registry {registry!r}: host[:port] or a network is wanted")
    return settings.EngineConfig(
        data_root=data_root.absolute(),
        run_root=run_root.absolute(),
        cgroup_parent=cgroup_parent.strip("/"),
        hosts=hosts,
        tls=tls,
        allow_plain_tcp=allow_plain_tcp,
        insecure_registries=insecure_registries,
        registry_mirrors=registry_mirrors,
    )


def _tls(is_wanted: bool, files: dict[str, Path | None]) -> settings.TlsConfig | None:
    """The three files ask for TLS as --tlsverify does: TLS without a look at the client is never served."""
    given = [path.absolute() for path in files.values() if path is not None]
    missing = [name for name, path in files.items() if path is None]
    if not given and not is_wanted:
        return None
    if missing:
        raise errors.Invalid(f"for mutual TLS {', '.join(missing)} must be given too")
    return settings.TlsConfig(*given)
