"""What an engine's answers mean: statuses as errors of our tree, bodies as objects. Pure."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from gitops import errors
from gitops.objects import wire

T = TypeVar("T")
_ENVELOPE = re.compile(r"rpc error: code = \w+ desc = ")
_OUT_OF_SEQUENCE = "update out of sequence"
_NOT_IN_SWARM = ("not part of a swarm", "not a swarm manager")
_BY_STATUS: dict[int, type[errors.GitopsError]] = {
    400: errors.Invalid,
    401: errors.Denied,
    403: errors.Denied,
    404: errors.NotFound,
    409: errors.Conflict,
    501: errors.Unsupported,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
}


def error_of(status: int, body: bytes) -> errors.GitopsError:
    """The error that an answer of `status` stands for, with the engine's own text."""
    text = message_of(body) or f"the engine answered with status {status} and no message"
    # Docker reports a stale version as 500; only the text tells it from a failure.
    if _OUT_OF_SEQUENCE in text:
        return errors.OutOfSequence(text)
    # Managers of a swarm speak gRPC among themselves, and Docker passes the envelope on: nothing for a person.
    text = _ENVELOPE.sub("", text)
    if status == 503 and any(part in text for part in _NOT_IN_SWARM):
        return errors.NotInSwarm(text)
    return _BY_STATUS.get(status, errors.RuntimeFailure)(text)


def message_of(body: bytes) -> str:
    """The `message` of an error's JSON body, or the body as text."""
    text = body.decode("utf-8", "replace").strip()
    try:
        parsed = json.loads(text)
    except ValueError:
        return text
    return str(parsed.get("message", text)) if isinstance(parsed, dict) else text


def decode(body: bytes, kind: type[T]) -> T:
    """The object in an answer.

    Raises:
        errors.RuntimeFailure: what came is not of that kind.
    """
    return readable(decoder(kind), body)


def decoder(kind: type[T]) -> Callable[[bytes], T]:
    """What makes objects of `kind` of the API's JSON; raises errors.Invalid."""
    return functools.partial(wire.decode, kind=kind)


class Listing(Generic[T]):
    """The last answer of a listing. Items whose JSON is the same, byte for byte, are the same objects again."""

    def __init__(self) -> None:
        self._body = b""
        self._items: dict[bytes, T] = {}
        self._found: list[T] = []

    def read(self, body: bytes, decode_all: Callable[[bytes], list[T]]) -> list[T]:
        """The objects in an answer, of which `decode_all` reads those that are new.

        Raises:
            errors.RuntimeFailure: it can't be read.
        """
        if body != self._body:
            parts = [bytes(part) for part in readable(_split, body)]
            new = [part for part in dict.fromkeys(parts) if part not in self._items]
            made = readable(decode_all, b"[" + b",".join(new) + b"]")
            known = {**self._items, **dict(zip(new, made, strict=True))}
            self._found = [known[part] for part in parts]
            self._items = dict(zip(parts, self._found, strict=True))
            self._body = body
        return list(self._found)


def _split(body: bytes) -> list[msgspec.Raw]:
    return wire.decode(body, list[msgspec.Raw])


def readable(read: Callable[[bytes], T], body: bytes) -> T:
    """What `read` makes of an answer.

    Raises:
        errors.RuntimeFailure: it can't be read; that is the engine's fault, not the caller's.
    """
    try:
        return read(body)
    except errors.Invalid as error:
        raise errors.RuntimeFailure(f"the engine's answer can't be read: {error}") from error
