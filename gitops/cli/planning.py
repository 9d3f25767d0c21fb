"""The command that shows what would change: diff."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops.cli import common

if TYPE_CHECKING:
    from gitops.client import EngineClient
    from gitops.reconciler.reconcile import Prepared


_CHANGES = 2
_UNSCHEDULABLE = 3
_REFUSED = 5


@click.command()
@common.path_argument
@common.values
@common.host_option
@common.take_over_option
@common.allow_empty_option
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "markdown"]), default="text", help="How to print it."
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Keep the plan, for apply FILE."
)
def diff(
    path: Path,
    env: str,
    sets: tuple[str, ...],
    allowed: tuple[Path, ...],
    host: str | None,
    take_over: bool,
    allow_empty: bool,
    form: str,
    out: Path | None,
) -> int:
    """Show what apply would change, field by field.

    Exit code 0: nothing, 2: changes, 3: can't be scheduled, 5: refused.
    """
    from gitops.reconciler import planfile, source
    from gitops.reconciler.reconcile import Reconciler

    options = common.reconcile_options(common.load_options(env, sets, allowed), take_over, allow_empty)

    async def run(client: EngineClient) -> Prepared:
        return await Reconciler(client, options).prepare(source.of_path(common.existing(path)))

    prepared = common.with_client(host, run)
    if out is not None:
        planfile.write(out, prepared, planfile.Given(path, env, planfile.names(sets), take_over, allow_empty))
    click.echo(_printed(prepared, form, common.place(host)))
    if prepared.plan.refused:
        return _REFUSED
    if prepared.plan.unplaced:
        return _UNSCHEDULABLE
    return _CHANGES if prepared.plan.changed else 0


def _printed(prepared: Prepared, form: str, place: str) -> str:
    from gitops.cli import markdown, output

    if form == "json":
        return output.plan_json(prepared)
    return markdown.plan(prepared, place) if form == "markdown" else output.plan_text(prepared, place)
