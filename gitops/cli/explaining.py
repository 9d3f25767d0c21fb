"""The command that explains: why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from gitops.cli import common

if TYPE_CHECKING:
    from gitops.client import EngineClient
    from gitops.reconciler import why as chains

_UNSCHEDULABLE = 3
_BROKEN = 4
_MARKS = {"ok": ("✓", "green"), "waiting": ("…", "yellow"), "broken": ("✗", "red"), "not reached": (" ", "")}


@click.command()
@click.argument("service")
@common.host_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print.")
def why(service: str, host: str | None, form: str) -> int:
    """Walk from what is desired of SERVICE to whether it can be reached, and name the first broken link.

    Exit code 0: all is well, 3: it can't be scheduled, 4: another link is broken or not there yet.
    """
    from gitops.reconciler import why as chains

    async def run(client: EngineClient) -> chains.Why:
        return chains.walk(await chains.read(client, service))

    found = common.with_client(host, run)
    click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False) if form == "json" else text(found))
    if found.broken is None:
        return 0
    return _UNSCHEDULABLE if found.broken.name == "scheduled" else _BROKEN


def text(found: chains.Why) -> str:
    """A line a link, and what holds."""
    lines = [f"Service {found.service}", ""]
    for link in found.links:
        mark, colour = _MARKS[str(link.state)]
        lines.append(f"  {click.style(mark, fg=colour) if colour else mark} {link.name:<9}  {link.evidence}".rstrip())
    broken = found.broken
    if broken is None:
        return "\n".join([*lines, "", "All is well."])
    what = "Not yet" if str(broken.state) == "waiting" else "Broken at"
    return "\n".join([*lines, "", f"{what} {broken.name}: {broken.evidence}"])
