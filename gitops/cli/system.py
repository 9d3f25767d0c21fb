"""`gitops system …`: what has to do with the connection to an engine."""

from __future__ import annotations

import click

from gitops.cli import common


@click.group()
def system() -> None:
    """The connection to an engine."""


@system.command("dial-stdio")
@common.host_option
def dial_stdio(host: str | None) -> None:
    """Join standard input and output with an engine's socket: the far end of ssh://."""
    from gitops.client import dialing

    dialing.join(host)
