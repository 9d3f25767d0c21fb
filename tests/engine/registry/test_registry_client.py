"""The registry client against a registry that can be made to misbehave."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web

from gitops import errors
from gitops.engine.registry import client as clients
from gitops.engine.registry import endpoint
from gitops.objects import image
from gitops.oci import digest as digests
from gitops.oci import manifest as manifests
from gitops.oci import reference as references

DATA = b'{"schemaVersion":2}'
PASSWORD = "correct horse battery"


def named(registry: Any, path: str = "app", tag: str = "1") -> references.Reference:
    return references.parse(f"{registry.host}/{path}:{tag}")


async def open_repository(connect: Any, registry: Any, auth: image.AuthConfig | None = None) -> clients.Repository:
    repository: clients.Repository = await connect().repository(named(registry), auth)
    return repository


def alice(password: str = PASSWORD) -> image.AuthConfig:
    return image.AuthConfig(username="alice", password=password)


# -- content


async def test_a_manifest_comes_as_it_was_stored_and_all_types_are_accepted(serve: Any, connect: Any) -> None:
    registry = await serve()
    digest = registry.add("1", DATA)
    repository = await open_repository(connect, registry)
    assert await repository.manifest("1") == clients.Fetched(digest, manifests.OCI_MANIFEST, DATA)
    assert (await repository.manifest(digest)).data == DATA
    assert await repository.head("1") == digest
    assert await repository.head("2") is None
    assert registry.seen[-1][2]["Accept"].split(", ") == list(manifests.ACCEPT)


async def test_content_that_is_not_what_was_asked_for_is_refused(serve: Any, connect: Any) -> None:
    registry = await serve()
    digest = registry.add("1", DATA)
    registry.manifests[digest] = (manifests.OCI_MANIFEST, DATA + b" ")
    repository = await open_repository(connect, registry)
    with pytest.raises(errors.Invalid, match=f"not {digest}"):
        await repository.manifest(digest)


async def test_a_digest_header_that_lies_is_refused(serve: Any, connect: Any) -> None:
    async def lie(request: web.Request) -> web.StreamResponse | None:
        headers = {"Docker-Content-Digest": "sha256:" + "0" * 64}
        return web.Response(body=DATA, headers=headers) if "manifests" in request.path else None

    registry = await serve()
    registry.hook = lie
    with pytest.raises(errors.Invalid, match="0000"):
        await (await open_repository(connect, registry)).manifest("1")


async def test_a_manifest_beyond_the_limit_is_not_read_to_its_end(serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.add("1", b" " * (manifests.MANIFEST_LIMIT + 1))
    with pytest.raises(errors.Invalid, match="allowed"):
        await (await open_repository(connect, registry)).manifest("1")


async def test_a_config_is_verified_by_size_and_digest(serve: Any, connect: Any) -> None:
    registry = await serve()
    digest = registry.add_blob(b"config")
    repository = await open_repository(connect, registry)
    good = manifests.Descriptor(manifests.OCI_CONFIG, digest, 6)
    assert await repository.blob(good, limit=100) == b"config"
    with pytest.raises(errors.Invalid):
        await repository.blob(manifests.Descriptor(manifests.OCI_CONFIG, digest, 5), limit=100)
    with pytest.raises(errors.Invalid, match="limit"):
        await repository.blob(good, limit=5)
    registry.blobs[digest] = b"confiG"
    with pytest.raises(errors.Invalid):
        await repository.blob(good, limit=100)


async def test_all_pages_of_tags_are_read(serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.tags = ["a", "b", "c", "d", "e"]
    assert await (await open_repository(connect, registry)).tags() == ["a", "b", "c", "d", "e"]


async def test_a_list_of_tags_that_goes_on_elsewhere_is_not_followed(serve: Any, connect: Any) -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse | None:
        if "tags" not in request.path:
            return None
        return web.json_response({"tags": ["a"]}, headers={"Link": '<http://127.0.0.1:1/v2/app/x>; rel="next"'})

    registry = await serve()
    registry.hook = elsewhere
    with pytest.raises(errors.Invalid, match="elsewhere"):
        await (await open_repository(connect, registry)).tags()


# -- refusals, in Docker's words


async def test_a_missing_tag_and_a_missing_repository_are_not_found(serve: Any, connect: Any) -> None:
    registry = await serve()
    repository = await open_repository(connect, registry)
    with pytest.raises(errors.NotFound, match=f"manifest for {registry.host}/app:1 not found: manifest unknown"):
        await repository.manifest("1")


@pytest.mark.parametrize(("auth", "kind"), [(None, errors.NotFound), (alice(), errors.Denied)])
async def test_a_denied_repository_is_not_found_for_the_anonymous(
    auth: image.AuthConfig | None, kind: type[errors.GitopsError], serve: Any, connect: Any
) -> None:
    async def deny(request: web.Request) -> web.StreamResponse | None:
        if "manifests" not in request.path:
            return None
        return web.json_response({"errors": [{"code": "DENIED", "message": "no"}]}, status=403)

    registry = await serve()
    registry.hook = deny
    text = "pull access denied for .*/app, repository does not exist or may require 'docker login': no"
    with pytest.raises(kind, match=text):
        await (await open_repository(connect, registry, auth)).manifest("1")


# -- credentials


async def test_basic_credentials_are_sent_after_the_challenge(serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.auth, registry.users = "basic", {"alice": PASSWORD}
    registry.add("1", DATA)
    assert (await (await open_repository(connect, registry, alice())).manifest("1")).data == DATA
    first = next(headers for _, path, headers in registry.seen if "manifests" in path)
    assert "Authorization" not in first


async def test_without_credentials_basic_is_denied(serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.auth = "basic"
    with pytest.raises(errors.Denied, match="no basic auth credentials"):
        await (await open_repository(connect, registry)).manifest("1")


@pytest.mark.parametrize("kind", ["basic", "bearer"])
async def test_a_wrong_password_is_denied_and_stays_out_of_the_message(kind: str, serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.auth, registry.users = kind, {"alice": PASSWORD}
    with pytest.raises(errors.Denied, match="incorrect username or password") as caught:
        await (await open_repository(connect, registry, alice("wrong-password"))).manifest("1")
    texts = f"{caught.value!r} {caught.value.__cause__!r}"
    assert "wrong-password" not in texts
    assert base64.b64encode(b"alice:wrong-password").decode() not in texts
    assert len(registry.seen) < 10


async def test_an_anonymous_token_is_fetched_once_for_all_requests(serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.auth = "bearer"
    registry.add("1", DATA)
    repository = await open_repository(connect, registry)
    await asyncio.gather(*(repository.manifest("1") for _ in range(5)))
    tokens = [path for path in registry.paths() if path.startswith("/token")]
    assert tokens == ["/token?service=here&scope=repository:app:pull"]


async def test_credentials_go_to_the_token_service_and_the_token_to_the_registry(serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.auth, registry.users = "bearer", {"alice": PASSWORD}
    registry.add("1", DATA)
    await (await open_repository(connect, registry, alice())).manifest("1")
    for _, path, headers in registry.seen:
        scheme = headers.get("Authorization", "").partition(" ")[0]
        assert scheme in (("Basic",) if path.startswith("/token") else ("", "Bearer"))


async def test_a_token_that_ends_is_fetched_again(serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.auth = "bearer"
    registry.add("1", DATA)
    repository = await open_repository(connect, registry)
    await repository.manifest("1")
    registry.tokens.clear()
    registry.tokens.add("other")
    assert (await repository.manifest("1")).data == DATA


async def test_an_identity_token_is_exchanged_by_a_form(serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.auth = "bearer"
    registry.add("1", DATA)
    await (await open_repository(connect, registry, image.AuthConfig(identitytoken="identity"))).manifest("1")
    assert registry.forms == [
        {
            "grant_type": "refresh_token",
            "refresh_token": "identity",
            "client_id": "gitops",
            "service": "here",
            "scope": "repository:app:pull",
        }
    ]


async def test_a_registry_token_is_sent_as_it_is(serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.auth, registry.tokens = "bearer", {"mine"}
    registry.add("1", DATA)
    await (await open_repository(connect, registry, image.AuthConfig(registrytoken="mine"))).manifest("1")
    registry.tokens = {"other"}
    with pytest.raises(errors.Denied, match="registry token"):
        await (await open_repository(connect, registry, image.AuthConfig(registrytoken="mine"))).manifest("1")


async def test_a_token_service_by_plain_http_is_not_asked_by_a_registry_with_tls(
    serve: Any, connect: Any, certificates: Any, tmp_path: Path
) -> None:
    plain = await serve()
    registry = await serve(certificates=certificates)
    install(certificates, registry, tmp_path)
    registry.auth, registry.realm = "bearer", f"{plain.url}/token"
    with pytest.raises(errors.Denied, match="https"):
        await (await open_repository(connect, registry, alice())).manifest("1")
    assert plain.seen == []


# -- redirects


def redirecting(target: str) -> Any:
    async def hook(request: web.Request) -> web.StreamResponse | None:
        if "/blobs/" not in request.path:
            return None
        return web.Response(status=307, headers={"Location": target.replace("PATH", request.path)})

    return hook


async def test_credentials_stay_behind_when_a_blob_lies_on_another_host(serve: Any, connect: Any) -> None:
    storage = await serve()
    registry = await serve()
    registry.auth, registry.users = "basic", {"alice": PASSWORD}
    registry.add("1", DATA)
    digest = storage.add_blob(b"layer")
    registry.hook = redirecting(f"{storage.url}PATH?signature=a%2Fb%3D")
    repository = await open_repository(connect, registry, alice())
    await repository.manifest("1")
    location = await repository.locate(digest)
    assert location.url == f"{storage.url}/v2/app/blobs/{digest}?signature=a%2Fb%3D"
    assert location.headers == {}
    assert "signature" not in repr(location)
    assert all("Authorization" not in headers for _, _, headers in storage.seen)
    assert storage.seen[0][2]["Range"] == "bytes=0-0"


async def test_a_blob_of_the_registry_itself_is_located_with_its_header(serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.auth, registry.users = "basic", {"alice": PASSWORD}
    digest = registry.add_blob(b"layer")
    location = await (await open_repository(connect, registry, alice())).locate(digest)
    assert location.headers["Authorization"].startswith("Basic ")
    assert PASSWORD not in repr(location) and "Basic" not in repr(location)


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest", "http://[fe80::1]/x", "ftp://127.0.0.1/x"])
async def test_redirects_into_forbidden_places_are_refused(target: str, serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.hook = redirecting(target)
    with pytest.raises(errors.Invalid, match="redirects to"):
        await (await open_repository(connect, registry)).locate("sha256:" + "0" * 64)


async def test_a_redirect_from_https_to_http_is_refused(
    serve: Any, connect: Any, certificates: Any, tmp_path: Path
) -> None:
    plain = await serve()
    registry = await serve(certificates=certificates)
    install(certificates, registry, tmp_path)
    registry.hook = redirecting(f"{plain.url}PATH")
    with pytest.raises(errors.Invalid, match="https to http"):
        await (await open_repository(connect, registry)).locate("sha256:" + "0" * 64)
    assert plain.seen == []


async def test_redirects_in_a_circle_end(serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.hook = redirecting(f"{registry.url}PATH")
    with pytest.raises(errors.Invalid, match="more than 10 redirects"):
        await (await open_repository(connect, registry)).locate("sha256:" + "0" * 64)


# -- failures that pass


def failing(times: int, answer: Any) -> Any:
    left = [times]

    async def hook(request: web.Request) -> web.StreamResponse | None:
        if request.path == "/v2/" or not left[0]:
            return None
        left[0] -= 1
        made: web.StreamResponse = await answer(request)
        return made

    return hook


async def busy(request: web.Request) -> web.StreamResponse:
    headers = {"Retry-After": "0", "RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"}
    return web.Response(status=429, headers=headers)


async def broken(request: web.Request) -> web.StreamResponse:
    return web.Response(status=503)


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.abort()
    return response


@pytest.mark.parametrize("answer", [busy, broken, cut])
async def test_what_passes_is_tried_again(answer: Any, serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.add("1", DATA)
    registry.hook = failing(2, answer)
    assert (await (await open_repository(connect, registry)).manifest("1")).data == DATA


@pytest.mark.parametrize(
    ("answer", "text"),
    [(busy, "429 .too many requests, limit 100;w=21600, remaining 0;w=21600"), (broken, "503"), (cut, "cut off")],
)
async def test_what_doesnt_pass_ends_in_an_error_that_says_it_all(
    answer: Any, text: str, serve: Any, connect: Any
) -> None:
    registry = await serve()
    registry.hook = failing(100, answer)
    with pytest.raises(errors.Unavailable, match=text) as caught:
        await (await open_repository(connect, registry)).manifest("1")
    assert f"{registry.host}/app:1" in str(caught.value) and "pull again" in str(caught.value)
    assert len(registry.paths()) < 10


async def test_a_pause_that_is_too_long_is_not_waited_for(serve: Any, connect: Any) -> None:
    async def later(request: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "3600"})

    registry = await serve()
    registry.hook = failing(100, later)
    with pytest.raises(errors.Unavailable, match="429"):
        await (await open_repository(connect, registry)).manifest("1")
    assert len([path for path in registry.paths() if "manifests" in path]) == 1


async def test_nobody_there_names_registry_and_image(connect: Any) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(errors.Unavailable, match=f"{host}/app:1 from the registry {host}: .*check that it runs"):
            await connect().repository(references.parse(f"{host}/app:1"), None)


# -- TLS


def install(certificates: Any, registry: Any, tmp_path: Path) -> None:
    directory = tmp_path / "certs.d" / registry.host
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(certificates.ca.read_bytes())


async def test_an_installed_ca_is_trusted_and_told_to_the_worker(
    serve: Any, connect: Any, certificates: Any, tmp_path: Path
) -> None:
    registry = await serve(certificates=certificates)
    install(certificates, registry, tmp_path)
    digest = registry.add_blob(b"layer")
    registry.add("1", DATA)
    repository = await open_repository(connect, registry)
    assert (await repository.manifest("1")).data == DATA
    location = await repository.locate(digest)
    assert location.trust == endpoint.Trust(tmp_path / "certs.d" / registry.host / "ca.crt")


async def test_on_loopback_a_certificate_that_nobody_signed_will_do(
    serve: Any, connect: Any, certificates: Any
) -> None:
    registry = await serve(certificates=certificates)
    registry.add("1", DATA)
    digest = registry.add_blob(b"layer")
    repository = await open_repository(connect, registry)
    assert (await repository.manifest("1")).data == DATA
    assert (await repository.locate(digest)).trust.is_insecure


async def test_an_installed_ca_that_didnt_sign_is_a_refusal(
    serve: Any, connect: Any, certificates: Any, other_certificates: Any, tmp_path: Path
) -> None:
    registry = await serve(certificates=certificates)
    install(other_certificates, registry, tmp_path)
    with pytest.raises(errors.Unavailable, match=r"no trusted TLS .*certificate verify failed.*ca\.crt"):
        await (await open_repository(connect, registry)).manifest("1")


async def test_an_error_of_a_registry_is_shown_without_its_control_characters(serve: Any, connect: Any) -> None:
    async def shout(request: web.Request) -> web.StreamResponse | None:
        if "manifests" not in request.path:
            return None
        text = json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "\x1b[31mred\n" + "x" * 5000}]})
        return web.Response(status=404, text=text)

    registry = await serve()
    registry.hook = shout
    with pytest.raises(errors.NotFound) as caught:
        await (await open_repository(connect, registry)).manifest("1")
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 500


# -- pushes


async def push_to(connect: Any, registry: Any, auth: image.AuthConfig | None = None) -> clients.Repository:
    repository: clients.Repository = await connect().repository(named(registry), auth, purpose="push")
    return repository


async def blocks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def put(repository: clients.Repository, data: bytes, mount_from: str = "") -> bool:
    digest = digests.sha256(data)
    return await repository.put_blob(digest, len(data), lambda: blocks(data[:3], data[3:]), mount_from=mount_from)


async def test_a_blob_and_a_manifest_get_there_with_one_token_for_both_directions(serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.auth = "bearer"
    repository = await push_to(connect, registry)
    assert not await repository.has_blob(digests.sha256(b"a layer"))
    assert await put(repository, b"a layer") is False
    assert await repository.has_blob(digests.sha256(b"a layer"))
    await repository.put_manifest("1", manifests.OCI_MANIFEST, DATA)
    assert registry.blobs[digests.sha256(b"a layer")] == b"a layer"
    assert registry.manifests["1"] == (manifests.OCI_MANIFEST, DATA)
    (asked,) = [path for path in registry.paths() if path.startswith("/token")]
    assert "pull,push" in unquote(asked)


async def test_a_blob_of_another_repository_is_mounted_and_one_that_is_not_there_is_sent(
    serve: Any, connect: Any
) -> None:
    registry = await serve()
    registry.add_blob(b"known")
    repository = await push_to(connect, registry)
    assert await put(repository, b"known", "other/app") is True
    assert await put(repository, b"unknown", "other/app") is False
    assert registry.blobs.keys() == {digests.sha256(b"known"), digests.sha256(b"unknown")}


async def test_an_upload_that_breaks_off_is_begun_again(serve: Any, connect: Any) -> None:
    registry = await serve()
    failures = 2

    async def fail(request: web.Request) -> web.StreamResponse | None:
        nonlocal failures
        if request.method == "PUT" and failures:
            failures -= 1
            await request.read()
            return web.Response(status=503)
        return None

    registry.hook = fail
    await put(await push_to(connect, registry), b"a layer")
    assert registry.blobs.keys() == {digests.sha256(b"a layer")} and not failures


async def test_an_upload_goes_elsewhere_without_our_credentials_and_never_to_a_link_local_address(
    serve: Any, connect: Any
) -> None:
    registry, other = await serve(), await serve()
    registry.auth, registry.users = "basic", {"alice": PASSWORD}
    registry.upload_to = f"{other.url}/v2/app/uploads/one"
    await put(await push_to(connect, registry, alice()), b"a layer")
    assert other.blobs and not registry.blobs
    assert not any("Authorization" in headers for _, _, headers in other.seen)
    registry.upload_to = "http://169.254.169.254/latest"
    with pytest.raises(errors.Invalid, match="not followed"):
        await put(await push_to(connect, registry, alice()), b"a layer")


async def test_who_may_not_push_is_told_so(serve: Any, connect: Any) -> None:
    registry = await serve()

    async def deny(request: web.Request) -> web.StreamResponse | None:
        body = {"errors": [{"code": "DENIED", "message": "read only"}]}
        return web.json_response(body, status=403) if request.method == "POST" else None

    registry.hook = deny
    with pytest.raises(errors.Denied, match="denied, log in with 'docker login': read only"):
        await put(await push_to(connect, registry), b"a layer")


# -- credentials and mirrors


async def test_a_login_shows_credentials_to_the_registry_only(serve: Any, connect: Any) -> None:
    registry = await serve()
    registry.auth, registry.users = "basic", {"alice": PASSWORD}
    await connect().login(registry.host, alice())
    with pytest.raises(errors.Denied, match=r"login attempt to .* failed") as caught:
        await connect().login(registry.host, alice("wrong"))
    assert PASSWORD not in str(caught.value) and "wrong" not in str(caught.value)


async def test_mirrors_stand_for_the_public_registry_alone_and_see_no_credentials(serve: Any) -> None:
    mirror = await serve()
    mirror.auth, mirror.users = "basic", {"alice": PASSWORD}
    client = clients.RegistryClient(mirrors=[f"{mirror.url}/"])
    try:
        assert client.mirrors(named(mirror)) == []
        (found,) = client.mirrors(references.parse("app:1"))
        with pytest.raises(errors.Denied, match="no basic auth credentials"):
            await found.manifest("1")
        mirror.auth = ""
        digest = mirror.add("1", DATA)
        assert (await found.manifest("1")).digest == digest
        assert mirror.paths()[-1] == "/v2/library/app/manifests/1"
        assert all("Authorization" not in headers for _, _, headers in mirror.seen)
    finally:
        await client.close()
