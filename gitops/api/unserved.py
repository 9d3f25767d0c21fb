"""What Docker's API has and this engine hasn't yet: answered with 501 and a sentence, so that nobody has to guess."""

from __future__ import annotations

from aiohttp import web

from gitops import errors
from gitops.api.context import Handler

_ROUTES: tuple[tuple[str, str, str], ...] = (
    ("POST", "/build", "building from a Dockerfile"),
    ("POST", "/build/prune", "the build cache"),
    ("POST", "/build/cancel", "building from a Dockerfile"),
    ("POST", "/session", "BuildKit sessions"),
    ("POST", "/grpc", "BuildKit"),
    ("GET", "/images/search", "docker search"),
    ("PUT", "/volumes/{name}", "cluster volumes"),
    ("POST", "/swarm/join", "joining a swarm"),
    ("POST", "/swarm/unlock", "locked swarms"),
    ("GET", "/plugins", "plugins"),
    ("GET", "/plugins/{name:.+}/json", "plugins"),
    ("GET", "/plugins/privileges", "plugins"),
    ("POST", "/plugins/pull", "plugins"),
)


def _refusal(what: str) -> Handler:
    async def refuse(request: web.Request) -> web.StreamResponse:
        raise errors.Unsupported(f"{what} is not supported by this engine yet")

    return refuse


ROUTES: list[tuple[str, str, Handler]] = [(method, path, _refusal(what)) for method, path, what in _ROUTES]
