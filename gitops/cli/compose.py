"""The command that says what is honoured of Compose files."""

from __future__ import annotations

import click


@click.command()
@click.option("--keys", "shows_keys", is_flag=True, help="Print every key, too.")
def compose(shows_keys: bool) -> None:
    """Print how many keys of the Compose specification are honoured, emulated, passed over, warned of and refused."""
    from gitops.manifests.compose import ledger

    figures = ledger.figures()
    for status, count in figures.items():
        click.echo(f"{status:12} {count:4}")
    click.echo(f"{'keys':12} {sum(figures.values()):4}")
    if shows_keys:
        click.echo()
        for path, key in ledger.entries():
            click.echo(f"{key.status:12} {path}" + (f": {key.note}" if key.note else ""))
