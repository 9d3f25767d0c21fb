from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from gitops import errors
from gitops.engine.images import unpack
from gitops.engine.images.unpack import messages
from gitops.oci.limits import Limits


@pytest.mark.parametrize(
    "source",
    [
        unpack.FileSource(Path("/blob"), 512, 1000),
        unpack.HttpSource("https://r/v2/b?x=y", {"Authorization": "Bearer t"}, ca_file=Path("/ca"), timeout_s=5),
    ],
)
def test_orders_travel_whole(source: unpack.FileSource | unpack.HttpSource) -> None:
    job = unpack.LayerJob(source, Path("/t"), "d", 5, "m", "i", Path("/b"), Limits(members=3))
    for order in (messages.Order(job), messages.Order(job, [Path("/l1"), Path("/l2")])):
        assert messages.decode_order(messages.encode_order(order)) == order


def test_an_order_too_long_for_a_message_is_refused() -> None:
    job = unpack.LayerJob(unpack.HttpSource("http://r/", {"X": "x" * 200_000}), Path("/t"))
    with pytest.raises(errors.Invalid, match="too long"):
        messages.encode_order(messages.Order(job))


@pytest.mark.parametrize(
    "error",
    [
        errors.Invalid("a"),
        errors.NotFound("b"),
        errors.Denied("c"),
        errors.Unsupported("d"),
        errors.RuntimeFailure("e"),
        errors.Unavailable("f"),
    ],
)
def test_errors_keep_their_kind(error: errors.GitopsError) -> None:
    again = messages.to_error(messages.to_failure(error))
    assert (type(again), str(again)) == (type(error), str(error))


def test_the_servers_answer_stays_with_the_error() -> None:
    again = messages.to_error(messages.to_failure(unpack.FetchFailed("x", status=429, retry_after_s=3.0)))
    assert isinstance(again, unpack.FetchFailed)
    assert (again.status, again.retry_after_s, again.is_temporary) == (429, 3.0, True)


def test_long_results_come_in_pieces() -> None:
    result = unpack.LayerResult("d", "i", 1, 2, 3, 4, whiteouts=[b"w" * 200] * 1000)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        messages.send_result(theirs, result)
        pieces = b""
        while (message := ours.recv(messages.MAX_MESSAGE)) != messages.DONE:
            assert message[:1] == messages.PIECE
            pieces += message[1:]
    assert msgspec.msgpack.decode(pieces, type=unpack.LayerResult) == result


def test_sources_are_shown_without_what_is_secret() -> None:
    source = unpack.HttpSource("https://r/v2/b?signature=secret", {"Authorization": "Bearer secret"})
    assert "secret" not in repr(source)
    assert "secret" not in repr(unpack.LayerJob(source, Path("/t")))
    assert source.place == "https://r/v2/b"
