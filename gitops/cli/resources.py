"""Networks and volumes of one engine, with the flags and the output of the docker CLI."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import click

from gitops import errors
from gitops.cli import common, runflags, tables

if TYPE_CHECKING:
    from gitops.client import EngineClient

label_option = click.option("--label", "labels", multiple=True, metavar="NAME[=VALUE]", help="A label.")
driver_options = click.option(
    "-o", "--opt", "opts", multiple=True, metavar="NAME=VALUE", help="An option of its driver."
)
names_argument = click.argument("names", nargs=-1, required=True, metavar="NAME...")


@click.group()
def network() -> None:
    """Networks."""


@network.command("ls")
@common.host_option
@tables.options
def list_networks(host: str | None, no_trunc: bool, filters: tuple[str, ...], quiet: bool, form: str) -> None:
    """List networks."""
    found = common.with_client(host, lambda client: client.networks(tables.parse_filters(filters)))
    rows = [
        {"id": tables.short(item.id, no_trunc), "name": item.name, "driver": item.driver, "scope": item.scope}
        for item in found
    ]
    titles = {"id": "NETWORK ID", "name": "NAME", "driver": "DRIVER", "scope": "SCOPE"}
    tables.show(rows, titles, form=form, quiet="id" if quiet else "")


@network.command("create")
@common.host_option
@click.option("-d", "--driver", default="bridge", show_default=True, help="bridge, or overlay for services.")
@click.option("--subnet", metavar="CIDR", help="Its addresses.")
@click.option("--gateway", default="", metavar="ADDRESS", help="The host's address on it.")
@click.option("--ip-range", default="", metavar="CIDR", help="The part of its addresses that is given.")
@click.option("--internal", is_flag=True, help="No way out of it.")
@click.option("--attachable", is_flag=True, help="Let containers join an overlay.")
@click.option("--ipv6", is_flag=True, help="IPv6 too.")
@driver_options
@label_option
@click.argument("name")
def create_network(host: str | None, name: str, **given: Any) -> None:
    """Make a network, and print its id."""
    from gitops.objects.network import IPAM, IPAMConfig, NetworkCreate

    pool = IPAMConfig(subnet=given["subnet"] or "", gateway=given["gateway"], ip_range=given["ip_range"])
    body = NetworkCreate(
        name=name,
        driver=given["driver"],
        internal=given["internal"],
        attachable=given["attachable"],
        enable_ipv6=given["ipv6"] or None,
        ipam=IPAM(config=[pool]) if pool != IPAMConfig() else None,
        options=runflags.pairs(given["opts"], "--opt") or None,
        labels=runflags.pairs(given["labels"], "--label") or None,
    )
    click.echo(common.with_client(host, lambda client: client.create_network(body)))


@network.command("rm")
@common.host_option
@names_argument
def remove_networks(host: str | None, names: tuple[str, ...]) -> None:
    """Remove networks."""
    tables.each(host, names, lambda client, name: client.remove_network(name))


@network.command("inspect")
@common.host_option
@names_argument
def inspect_networks(host: str | None, names: tuple[str, ...]) -> None:
    """Show networks in full, as JSON."""
    _inspected(host, names, lambda client, name: client.network(name))


@click.group()
def volume() -> None:
    """Volumes."""


@volume.command("ls")
@common.host_option
@tables.options
def list_volumes(host: str | None, no_trunc: bool, filters: tuple[str, ...], quiet: bool, form: str) -> None:
    """List volumes."""
    found = common.with_client(host, lambda client: client.volumes(tables.parse_filters(filters)))
    rows = [{"driver": item.driver, "name": item.name} for item in found]
    tables.show(rows, {"driver": "DRIVER", "name": "VOLUME NAME"}, form=form, quiet="name" if quiet else "")


@volume.command("create")
@common.host_option
@click.option("-d", "--driver", default="local", show_default=True, help="What keeps it.")
@driver_options
@label_option
@click.argument("name", default="")
def create_volume(host: str | None, driver: str, opts: tuple[str, ...], labels: tuple[str, ...], name: str) -> None:
    """Make a volume, and print its name."""
    from gitops.objects.container import VolumeCreate

    body = VolumeCreate(name, driver, runflags.pairs(opts, "--opt") or None, runflags.pairs(labels, "--label") or None)
    click.echo(common.with_client(host, lambda client: client.create_volume(body)).name)


@volume.command("rm")
@common.host_option
@click.option("-f", "--force", is_flag=True, help="Don't complain of those that aren't there.")
@names_argument
def remove_volumes(host: str | None, force: bool, names: tuple[str, ...]) -> None:
    """Remove volumes with their data."""
    tables.each(host, names, lambda client, name: client.remove_volume(name, force=force))


@volume.command("inspect")
@common.host_option
@names_argument
def inspect_volumes(host: str | None, names: tuple[str, ...]) -> None:
    """Show volumes in full, as JSON."""
    _inspected(host, names, lambda client, name: client.volume(name))


def _inspected(
    host: str | None, names: tuple[str, ...], look: Callable[[EngineClient, str], Coroutine[Any, Any, Any]]
) -> None:
    from gitops.objects import base

    async def all_of_them(client: EngineClient) -> list[Any]:
        return [base.to_builtins(await look(client, name)) for name in names]

    click.echo(json.dumps(common.with_client(host, all_of_them), indent=4, ensure_ascii=False))


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands and options: `source <(gitops completion bash)`."""
    from click.shell_completion import get_completion_class

    from gitops.cli import main

    kind = get_completion_class(shell)
    if kind is None:
        raise errors.Unsupported(f"{shell} isn't known")
    click.echo(kind(main.cli, {}, "gitops", "_GITOPS_COMPLETE").source())
