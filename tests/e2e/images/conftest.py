"""A real registry, images of our own making in it, and an image service on a fresh data root."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zstandard

from gitops import config as settings
from gitops.engine import database, events
from gitops.engine.images import service, unpack
from gitops.engine.registry import client, transport
from gitops.objects import image

OCI = "application/vnd.oci.image."


@pytest.fixture(scope="session")
def unpacker() -> Iterator[unpack.Unpacker]:
    """Started once, before any event loop of this folder's tests runs."""
    made = unpack.Unpacker()
    made.start()
    yield made
    asyncio.run(made.close())


# -- images


def make_layer(files: Mapping[str, bytes | str | None]) -> bytes:
    """A tar of these files; None makes a directory, a text a symlink."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mtime = 1_700_000_000
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(member)
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size, member.mode = len(content), 0o644
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class ImageLayout:
    """An OCI layout directory that images are put into."""

    path: Path
    entries: list[dict[str, Any]] = field(default_factory=list)

    def blob(self, data: bytes) -> dict[str, Any]:
        directory = self.path / "blobs" / "sha256"
        directory.mkdir(parents=True, exist_ok=True)
        digest = sha256(data)
        (directory / digest.removeprefix("sha256:")).write_bytes(data)
        return {"digest": digest, "size": len(data)}

    def image(
        self,
        layers: Sequence[bytes],
        *,
        compression: str = "gzip",
        architecture: str = "amd64",
        config: Mapping[str, Any] | None = None,
        created: str = "2026-01-02T03:04:05Z",
    ) -> dict[str, Any]:
        """The descriptor of a new image of these tars."""
        compress: Callable[[bytes], bytes] = {
            "": lambda data: data,
            "gzip": lambda data: gzip.compress(data, 1, mtime=0),
            "zstd": zstandard.ZstdCompressor().compress,
        }[compression]
        suffix = f"+{compression}" if compression else ""
        document = {
            "architecture": architecture,
            "os": "linux",
            "created": created,
            "config": dict(config or {"Cmd": ["/bin/true"], "Labels": {"made": "here"}}),
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]},
            "history": [{"created": created, "created_by": f"layer {n}"} for n, _ in enumerate(layers)],
        }
        kind = f"{OCI}manifest.v1+json"
        manifest = {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": {"mediaType": f"{OCI}config.v1+json", **self.blob(json.dumps(document).encode())},
            "layers": [{"mediaType": f"{OCI}layer.v1.tar{suffix}", **self.blob(compress(one))} for one in layers],
        }
        return {"mediaType": kind, **self.blob(json.dumps(manifest).encode())}

    def index(self, entries: Sequence[tuple[dict[str, Any], str]]) -> dict[str, Any]:
        """The descriptor of an index of images by architecture."""
        kind = f"{OCI}index.v1+json"
        manifests = [
            {**entry, "platform": {"os": "linux", "architecture": architecture}} for entry, architecture in entries
        ]
        return {"mediaType": kind, **self.blob(json.dumps({"schemaVersion": 2, "manifests": manifests}).encode())}

    def name(self, tag: str, descriptor: dict[str, Any]) -> None:
        """Write the layout with this descriptor under `tag`."""
        annotated = {**descriptor, "annotations": {"org.opencontainers.image.ref.name": tag}}
        self.entries.append(annotated)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.entries}))


@pytest.fixture
def image_layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout(tmp_path / "layout")


def copy(source: str, target: str, *options: str) -> None:
    """skopeo copy."""
    subprocess.run(["skopeo", "copy", "--quiet", *options, source, target], check=True, capture_output=True, timeout=60)


# -- the registry


class Registry:
    """docker-registry on a free port of loopback, its storage and its log in a directory."""

    def __init__(self, directory: Path, extra: Mapping[str, Any]) -> None:
        directory.mkdir()
        self.storage = directory / "storage"
        self.log = directory / "log"
        self._config = directory / "config.json"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self._scheme = "https" if "tls" in extra.get("http", {}) else "http"
        http = {"addr": self.host, **extra.get("http", {})}
        storage = {"filesystem": {"rootdirectory": str(self.storage)}}
        self._config.write_text(  # JSON is YAML
            json.dumps({"version": 0.1, "storage": storage, **extra, "http": http, "log": {"level": "error"}})
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(["docker-registry", "serve", self._config], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "the registry doesn't answer"
            time.sleep(0.02)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def push(self, layout: ImageLayout, tag: str, name: str, *options: str) -> None:
        copy(f"oci:{layout.path}:{tag}", f"docker://{self.host}/{name}", "--dest-tls-verify=false", *options)

    def digest(self, name: str) -> str:
        """What the registry has under `repository:tag`."""
        path, _, tag = name.partition(":")
        request = urllib.request.Request(f"http://{self.host}/v2/{path}/manifests/{tag}", method="HEAD")
        request.add_header("Accept", f"{OCI}manifest.v1+json, {OCI}index.v1+json")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.headers["Docker-Content-Digest"])

    def requests(self, method: str, part: str) -> list[str]:
        """Lines of the access log of this method whose path contains `part`."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if f'"{method} /v2/' in line and part in line]

    async def logged(self, part: str) -> None:
        """Wait until a line with `part` is in the log, which lags behind the answers."""
        async with asyncio.timeout(10):
            while part not in self.log.read_text():  # noqa: ASYNC110 - a file of another process
                await asyncio.sleep(0.01)


StartRegistry = Callable[..., Registry]


@pytest.fixture
def start_registry(tmp_path: Path) -> Iterator[StartRegistry]:
    started: list[Registry] = []

    def start(**extra: Any) -> Registry:
        registry = Registry(tmp_path / f"registry-{len(started)}", extra)
        started.append(registry)
        registry.start()
        return registry

    yield start
    for registry in started:
        registry.kill()


@pytest.fixture
def registry(start_registry: StartRegistry) -> Registry:
    return start_registry()


# -- the service


@dataclass
class Host:
    """An image service and what it stands on."""

    root: Path
    service: service.ImageService
    database: database.Database
    events: events.EventBus
    lines: list[image.Progress] = field(default_factory=list)

    async def pull(self, reference: str, **options: Any) -> str:
        self.lines.clear()
        return await self.service.pull(reference, progress=self.lines.append, **options)

    def statuses(self, name: str = "") -> list[str]:
        """The texts of the last pull, counts of one kind once; those of one layer where its id is given."""
        texts = [line.status for line in self.lines if not name or line.id == name]
        return [text for number, text in enumerate(texts) if number == 0 or texts[number - 1] != text]

    def layer_directories(self) -> set[str]:
        return {path.name for path in (self.root / "layers").iterdir()}

    def temporary(self) -> list[Path]:
        return sorted((self.root / "tmp").iterdir())

    async def trash_is_empty(self) -> None:
        """Wait until the background deletion is through."""
        trash = self.service._store.trash
        assert await asyncio.to_thread(trash.wait_until_empty, 10)

    def read(self, image_id: str, name: str) -> bytes:
        """The file of an image, from the topmost layer that has it."""
        for layer in self.service.layers(image_id):
            if (layer / name).exists():
                return (layer / name).read_bytes()
        raise FileNotFoundError(name)


StartHost = Callable[..., Awaitable[Host]]


@pytest.fixture
async def start_host(unpacker: unpack.Unpacker, tmp_path: Path) -> AsyncIterator[StartHost]:
    """Start a service, on a fresh short data root or on one that was used before."""
    roots: list[Path] = []
    hosts: list[Host] = []

    async def start(root: Path | None = None) -> Host:
        if root is None:
            root = Path(tempfile.mkdtemp(prefix="gi-", dir="/tmp"))
            roots.append(root)
        rows, bus = database.Database(root / "engine.db"), events.EventBus()
        made = service.ImageService(
            settings.EngineConfig(data_root=root, run_root=root / "run"),
            rows,
            bus,
            unpacker,
            registry=client.RegistryClient(
                certificates=[tmp_path / "certs.d"], retry=transport.Retry(attempts=3, base_s=0.05)
            ),
        )
        await made.start()
        hosts.append(Host(root, made, rows, bus))
        return hosts[-1]

    yield start
    for host in hosts:
        await host.service.close()
        host.database.close()
    for root in roots:
        shutil.rmtree(root)


@pytest.fixture
async def host(start_host: StartHost) -> Host:
    return await start_host()


class Tools:
    """Functions for tests; they can't import this file."""

    make_layer = staticmethod(make_layer)
    sha256 = staticmethod(sha256)
    copy = staticmethod(copy)


@pytest.fixture
def tools() -> Tools:
    return Tools()
