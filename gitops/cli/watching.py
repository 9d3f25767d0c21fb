"""The command that goes on reconciling: watch."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import click

from gitops.cli import common


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@common.values
@common.host_option
@common.applying
@click.option("--repo", metavar="URL", help="Follow a git repository instead of a path: https, ssh or file.")
@click.option("--ref", default="", metavar="REF", help="Branch, tag or commit; the default branch if not given.")
@click.option("--path", "directory", default="", metavar="DIR", help="The directory of manifests in the repository.")
@click.option(
    "--interval",
    "interval_s",
    type=common.Seconds(),
    default="30s",
    metavar="TIME",
    help="Between two full passes, as 30s or 5m.",
)
@click.option("--once", is_flag=True, help="One pass, for cron; the exit code says how it ended.")
def watch(
    path: Path | None,
    env: str,
    sets: tuple[str, ...],
    allowed: tuple[Path, ...],
    host: str | None,
    repo: str | None,
    ref: str,
    directory: str,
    interval_s: float,
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
    load_options = common.load_options(env, sets, allowed, allow_host=repo is None)
    options = WatchOptions(common.reconcile_options(load_options, gives_way=True), interval_s, once)
    origin = origins.RepositoryOrigin(repo, ref, directory) if repo else origins.PathOrigin(common.existing(path))

    def say(text: str) -> None:
        click.echo(f"{time.strftime('%H:%M:%S')} {text}")

    async def run() -> None:
        with common.progress_view(is_terminal=False) as progress:
            await Watch(lambda: clients.connect(host), origin, options, say, progress).run()

    ended = common.run_work(run())
    if once and isinstance(ended, signal.Signals):
        raise click.exceptions.Exit(128 + ended)
    if isinstance(ended, signal.Signals):
        say("ended; what runs stays as it is")
        raise click.exceptions.Exit(128 + ended if ended is signal.SIGINT else 0)
