from __future__ import annotations

import gzip
import io
import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gitops import errors
from gitops.oci import compression

DATA = random.Random(1).randbytes(100_000) + bytes(3_000_000)
ZSTD = zstandard.ZstdCompressor(write_checksum=True)


def decode(data: bytes, step: int = 1 << 20) -> bytes:
    source = io.BytesIO(data)
    decoder = compression.decoder(lambda limit: source.read(min(limit, step)))
    output = bytearray()
    while chunk := decoder.read_chunk():
        assert len(chunk) <= compression.OUTPUT
        output += chunk
    return bytes(output)


@pytest.mark.parametrize("step", [1000, 1 << 20])
@pytest.mark.parametrize(
    "data",
    [
        DATA,
        gzip.compress(DATA),
        gzip.compress(DATA[:50_000]) + gzip.compress(b"") + gzip.compress(DATA[50_000:]),
        ZSTD.compress(DATA),
        ZSTD.compress(DATA[:50_000]) + b"\x50\x2a\x4d\x18\x04\0\0\0skip" + ZSTD.compress(DATA[50_000:]),
        b"\x50\x2a\x4d\x18\x04\0\0\0skip" + ZSTD.compress(DATA),
    ],
    ids=["plain", "gzip", "many gzip members", "zstd", "zstd frames with one to skip", "zstd after a frame to skip"],
)
def test_every_form_gives_the_data(data: bytes, step: int) -> None:
    assert decode(data, step) == DATA


@given(st.binary(max_size=3000), st.integers(1, 40))
def test_gzip_in_pieces_of_any_size(data: bytes, step: int) -> None:
    assert decode(gzip.compress(data), step) == data


def test_nothing_is_nothing() -> None:
    assert decode(b"") == b""
    assert decode(gzip.compress(b"")) == b""


@pytest.mark.parametrize("cut", [1, 4, 8, 9, 1000])
def test_gzip_that_is_cut_short_is_refused_even_in_its_trailer(cut: int) -> None:
    with pytest.raises(errors.Invalid, match="cut short"):
        decode(gzip.compress(DATA)[:-cut])


@pytest.mark.parametrize("tail", [b"x", bytes(512), b"\x1f\x8b", b"garbage that is long enough"])
def test_garbage_after_gzip_is_refused(tail: bytes) -> None:
    with pytest.raises(errors.Invalid):
        decode(gzip.compress(b"data") + tail)


def test_wrong_check_sums_are_refused() -> None:
    packed = bytearray(gzip.compress(b"data" * 100))
    packed[-6] ^= 1
    with pytest.raises(errors.Invalid, match="damaged gzip"):
        decode(bytes(packed))
    packed = bytearray(ZSTD.compress(b"data" * 100))
    packed[-1] ^= 1
    with pytest.raises(errors.Invalid, match="damaged zstd"):
        decode(bytes(packed))


def test_garbage_after_zstd_is_refused() -> None:
    with pytest.raises(errors.Invalid, match="damaged zstd"):
        decode(ZSTD.compress(b"data") + b"garbage!")


@pytest.mark.parametrize(
    ("head", "name"), [(b"BZh91AY", "bzip2"), (b"\xfd7zXZ\0\0", "xz"), (b"\x04\x22\x4d\x18abc", "lz4")]
)
def test_other_compressions_are_refused_by_name(head: bytes, name: str) -> None:
    with pytest.raises(errors.Unsupported, match=name):
        decode(head)
