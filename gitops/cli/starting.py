"""Whether `apply` may start the built-in engine: only on a terminal after asking, or when it was told to."""

from __future__ import annotations

import asyncio
import os
import sys

import click

from gitops import config, errors


def ensure(host: str | None, *, start_engine: bool, yes: bool) -> None:
    """Start the built-in engine as a swarm of one, if no other is named and none runs.

    An engine that runs is never changed behind its owner's back: if it is in no swarm, it becomes one of one node only
    with `start_engine`.

    Raises:
        errors.Unavailable: none runs, and none is to be started.
        errors.NotInSwarm: one runs, in no swarm, and is to be left so.
    """
    from gitops import client as clients
    from gitops.daemon import background

    if host or os.environ.get(clients.HOST_VARIABLE):
        return
    settings = config.EngineConfig()
    found = background.status(settings)
    if found.pid is not None:
        if found.swarm == "inactive" and not start_engine:
            raise errors.NotInSwarm("the engine is in no swarm: say --start-engine to make it a swarm of one node")
        if found.swarm == "inactive":
            asyncio.run(_swarm())
        return
    if not start_engine:
        question = "No engine runs on this host. Start the built-in one, as a swarm of one node?"
        if yes or not sys.stdin.isatty() or not click.confirm(question):
            raise errors.Unavailable(
                "no engine runs on this host: run `gitops engine start`, say --start-engine, or name another by -H"
            )
    found, is_new = background.start(settings)
    click.echo(f"The engine {'is started' if is_new else 'runs'}: pid {found.pid}, {', '.join(found.hosts)}")
    asyncio.run(_swarm())


async def _swarm() -> None:
    """Make a fresh engine a swarm of one."""
    from gitops import client as clients
    from gitops.objects import system

    async with clients.connect(None) as client:
        if (await client.info()).swarm.local_node_state == "inactive":
            await client.swarm_init(system.SwarmInit())
            click.echo("It is a swarm of one node now.")
