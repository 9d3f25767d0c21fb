"""What daemon, zygote and workers say to each other: one datagram a message, its first byte the kind.

Orders go to the zygote; a job's own socket carries the worker's progress, its result in pieces or its error, and last,
from the zygote, how the worker ended. The daemon decodes what workers say as data, never as code.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import msgspec

from gitops import errors
from gitops.engine.images.unpack.fetching import FetchFailed
from gitops.engine.images.unpack.job import LayerJob, LayerResult

PROGRESS, PIECE, DONE, ERROR, EXIT = b"P", b"R", b"D", b"E", b"X"
MAX_MESSAGE = 128 << 10
RESULT_LIMIT = 512 << 20
_PIECE = 64 << 10


class Order(msgspec.Struct, frozen=True):
    """A job for a worker; with `lower` (nearest first), one that is done again with the lower layers in view."""

    job: LayerJob
    lower: list[Path] | None = None


class Failure(msgspec.Struct, frozen=True):
    """A worker's error: the name of its class in `gitops.errors`, or FetchFailed with the server's answer."""

    kind: str
    message: str
    status: int = 0
    retry_after_s: float | None = None


_KINDS: dict[str, type[errors.GitopsError]] = {
    kind.__name__: kind
    for kind in (errors.Invalid, errors.NotFound, errors.Denied, errors.Unavailable, errors.Unsupported)
}


def _encode_path(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"can't encode {type(value)}")


def _decode_path(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(f"can't decode {kind}")


def encode_order(order: Order) -> bytes:
    """For `decode_order`.

    Raises:
        errors.Invalid: longer than a message may be.
    """
    data = msgspec.msgpack.encode(order, enc_hook=_encode_path)
    if len(data) > MAX_MESSAGE:
        raise errors.Invalid(f"a layer's job of {len(data)} bytes: headers or paths are too long")
    return data


def decode_order(data: bytes) -> Order:
    """What the daemon ordered."""
    return msgspec.msgpack.decode(data, type=Order, dec_hook=_decode_path)


def send_result(connection: socket.socket, result: LayerResult) -> None:
    """The result in pieces: a layer may have a million whiteouts."""
    data = msgspec.msgpack.encode(result)
    for start in range(0, len(data), _PIECE):
        connection.sendall(PIECE + data[start : start + _PIECE])
    connection.sendall(DONE)


def to_failure(error: errors.GitopsError) -> Failure:
    """The error as a message."""
    if isinstance(error, FetchFailed):
        return Failure("FetchFailed", str(error)[:4000], error.status, error.retry_after_s)
    kind = next((name for name, known in _KINDS.items() if isinstance(error, known)), "RuntimeFailure")
    return Failure(kind, str(error)[:4000])


def to_error(failure: Failure) -> errors.GitopsError:
    """The message as an error again."""
    if failure.kind == "FetchFailed":
        return FetchFailed(failure.message, status=failure.status, retry_after_s=failure.retry_after_s)
    return _KINDS.get(failure.kind, errors.RuntimeFailure)(failure.message)
