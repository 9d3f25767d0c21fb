"""`gitops engine install|uninstall`: the engine as a service of the host."""

from __future__ import annotations

from typing import Any

import click

from gitops import config as settings
from gitops.cli import common, engineoptions


@click.command()
@engineoptions.engine
@click.option("--dry-run", "--print", "dry_run", is_flag=True, help="Print the unit, and change nothing.")
def install(log_level: str, dry_run: bool, **options: Any) -> None:
    """Run the engine by systemd, now and at every boot; again, it changes what the options change.

    Containers run on meanwhile. The group gitops is made for those who may use the engine without being root.
    """
    config = engineoptions.config_of(**options)
    from gitops.daemon import installing, prerequisites, unit

    wanted = installing.prepare(config, log_level=log_level)
    for remark in wanted.remarks:
        click.echo(f"warning: {remark}", err=True)
    if dry_run:
        for missing in prerequisites.missing():
            click.echo(f"missing: {missing}", err=True)
        click.echo(wanted.text, nl=False)
        return
    found = installing.install(config, wanted)
    if wanted.is_changed:
        click.echo(f"{'Written' if wanted.is_new else 'Changed'}: {wanted.path}")
    else:
        click.echo(f"Unchanged: {wanted.path}")
    click.echo(f"The engine runs as the service {unit.NAME}: pid {found.pid}, {', '.join(found.hosts)}")
    group = config.socket_group
    click.echo(f"Root uses it, and members of the group {group}, who are as good as root: usermod -aG {group} USER")


@click.command()
@click.option(
    "--purge", is_flag=True, help="Stop all containers and delete everything: images, volumes, the swarm, both roots."
)
@click.option("--yes", is_flag=True, help="Purge without asking.")
def uninstall(purge: bool, yes: bool) -> None:
    """Take the service away, with the group where it was made for it. Containers run on, and all data stays."""
    from gitops.daemon import installing

    if purge:
        common.ask("Stop all containers and delete images, volumes and the swarm's state?", yes)
    done = installing.uninstall(settings.EngineConfig().socket_group, purge=purge)
    if done is None:
        click.echo("The engine is not installed as a service.")
        return
    click.echo(f"The service is gone{f', and the group {done.group}' if done.group else ''}.")
    if purge:
        click.echo(f"Removed: {done.made.data_root}, {done.made.run_root}")
    else:
        containers = "1 container runs on" if done.running == 1 else f"{done.running} containers run on"
        click.echo(f"{containers if done.running else 'No container runs'}; the data stays in {done.made.data_root}.")
