"""`gitops engine run|start|stop|status` (install and uninstall are added to them), and `gitops version`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import gitops
from gitops import errors
from gitops.cli import engineoptions, installing

if TYPE_CHECKING:
    from gitops.daemon.background import Status


@click.group()
def engine() -> None:
    """The built-in engine: a daemon that serves the Docker Engine API. Containers outlive it."""


engine.add_command(installing.install)
engine.add_command(installing.uninstall)


@engine.command()
@engineoptions.engine
def run(log_level: str, **options: Any) -> None:
    """Run the engine in the foreground, for a service manager or a terminal."""
    config = engineoptions.config_of(**options)
    from gitops.daemon import main

    main.run(config, log_level=log_level)


@engine.command()
@engineoptions.engine
def start(log_level: str, **options: Any) -> None:
    """Start the engine in the background; does nothing where it runs."""
    config = engineoptions.config_of(**options)
    from gitops.daemon import background

    found, is_new = background.start(config, log_level=log_level)
    click.echo(f"The engine {'is started' if is_new else 'runs already'}: pid {found.pid}, {', '.join(found.hosts)}")
    if is_new:
        click.echo(f"Its log is {background.log_path(config)}.")


@engine.command()
@engineoptions.roots
@click.option("--containers", is_flag=True, help="Stop all containers too, and take their networks away.")
@click.option(
    "--purge", is_flag=True, help="Stop all containers and delete everything: images, volumes, the swarm, both roots."
)
def stop(data_root: Path, run_root: Path, containers: bool, purge: bool) -> None:
    """Stop the engine. Its containers run on, and the next start takes them up again."""
    config = engineoptions.config_of(data_root, run_root)
    from gitops.daemon import background

    found = background.status(config)
    if purge:
        background.check_purgeable(config)
    if purge and found.pid is None and config.data_root.exists():
        # Containers may run on from before: only an engine can end them in order.
        background.start(config)
    before = background.stop(config, containers=containers or purge)
    if purge:
        background.purge(config)
        click.echo(f"The engine is stopped, {config.data_root} and {config.run_root} are removed.")
    elif before is None:
        click.echo("The engine does not run.")
    elif containers:
        click.echo(f"The engine is stopped, and {_count(before.running, 'container')} with it.")
    elif before.running:
        verb = "keeps" if before.running == 1 else "keep"
        click.echo(f"The engine is stopped; {_count(before.running, 'container')} {verb} running without it.")
    else:
        click.echo("The engine is stopped; no container was running.")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@engine.command()
@engineoptions.roots
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def status(data_root: Path, run_root: Path, form: str) -> int:
    """Say whether the engine runs, and what it holds; exit code 0 if it does, 1 if not."""
    from gitops.daemon import background

    found = background.status(engineoptions.config_of(data_root, run_root))
    click.echo(json.dumps(_as_json(found)) if form == "json" else "\n".join(_as_text(found)))
    return 0 if found.is_running else 1


def _as_json(found: Status) -> dict[str, Any]:
    return {
        "running": found.is_running,
        "pid": found.pid,
        "hosts": list(found.hosts),
        "version": found.version,
        "swarm": found.swarm,
        "containers": found.containers,
        "containers_running": found.running,
        "images": found.images,
        "problem": found.problem,
    }


def _as_text(found: Status) -> list[str]:
    if found.pid is None:
        return ["The engine does not run. Start it with `gitops engine start`."]
    if found.problem:
        return [f"The engine runs (pid {found.pid}), but {found.problem}"]
    return [
        f"The engine runs: version {found.version}, pid {found.pid}",
        f"  listens on  {', '.join(found.hosts)}",
        f"  swarm       {found.swarm}",
        f"  containers  {found.running} running, {found.containers} in all",
        f"  images      {found.images}",
    ]


@click.command()
@click.option("--host", "-H", default=None, help="The engine to ask.  [default: GITOPS_HOST, else the built-in one]")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def version(host: str | None, form: str) -> None:
    """Print the version of gitops, and of the engine where one answers."""
    found, problem = _engine_version(host)
    if form == "json":
        click.echo(json.dumps({"gitops": gitops.__version__, "engine": found or None, "problem": problem or None}))
        return
    click.echo(f"gitops {gitops.__version__}")
    if found:
        click.echo(f"engine {found['Version']} (API {found['ApiVersion']}, {found['Platform']})")
    else:
        click.echo(f"engine none: {problem}")


def _engine_version(host: str | None) -> tuple[dict[str, str], str]:
    import asyncio

    from gitops import client

    async def ask() -> dict[str, str]:
        async with client.connect(host) as engine:
            found = await engine.version()
            return {"Version": found.version, "ApiVersion": found.api_version, "Platform": found.platform.name}

    try:
        return asyncio.run(ask()), ""
    except errors.GitopsError as error:
        return {}, str(error)
