"""Secrets and configs. A secret's data goes in, and never comes out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from msgspec.structs import replace

from gitops.api import answers, refusals, requests
from gitops.api.context import swarm_of
from gitops.objects import wire
from gitops.objects.secret import ConfigSpec, Secret, SecretSpec

_FILTERS = ("id", "label", "name", "names")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _shown(secret: Secret) -> Secret:
    return replace(secret, spec=replace(secret.spec, data=b""))


def _filters(request: web.Request) -> requests.Filters:
    """`names` is the CLI's word for exact names."""
    return requests.filters(request, _FILTERS)


async def list_secrets(request: web.Request) -> web.Response:
    """`docker secret ls`."""
    return answers.json([_shown(item) for item in swarm_of(request).control.secrets(_filters(request))])


async def inspect_secret(request: web.Request) -> web.Response:
    """`docker secret inspect`."""
    return answers.json(_shown(swarm_of(request).control.secret(request.match_info["secret"])))


async def create_secret(request: web.Request) -> web.Response:
    """`docker secret create`."""
    data = await requests.raw_body(request)
    refusals.check_secret(data)
    made = await swarm_of(request).control.create_secret(wire.decode_request(data, SecretSpec))
    return answers.json({"ID": made.id}, 201)


async def update_secret(request: web.Request) -> web.Response:
    """Labels only."""
    spec = await requests.body(request, SecretSpec)
    await swarm_of(request).control.update_secret(request.match_info["secret"], requests.version(request), spec)
    return answers.empty(200)


async def remove_secret(request: web.Request) -> web.Response:
    """`docker secret rm`."""
    await swarm_of(request).control.remove_secret(request.match_info["secret"])
    return answers.empty()


async def list_configs(request: web.Request) -> web.Response:
    """`docker config ls`."""
    return answers.json(swarm_of(request).control.configs(_filters(request)))


async def inspect_config(request: web.Request) -> web.Response:
    """`docker config inspect`."""
    return answers.json(swarm_of(request).control.config(request.match_info["config"]))


async def create_config(request: web.Request) -> web.Response:
    """`docker config create`."""
    data = await requests.raw_body(request)
    refusals.check_secret(data)
    made = await swarm_of(request).control.create_config(wire.decode_request(data, ConfigSpec))
    return answers.json({"ID": made.id}, 201)


async def update_config(request: web.Request) -> web.Response:
    """Labels only."""
    spec = await requests.body(request, ConfigSpec)
    await swarm_of(request).control.update_config(request.match_info["config"], requests.version(request), spec)
    return answers.empty(200)


async def remove_config(request: web.Request) -> web.Response:
    """`docker config rm`."""
    await swarm_of(request).control.remove_config(request.match_info["config"])
    return answers.empty()


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/secrets", list_secrets),
    ("POST", "/secrets/create", create_secret),
    ("GET", "/secrets/{secret}", inspect_secret),
    ("POST", "/secrets/{secret}/update", update_secret),
    ("DELETE", "/secrets/{secret}", remove_secret),
    ("GET", "/configs", list_configs),
    ("POST", "/configs/create", create_config),
    ("GET", "/configs/{config}", inspect_config),
    ("POST", "/configs/{config}/update", update_config),
    ("DELETE", "/configs/{config}", remove_config),
]
