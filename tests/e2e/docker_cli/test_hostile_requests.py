"""Requests that nobody in his right mind sends, to every route: the right kind of status, never a traceback.

Judged by what holds for all: no answer is a 500 but Docker's own for a stale version, every error is JSON with a
message, the log has no traceback, and the engine answers as before.
"""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import random
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import yarl

from gitops.api import server
from gitops.objects.container import ContainerCreate, HostConfig, VolumeCreate
from gitops.objects.execution import ExecCreate, ExecStart
from gitops.objects.network import NetworkConnect, NetworkCreate, NetworkDisconnect
from gitops.objects.node import ClusterSpec, NodeSpec
from gitops.objects.secret import ConfigSpec, SecretSpec
from gitops.objects.service import ServiceSpec
from gitops.objects.system import SwarmInit

pytestmark = pytest.mark.e2e

ROUTES = [(method, path) for module in server._MODULES for method, path, _ in module.ROUTES]
# Errors that Docker itself answers with 500, as we do then.
DOCKERS_OWN = ("update out of sequence", "is not paused")
# These take the ground from under the others.
LAST = {"/swarm/leave"}
NAMES = [
    "%00",
    "a%00b",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "x" * 5000,
    "%ff%fe",
    "%F0%9F%98%80",
    "%0A",
    "%20",
    "-",
    "'",
    "sha256:",
    "sha256:" + "z" * 64,
    "%40sha256:1",
    "a%40b%40c",
    "http:%2f%2fa",
    "0" * 64,
    "%25s",
    "A%2FB:C:D",
]
WORDS = [
    "%00",
    "-1",
    "-9223372036854775809",
    "9" * 400,
    "1" * 5000,
    "1e999",
    "NaN",
    "inf",
    "%D9%A3",
    "0x10",
    "%ff",
    "x" * 3000,
    "9999-99-99T99:99:99Z",
    "0001-01-01T00:00:00Z",
    "%7B%22label%22:%7B%22a%22:1%7D%7D",
    "%5B" * 2500,
    "%7B%22a%22:" * 700,
    "%7B%22id%22:%5B%22%5C%5B%22%5D%7D",
    "%7B%22name%22:%5B%22(%22%5D%7D",
    "%7B%22before%22:%5B%22%00%22%5D%7D",
]
QUERIES = (
    *("filters", "limit", "since", "until", "tail", "t", "signal", "force", "v", "all", "tag", "repo", "platform"),
    *(
        "condition",
        "version",
        "name",
        "w",
        "h",
        "scope",
        "size",
        "stdout",
        "follow",
        "timestamps",
        "ps_args",
        "reference",
    ),
    *(
        "path",
        "detachKeys",
        "logs",
        "stream",
        "stdin",
        "noOverwriteDirNonDir",
        "container",
        "comment",
        "author",
        "changes",
    ),
    *("fromImage", "fromSrc", "message", "names", "noprune", "link", "type", "verbose", "rollback", "registryAuthFrom"),
)
BODIES: list[bytes] = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"1",
    b'"x"',
    b"\xff\xfe{}",
    b'{"a": NaN}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"HostConfig":' * 5_000 + b"1" + b"}" * 5_000,
    b'{"Memory": 1' + b"0" * 5000 + b"}",
    b'{"Name": "a\\u0000b", "Image": "a\\u0000b", "Data": "AA==", "Container": "\\u0000"}',
    b'{"Image": "\\ud800", "Name": "\\ud800"}',
    b'{"Image": "' + b"x" * 2**20 + b'"}',
]
KINDS: dict[str, Any] = {
    "/containers/create": ContainerCreate,
    "/volumes/create": VolumeCreate,
    "/networks/create": NetworkCreate,
    "/services/create": ServiceSpec,
    "/services/{service}/update": ServiceSpec,
    "/secrets/create": SecretSpec,
    "/configs/create": ConfigSpec,
    "/swarm/update": ClusterSpec,
    "/nodes/{node}/update": NodeSpec,
    "/swarm/init": SwarmInit,
    "/containers/{container}/exec": ExecCreate,
    "/containers/{container}/update": HostConfig,
    "/exec/{exec}/start": ExecStart,
    "/networks/{network}/connect": NetworkConnect,
    "/networks/{network}/disconnect": NetworkDisconnect,
}
# Where archives go, and credentials.
ARCHIVES = [
    ("POST", "/images/load"),
    ("POST", "/images/create?fromSrc=-&repo=x"),
    ("POST", "/build"),
    ("PUT", "/containers/web/archive?path=/tmp"),
    ("PUT", "/containers/web/archive?path=%00"),
    ("PUT", "/containers/web/archive?path=/no/such"),
]
CREDENTIALS = [b"", b"[" * 40_000, b"null", b'{"username": 1}', b'{"username": "\\u0000", "password": "\xff"}', b"\xff"]


def _filled(path: str, value: str) -> str:
    return re.sub(r"\{[^}]+\}", lambda _: value, path)


def _in_path() -> Iterator[tuple[str, str, bytes]]:
    for (method, path), name in itertools.product(ROUTES, NAMES):
        if "{" in path:
            yield method, _filled(path, name) + ("?version=1" if path.endswith("update") else ""), b""


def _in_query() -> Iterator[tuple[str, str, bytes]]:
    chance = random.Random(1)
    for method, path in ROUTES:
        for word in WORDS:
            names = ["filters", *chance.sample(QUERIES, 6)]
            query = "&".join(f"{name}={word}" for name in names)
            yield method, f"{_filled(path, 'web')}?{query}", b""


def _in_body() -> Iterator[tuple[str, str, bytes]]:
    for (method, path), body in itertools.product(ROUTES, BODIES):
        if method in ("POST", "PUT"):
            yield method, _filled(path, "web") + "?version=1", body


def _of_great_size() -> Iterator[tuple[str, str, bytes]]:
    for path in KINDS:
        yield "POST", _filled(path, "web") + "?version=1", b'{"Name": "' + b"x" * 9 * 2**20 + b'"}'


def _as_archives(whole: bytes) -> Iterator[tuple[str, str, bytes]]:
    pieces = [b"x", b"\0" * 1024, whole[:700], whole[:1500], whole[: len(whole) // 2], b"\x1f\x8b" + b"x" * 2000]
    pieces.append(whole[:100] + b"-0000001" + whole[108:1024])
    for (method, target), body in itertools.product(ARCHIVES, pieces):
        yield method, target, body


def _of_wrong_types() -> Iterator[tuple[str, str, bytes]]:
    chance = random.Random(2)
    for path, kind in KINDS.items():
        for _ in range(40):
            body = json.dumps(_value(msgspec.inspect.type_info(kind), chance, 0)).encode()
            yield "POST", _filled(path, "web") + "?version=1", body


SCALARS = [0, 1, -1, 2**63, -(2**70), 1.5, 1e308, True, False, None, "", "x", "a\0b", "/", "../..", "٣", "9" * 400, "-"]
SHAPES = [[], {}, [None], [1], ["x"], [[]], [{}], {"": ""}, {"x": None}, {"x": {"x": 1}}]


def _value(kind: Any, chance: random.Random, depth: int) -> Any:
    """Mostly what the field wants, now and then something else."""
    inspect = msgspec.inspect
    if depth > 6 or chance.random() < 0.12:
        return chance.choice([*SCALARS, *SHAPES])
    if isinstance(kind, inspect.UnionType):
        return _value(chance.choice(kind.types), chance, depth)
    if isinstance(kind, inspect.StructType):
        share = 0.9 if depth == 0 else 0.3
        chosen = [field for field in kind.fields if chance.random() < share]
        return {field.encode_name: _value(field.type, chance, depth + 1) for field in chosen}
    if isinstance(kind, inspect.ListType):
        return [_value(kind.item_type, chance, depth + 1) for _ in range(chance.randrange(3))]
    if isinstance(kind, inspect.DictType):
        return {chance.choice(["", "a", "80/tcp", "x" * 300]): _value(kind.value_type, chance, depth + 1)}
    if isinstance(kind, inspect.IntType):
        return chance.choice([0, 1, -1, 5, 2**31, 2**53, 2**63 - 1, -(2**63)])
    if isinstance(kind, inspect.StrType):
        return chance.choice(["", "a", "web", "app:1", "a b", "\0", "10.0.0.0/8", "::1", "x" * 300, "-1", "80-70", "é"])
    if isinstance(kind, inspect.BoolType):
        return chance.random() < 0.5
    return chance.choice(SCALARS)


async def _send(session: aiohttp.ClientSession, method: str, target: str, body: bytes) -> str:
    """What is wrong with the answer, or ""."""
    is_archive = (method, target) in ARCHIVES
    headers = {"Content-Type": "application/x-tar" if is_archive else "application/json"} if body else {}
    # One of them for each request, always the same.
    chosen = CREDENTIALS[zlib.crc32(target.encode()) % len(CREDENTIALS)]
    headers["X-Registry-Auth"] = base64.urlsafe_b64encode(chosen).decode()
    url = yarl.URL(f"http://d{target}", encoded=True)
    shown = f"{method} {target[:120]} {body[:300]!r}"
    try:
        async with session.request(method, url, data=io.BytesIO(body) if body else None, headers=headers) as answer:
            if len(body) > server.BODY_LIMIT and answer.status != 413:
                return f"{shown}: {answer.status} to a body of {len(body)} bytes"
            if answer.status < 400 or method == "HEAD":
                return "" if answer.status != 500 else f"{shown}: 500"
            said = await answer.read()
    except TimeoutError:
        return f"{shown}: no answer"
    except aiohttp.ClientError as error:
        return f"{shown}: {error!r}"
    try:
        message = json.loads(said)["message"]
    except (ValueError, LookupError, TypeError):
        return f"{shown}: {answer.status} {said[:200]!r}"
    if answer.status == 500 and not any(text in message for text in DOCKERS_OWN):
        return f"{shown}: 500 {message[:300]}"
    return ""


def _populate(host: Any, image: Path) -> None:
    """One of each kind, called web."""
    host.docker("load", "-i", str(image))
    host.docker("run", "-d", "--init", "--name", "web", "web:latest", "sleep", "600")
    host.docker("volume", "create", "web")
    host.docker("network", "create", "web")
    image.with_name("data").write_text("data")
    for kind in ("secret", "config"):
        host.docker(kind, "create", "web", str(image.with_name("data")))
    host.docker(
        "service", "create", "-d", "--quiet", "--no-resolve-image", "--name", "web", "web:latest", "sleep", "600"
    )


async def _send_all(path: Path, archive: bytes) -> list[str]:
    limit = asyncio.Semaphore(8)
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.UnixConnector(str(path), limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def one(request: tuple[str, str, bytes]) -> str:
            async with limit:
                return await _send(session, *request)

        everything = itertools.chain(
            _in_path(), _in_query(), _in_body(), _of_great_size(), _as_archives(archive), _of_wrong_types()
        )
        requests = [request for request in everything if not request[1].startswith(tuple(LAST))]
        # What they are about must be there for as long as possible.
        requests.sort(key=lambda request: request[0] == "DELETE" or "/prune" in request[1])
        return [found for found in await asyncio.gather(*map(one, requests)) if found]


@pytest.mark.timeout(400)
def test_no_request_brings_the_engine_out_of_step(swarm: Any, archive: Callable[[str], Path]) -> None:
    image = archive("web:latest")
    _populate(swarm, image)
    found = asyncio.run(_send_all(Path(swarm.socket.removeprefix("unix://")), image.read_bytes()))
    assert not found, f"{len(found)} answers:\n" + "\n".join(found[:40])
    log = swarm.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4000]
    assert swarm.docker("version", "--format", "{{.Server.Version}}")
