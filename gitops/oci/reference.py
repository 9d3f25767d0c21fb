"""Image references: `[domain[:port]/]path[:tag][@digest]`, by the grammar and the normalisation of Docker.

`nginx` is `docker.io/library/nginx`; the first component is a domain when it has a dot, a colon, an upper-case letter,
or is `localhost`. A default tag is never added silently: the caller asks for it.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace

from gitops import errors
from gitops.oci import digest as digests

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_MAX_NAME = 255
REMEMBERED = 20_000
"""References that need not be parsed again: a plan asks several times for that of each of its services."""

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised name: `domain` and `path` are always set, tag and digest may be."""

    domain: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Domain and path in full: `docker.io/library/nginx`."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """Domain and path as people write them: `nginx`, `user/app`, `registry.example/app`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        return self.path.removeprefix(_OFFICIAL) if self.path.count("/") == 1 else self.path

    @property
    def suffix(self) -> str:
        """`:tag@digest`, each where set."""
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def familiar(self) -> str:
        """The short form: `nginx:1.27`."""
        return self.familiar_name + self.suffix

    def canonical(self) -> str:
        """The full form: `docker.io/library/nginx:1.27`."""
        return self.name + self.suffix

    def __str__(self) -> str:
        return self.familiar()

    def with_digest(self, digest: str) -> Reference:
        """The same name and tag with this digest.

        Raises:
            errors.Invalid: not a digest.
        """
        return replace(self, digest=digests.validate(digest))

    def with_default_tag(self) -> Reference:
        """With the tag `latest` if there is neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag=DEFAULT_TAG)

    def without_tag(self) -> Reference:
        """The same without tag; the digest stays."""
        return replace(self, tag=None)

    def name_only(self) -> Reference:
        """The repository alone."""
        return replace(self, tag=None, digest=None)


@functools.lru_cache(maxsize=REMEMBERED)
def parse(text: str) -> Reference:
    """Parse and normalise a reference.

    Raises:
        errors.Invalid: not a reference; the message has Docker's words.
    """
    if _IDENTIFIER.fullmatch(text):
        raise errors.Invalid(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    rest, digest = _cut_digest(text)
    domain, remainder = _split_domain(rest)
    path, tag = _cut_tag(remainder, text)
    if path != path.lower():
        raise errors.Invalid(f"invalid reference format: repository name ({path[:100]}) must be lowercase")
    if not _PATH.fullmatch(path) or not _DOMAIN.fullmatch(domain):
        raise errors.Invalid(f"invalid reference format: {text[:100]!r}")
    if len(domain) + 1 + len(path) > _MAX_NAME:
        raise errors.Invalid(f"repository name must not be more than {_MAX_NAME} characters: {text[:50]!r}…")
    return Reference(domain, path, tag, digest)


def _cut_digest(text: str) -> tuple[str, str | None]:
    rest, mark, digest = text.partition("@")
    if not mark:
        return rest, None
    try:
        return rest, digests.validate(digest)
    except errors.Invalid as error:
        raise errors.Invalid(f"invalid reference format: {text[:200]!r}: {error}") from error


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if not slash or not (any(mark in first for mark in ".:") or first == "localhost" or first.lower() != first):
        domain, remainder = DEFAULT_DOMAIN, text
    else:
        domain, remainder = first, rest
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def _cut_tag(remainder: str, text: str) -> tuple[str, str | None]:
    path, mark, tag = remainder.partition(":")
    return path, _checked_tag(tag, text) if mark else None


def _checked_tag(tag: str, text: str) -> str:
    if not _TAG.fullmatch(tag):
        raise errors.Invalid(f"invalid reference format: {text[:100]!r} has no valid tag")
    return tag
