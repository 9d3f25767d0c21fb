"""What the commands on manifests share: options, the client, signals, questions."""

from __future__ import annotations

import math
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gitops import errors

if TYPE_CHECKING:
    from gitops.client import EngineClient
    from gitops.manifests import LoadOptions
    from gitops.reconciler.reconcile import Options

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


def _keep(context: click.Context, parameter: click.Parameter, value: object) -> None:
    """Keep an option for `load_options`, so that no command needs to pass it on."""
    context.meta[f"gitops.{parameter.name}"] = value


def values(command: Command) -> Command:
    """Options of everything that reads manifests."""
    for option in (
        click.option(
            "--project-name",
            default="",
            metavar="NAME",
            callback=_keep,
            expose_value=False,
            help="The stack of Compose files.",
        ),
        click.option(
            "--profile",
            "profiles",
            multiple=True,
            metavar="NAME",
            callback=_keep,
            expose_value=False,
            help="Run the services of this profile of Compose files too.",
        ),
        click.option(
            "--env-file",
            "env_files",
            multiple=True,
            metavar="FILE",
            callback=_keep,
            expose_value=False,
            help="Take the variables of Compose files from this file beside them, not from .env.",
        ),
        click.option(
            "--compose-file",
            "compose_files",
            multiple=True,
            metavar="FILE",
            callback=_keep,
            expose_value=False,
            help="Lay this Compose file of PATH over those before it.",
        ),
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


host_option = click.option(
    "-H",
    "--host",
    metavar="HOST",
    help="The engine: unix://PATH, tcp://HOST:PORT, ssh://USER@HOST or context://NAME; else GITOPS_HOST, else ours.",
)
path_argument = click.argument("path", type=click.Path(path_type=Path))


class Seconds(click.ParamType[float]):
    """A time as `30s`, `1m30s` or `500ms`; a number alone is seconds. It must be more than nothing."""

    name = "time"
    _PARTS = re.compile(r"(?:([0-9.]+)h)?(?:([0-9.]+)m)?(?:([0-9.]+)s)?(?:([0-9.]+)ms)?")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        try:
            seconds = float(text)
        except ValueError:
            seconds = self._sum(text)
        if not 0 < seconds < math.inf:
            self.fail(f"{text!r} is no time, as in 30s or 5m", param, ctx)
        return seconds

    def _sum(self, text: str) -> float:
        """The seconds of `1m30s`; 0 for what can't be read."""
        found = self._PARTS.fullmatch(text)
        try:
            parts = [float(part or 0) for part in found.groups()] if found else []
        except ValueError:
            return 0
        return sum(part * unit for part, unit in zip(parts, (3600, 60, 1, 0.001), strict=False))


def _kept(*names: str, **attributes: Any) -> Callable[[Command], Command]:
    """An option that `said` has, so that no command needs to pass it on."""
    return click.option(*names, callback=_keep, expose_value=False, **attributes)


timeout_option = _kept(
    "--timeout",
    "timeout_s",
    type=Seconds(),
    default="10m",
    show_default=True,
    metavar="TIME",
    help="How long each object may take whose manifest gives no deadline.",
)
ignore_suspend_option = _kept("--ignore-suspend", is_flag=True, help="Do it though the stack is suspended.")
_on_failure_option = _kept(
    "--on-failure",
    type=click.Choice(["stop", "rollback"]),
    default="stop",
    show_default=True,
    help="When a rollout fails: leave things as they are, or bring all back to the last healthy revision.",
)

WORDS = {
    "take_over": "Take a stack over from another source.",
    "allow_empty": "Do it though there are no manifests at all.",
    "allow_deletes": "Do it though more than half of a stack's objects would be deleted.",
    "prune": "Remove what left the manifests though PATH is only a part of the stack's source.",
    "prune_volumes": "Also remove volumes that left the manifests and that nothing uses, with their data.",
}
"""Without these words a plan takes less away: fields of `reconcile.Options`."""
_SAID = (*WORDS, "timeout_s", "on_failure", "ignore_suspend")


def planning(command: Command) -> Command:
    """Options of what plans: the words that let it take more away."""
    for name, text in reversed(WORDS.items()):
        command = _kept(f"--{name.replace('_', '-')}", name, is_flag=True, help=text)(command)
    return command


def applying(command: Command) -> Command:
    """Options of what applies, by hand or again and again."""
    return planning(timeout_option(_on_failure_option(command)))


def said(*names: str) -> dict[str, Any]:
    """What the command line says of a run: fields of `reconcile.Options` by name, of those that its command has."""
    context = click.get_current_context(silent=True)
    given = context.meta if context is not None else {}
    return {name: given[f"gitops.{name}"] for name in names or _SAID if f"gitops.{name}" in given}


def load_options(
    env: str,
    sets: tuple[str, ...],
    allowed: tuple[Path, ...],
    *,
    allow_host: bool = True,
    key: bytes = b"",
    only_checks: bool = False,
) -> LoadOptions:
    from gitops import manifests

    if not key:
        from gitops.reconciler import secretkey

    return manifests.LoadOptions(
        env=env,
        sets=sets,
        allow_host=allow_host,
        allow_host_paths=allowed,
        secret_key=key or secretkey.read(),
        opens_sops=not key,
        only_checks=only_checks,
        **compose_options(),
    )


_COMPOSE = ("compose_files", "env_files", "profiles", "project_name")


def compose_options() -> dict[str, Any]:
    """What the command line says of Compose files: fields of `LoadOptions` by name, those that were given."""
    context = click.get_current_context(silent=True)
    given = context.meta if context is not None else {}
    return {name: value for name in _COMPOSE if (value := given.get(f"gitops.{name}"))}


def tell_warnings(warnings: Sequence[errors.Problem]) -> None:
    """Say on stderr what was read and has no effect."""
    for warning in warnings:
        click.echo(f"warning: {warning.headline()}", err=True)


def commit_options(env: str, sets: tuple[str, ...], allowed: tuple[Path, ...]) -> LoadOptions:
    """For comparing commits: no key of the operator is needed, since nothing is compared with what is live."""
    from gitops import manifests

    return manifests.LoadOptions(env=env, sets=sets, allow_host_paths=allowed, opens_sops=False, **compose_options())


def reconcile_options(load: LoadOptions, **more: Any) -> Options:
    """The options of a run, as the command line says; `more` are fields of `reconcile.Options` by name."""
    from gitops.reconciler import lease, reconcile

    return reconcile.Options(load, lease_s=lease.ttl_s(), **(said() | more))


def existing(path: Path | None) -> Path:
    if path is None or not path.exists():
        raise errors.NotFound(f"{path}: no such file or directory")
    return path


def with_client(
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

    ended = run_work(connected())
    if isinstance(ended, signal.Signals):
        click.echo(interrupted, err=True)
        raise click.exceptions.Exit(128 + ended)
    return ended


def run_work(work: Coroutine[Any, Any, T]) -> T | signal.Signals:
    """What comes of `work`, or the signal that ended it: it is cancelled, so that it can leave things in order."""
    import asyncio

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


def place(host: str | None) -> str:
    from gitops.client import endpoint

    return endpoint.resolve(host).host


def progress_view(is_terminal: bool | None = None) -> Any:
    from gitops.cli.progress import Progress

    return Progress(is_terminal=sys.stdout.isatty() if is_terminal is None else is_terminal)


def ask(question: str, yes: bool) -> None:
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
