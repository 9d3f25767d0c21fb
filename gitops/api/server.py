"""The server: the application with all routes, answering on listeners that were bound before.

Promises: `close` ends streams, lets what changes something run to its end, and takes the sockets away.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from gitops.api import middleware, tls, unserved
from gitops.api.context import ENGINE, SWARM, SWARM_EVENTS, Handler
from gitops.api.listeners import BACKLOG, Listener, TcpListener, UnixListener
from gitops.api.routes import (
    archives,
    attach,
    containers,
    events,
    exec,
    images,
    logs,
    networks,
    nodes,
    pruning,
    secrets,
    services,
    stats,
    swarm,
    system,
    volumes,
)
from gitops.api.swarmevents import SwarmEvents

if TYPE_CHECKING:
    from gitops.engine.engine import Engine
    from gitops.swarm.node import SwarmNode

log = logging.getLogger(__name__)
protocol = logging.getLogger("gitops.api.protocol")
protocol.addFilter(middleware.Terse())

BODY_LIMIT = 8 * 2**20
"""Bytes of a JSON body: a config of 1000 KiB is 1.4 MB in base64. Archives are streamed and have no limit here."""
_HEADER_LIMIT = 64 * 2**10
_CLOSE_S = 30.0
_MODULES = (
    system,
    images,
    containers,
    attach,
    exec,
    stats,
    archives,
    logs,
    networks,
    volumes,
    pruning,
    events,
    swarm,
    nodes,
    services,
    secrets,
    unserved,
)
_VERSION = "/v{version:[0-9]{1,3}[.][0-9]{1,3}}"


def application(engine: Engine, node: SwarmNode) -> web.Application:
    """All routes, each with and without the version in its path."""
    app = web.Application(middlewares=[middleware.answer], client_max_size=BODY_LIMIT)
    app[ENGINE] = engine
    app[SWARM] = node
    app[SWARM_EVENTS] = SwarmEvents(node, engine.events)
    app[middleware.ACTIONS] = middleware.Actions()
    app.on_response_prepare.append(middleware.add_headers)
    for module in _MODULES:
        _add(app, module.ROUTES)
    return app


def _add(app: web.Application, routes: Sequence[tuple[str, str, Handler]]) -> None:
    for method, path, handler in routes:
        app.router.add_route(method, path, handler)
        app.router.add_route(method, _VERSION + path, handler)


class Server:
    """A running server; made by `serve`."""

    def __init__(self, app: web.Application, runner: web.AppRunner) -> None:
        self._app = app
        self._runner = runner
        self._sites: dict[UnixListener, web.SockSite] = {}
        self._ports: list[TcpListener] = []
        self._fronts: list[tls.Front] = []

    async def listen(self, listener: Listener) -> None:
        """Answer there, too."""
        if isinstance(listener, UnixListener):
            self._sites[listener] = await self._site(listener)
            log.info("listening on %s", listener)
        elif listener.tls is None:
            self._ports.append(listener)
            await self._site(listener)
            log.warning("listening on %s without TLS: whoever can connect there is root on this host", listener)
        else:
            self._ports.append(listener)
            assert self._runner.server is not None
            front = tls.Front(listener.socket, listener.tls, self._runner.server)
            front.start()
            self._fronts.append(front)
            log.info("listening on %s for clients with a certificate", listener)

    async def _site(self, listener: Listener) -> web.SockSite:
        site = web.SockSite(self._runner, listener.socket, backlog=BACKLOG)
        await site.start()
        return site

    async def mend(self) -> None:
        """Put back sockets whose files somebody deleted; connections that are open live on.

        Raises:
            errors.GitopsError: one can't be put back.
        """
        for listener in [listener for listener in self._sites if listener.is_lost]:
            log.warning("the socket %s was deleted by somebody else: making it again", listener.path)
            await self.listen(UnixListener(listener.path, listener.group))
            await self._sites.pop(listener).stop()
            listener.socket.close()

    async def close(self) -> None:
        """Stop listening, end streams, wait for what changes something."""
        for site in tuple(self._runner.sites):
            await site.stop()
        for front in self._fronts:
            await front.stop()
        listening: list[Listener] = [*self._sites, *self._ports]
        for listener in listening:
            listener.close()
        await self._app[SWARM_EVENTS].stop()
        await self._app[middleware.ACTIONS].close(_CLOSE_S)
        await self._runner.cleanup()
        for front in self._fronts:
            await front.close()


async def serve(engine: Engine, node: SwarmNode, bound: Sequence[Listener]) -> Server:
    """Answer on `bound` until `Server.close`; the listeners are the server's from then on."""
    app = application(engine, node)
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        handler_cancellation=True,
        shutdown_timeout=1.0,
        logger=protocol,
        max_headers=128,
        max_line_size=_HEADER_LIMIT,
        max_field_size=_HEADER_LIMIT,
    )
    await runner.setup()
    server = Server(app, runner)
    for listener in bound:
        await server.listen(listener)
    app[SWARM_EVENTS].start()
    return server
