"""The server: the application with all routes, and its listeners on unix sockets.

Promises: a stale socket is replaced, a live one never; sockets are root's and the group's, mode 0660, from their first
moment; `close` ends streams, lets what changes something run to its end, and takes the sockets away.
"""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from gitops import errors
from gitops.api import middleware, unserved
from gitops.api.context import ENGINE, SWARM, SWARM_EVENTS, Handler
from gitops.api.routes import (
    containers,
    events,
    images,
    logs,
    networks,
    nodes,
    secrets,
    services,
    swarm,
    system,
    volumes,
)
from gitops.api.swarmevents import SwarmEvents

if TYPE_CHECKING:
    from gitops.engine.engine import Engine
    from gitops.swarm.node import SwarmNode

log = logging.getLogger(__name__)

BODY_LIMIT = 8 * 2**20
"""Bytes of a JSON body: a config of 1000 KiB is 1.4 MB in base64. Archives are streamed and have no limit here."""
_HEADER_LIMIT = 64 * 2**10
_BACKLOG = 1024
_CLOSE_S = 30.0
_MODULES = (system, images, containers, logs, networks, volumes, events, swarm, nodes, services, secrets, unserved)
_VERSION = r"/v{version:\d+\.\d+}"


class Listener:
    """A bound unix socket that its owner can hand over."""

    def __init__(self, path: Path, group: str) -> None:
        """Bind the socket at `path`.

        Raises:
            errors.Conflict: somebody listens there. errors.RuntimeFailure: the path can't be used.
        """
        self.path = path
        self.group = group
        _clear_stale(path)
        self.socket = _bind(path, _group_id(group))
        status = path.stat()
        self._identity = (status.st_dev, status.st_ino)

    @property
    def is_lost(self) -> bool:
        """Whether somebody deleted the socket's file, so that nobody can connect any more."""
        return not self.path.is_symlink() and not self.path.exists()

    def close(self) -> None:
        """Take the socket away, unless another one has its place meanwhile."""
        self.socket.close()
        with contextlib.suppress(FileNotFoundError):
            status = self.path.stat()
            if (status.st_dev, status.st_ino) == self._identity:
                self.path.unlink()


def _clear_stale(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_socket():
        raise errors.Conflict(f"{path} is there and is no socket: choose another place to listen, or remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise errors.RuntimeFailure(f"can't tell whether {path} is in use: {error.strerror}") from error
    raise errors.Conflict(f"another program listens on {path}: stop it, or give this engine another --host")


def _bind(path: Path, group_id: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Made before the mask is narrowed: a directory without its x bits lets nobody of the group through.
    former = os.umask(0o022)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # The mode is right from the start: between bind and chmod anybody could connect.
        os.umask(0o117)
        sock.bind(str(path))
        os.chown(path, -1, group_id)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise errors.RuntimeFailure(f"can't listen on {path}: {error.strerror or error}") from error
    finally:
        os.umask(former)
    return sock


def _group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return 0


def listeners(hosts: Iterable[str], group: str) -> list[Listener]:
    """Bind every endpoint; all or none.

    Raises:
        errors.Invalid, errors.Unsupported: an endpoint that isn't `unix://PATH`. errors.Conflict: one is in use.
    """
    bound: list[Listener] = []
    try:
        for host in hosts:
            scheme, _, rest = host.partition("://")
            if scheme != "unix":
                raise errors.Unsupported(f"can't listen on {host!r}: only unix://PATH is supported yet")
            if not rest.startswith("/"):
                raise errors.Invalid(f"can't listen on {host!r}: an absolute path is wanted, as in unix:///run/x.sock")
            bound.append(Listener(Path(rest), group))
    except BaseException:
        for listener in bound:
            listener.close()
        raise
    return bound


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
        self._sites: dict[Listener, web.SockSite] = {}

    async def listen(self, listener: Listener) -> None:
        """Answer there, too."""
        site = web.SockSite(self._runner, listener.socket, backlog=_BACKLOG)
        await site.start()
        self._sites[listener] = site
        log.info("listening on %s", listener.path)

    async def mend(self) -> None:
        """Put back sockets whose files somebody deleted; connections that are open live on.

        Raises:
            errors.GitopsError: one can't be put back.
        """
        for listener in [listener for listener in self._sites if listener.is_lost]:
            log.warning("the socket %s was deleted by somebody else: making it again", listener.path)
            await self.listen(Listener(listener.path, listener.group))
            await self._sites.pop(listener).stop()
            listener.socket.close()

    async def close(self) -> None:
        """Stop listening, end streams, wait for what changes something."""
        for site in tuple(self._runner.sites):
            await site.stop()
        for listener in self._sites:
            listener.close()
        await self._app[SWARM_EVENTS].stop()
        await self._app[middleware.ACTIONS].close(_CLOSE_S)
        await self._runner.cleanup()


async def serve(engine: Engine, node: SwarmNode, bound: Sequence[Listener]) -> Server:
    """Answer on `bound` until `Server.close`; the listeners are the server's from then on."""
    app = application(engine, node)
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        handler_cancellation=True,
        shutdown_timeout=1.0,
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
