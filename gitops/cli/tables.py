"""Listings as the docker CLI prints them: a table, ids alone, or a line of JSON for each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gitops.cli import common

if TYPE_CHECKING:
    from gitops.client import EngineClient

Command = TypeVar("Command", bound=Callable[..., Any])
_PADDING = 3
_LEAST = 10


def options(command: Command) -> Command:
    """The options of every listing: `form`, `quiet`, `no_trunc`, `filters`."""
    for option in (
        click.option("--no-trunc", is_flag=True, help="Show everything in full."),
        click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only what matches."),
        click.option("-q", "--quiet", is_flag=True, help="Print only ids, or names where there are none."),
        click.option(
            "--format", "form", type=click.Choice(["table", "json"]), default="table", help="A table, or lines of JSON."
        ),
    ):
        command = option(command)
    return command


def parse_filters(texts: Sequence[str]) -> dict[str, list[str]]:
    """`key=value` of the command line, as the API takes them.

    Raises:
        click.UsageError: one has no value.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        key, mark, value = text.partition("=")
        if not mark:
            raise click.UsageError(f"bad format of filter {text!r}: key=value is wanted")
        found.setdefault(key.strip().lower(), []).append(value.strip())
    return found


def show(rows: Sequence[Mapping[str, str]], titles: Mapping[str, str], *, form: str, quiet: str = "") -> None:
    """Print rows: the columns of `titles`, or the one that `quiet` names alone, or all of each as JSON."""
    if quiet:
        for row in rows:
            click.echo(row[quiet])
        return
    if form == "json":
        for row in rows:
            click.echo(json.dumps(dict(row), ensure_ascii=False))
        return
    lines = [list(titles.values()), *([row[key] for key in titles] for row in rows)]
    click.echo("\n".join(aligned(lines)))


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns, the last one as it is."""
    widths = [max(_LEAST, max(map(len, column)) + _PADDING) for column in zip(*lines, strict=True)]
    return [
        "".join(f"{cell:<{width}}" for cell, width in zip(line[:-1], widths, strict=False)) + line[-1] for line in lines
    ]


def ago(created_s: float) -> str:
    """How long ago a moment in seconds since the epoch was."""
    from gitops.objects import spans

    return f"{spans.human(int((time.time() - created_s) * 1e9))} ago"


def short(identity: str, no_trunc: bool = False) -> str:
    """An id as listings show it."""
    return identity if no_trunc else identity.removeprefix("sha256:")[:12]


def cut(text: str, length: int, no_trunc: bool = False) -> str:
    """A text of at most `length` characters, an ellipsis at its end where it was longer."""
    return text if no_trunc or len(text) <= length else text[: length - 1] + "…"


def each(
    host: str | None,
    names: Sequence[str],
    act: Callable[[EngineClient, str], Coroutine[Any, Any, Sequence[str] | None]],
) -> None:
    """Do `act` to every name, and print the lines that it gives, or else the name.

    Those that fail are told on stderr at the end, and the others done all the same.

    Raises:
        click.exceptions.Exit: some failed.
    """
    from gitops import errors

    async def failures(client: EngineClient) -> list[str]:
        found = []
        for name in names:
            try:
                lines = await act(client, name)
            except errors.GitopsError as error:
                found.append(f"error: {error}")
            else:
                click.echo("\n".join([name] if lines is None else lines))
        return found

    if failed := common.with_client(host, failures):
        click.echo("\n".join(failed), err=True)
        raise click.exceptions.Exit(1)
