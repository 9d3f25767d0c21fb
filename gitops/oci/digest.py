"""Digests: `sha256:` and 64 hex digits. The only algorithm is sha256; another one is refused by name."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from gitops import errors

_SHAPE = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-zA-Z=_-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Digest(NamedTuple):
    """A digest in its two parts."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def parse(text: str) -> Digest:
    """Split and check a digest.

    Raises:
        errors.Invalid: malformed, or another algorithm than sha256.
    """
    if not _SHAPE.fullmatch(text):
        raise errors.Invalid(f"invalid digest {text[:100]!r}: sha256:<64 hex digits> is wanted")
    algorithm, _, value = text.partition(":")
    if algorithm != "sha256":
        raise errors.Invalid(f"invalid digest {text[:100]!r}: unsupported digest algorithm, use sha256")
    if not _SHA256.fullmatch(value):
        raise errors.Invalid(f"invalid digest {text[:100]!r}: invalid checksum digest length or characters")
    return Digest(algorithm, value)


def validate(text: str) -> str:
    """`text` itself, if it is a digest.

    Raises:
        errors.Invalid: malformed, or another algorithm than sha256.
    """
    return str(parse(text))


def is_digest(text: str) -> bool:
    """Whether `text` is a sha256 digest."""
    try:
        parse(text)
    except errors.Invalid:
        return False
    return True


def sha256(data: bytes) -> str:
    """The digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
