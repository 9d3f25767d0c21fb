"""The commands that show what would change: diff, and snapshot, which others plan against."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops import errors
from gitops.cli import common

if TYPE_CHECKING:
    from gitops.client import EngineClient
    from gitops.manifests import LoadOptions
    from gitops.reconciler.plan import Plan
    from gitops.reconciler.reconcile import Options, Prepared


_CHANGES = 2
_UNSCHEDULABLE = 3
_REFUSED = 5


@click.command()
@common.host_option
@click.option(
    "--stack", "stacks", multiple=True, metavar="STACK", help="Only this stack, and what others hold of the nodes."
)
@click.option("--hide-environment", "all_variables", is_flag=True, help="Leave out the value of every variable.")
def snapshot(host: str | None, stacks: tuple[str, ...], all_variables: bool) -> None:
    """Print a picture of the engine's state, for diff --against: without secrets, and without what may be one."""
    from gitops.reconciler import redacted

    async def run(client: EngineClient) -> dict[str, object]:
        return await redacted.take(client, stacks, all_variables=all_variables)

    click.echo(json.dumps(common.with_client(host, run), indent=1, ensure_ascii=False))


@click.command()
@click.argument("places", nargs=-1, required=True, metavar="[OLD..NEW] PATH")
@common.values
@common.host_option
@common.planning
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "markdown"]), default="text", help="How to print it."
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Keep the plan, for apply FILE."
)
@click.option(
    "--against",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Plan against a snapshot, with no engine and no credentials.",
)
def diff(
    places: tuple[str, ...],
    env: str,
    sets: tuple[str, ...],
    allowed: tuple[Path, ...],
    host: str | None,
    form: str,
    out: Path | None,
    against: Path | None,
) -> int:
    """Show what apply would change, field by field; with OLD..NEW, what differs between two commits, without an engine.

    Exit code 0: nothing, 2: changes, 3: can't be scheduled, 5: refused.
    """
    from gitops.reconciler import planfile, source
    from gitops.reconciler.reconcile import Reconciler

    span, path = _places(places)
    if against is not None:
        if span or out or host:
            raise errors.Invalid("--against goes with a PATH alone: a snapshot stands in the place of an engine")
        options = common.reconcile_options(_without_secrets(env, sets, allowed))
        return _against(against, common.existing(path), options, form)
    if span:
        return _between(span, common.existing(path), common.commit_options(env, sets, allowed), form)
    options = common.reconcile_options(common.load_options(env, sets, allowed))

    async def run(client: EngineClient) -> Prepared:
        return await Reconciler(client, options).prepare(source.of_path(common.existing(path)))

    prepared = common.with_client(host, run)
    if out is not None:
        words, compose = common.said(*common.WORDS), common.compose_options()
        given = planfile.Given(path, env, planfile.names(sets), compose=compose, **words)
        planfile.write(out, prepared, given)
    common.tell_warnings(prepared.request.desired.warnings)
    click.echo(_printed(prepared, form, common.place(host)))
    return _code(prepared.plan)


def _code(plan: Plan) -> int:
    if plan.refused:
        return _REFUSED
    if plan.unplaced:
        return _UNSCHEDULABLE
    return _CHANGES if plan.changed else 0


def _places(places: tuple[str, ...]) -> tuple[str, Path]:
    """The span of commits, if one is named, and the path."""
    first = places[0]
    is_span = ".." in first and not first.startswith((".", "/")) and not Path(first).exists()
    rest = places[1:] if is_span else places
    if len(rest) > 1:
        raise errors.Invalid(f"one PATH, please, not {len(rest)}: {' '.join(rest)}")
    return (first if is_span else "", Path(rest[0] if rest else "."))


def _without_secrets(env: str, sets: tuple[str, ...], allowed: tuple[Path, ...]) -> LoadOptions:
    """Neither the operator's key nor the value of any secret is needed: none is compared."""
    return replace(common.load_options(env, sets, allowed, key=b"against"), reads_secrets=False)


def _against(file: Path, path: Path, options: Options, form: str) -> int:
    """Print the plan against a snapshot; the exit code."""
    from gitops.reconciler import against, source
    from gitops.reconciler import snapshot as snapshots

    found = snapshots.read(file)
    prepared = common.run_work(against.prepare(found, source.of_path(path), options))
    if isinstance(prepared, signal.Signals):
        raise click.exceptions.Exit(128 + prepared)
    common.tell_warnings(prepared.request.desired.warnings)
    click.echo(_printed(prepared, form, found.place))
    return _code(prepared.plan)


def _between(span: str, path: Path, options: LoadOptions, form: str) -> int:
    """Print what differs between two commits; the exit code."""
    from gitops.reconciler import commits

    prepared = common.run_work(commits.prepare(span, path, options))
    if isinstance(prepared, signal.Signals):
        raise click.exceptions.Exit(128 + prepared)
    click.echo(_printed(prepared, form, f"commits {span}", is_live=False))
    return _CHANGES if prepared.plan.changed else 0


def _printed(prepared: Prepared, form: str, place: str, *, is_live: bool = True) -> str:
    from gitops.cli import markdown, output

    if form == "json":
        return output.plan_json(prepared)
    if form == "markdown":
        return markdown.plan(prepared, place, is_live=is_live)
    return output.plan_text(prepared, place, is_live=is_live)
