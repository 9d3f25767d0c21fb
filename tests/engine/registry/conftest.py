"""A registry of our own, for what the real one can't be made to do: tokens, redirects, refusals, cut answers."""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gitops.engine.registry import client, transport

Hook = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Registry:
    """What it serves, how it asks for credentials, and what it was asked."""

    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    auth: str = ""
    """"", basic or bearer."""
    users: dict[str, str] = field(default_factory=dict)
    realm: str = ""
    token_life_s: int = 300
    hook: Hook | None = None
    """Asked first; its answer, if it gives one, is the answer."""
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    upload_to: str = ""
    """Where blobs are to be sent, if not to itself."""
    forms: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    def add(self, tag: str, data: bytes, kind: str = MANIFEST) -> str:
        self.manifests[tag] = self.manifests[digest_of(data)] = (kind, data)
        return digest_of(data)

    def add_blob(self, data: bytes) -> str:
        self.blobs[digest_of(data)] = data
        return digest_of(data)

    def paths(self, method: str = "GET") -> list[str]:
        return [path for verb, path, _ in self.seen if verb == method]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path_qs, dict(request.headers)))
        if self.hook is not None and (answer := await self.hook(request)) is not None:
            return answer
        if request.path == "/token":
            return await self._token(request)
        if (refusal := self._refusal(request)) is not None:
            return refusal
        if request.path == "/v2/":
            return web.json_response({})
        _, _, rest = request.path.partition("/v2/")
        path, kind, name = rest.rsplit("/", 2)
        if request.method in ("POST", "PUT"):
            return await self._upload(request, path, kind, name)
        if kind == "manifests":
            return self._manifest(name)
        if kind == "blobs":
            return self._blob(request, name)
        return self._tags(request, path)

    def _refusal(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "")
        if self.auth == "basic" and not self._is_user(given):
            return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="here"'})
        if self.auth == "bearer" and given.removeprefix("Bearer ") not in self.tokens:
            realm = self.realm or f"{self.url}/token"
            header = f'Bearer realm="{realm}",service="here",scope="repository:app:pull"'
            return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": header})
        return None

    def _is_user(self, header: str) -> bool:
        name, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        return self.users.get(name) == password

    async def _token(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            form = {key: str(value) for key, value in (await request.post()).items()}
            self.forms.append(form)
            if form.get("refresh_token") != "identity":
                return _error(401, "UNAUTHORIZED")
        elif self.users and not self._is_user(request.headers.get("Authorization", "")):
            return _error(401, "UNAUTHORIZED")
        token = f"token-{len(self.tokens)}"
        self.tokens.add(token)
        return web.json_response({"access_token": token, "expires_in": self.token_life_s})

    async def _upload(self, request: web.Request, path: str, kind: str, name: str) -> web.Response:
        if kind == "manifests":
            data = await request.read()
            digest = self.add(name, data, request.headers["Content-Type"])
            return web.Response(status=201, headers={"Docker-Content-Digest": digest})
        if request.method == "POST":
            if request.query.get("mount") in self.blobs:
                return web.Response(status=201)
            where = self.upload_to or f"/v2/{path}/uploads/one"
            return web.Response(status=202, headers={"Location": f"{where}?state=a%2Fb"})
        assert request.query["state"] == "a/b"
        if self.add_blob(await request.read()) != request.query["digest"]:
            return _error(400, "DIGEST_INVALID")
        return web.Response(status=201)

    def _manifest(self, name: str) -> web.Response:
        if name not in self.manifests:
            return _error(404, "MANIFEST_UNKNOWN")
        kind, data = self.manifests[name]
        headers = {"Docker-Content-Digest": digest_of(data), "Content-Type": kind}
        return web.Response(body=data, headers=headers)

    def _blob(self, request: web.Request, name: str) -> web.Response:
        if name not in self.blobs:
            return _error(404, "BLOB_UNKNOWN")
        data = self.blobs[name]
        start, _, end = request.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        if int(start) >= len(data) > 0:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
        piece = data[int(start) : int(end) + 1 if end else None]
        if "Range" not in request.headers:
            return web.Response(body=piece)
        last = int(start) + len(piece) - 1
        return web.Response(status=206, body=piece, headers={"Content-Range": f"bytes {start}-{last}/{len(data)}"})

    def _tags(self, request: web.Request, path: str) -> web.Response:
        last = request.query.get("last", "")
        rest = [tag for tag in self.tags if tag > last][:2]
        more = rest and rest[-1] != self.tags[-1]
        headers = {"Link": f'</v2/{path}/tags/list?n=2&last={rest[-1]}>; rel="next"'} if more else {}
        return web.json_response({"name": path, "tags": rest}, headers=headers)


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"errors": [{"code": code, "message": code.replace("_", " ").lower()}]}
    return web.json_response(body, status=status, headers=headers)


@dataclass(frozen=True)
class Certificates:
    """A CA and a server's certificate for 127.0.0.1."""

    ca: Path
    server: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server, self.key)
        return context


def make_certificates(directory: Path) -> Certificates:
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])

    def build(name: x509.Name, public: ec.EllipticCurvePublicKey, is_ca: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if not is_ca:
            addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
            builder = builder.add_extension(addresses, critical=False)
        return builder.sign(ca_key, hashes.SHA256())

    directory.mkdir(parents=True, exist_ok=True)
    ca = build(ca_name, ca_key.public_key(), True)
    server = build(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")]), key.public_key(), False)
    found = Certificates(directory / "ca.crt", directory / "server.pem", directory / "server-key.pem")
    found.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    found.server.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    found.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return found


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "pki")


@pytest.fixture
def other_certificates(tmp_path: Path) -> Certificates:
    """Of a CA of the same name that nobody knows."""
    return make_certificates(tmp_path / "other-pki")


Serve = Callable[..., Awaitable[Registry]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a registry on a free loopback port; over TLS with `certificates`."""
    runners: list[web.AppRunner] = []

    async def start(registry: Registry | None = None, certificates: Certificates | None = None) -> Registry:
        registry = registry or Registry()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", registry.handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        context = certificates.context() if certificates else None
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        registry.url = f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        return registry

    yield start
    for runner in runners:
        await runner.cleanup()
    await asyncio.sleep(0)


Connect = Callable[..., client.RegistryClient]


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncIterator[Connect]:
    """Make a client with fast retries and its own certificates directory."""
    clients: list[client.RegistryClient] = []

    def make(**options: object) -> client.RegistryClient:
        retry = transport.Retry(attempts=3, base_s=0.01, longest_s=2)
        made = client.RegistryClient(certificates=[tmp_path / "certs.d"], retry=retry, **options)  # type: ignore[arg-type]
        clients.append(made)
        return made

    yield make
    for made in clients:
        await made.close()
