from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops import errors
from gitops.engine.images.unpack import names
from gitops.oci.limits import Limits

LIMITS = Limits()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (b"a/b", [b"a", b"b"]),
        (b"/a//b/./c/", [b"a", b"b", b"c"]),
        (b"../../a", [b"a"]),
        (b"a/../../b", [b"b"]),
        (b"./", []),
        (b"..", []),
        (b"/", []),
        (b"\xff\n", [b"\xff\n"]),
    ],
)
def test_names_are_cleaned_lexically(name: bytes, parts: list[bytes]) -> None:
    assert names.clean(name, LIMITS) == parts


@pytest.mark.parametrize("name", [b"", b"a\0b", b"n" * 256, b"d/" * 257, b"a/" * 2048])
def test_names_beyond_the_limits_are_refused(name: bytes) -> None:
    with pytest.raises(errors.Invalid):
        names.clean(name, LIMITS)


@given(st.binary(max_size=60) | st.text(alphabet="./a", max_size=30).map(str.encode))
def test_no_clean_name_leads_out(name: bytes) -> None:
    try:
        parts = names.clean(name, LIMITS)
    except errors.Invalid:
        return
    assert not {b"", b".", b".."} & set(parts)
    assert not any(b"/" in part or b"\0" in part for part in parts)


@pytest.mark.parametrize(
    ("parts", "mark"),
    [
        ([b"a"], None),
        ([b"a", b".wh.b"], names.Whiteout([b"a"], b"b")),
        ([b".wh..b"], names.Whiteout([], b".b")),
        ([b"a", b".wh..wh..opq"], names.Whiteout([b"a"], None)),
        ([b".whx"], None),
        ([], None),
    ],
)
def test_whiteouts_are_recognised(parts: list[bytes], mark: names.Whiteout | None) -> None:
    assert names.whiteout(parts) == mark


@pytest.mark.parametrize("parts", [[b".wh."], [b".wh.."], [b".wh..."], [b".wh.a", b"b"]])
def test_whiteouts_that_cannot_be_are_refused(parts: list[bytes]) -> None:
    with pytest.raises(errors.Invalid):
        names.whiteout(parts)


def test_what_aufs_left_is_dropped_with_all_below() -> None:
    assert names.is_dropped([b".wh..wh.plnk", b"x"])
    assert names.is_dropped([b"a", b".wh..wh.aufs"])
    assert not names.is_dropped([b"a", b".wh..wh..opq"])
