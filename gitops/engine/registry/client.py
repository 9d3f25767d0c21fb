"""The registry client: manifests, small blobs and tag lists of a repository, where workers fetch layers, and pushes.

    registry = RegistryClient()
    repository = await registry.repository(reference, auth)
    manifest = await repository.manifest("1.27")

Promises: what comes back has the digest that was asked for, or that the registry said; errors name the registry and the
image and are the engine's: `NotFound` and `Denied` in Docker's words, `Unavailable` for all that may pass, credentials
in none of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from yarl import URL

from gitops import errors
from gitops.engine.registry import credentials, endpoint, transport
from gitops.objects import image
from gitops.oci import digest as digests
from gitops.oci import manifest as manifests
from gitops.oci import reference as references

Purpose = Literal["pull", "push"]

_TAGS_A_PAGE = 1000
_TAG_PAGES = 1000
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')
_ERROR_LIMIT = 64 << 10


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest or an index as the registry sent it."""

    digest: str
    media_type: str
    """What it was served as."""
    data: bytes


@dataclass(frozen=True, slots=True)
class Location:
    """Where a blob is to be fetched, with no redirect left; valid for a short while only."""

    url: str
    headers: Mapping[str, str]
    trust: endpoint.Trust

    def __repr__(self) -> str:
        return f"Location({URL(self.url, encoded=True).origin()}, <hidden>)"


class RegistryClient:
    """Speaks to any number of registries; remembers how each is reached."""

    def __init__(
        self,
        *,
        certificates: Sequence[Path] = endpoint.CERTIFICATES,
        insecure: frozenset[str] = frozenset(),
        mirrors: Sequence[str] = (),
        retry: transport.Retry | None = None,
    ) -> None:
        """`insecure` are domains and networks that are treated as those on loopback: TLS unverified, or none.

        `mirrors` are addresses that have what the public registry has.
        """
        self._certificates = certificates
        self._mirrors = [URL(address) for address in mirrors]
        self._insecure = insecure
        self._wire = transport.Transport(find_trust=self._find_trust, retry=retry)
        self._endpoints: dict[str, endpoint.Endpoint] = {}

    @property
    def retry(self) -> transport.Retry:
        """How failed requests are tried again."""
        return self._wire.retry

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()

    async def repository(
        self, reference: references.Reference, auth: image.AuthConfig | None = None, *, purpose: Purpose = "pull"
    ) -> Repository:
        """The repository of `reference`, reachable; to push to it, credentials are shown for both directions.

        Raises:
            errors.Unavailable: the registry doesn't answer, or its certificate isn't trusted.
        """
        origin = self._endpoints.get(reference.domain)
        if origin is None:
            origin = await self._find(reference, purpose)
            self._endpoints[reference.domain] = origin
        return Repository(self, self._wire, origin, reference, auth, purpose)

    def mirrors(self, reference: references.Reference) -> list[Repository]:
        """Where to ask before the registry of `reference`; they are shown no credentials."""
        if reference.domain != references.DEFAULT_DOMAIN:
            return []
        ways = [endpoint.Endpoint(url.origin(), self._find_trust(url)) for url in self._mirrors]
        return [Repository(self, self._wire, way, reference, None, "pull") for way in ways]

    async def login(self, domain: str, auth: image.AuthConfig) -> None:
        """See whether the registry of `domain` takes these credentials.

        Raises:
            errors.Denied: it doesn't. errors.Unavailable: it can't be reached.
        """
        repository = await self.repository(references.Reference(domain, "login"), auth)
        await repository.greet()

    def forget(self, domain: str) -> None:
        """Look again how `domain` is reached, at its next use: after a failure it may have changed its ways."""
        self._endpoints.pop(domain, None)

    async def _find(self, reference: references.Reference, purpose: Purpose) -> endpoint.Endpoint:
        ways = endpoint.candidates(reference.domain, insecure=self._insecure, directories=self._certificates)
        if len(ways) == 1:
            return ways[0]  # nothing to choose: the first request will tell
        for way in ways[:-1]:
            try:
                await self._ping(way)
            except transport.TLSFailed:
                continue
            except transport.Again as error:
                if not error.is_answer:
                    break  # nobody listens, or it hangs up on TLS: the plain way tells which
            return way
        return await self._settle(ways[-1], reference, purpose)

    async def _settle(
        self, plain: endpoint.Endpoint, reference: references.Reference, purpose: Purpose
    ) -> endpoint.Endpoint:
        try:
            answer = await self._wire.retrying(lambda: self._ping(plain))
        except errors.Unavailable as error:
            raise unreachable(reference, error, purpose) from error
        if answer.status == 400:  # what a TLS server says to plain HTTP; it may have started in between
            raise unreachable(reference, None, purpose)
        return plain

    async def _ping(self, way: endpoint.Endpoint) -> transport.Answer:
        return await self._wire.follow("GET", way, way.url / "v2/", {}, limit=0)

    def _find_trust(self, url: URL) -> endpoint.Trust:
        return endpoint.find_trust(url.authority, self._certificates)


class Repository:
    """One repository of one registry, with one caller's credentials; made for one pull or push."""

    def __init__(
        self,
        client: RegistryClient,
        wire: transport.Transport,
        origin: endpoint.Endpoint,
        reference: references.Reference,
        auth: image.AuthConfig | None,
        purpose: Purpose,
    ) -> None:
        self.reference = reference
        self._purpose = purpose
        self._client = client
        self._wire = wire
        self._origin = origin
        self._base = URL(f"{str(origin.url).rstrip('/')}/v2/{reference.path}", encoded=True)
        actions = "pull" if purpose == "pull" else "pull,push"
        self._authorizer = credentials.Authorizer(wire, origin, f"repository:{reference.path}:{actions}", auth)

    async def greet(self) -> None:
        """Show the registry the credentials.

        Raises:
            errors.Denied: they aren't taken. errors.Unavailable: no answer, or none of a registry.
        """
        registry = self._origin.url.authority
        try:
            answer = await self._wire.retrying(lambda: self._once("GET", "/v2/", {}, _ERROR_LIMIT))
        except errors.Denied as error:
            raise errors.Denied(f"login attempt to {self._origin.url}/v2/ failed: {error}") from error
        except errors.Unavailable as error:
            raise errors.Unavailable(f"can't log in to the registry {registry}: {error}") from error
        if answer.status in (401, 403):
            raise errors.Denied(f"login attempt to {self._origin.url}/v2/ failed with status: {answer.status}")
        if answer.status != 200:
            raise errors.Unavailable(f"{registry} is no registry: it answers {answer.status} to /v2/")

    async def head(self, name: str) -> str | None:
        """The digest that the tag or digest `name` has now; None where the registry doesn't say.

        A public hub doesn't count this against the caller's limit. Raises as `manifest` does.
        """
        answer = await self._request("HEAD", f"manifests/{name}", _accept(), limit=0)
        if answer.status != 200:
            return None
        found = answer.headers.get("Docker-Content-Digest", "")
        return found if digests.is_digest(found) else None

    async def manifest(self, name: str) -> Fetched:
        """The manifest or index of the tag or digest `name`, its bytes hashed and compared.

        Raises:
            errors.NotFound, errors.Denied: in Docker's words.
            errors.Unavailable: the registry doesn't answer, is overloaded or fails.
            errors.Invalid: the content isn't what its digest says, or is longer than 4 MiB.
        """
        answer = await self._request("GET", f"manifests/{name}", _accept(), limit=manifests.MANIFEST_LIMIT)
        if answer.status != 200:
            raise self._refused(answer, name)
        actual = digests.sha256(answer.body)
        said = answer.headers.get("Docker-Content-Digest", "")
        for wanted in (name, said):
            if digests.is_digest(wanted) and wanted != actual:
                raise errors.Invalid(f"{self._where}: the manifest has the digest {actual}, not {wanted}")
        return Fetched(actual, answer.headers.get("Content-Type", ""), answer.body)

    async def blob(self, descriptor: manifests.Descriptor, *, limit: int) -> bytes:
        """A small blob, an image's config, verified. Raises as `manifest` does."""
        if descriptor.size > limit:
            raise errors.Invalid(
                f"{self._where}: {descriptor.digest} has {descriptor.size} bytes, the limit is {limit}"
            )
        answer = await self._request("GET", f"blobs/{descriptor.digest}", {}, limit=limit)
        if answer.status != 200:
            raise self._refused(answer, descriptor.digest)
        if len(answer.body) != descriptor.size or digests.sha256(answer.body) != descriptor.digest:
            raise errors.Invalid(f"{self._where}: what was sent as {descriptor.digest} isn't that")
        return answer.body

    async def locate(self, digest: str) -> Location:
        """Where to fetch a blob now, redirects followed; to be asked anew before each try, since addresses expire.

        Raises as `manifest` does.
        """
        # A signed address is signed for its method, so HEAD won't do; one byte keeps the answer short.
        answer = await self._request("GET", f"blobs/{digest}", {"Range": "bytes=0-0"}, limit=0)
        if answer.status not in (200, 206, 416):  # 416: an empty blob
            raise self._refused(answer, digest)
        header = await self._authorizer.header() if answer.url.origin() == self._base.origin() else None
        return Location(str(answer.url), {"Authorization": header} if header else {}, answer.trust)

    async def tags(self) -> list[str]:
        """All tags, page after page. Raises as `manifest` does."""
        found: list[str] = []
        path: str | None = f"tags/list?n={_TAGS_A_PAGE}"
        for _ in range(_TAG_PAGES):
            if path is None:
                return found
            answer = await self._request("GET", path, {}, limit=manifests.MANIFEST_LIMIT)
            if answer.status != 200:
                raise self._refused(answer, "")
            found += self._read_tags(answer)
            path = self._next_page(answer)
        raise errors.Invalid(f"{self._where}: the list of tags has no end")

    def unavailable(self, error: errors.GitopsError | None = None) -> errors.Unavailable:
        """What to raise when a fetch from here failed for good: names registry, image and the next thing to try."""
        self._client.forget(self.reference.domain)
        return unreachable(self.reference, error, self._purpose)

    # -- in the other direction

    async def has_blob(self, digest: str) -> bool:
        """Whether the repository has a blob. Raises as `manifest` does."""
        answer = await self._request("HEAD", f"blobs/{digest}", {}, limit=0)
        if answer.status in (200, 404):
            return answer.status == 200
        raise self._refused(answer, digest)

    async def put_blob(
        self, digest: str, size: int, read: Callable[[], AsyncIterator[bytes]], *, mount_from: str = ""
    ) -> bool:
        """Bring a blob of `size` bytes; `read` gives it from its start, again where another try is needed.

        Returns whether the registry took it from its repository `mount_from` instead. Raises as `manifest` does.
        """

        async def bring() -> transport.Answer:
            query = f"?mount={digest}&from={quote(mount_from, safe='/')}" if mount_from else ""
            begun = await self._once("POST", f"blobs/uploads/{query}", {}, _ERROR_LIMIT)
            if begun.status != 202:
                return begun
            place = begun.url.join(URL(begun.headers.get("Location", ""), encoded=True))
            joint = "&" if place.raw_query_string else "?"
            target = URL(f"{place}{joint}digest={quote(digest, safe=':')}", encoded=True)
            headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
            if target.origin() == self._base.origin():
                if header := await self._authorizer.header():
                    headers["Authorization"] = header
                return await self._wire.send("PUT", target, headers, begun.trust, read(), limit=_ERROR_LIMIT)
            await self._wire.check_redirect(begun.url, target, self._origin)
            trust = self._wire.trust_in(target)
            return await self._wire.send("PUT", target, headers, trust, read(), limit=_ERROR_LIMIT)

        answer = await self._told(bring)
        if answer.status != 201:
            raise self._refused(answer, digest)
        return bool(mount_from) and answer.url.query.get("mount") == digest

    async def put_manifest(self, name: str, media_type: str, data: bytes) -> None:
        """Give a tag or digest this manifest; its blobs are there. Raises as `manifest` does."""
        headers = {"Content-Type": media_type, "Content-Length": str(len(data))}
        answer = await self._told(lambda: self._once("PUT", f"manifests/{name}", headers, _ERROR_LIMIT, data))
        if answer.status not in (200, 201):
            raise self._refused(answer, name)
        said = answer.headers.get("Docker-Content-Digest", "")
        if digests.is_digest(said) and said != digests.sha256(data):
            raise errors.Invalid(f"{self._where}: the registry made {said} of the manifest {digests.sha256(data)}")

    @property
    def _where(self) -> str:
        return f"registry {self._origin.url.authority}, image {self.reference.familiar()}"

    async def _request(self, method: str, path: str, headers: Mapping[str, str], *, limit: int) -> transport.Answer:
        return await self._told(lambda: self._once(method, path, headers, limit))

    async def _told(self, call: Callable[[], Awaitable[transport.Answer]]) -> transport.Answer:
        try:
            return await self._wire.retrying(call)
        except errors.Unavailable as error:
            raise self.unavailable(error) from error
        except errors.Denied as error:
            raise errors.Denied(f"{self._where}: {error}") from error

    async def _once(
        self, method: str, path: str, headers: Mapping[str, str], limit: int, body: bytes | None = None
    ) -> transport.Answer:
        url = (
            self._base.join(URL(path, encoded=True))
            if path.startswith("/")
            else URL(f"{self._base}/{path}", encoded=True)
        )
        for _ in range(3):
            header = await self._authorizer.header()
            sent = {**headers, "Authorization": header} if header else dict(headers)
            enough = limit and max(limit, _ERROR_LIMIT)
            if body is None:
                answer = await self._wire.follow(method, self._origin, url, sent, limit=enough)
            else:
                answer = await self._wire.send(method, url, sent, self._origin.trust, body, limit=enough)
            # Only the registry itself may ask for its credentials, not where it redirects to.
            if answer.status != 401 or answer.url.origin() != self._base.origin():
                break
            await self._authorizer.answer(header, answer.headers.getall("WWW-Authenticate", []))
        return answer

    def _refused(self, answer: transport.Answer, name: str) -> errors.GitopsError:
        code, message = _registry_error(answer.body)
        shown = self.reference.familiar()
        if self._purpose == "push" and (answer.status in (401, 403) or code in ("DENIED", "UNAUTHORIZED")):
            text = f"push to {shown}: requested access to the resource is denied, log in with 'docker login'"
            return errors.Denied(f"{text}: {message}" if message else text)
        if answer.status in (401, 403) or code in ("DENIED", "UNAUTHORIZED"):
            text = f"pull access denied for {self.reference.familiar_name}, repository does not exist or may require "
            text += f"'docker login': {message}" if message else "'docker login'"
            # Without credentials a registry says the same of what isn't there; Docker takes it for that.
            return errors.Denied(text) if self._authorizer.has_credentials else errors.NotFound(text)
        if answer.status == 404 and code == "NAME_UNKNOWN":
            return errors.NotFound(f"repository {self.reference.familiar_name} not found: {message or 'name unknown'}")
        if answer.status == 404 and name.startswith("sha256:") and code == "BLOB_UNKNOWN":
            return errors.NotFound(f"{self._where}: the registry has lost the blob {name}: have the image pushed again")
        if answer.status == 404:
            return errors.NotFound(f"manifest for {shown} not found: {message or 'manifest unknown'}")
        return errors.Invalid(f"{self._where}: the registry answered {answer.status} {code} {message}".rstrip())

    def _read_tags(self, answer: transport.Answer) -> list[str]:
        try:
            document: Any = json.loads(answer.body)
            tags = document.get("tags") or []
        except (ValueError, AttributeError, RecursionError) as error:
            raise errors.Invalid(f"{self._where}: the list of tags can't be read") from error
        return [tag for tag in tags if isinstance(tag, str)]

    def _next_page(self, answer: transport.Answer) -> str | None:
        link = _NEXT.search(answer.headers.get("Link", ""))
        if link is None:
            return None
        target = answer.url.join(URL(link[1], encoded=True))
        if target.origin() != self._base.origin() or not target.raw_path.startswith(f"{self._base.raw_path}/"):
            raise errors.Invalid(
                f"{self._where}: the list of tags goes on elsewhere ({target.authority}): not followed"
            )
        return target.raw_path_qs


def unreachable(
    reference: references.Reference, error: errors.GitopsError | None = None, purpose: Purpose = "pull"
) -> errors.Unavailable:
    """The error of a registry that doesn't serve, with what to try."""
    registry = endpoint.host_of(reference.domain)
    reason = f": {error}" if error else ""
    if isinstance(error, transport.TLSFailed):
        advice = f"install the registry's CA as {endpoint.CERTIFICATES[0] / registry / 'ca.crt'}"
    else:
        kept = "what was downloaded is kept" if purpose == "pull" else "what the registry has is not sent again"
        advice = f"check that it runs and can be reached, then {purpose} again ({kept})"
    way = "from" if purpose == "pull" else "to"
    return errors.Unavailable(f"can't {purpose} {reference.familiar()} {way} the registry {registry}{reason}; {advice}")


def _accept() -> dict[str, str]:
    return {"Accept": ", ".join(manifests.ACCEPT)}


def _registry_error(body: bytes) -> tuple[str, str]:
    """Code and message of the first error in a registry's answer; empty where it has none."""
    try:
        first: Any = json.loads(body)["errors"][0]
        code, message = str(first.get("code", "")), str(first.get("message", ""))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "", ""
    return code[:100], "".join(letter if letter.isprintable() else "?" for letter in message[:300])
