"""The commands that change an engine: apply and delete."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops import errors
from gitops.cli import common

if TYPE_CHECKING:
    from gitops.client import EngineClient
    from gitops.reconciler.planfile import Kept
    from gitops.reconciler.reconcile import Prepared


@click.command()
@common.path_argument
@common.values
@common.host_option
@common.applying
@common.ignore_suspend_option
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.option(
    "--manifests",
    "place",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Where the manifests of a kept plan are, if not where they were.",
)
@click.option("--start-engine", is_flag=True, help="Start the built-in engine where none runs, as a swarm of one node.")
def apply(
    path: Path,
    env: str,
    sets: tuple[str, ...],
    allowed: tuple[Path, ...],
    host: str | None,
    yes: bool,
    place: Path | None,
    start_engine: bool,
) -> None:
    """Make the engine hold what the manifests of PATH say, and wait until it does.

    PATH may be a plan that diff --out kept: it is applied without a question, or refused if it isn't true any more.
    """
    from gitops import manifests
    from gitops.cli import output, starting
    from gitops.reconciler import planfile, source
    from gitops.reconciler.reconcile import Reconciler

    kept = planfile.read(path) if path.is_file() else None
    words = common.said(*common.WORDS)
    if kept is not None:
        words = {name: given or getattr(kept.given, name) for name, given in words.items()}
        path, env, yes = place or kept.given.path, _same_values(kept, env, sets), True
    elif place is not None:
        raise errors.Invalid("--manifests goes with a kept plan: give PATH alone")
    load_options = common.load_options(env, sets, allowed)
    if kept is not None:
        load_options = replace(load_options, **kept.given.compose)
    manifests.load(common.existing(path), load_options)  # so that a mistake is told before an engine is started
    starting.ensure(host, start_engine=start_engine, yes=yes)
    options = common.reconcile_options(load_options, **words)

    async def prepare(client: EngineClient) -> Prepared:
        return await Reconciler(client, options).prepare(source.of_path(path))

    async def carry_out(client: EngineClient) -> None:
        with common.progress_view() as progress:
            await Reconciler(client, options).apply(prepared, progress)

    prepared = common.with_client(host, prepare)
    if kept is not None:
        planfile.check(kept, prepared)
    common.tell_warnings(prepared.request.desired.warnings)
    click.echo(output.plan_text(prepared, common.place(host)))
    if output.verdict(prepared.plan) == "changes":
        common.ask("Apply this?", yes)
    common.with_client(
        host,
        carry_out,
        interrupted="interrupted: what was sent stays and goes on by itself; see gitops status, and apply again to"
        " finish the rest",
    )
    count = len(prepared.request.desired.of("Service"))
    click.echo(f"Converged: {count} service{'' if count == 1 else 's'} as the manifests say.")


def _same_values(kept: Kept, env: str, sets: tuple[str, ...]) -> str:
    """The environment of a kept plan; the values of --set must be given again, since they aren't kept. Options of
    Compose files are kept: given again, they must be the same.

    Raises:
        errors.Refused: others are given.
    """
    from gitops.reconciler import planfile

    if env and env != kept.given.env:
        raise errors.Refused(f"{kept.file}: this plan was made with --env {kept.given.env or '(none)'}, not {env}")
    if planfile.names(sets) != kept.given.sets:
        wanted = " ".join(f"--set {name}=…" for name in kept.given.sets) or "no --set"
        raise errors.Refused(f"{kept.file}: this plan was made with {wanted}: say the same again")
    for name, given in common.compose_options().items():
        if given != kept.given.compose.get(name):
            option = "--" + name.removesuffix("s").replace("_", "-")
            raise errors.Refused(f"{kept.file}: this plan was made with another {option}, which it keeps: leave it out")
    return kept.given.env


@click.command()
@click.argument("stack")
@common.host_option
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.option(
    "--prune-volumes",
    "--volumes",
    "volumes",
    is_flag=True,
    help="Remove the stack's volumes that nothing else uses, too, with their data.",
)
def delete(stack: str, host: str | None, yes: bool, volumes: bool) -> None:
    """Remove all objects of STACK: services, networks, secrets, configs, images; volumes only with
    --prune-volumes."""
    from gitops.cli import output
    from gitops.reconciler import deleting, lease
    from gitops.reconciler.plan import Action

    async def prepare(client: EngineClient) -> Prepared:
        return await deleting.plan(client, stack, volumes=volumes)

    async def carry_out(client: EngineClient) -> None:
        with common.progress_view() as progress:
            await deleting.delete(client, prepared, stack, progress, lease_s=lease.ttl_s())

    prepared = common.with_client(host, prepare)
    click.echo(output.plan_text(prepared, common.place(host)))
    if prepared.plan.changed and not prepared.plan.refused:
        common.ask(f"Delete stack {stack}{' with the data of its volumes' if volumes else ''}?", yes)
    common.with_client(
        host,
        carry_out,
        interrupted=f"interrupted: what is gone is gone; gitops delete {stack} again removes the rest",
    )
    kept = [step.engine_name for step in prepared.plan.of("Volume", Action.NONE)]
    rest = f" but volumes, which --prune-volumes removes where nothing uses them: {', '.join(kept)}" if kept else ""
    click.echo(f"Deleted: of stack {stack} there is nothing left{rest}.")
