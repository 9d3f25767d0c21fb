"""`gitops system …`: what has to do with the connection to an engine."""

from __future__ import annotations

from pathlib import Path

import click

from gitops import config, errors


@click.group()
def system() -> None:
    """The connection to an engine."""


@system.command("dial-stdio")
@click.option("-H", "--host", metavar="unix://PATH", default=f"unix://{config.RUN_ROOT}/engine.sock", show_default=True)
def dial_stdio(host: str) -> None:
    """Join standard input and output with an engine's socket: the far end of ssh://."""
    from gitops.daemon import dialing

    if not host.startswith("unix:///"):
        raise errors.Unsupported(f"{host!r} can't be joined with: only unix://PATH can")
    dialing.join(Path(host.removeprefix("unix://")))
