"""The commands on stacks as the engine knows them: status and resume."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from gitops import errors
from gitops.cli import common

if TYPE_CHECKING:
    from gitops.client import EngineClient


@click.command()
@click.argument("stack", required=False)
@common.host_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print.")
def status(stack: str | None, host: str | None, form: str) -> None:
    """Show stacks: source, commit, how the last apply ended; and their services (of STACK alone, if given)."""
    from gitops.cli import output
    from gitops.reconciler import status as statuses

    async def run(client: EngineClient) -> list[statuses.StackStatus]:
        return await statuses.read(client, stack)

    found = common.with_client(host, run)
    if form == "json":
        click.echo(json.dumps([item.to_dict() for item in found], indent=2))
        return
    if not found:
        click.echo("No stacks: nothing was applied to this engine yet.")
    now_ns = time.time_ns()
    for number, item in enumerate(found):
        click.echo("\n".join(([""] if number else []) + item.headline(now_ns)))
        rows: list[tuple[str, ...]] = [("", "SERVICE", "REPLICAS", "IMAGE", "PORTS", "CHANGED", "STATE")]
        rows += [("", *service.row(now_ns)) for service in item.services]
        click.echo(output.table(rows) if item.services else "   no services")


@click.command()
@click.argument("stack")
@common.host_option
def resume(stack: str, host: str | None) -> None:
    """Let watch try the held revision of STACK again."""
    from gitops.reconciler import record

    async def run(client: EngineClient) -> None:
        found = (await record.read(client)).get(stack)
        if found is None:
            raise errors.NotFound(f"no stack {stack!r} on this engine: see gitops status")
        if not found.held:
            click.echo(f"Stack {stack} holds no revision.")
            return
        await record.write(client, stack, held="")
        click.echo(f"Stack {stack}: revision {found.held} may be tried again.")

    common.with_client(host, run)
