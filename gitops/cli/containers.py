"""Containers of one engine, with the flags and the output of the docker CLI."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import click

from gitops import errors
from gitops.cli import common, runflags, tables

if TYPE_CHECKING:
    from gitops.client import EngineClient
    from gitops.objects.container import ContainerSummary

_TITLES = {
    "id": "CONTAINER ID",
    "image": "IMAGE",
    "command": "COMMAND",
    "created": "CREATED",
    "status": "STATUS",
    "ports": "PORTS",
    "names": "NAMES",
}
_COMMAND_LENGTH = 20
_DETACHED_S = 1.0
"""How long after the end of its streams a container may still end; after that its terminal was left."""
containers_argument = click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
time_option = click.option("-t", "--time", "timeout_s", type=int, help="Seconds until it is killed.")


@click.command()
@common.host_option
@click.option("-a", "--all", is_flag=True, help="Also those that don't run.")
@click.option("-n", "--last", "limit", type=int, help="The last ones made, running or not.")
@tables.options
def ps(
    host: str | None, all: bool, limit: int | None, no_trunc: bool, filters: tuple[str, ...], quiet: bool, form: str
) -> None:
    """List containers."""
    wanted = tables.parse_filters(filters)
    found = common.with_client(host, lambda client: client.containers(wanted, all=all, limit=limit))
    tables.show([_row(item, no_trunc) for item in found], _TITLES, form=form, quiet="id" if quiet else "")


def _row(item: ContainerSummary, no_trunc: bool) -> dict[str, str]:
    image = item.image if no_trunc or not item.image.startswith("sha256:") else tables.short(item.image)
    return {
        "id": tables.short(item.id, no_trunc),
        "image": image,
        "command": f'"{tables.cut(item.command, _COMMAND_LENGTH, no_trunc)}"',
        "created": tables.ago(item.created),
        "status": item.status,
        "ports": ", ".join(sorted(map(_port, item.ports))),
        "names": ",".join(name.removeprefix("/") for name in item.names),
    }


def _port(port: Any) -> str:
    if not port.public_port:
        return f"{port.private_port}/{port.type}"
    address = f"[{port.ip}]" if ":" in port.ip else port.ip
    return f"{address}:{port.public_port}->{port.private_port}/{port.type}"


# -- running


@click.command(context_settings={"allow_interspersed_args": False})
@common.host_option
@click.option("-d", "--detach", is_flag=True, help="Run in the background, and print the container's id.")
@click.option("--detach-keys", default="", metavar="KEYS", help="What leaves a terminal, as in ctrl-p,ctrl-q.")
@runflags.flags
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(host: str | None, detach: bool, detach_keys: str, image: str, command: tuple[str, ...], **given: Any) -> None:
    """Make a container and start it; in the foreground, end with its exit code."""
    from msgspec.structs import replace

    from gitops.cli import terminal

    body = runflags.made(image, command, given)
    if detach:
        click.echo(common.with_client(host, lambda client: _started(client, body, given["name"])))
        return
    terminal.check(given["tty"], given["interactive"])
    has_input = given["interactive"]
    if given["tty"] and body.host_config is not None:
        body = replace(body, host_config=replace(body.host_config, console_size=list(terminal.size())))
    body = replace(body, attach_stdin=has_input, attach_stdout=True, attach_stderr=True, stdin_once=has_input)
    code = _ran(host, lambda client: _foreground(client, body, given["name"], detach_keys))
    raise click.exceptions.Exit(code)


def _ran(host: str | None, run: Callable[[EngineClient], Coroutine[Any, Any, int]]) -> int:
    """The exit code that `run` comes to; signals go to the container, so nothing ends the command but its end."""
    from gitops import client as clients

    async def connected() -> int:
        async with clients.connect(host) as client:
            return await run(client)

    try:
        return asyncio.run(connected())
    except errors.GitopsError as error:
        click.echo(f"error: {error}", err=True)
        return _code_of(str(error).lower())


def _code_of(text: str) -> int:
    """Docker's: 126 for what can't be run, 127 for what isn't there, 125 for what went wrong before that."""
    if "executable file not found" in text or "no such file" in text:
        return 127
    return 126 if "permission denied" in text else 125


async def _made(client: EngineClient, body: Any, name: str | None) -> str:
    """A container, its image fetched where the engine lacks it."""
    try:
        return await client.create_container(body, name=name)
    except errors.NotFound as error:
        if "No such image" not in str(error):
            raise
    from gitops.cli import images

    click.echo(f"Unable to find image '{body.image}' locally", err=True)
    await images.pulled(client, body.image, is_quiet=False, to_errors=True)
    return await client.create_container(body, name=name)


async def _started(client: EngineClient, body: Any, name: str | None) -> str:
    container = await _made(client, body, name)
    await client.start_container(container)
    return container


async def _foreground(client: EngineClient, body: Any, name: str | None, keys: str) -> int:
    container = await _made(client, body, name)
    condition: Any = "removed" if body.host_config.auto_remove else "next-exit"
    async with client.attach(container, stdin=body.open_stdin, detach_keys=keys) as stream:
        waiting = asyncio.create_task(client.wait_container(container, condition=condition))
        # The wait must stand before the start, or a short run's end is missed.
        await asyncio.sleep(0)
        try:
            await client.start_container(container)
            return await _attached(client, container, stream, body.tty, body.open_stdin, waiting)
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


async def _attached(
    client: EngineClient, container: str, stream: Any, is_terminal: bool, has_input: bool, waiting: asyncio.Task[int]
) -> int:
    from gitops.cli import terminal

    async def resize(height: int, width: int) -> None:
        await client.resize_container(container, height, width)

    async def pass_on(name: str) -> None:
        await client.kill_container(container, name)

    async with terminal.followed(resize if is_terminal else None, None if is_terminal else pass_on):
        await terminal.converse(stream, is_terminal=is_terminal, has_input=has_input)
        if not waiting.done() and (await client.container(container)).state.running:
            await asyncio.wait([waiting], timeout=_DETACHED_S)
            if not waiting.done():
                return 0  # left by its keys
        return await waiting


@click.command(context_settings={"allow_interspersed_args": False})
@common.host_option
@runflags.flags
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def create(host: str | None, image: str, command: tuple[str, ...], **given: Any) -> None:
    """Make a container without starting it, and print its id."""
    body = runflags.made(image, command, given)
    click.echo(common.with_client(host, lambda client: _made(client, body, given["name"])))


@click.command()
@common.host_option
@click.option("--no-stdin", is_flag=True, help="Don't pass input on.")
@click.option("--detach-keys", default="", metavar="KEYS", help="What leaves a terminal, as in ctrl-p,ctrl-q.")
@click.argument("container")
def attach(host: str | None, no_stdin: bool, detach_keys: str, container: str) -> None:
    """Join a running container's streams, and end with its exit code."""

    async def joined(client: EngineClient) -> int:
        found = await client.container(container)
        if not found.state.running:
            raise errors.Conflict("cannot attach to a stopped container, start it first")
        has_input = found.config.open_stdin and not no_stdin
        async with client.attach(found.id, stdin=has_input, detach_keys=detach_keys) as stream:
            waiting = asyncio.create_task(client.wait_container(found.id))
            try:
                return await _attached(client, found.id, stream, found.config.tty, has_input, waiting)
            finally:
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)

    raise click.exceptions.Exit(_ran(host, joined))


@click.command("exec", context_settings={"allow_interspersed_args": False})
@common.host_option
@click.option("-d", "--detach", is_flag=True, help="In the background.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set a variable.")
@click.option("-i", "--interactive", is_flag=True, help="Pass input on.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-u", "--user", default="", metavar="USER[:GROUP]", help="Who it runs as.")
@click.option("-w", "--workdir", default="", help="Its working directory.")
@click.option("--privileged", is_flag=True, help="Give it all capabilities.")
@click.option("--detach-keys", default="", metavar="KEYS", help="What leaves a terminal, as in ctrl-p,ctrl-q.")
@click.argument("container")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(host: str | None, container: str, command: tuple[str, ...], detach: bool, **given: Any) -> None:
    """Run a command in a running container, and end with its exit code."""
    from gitops.cli import terminal
    from gitops.objects.execution import ExecCreate

    has_input, is_terminal = given["interactive"] and not detach, given["tty"]
    terminal.check(is_terminal, has_input)
    body = ExecCreate(
        attach_stdin=has_input,
        attach_stdout=not detach,
        attach_stderr=not detach,
        detach_keys=given["detach_keys"],
        tty=is_terminal,
        console_size=list(terminal.size()) if is_terminal else None,
        env=list(given["env"]) or None,
        cmd=list(command),
        privileged=given["privileged"],
        user=given["user"],
        working_dir=given["workdir"],
    )

    async def ran(client: EngineClient) -> int:
        made = await client.create_exec(container, body)
        if detach:
            await client.start_exec(made)
            return 0

        async def resize(height: int, width: int) -> None:
            await client.resize_exec(made, height, width)

        async with (
            client.run_exec(made, tty=is_terminal) as stream,
            terminal.followed(resize if is_terminal else None, None),
        ):
            await terminal.converse(stream, is_terminal=is_terminal, has_input=has_input)
        return await client.exec_exit_code(made)

    raise click.exceptions.Exit(_ran(host, ran))


# -- a container's life


@click.command()
@common.host_option
@containers_argument
def start(host: str | None, containers: tuple[str, ...]) -> None:
    """Start containers."""
    tables.each(host, containers, lambda client, name: client.start_container(name))


@click.command()
@common.host_option
@time_option
@containers_argument
def stop(host: str | None, timeout_s: int | None, containers: tuple[str, ...]) -> None:
    """Stop containers."""
    tables.each(host, containers, lambda client, name: client.stop_container(name, timeout_s=timeout_s))


@click.command()
@common.host_option
@time_option
@containers_argument
def restart(host: str | None, timeout_s: int | None, containers: tuple[str, ...]) -> None:
    """Stop containers and start them again."""
    tables.each(host, containers, lambda client, name: client.restart_container(name, timeout_s=timeout_s))


@click.command()
@common.host_option
@click.option("-s", "--signal", default="KILL", show_default=True, help="What to send.")
@containers_argument
def kill(host: str | None, signal: str, containers: tuple[str, ...]) -> None:
    """Send containers a signal."""
    tables.each(host, containers, lambda client, name: client.kill_container(name, signal))


@click.command()
@common.host_option
@containers_argument
def pause(host: str | None, containers: tuple[str, ...]) -> None:
    """Freeze all processes of containers."""
    tables.each(host, containers, lambda client, name: client.pause_container(name))


@click.command()
@common.host_option
@containers_argument
def unpause(host: str | None, containers: tuple[str, ...]) -> None:
    """Let frozen containers run on."""
    tables.each(host, containers, lambda client, name: client.unpause_container(name))


@click.command()
@common.host_option
@click.option("-f", "--force", is_flag=True, help="Kill what runs.")
@click.option("-v", "--volumes", is_flag=True, help="Take their anonymous volumes too.")
@containers_argument
def rm(host: str | None, force: bool, volumes: bool, containers: tuple[str, ...]) -> None:
    """Remove containers."""
    tables.each(host, containers, lambda client, name: client.remove_container(name, force=force, volumes=volumes))


@click.command()
@common.host_option
@containers_argument
def wait(host: str | None, containers: tuple[str, ...]) -> None:
    """Wait until containers have ended, and print their exit codes."""

    async def codes(client: EngineClient) -> list[int]:
        return [await client.wait_container(name) for name in containers]

    click.echo("\n".join(map(str, common.with_client(host, codes))))


@click.command()
@common.host_option
@click.argument("container")
@click.argument("name")
def rename(host: str | None, container: str, name: str) -> None:
    """Give a container another name."""
    common.with_client(host, lambda client: client.rename_container(container, name))


# -- looking


@click.command()
@common.host_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("-n", "--tail", metavar="LINES", help="Only the last lines.")
@click.option("--since", metavar="TIME", help="Only since a moment, in seconds since the epoch or as RFC 3339.")
@click.option("-t", "--timestamps", is_flag=True, help="With the time of each line.")
@click.argument("container")
def logs(host: str | None, follow: bool, tail: str | None, since: str | None, timestamps: bool, container: str) -> None:
    """Show what a container has written."""
    count = None if tail in (None, "all") else runflags.number(str(tail), "--tail")

    async def shown(client: EngineClient) -> None:
        async for frame in client.container_logs(
            container, follow=follow, tail=count, since=since, timestamps=timestamps
        ):
            output = sys.stdout.buffer if frame.stream == "stdout" else sys.stderr.buffer
            output.write(frame.data)
            output.flush()

    common.with_client(host, shown)


@click.command()
@common.host_option
@click.argument("container")
@click.argument("columns", nargs=-1, type=click.UNPROCESSED)
def top(host: str | None, container: str, columns: tuple[str, ...]) -> None:
    """Show a container's processes, in the columns that ps is told."""
    found = common.with_client(host, lambda client: client.container_top(container, " ".join(columns)))
    click.echo("\n".join(tables.aligned([found.titles, *(found.processes or [])])))


@click.command()
@common.host_option
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def inspect(host: str | None, names: tuple[str, ...]) -> None:
    """Show containers, images, networks, volumes or services in full, as JSON."""

    async def one(client: EngineClient, name: str) -> Any:
        from gitops.objects import base

        calls: list[Callable[[str], Coroutine[Any, Any, Any]]] = [
            client.container,
            client.image,
            client.network,
            client.volume,
        ]
        if (await client.ping()).swarm == "active/manager":
            calls.append(client.service)
        for call in calls:
            try:
                return base.to_builtins(await call(name))
            except (errors.NotFound, errors.Invalid):
                continue  # none of these, or not even a name for one
        raise errors.NotFound(f"No such object: {name}")

    async def all_of_them(client: EngineClient) -> list[Any]:
        return [await one(client, name) for name in names]

    click.echo(json.dumps(common.with_client(host, all_of_them), indent=4, ensure_ascii=False))


@click.group()
def container() -> None:
    """Containers; most of its commands are there without `container` too."""


for _command in (run, create, attach, execute, ps, start, stop, restart, kill, pause, unpause, rm, wait, rename):
    container.add_command(_command)
for _command in (logs, top, inspect):
    container.add_command(_command)
container.add_command(ps, "ls")
