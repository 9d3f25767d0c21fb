"""The daemon: locks, then the unpacker's helper, then everything else inside the event loop.

Order at the start: roots and locks, limits, the helper that is forked while the process is small and has no threads,
sockets (so that a conflict shows before the host is touched), engine, swarm node, API. The order at the end is the
reverse; containers run on unless the stop asked otherwise. A second signal doesn't hurry it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import gitops
from gitops import errors
from gitops.config import EngineConfig
from gitops.daemon import ownership, process

if TYPE_CHECKING:
    from gitops.api.server import Server
    from gitops.engine.engine import Engine
    from gitops.engine.images.unpack.unpacker import Unpacker
    from gitops.swarm.node import SwarmNode

log = logging.getLogger(__name__)

STOP_ALL_MARKER = "stop-containers"
"""A file in the run root that makes the next shutdown end the containers and take their networks away too."""
_MEND_S = 5.0
"""Seconds between two looks at whether the sockets are still there."""
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(config: EngineConfig, *, log_level: str = "info") -> None:
    """Be the daemon until a signal ends it.

    Raises:
        errors.GitopsError: it can't start; the message says why.
    """
    if os.geteuid() != 0:
        raise errors.Denied("the engine needs root: it makes namespaces, mounts and networks")
    process.set_up_logging(log_level)
    os.umask(0o022)
    locks = [ownership.Lock(config.data_root)]
    try:
        config.run_root.mkdir(mode=0o755, parents=True, exist_ok=True)
        locks.append(ownership.Lock(config.run_root))
        process.raise_limits()
        _start(config)
    finally:
        for lock in locks:
            lock.close()


def _start(config: EngineConfig) -> None:
    # Imported here, and before all that is big: the helper's pages are copied for every layer.
    from gitops.engine.images.unpack.unpacker import Unpacker

    unpacker = Unpacker()
    unpacker.start()
    asyncio.run(_serve(config, unpacker))


async def _serve(config: EngineConfig, unpacker: Unpacker) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, _stop, stopping, number)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(unpacker.close)
        await _compose(config, unpacker, stack)
        ownership.write_pid_file(config)
        stack.callback(ownership.remove_pid_file, config)
        process.notify("READY=1")
        log.info("gitops %s is ready, instance %s", gitops.__version__, config.instance)
        await stopping.wait()
        process.notify("STOPPING=1")
    log.info("gitops engine ended")


def _stop(stopping: asyncio.Event, number: signal.Signals) -> None:
    log.info("ending on %s", number.name)
    stopping.set()


async def _compose(config: EngineConfig, unpacker: Unpacker, stack: contextlib.AsyncExitStack) -> None:
    from gitops.api import listeners, server
    from gitops.engine.engine import Engine
    from gitops.executors.container import ContainerExecutor
    from gitops.swarm.clock import WallClock
    from gitops.swarm.node import SwarmNode

    bound = listeners.bind(config.listen, config.socket_group, config.tls, allow_plain_tcp=config.allow_plain_tcp)
    serving: server.Server | None = None
    try:
        engine = Engine(config, unpacker)
        node = SwarmNode(config, ContainerExecutor(engine, config), WallClock(), random.SystemRandom())
        await stack.enter_async_context(_running_engine(config, engine))
        await stack.enter_async_context(_running_node(node))
        serving = await server.serve(engine, node, bound)
        stack.push_async_callback(serving.close)
        await stack.enter_async_context(_mending(serving))
    finally:
        if serving is None:
            for listener in bound:
                listener.close()


@contextlib.asynccontextmanager
async def _running_engine(config: EngineConfig, engine: Engine) -> AsyncIterator[None]:
    try:
        if _take_marker(config.run_root):
            # Of a stop that was itself cut short: it must not end the containers of another day.
            log.info("the former engine ended before it stopped its containers; they run on")
        await engine.start()
        yield
        if _take_marker(config.run_root):
            # The swarm's agent has ended by now, so nobody starts another.
            await engine.containers.stop_all()
            await engine.networks.destroy()
            await engine.containers.destroy()
    finally:
        await engine.close()


@contextlib.asynccontextmanager
async def _mending(serving: Server) -> AsyncIterator[None]:
    """Look after the sockets as long as the block lasts."""
    task = asyncio.create_task(_mend(serving), name="sockets")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _mend(serving: Server) -> None:
    while True:
        await asyncio.sleep(_MEND_S)
        try:
            await serving.mend()
        except errors.GitopsError as error:
            log.warning("a socket can't be put back, trying again: %s", error)


@contextlib.asynccontextmanager
async def _running_node(node: SwarmNode) -> AsyncIterator[None]:
    try:
        await node.start()
        yield
    finally:
        await node.close()


def _take_marker(run_root: Path) -> bool:
    try:
        (run_root / STOP_ALL_MARKER).unlink()
    except FileNotFoundError:
        return False
    return True
