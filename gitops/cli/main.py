"""The entry point: which command lives in which module, and how errors end the program.

Promises: `gitops --help` loads little more than click, since a command's module is imported when it is used, or when
its help is shown; errors of ours end with `error: …` on stderr and their exit code; a wrong command line ends with 1,
because 2 means "there are changes".
"""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import click

from gitops import errors

_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class _Lazy:
    """A command's module and attribute, and the line that `--help` shows without importing it."""

    module: str
    attribute: str
    help: str


_COMMANDS = {
    "validate": _Lazy("gitops.cli.validating", "validate", "Check manifests and report every problem at once."),
    "render": _Lazy("gitops.cli.validating", "render", "Print manifests after their templates are rendered."),
    "diff": _Lazy("gitops.cli.planning", "diff", "Show what apply would change; exit code 2 where there is something."),
    "apply": _Lazy("gitops.cli.applying", "apply", "Make the engine hold what the manifests say."),
    "status": _Lazy("gitops.cli.stacks", "status", "Show stacks, their services and where they came from."),
    "history": _Lazy("gitops.cli.stacks", "history", "Show what was applied to a stack, and how it ended."),
    "rollback": _Lazy("gitops.cli.stacks", "rollback", "Bring a stack back to a former revision."),
    "delete": _Lazy("gitops.cli.applying", "delete", "Remove a stack."),
    "watch": _Lazy("gitops.cli.watching", "watch", "Apply again on every change of files, repository or engine."),
    "suspend": _Lazy("gitops.cli.stacks", "suspend", "Let watch leave a stack alone."),
    "resume": _Lazy("gitops.cli.stacks", "resume", "Lift a suspension, and let watch try a held revision again."),
    "secret": _Lazy("gitops.cli.secrets", "secret", "Files of secrets: check whether yours open, encrypt one."),
    "why": _Lazy("gitops.cli.explaining", "why", "Explain what a service lacks, link by link."),
    "snapshot": _Lazy("gitops.cli.planning", "snapshot", "Print a redacted picture of the engine, for diff --against."),
    "engine": _Lazy("gitops.cli.engine", "engine", "The built-in engine: run, start, stop, status, install."),
    "system": _Lazy("gitops.cli.system", "system", "The connection to an engine."),
    "compose": _Lazy("gitops.cli.compose", "compose", "Print what is honoured of Compose files, key by key."),
    "version": _Lazy("gitops.cli.engine", "version", "Print the version of gitops and of the engine."),
    "completion": _Lazy("gitops.cli.resources", "completion", "Print what makes a shell complete commands."),
}
_ON_HOST = {
    "run": _Lazy("gitops.cli.containers", "run", "Make a container and start it."),
    "create": _Lazy("gitops.cli.containers", "create", "Make a container without starting it."),
    "ps": _Lazy("gitops.cli.containers", "ps", "List containers."),
    "exec": _Lazy("gitops.cli.containers", "execute", "Run a command in a running container."),
    "attach": _Lazy("gitops.cli.containers", "attach", "Join a running container's streams."),
    "logs": _Lazy("gitops.cli.containers", "logs", "Show what a container has written."),
    "top": _Lazy("gitops.cli.containers", "top", "Show a container's processes."),
    "start": _Lazy("gitops.cli.containers", "start", "Start containers."),
    "stop": _Lazy("gitops.cli.containers", "stop", "Stop containers."),
    "restart": _Lazy("gitops.cli.containers", "restart", "Stop containers and start them again."),
    "kill": _Lazy("gitops.cli.containers", "kill", "Send containers a signal."),
    "pause": _Lazy("gitops.cli.containers", "pause", "Freeze all processes of containers."),
    "unpause": _Lazy("gitops.cli.containers", "unpause", "Let frozen containers run on."),
    "wait": _Lazy("gitops.cli.containers", "wait", "Wait until containers have ended."),
    "rename": _Lazy("gitops.cli.containers", "rename", "Give a container another name."),
    "rm": _Lazy("gitops.cli.containers", "rm", "Remove containers."),
    "inspect": _Lazy("gitops.cli.containers", "inspect", "Show objects in full, as JSON."),
    "images": _Lazy("gitops.cli.images", "images", "List images."),
    "pull": _Lazy("gitops.cli.images", "pull", "Fetch an image from its registry."),
    "push": _Lazy("gitops.cli.images", "push", "Send an image to its registry."),
    "load": _Lazy("gitops.cli.images", "load", "Take the images of an archive."),
    "tag": _Lazy("gitops.cli.images", "tag", "Give an image one more name."),
    "rmi": _Lazy("gitops.cli.images", "rmi", "Remove images, or names of them."),
    "container": _Lazy("gitops.cli.containers", "container", "Containers, by Docker's longer names."),
    "image": _Lazy("gitops.cli.images", "image", "Images, by Docker's longer names; history."),
    "network": _Lazy("gitops.cli.resources", "network", "Networks: ls, create, rm, inspect."),
    "volume": _Lazy("gitops.cli.resources", "volume", "Volumes: ls, create, rm, inspect."),
}
_SECTIONS = {"Commands": _COMMANDS, "Containers of one engine, as with docker": _ON_HOST}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the table's order, which is the order of use."""
        return [name for table in _SECTIONS.values() for name in table]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        lazy = next((table[cmd_name] for table in _SECTIONS.values() if cmd_name in table), None)
        if lazy is None:
            return None
        command = getattr(importlib.import_module(lazy.module), lazy.attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing anything."""
        for title, table in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, lazy.help) for name, lazy in table.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="gitops", message="gitops %(version)s")
def cli() -> None:
    """Git-driven containers: manifests in a repository become running services on your own hosts."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    code = run(sys.argv[1:] if arguments is None else list(arguments))
    if threading.active_count() == 1:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End the process as it is. Taking apart what a load made takes a tenth of a second for a thousand services."""
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        sys.exit(code)  # the reader of our output has gone: the interpreter knows what to do
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line; the exit code."""
    # See no-color.org; without it click asks whether a terminal reads.
    color = False if os.environ.get("NO_COLOR") else None
    try:
        result = cli.main(args=arguments, prog_name="gitops", standalone_mode=False, color=color)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return _INTERRUPTED
    except click.ClickException as error:
        return _report_usage(error)
    except errors.GitopsError as error:
        report(error)
        return error.exit_code
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): say nothing, and keep the interpreter from saying it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return result if isinstance(result, int) else 0


def report(error: errors.GitopsError) -> None:
    """Print an error for a person."""
    if isinstance(error, errors.InvalidManifest):
        for problem in error.problems:
            click.echo(f"error: {problem.headline()}", err=True)
            for line in caret(problem):
                click.echo(line, err=True)
        return
    click.echo(f"error: {error}", err=True)


def caret(problem: errors.Problem) -> list[str]:
    """The source line with the culprit underlined; nothing where the line must not be shown."""
    if not problem.source or not problem.line:
        return []
    number = str(problem.line)
    # Tabs stay tabs, so that the caret stands under its character whatever their width.
    indent = "".join("\t" if character == "\t" else " " for character in problem.source[: max(0, problem.column - 1)])
    return [f"  {number} | {problem.source}", f"  {' ' * len(number)} | {indent}{'^' * max(1, problem.width)}"]


def _report_usage(error: click.ClickException) -> int:
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
        click.echo(f"Try `{error.ctx.command_path} --help`.\n", err=True)
    click.echo(f"error: {error.format_message()}", err=True)
    return 1
