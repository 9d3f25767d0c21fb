"""The commands on stacks as the engine knows them: status, history, rollback, suspend, resume."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from gitops import errors
from gitops.cli import common

if TYPE_CHECKING:
    from gitops.client import EngineClient
    from gitops.reconciler.record import Record

_REASON_LENGTH = 500


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
@click.argument("revision", required=False, type=click.IntRange(1))
@common.host_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print.")
def history(stack: str, revision: int | None, host: str | None, form: str) -> None:
    """Show what was applied to STACK: commit, outcome, duration, changes; or one REVISION with all its objects."""
    from gitops.cli import output
    from gitops.reconciler import history as histories
    from gitops.reconciler.revisions import Revision

    async def run(client: EngineClient) -> tuple[Record, list[Revision]]:
        if revision is None:
            return await histories.read(client, stack)
        record, found = await histories.one(client, stack, revision)
        return record, [found]

    record, found = common.with_client(host, run)
    now_ns = time.time_ns()
    if form == "json":
        rows = [histories.to_dict(item, record, now_ns, whole=revision is not None) for item in found]
        click.echo(json.dumps(rows if revision is None else rows[0], indent=2, ensure_ascii=False))
    elif revision is None:
        click.echo(output.table([histories.HEADINGS, *(histories.row(item, record, now_ns) for item in found)]))
    else:
        click.echo("\n".join(histories.details(found[0], record, now_ns)))


@click.command()
@click.argument("stack")
@common.host_option
@click.option("--reason", default="", metavar="TEXT", help="Why, for whoever finds it suspended.")
def suspend(stack: str, host: str | None, reason: str) -> None:
    """Let watch leave STACK alone, and have apply refuse it, until it is resumed."""
    from gitops.objects import base
    from gitops.reconciler import record

    async def run(client: EngineClient) -> record.Record:
        await _recorded(client, stack)
        since = base.format_time(time.time_ns())
        return await record.write(client, stack, suspended=since, suspend_reason=reason[:_REASON_LENGTH])

    common.with_client(host, run)
    click.echo(f"Stack {stack} is suspended: watch leaves it alone, apply needs --ignore-suspend.")


@click.command()
@click.argument("stack")
@common.host_option
def resume(stack: str, host: str | None) -> None:
    """Lift a suspension of STACK, and let watch try its held revision again."""
    from gitops.reconciler import record

    async def run(client: EngineClient) -> record.Record:
        found = await _recorded(client, stack)
        await record.write(client, stack, held="", suspended="", suspend_reason="")
        return found

    found = common.with_client(host, run)
    if found.suspended:
        click.echo(f"Stack {stack} is no longer suspended.")
    if found.held:
        click.echo(f"Stack {stack}: revision {found.held} may be tried again.")
    if not found.held and not found.suspended:
        click.echo(f"Stack {stack} is not suspended and holds no revision.")


async def _recorded(client: EngineClient, stack: str) -> Record:
    from gitops.reconciler import record

    found = (await record.read(client)).get(stack)
    if found is None:
        raise errors.NotFound(f"no stack {stack!r} on this engine: see gitops status")
    return found


@click.command()
@click.argument("stack")
@click.argument("revision", required=False, type=click.IntRange(1))
@common.host_option
@common.timeout_option
@common.ignore_suspend_option
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
def rollback(stack: str, revision: int | None, host: str | None, yes: bool) -> None:
    """Bring STACK back to REVISION, or to the last healthy one before the present, images by digest included.

    The commit that it leads away from is held: watch doesn't apply it again until it changes, or gitops resume STACK.
    """
    from gitops.cli import output
    from gitops.reconciler.reconcile import Prepared, Reconciler

    options = common.reconcile_options(common.load_options("", (), ()))

    async def prepare(client: EngineClient) -> Prepared:
        return await Reconciler(client, options).prepare_rollback(stack, revision)

    async def carry_out(client: EngineClient) -> None:
        with common.progress_view() as progress:
            await Reconciler(client, options).apply(prepared, progress)

    prepared = common.with_client(host, prepare)
    target = prepared.rollback[stack]
    click.echo(f"Back to revision {target.number}" + (f", {target.subject}" if target.subject else ""))
    click.echo(output.plan_text(prepared, common.place(host)))
    if output.verdict(prepared.plan) == "changes":
        common.ask(f"Bring stack {stack} back to revision {target.number}?", yes)
    common.with_client(
        host,
        carry_out,
        interrupted=f"interrupted: what was sent stays and goes on by itself; run gitops rollback {stack}"
        f" {target.number} again to finish the rest",
    )
    click.echo(f"Converged: stack {stack} is as in revision {target.number}; see gitops history {stack}")
