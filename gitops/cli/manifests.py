"""The commands on manifests, from validate to resume: options and printing, no logic."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gitops import errors

if TYPE_CHECKING:
    from gitops.client import EngineClient
    from gitops.manifests import LoadOptions
    from gitops.reconciler.reconcile import Options, Prepared

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

_CHANGES = 2
_UNSCHEDULABLE = 3
_REFUSED = 5


def _values(command: Command) -> Command:
    """Options of everything that reads manifests."""
    for option in (
        click.option(
            "--allow-host-path",
            "allowed",
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="PATH",
            help="Let manifests read files, and bind-mount, under PATH too.",
        ),
        click.option("--set", "sets", multiple=True, metavar="A.B=C", help="A value for templates."),
        click.option("--env", default="", metavar="NAME", help="Lay values.NAME.yaml over values.yaml."),
    ):
        command = option(command)
    return command


_host = click.option("-H", "--host", metavar="HOST", help="The engine, as unix://PATH; else GITOPS_HOST, else ours.")
_path = click.argument("path", type=click.Path(path_type=Path))
_take_over = click.option("--take-over", is_flag=True, help="Take a stack over from another source.")
_allow_empty = click.option("--allow-empty", is_flag=True, help="Do it though there are no manifests at all.")
_timeout = click.option(
    "--timeout", "timeout_s", default=600.0, metavar="SECONDS", help="How long to wait for services."
)


@click.command()
@_path
@_values
def validate(path: Path, env: str, sets: tuple[str, ...], allowed: tuple[Path, ...]) -> None:
    """Check the manifests of PATH and report every problem at once. Talks to no engine."""
    from gitops import manifests

    found = manifests.load(path, _load_options(env, sets, allowed, key=b"validate"))
    if not found.objects and not found.externals:
        raise errors.Invalid(
            f"no manifests in {path}: files end in .yaml, .yml or .j2 and begin with apiVersion: gitops/v1"
        )
    kinds = {item.kind for item in found.objects}
    counts = [f"{len(found.of(kind))} {kind}" for kind in ("Image", "Network", "Volume", "Secret", "Config", "Service")]
    counts = [text for text in counts if text.partition(" ")[2] in kinds]
    click.echo(f"{path} is valid: {', '.join(counts)}")


@click.command()
@_path
@_values
def render(path: Path, env: str, sets: tuple[str, ...], allowed: tuple[Path, ...]) -> None:
    """Print the manifests of PATH as they are after their templates are rendered."""
    from gitops.manifests import loading

    texts = loading.render([_existing(path)], _load_options(env, sets, allowed, key=b"render"))
    for name, text in texts.items():
        body = text.removeprefix("---\n").rstrip("\n")
        click.echo(f"---\n# {name}\n{body}")


@click.command()
@_path
@_values
@_host
@_take_over
@_allow_empty
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print the plan.")
def diff(
    path: Path,
    env: str,
    sets: tuple[str, ...],
    allowed: tuple[Path, ...],
    host: str | None,
    take_over: bool,
    allow_empty: bool,
    form: str,
) -> int:
    """Show what apply would change, field by field.

    Exit code 0: nothing, 2: changes, 3: can't be scheduled, 5: refused.
    """
    from gitops.cli import output
    from gitops.reconciler import source
    from gitops.reconciler.reconcile import Reconciler

    options = _options(_load_options(env, sets, allowed), take_over, allow_empty)

    async def run(client: EngineClient) -> Prepared:
        return await Reconciler(client, options).prepare(source.of_path(_existing(path)))

    prepared = _with_client(host, run)
    click.echo(output.plan_json(prepared) if form == "json" else output.plan_text(prepared, _place(host)))
    if prepared.plan.refused:
        return _REFUSED
    if prepared.plan.unplaced:
        return _UNSCHEDULABLE
    return _CHANGES if prepared.plan.changed else 0


@click.command()
@_path
@_values
@_host
@_take_over
@_allow_empty
@_timeout
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.option("--start-engine", is_flag=True, help="Start the built-in engine where none runs, as a swarm of one node.")
def apply(
    path: Path,
    env: str,
    sets: tuple[str, ...],
    allowed: tuple[Path, ...],
    host: str | None,
    take_over: bool,
    allow_empty: bool,
    timeout_s: float,
    yes: bool,
    start_engine: bool,
) -> None:
    """Make the engine hold what the manifests of PATH say, and wait until it does."""
    from gitops import manifests
    from gitops.cli import output, starting
    from gitops.reconciler import source
    from gitops.reconciler.reconcile import Reconciler

    load_options = _load_options(env, sets, allowed)
    manifests.load(_existing(path), load_options)  # so that a mistake is told before an engine is started
    starting.ensure(host, start_engine=start_engine, yes=yes)
    options = _options(load_options, take_over, allow_empty, timeout_s)

    async def prepare(client: EngineClient) -> Prepared:
        return await Reconciler(client, options).prepare(source.of_path(path))

    async def carry_out(client: EngineClient) -> None:
        with _progress() as progress:
            await Reconciler(client, options).apply(prepared, progress)

    prepared = _with_client(host, prepare)
    click.echo(output.plan_text(prepared, _place(host)))
    if output.verdict(prepared.plan) == "changes":
        _ask("Apply this?", yes)
    _with_client(
        host,
        carry_out,
        interrupted="interrupted: what was sent stays and goes on by itself; see gitops status, and apply again to"
        " finish the rest",
    )
    count = len(prepared.request.desired.of("Service"))
    click.echo(f"Converged: {count} service{'' if count == 1 else 's'} as the manifests say.")


@click.command()
@click.argument("stack", required=False)
@_host
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print.")
def status(stack: str | None, host: str | None, form: str) -> None:
    """Show stacks: source, commit, how the last apply ended; and their services (of STACK alone, if given)."""
    from gitops.cli import output
    from gitops.reconciler import status as statuses

    async def run(client: EngineClient) -> list[statuses.StackStatus]:
        return await statuses.read(client, stack)

    found = _with_client(host, run)
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
@_host
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.option("--volumes", is_flag=True, help="Remove the stack's volumes too, with their data.")
def delete(stack: str, host: str | None, yes: bool, volumes: bool) -> None:
    """Remove all objects of STACK: services, networks, secrets, configs, images; volumes only with --volumes."""
    from gitops.cli import output
    from gitops.reconciler import reconcile
    from gitops.reconciler.plan import Action

    async def prepare(client: EngineClient) -> Prepared:
        return await reconcile.plan_delete(client, stack, volumes=volumes)

    async def carry_out(client: EngineClient) -> None:
        with _progress() as progress:
            await reconcile.delete(client, prepared, stack, progress)

    prepared = _with_client(host, prepare)
    click.echo(output.plan_text(prepared, _place(host)))
    if prepared.plan.changed:
        _ask(f"Delete stack {stack}{' with the data of its volumes' if volumes else ''}?", yes)
    _with_client(
        host,
        carry_out,
        interrupted=f"interrupted: what is gone is gone; gitops delete {stack} again removes the rest",
    )
    kept = [step.engine_name for step in prepared.plan.of("Volume", Action.NONE)]
    rest = f" but its volumes, which --volumes removes: {', '.join(kept)}" if kept else ""
    click.echo(f"Deleted: of stack {stack} there is nothing left{rest}.")


@click.command()
@click.argument("stack")
@_host
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

    _with_client(host, run)


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@_values
@_host
@_take_over
@_allow_empty
@_timeout
@click.option("--repo", metavar="URL", help="Follow a git repository instead of a path: https, ssh or file.")
@click.option("--ref", default="", metavar="REF", help="Branch, tag or commit; the default branch if not given.")
@click.option("--path", "directory", default="", metavar="DIR", help="The directory of manifests in the repository.")
@click.option("--interval", default="30s", metavar="TIME", help="Between two full passes, as 30s or 5m.")
@click.option("--once", is_flag=True, help="One pass, for cron; the exit code says how it ended.")
def watch(
    path: Path | None,
    env: str,
    sets: tuple[str, ...],
    allowed: tuple[Path, ...],
    host: str | None,
    take_over: bool,
    allow_empty: bool,
    timeout_s: float,
    repo: str | None,
    ref: str,
    directory: str,
    interval: str,
    once: bool,
) -> None:
    """Reconcile PATH, or a repository, whenever files change, a commit arrives, or the engine drifts."""
    from gitops import client as clients
    from gitops.reconciler import origins
    from gitops.reconciler.watch import Watch, WatchOptions

    if (path is None) == (repo is None):
        raise click.UsageError("give either PATH or --repo URL")
    if path is not None and (ref or directory):
        raise click.UsageError("--ref and --path go with --repo")
    load_options = _load_options(env, sets, allowed, allow_host=repo is None)
    options = WatchOptions(_options(load_options, take_over, allow_empty, timeout_s), _seconds(interval), once)
    origin = origins.RepositoryOrigin(repo, ref, directory) if repo else origins.PathOrigin(_existing(path))

    def say(text: str) -> None:
        click.echo(f"{time.strftime('%H:%M:%S')} {text}")

    async def run() -> None:
        with _progress(is_terminal=False) as progress:
            await Watch(lambda: clients.connect(host), origin, options, say, progress).run()

    ended = _run(run())
    if once and isinstance(ended, signal.Signals):
        raise click.exceptions.Exit(128 + ended)
    if isinstance(ended, signal.Signals):
        say("ended; what runs stays as it is")
        raise click.exceptions.Exit(128 + ended if ended is signal.SIGINT else 0)


# -- what the commands share


def _load_options(
    env: str, sets: tuple[str, ...], allowed: tuple[Path, ...], *, allow_host: bool = True, key: bytes = b""
) -> LoadOptions:
    from gitops import manifests
    from gitops.reconciler import secretkey

    return manifests.LoadOptions(
        env=env, sets=sets, allow_host=allow_host, allow_host_paths=allowed, secret_key=key or secretkey.read()
    )


def _options(load: LoadOptions, take_over: bool, allow_empty: bool, timeout_s: float = 600.0) -> Options:
    from gitops.reconciler import reconcile

    return reconcile.Options(load, take_over, allow_empty, timeout_s)


def _existing(path: Path | None) -> Path:
    if path is None or not path.exists():
        raise errors.NotFound(f"{path}: no such file or directory")
    return path


def _with_client(
    host: str | None, run: Callable[[EngineClient], Coroutine[Any, Any, T]], interrupted: str = "interrupted"
) -> T:
    """Run a call with a client.

    Raises:
        click.exceptions.Exit: a signal ended it, with the shell's code for that.
    """
    from gitops import client as clients

    async def connected() -> T:
        async with clients.connect(host) as client:
            return await run(client)

    ended = _run(connected())
    if isinstance(ended, signal.Signals):
        click.echo(interrupted, err=True)
        raise click.exceptions.Exit(128 + ended)
    return ended


def _run(work: Coroutine[Any, Any, T]) -> T | signal.Signals:
    """What comes of `work`, or the signal that ended it: it is cancelled, so that it can leave things in order."""
    ended: list[signal.Signals] = []

    async def guarded() -> T:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)

        def end(number: signal.Signals) -> None:
            ended.append(number)
            task.cancel()  # asked again, it doesn't even finish its last words

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end, number)
        return await task

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        if not ended:
            raise
        return ended[0]


def _place(host: str | None) -> str:
    from gitops.client import endpoint

    return endpoint.resolve(host).host


def _progress(is_terminal: bool | None = None) -> Any:
    from gitops.cli.progress import Progress

    return Progress(is_terminal=sys.stdout.isatty() if is_terminal is None else is_terminal)


def _ask(question: str, yes: bool) -> None:
    """A yes on a terminal; elsewhere nothing is done without --yes.

    Raises:
        errors.Refused: declined.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise errors.Refused("there is no terminal to ask on: say --yes")
    if not click.confirm(question):
        raise errors.Refused("declined, nothing was changed")


def _seconds(text: str) -> float:
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    for unit in ("ms", "s", "m", "h"):
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit() and float(number) > 0:
            return float(number) * units[unit]
    raise click.UsageError(f"--interval {text}: a time such as 30s or 5m is wanted")
