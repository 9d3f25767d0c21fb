"""The keys that leave a terminal: how they are written, and how they are found in what is typed."""

from __future__ import annotations

import random

import pytest

from gitops import errors
from gitops.api import detaching


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-P", b"\x10"),
        ("a,b", b"ab"),
        ("ctrl-@,x", b"\x00x"),
        ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1c\x1d\x1e\x1f"),
        ("DEL", b"\x7f"),
    ],
)
def test_keys_are_read_as_docker_reads_them(text: str, keys: bytes) -> None:
    assert detaching.parse(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ctrl-ab", "ab", "a,,b", "é", "ctrl-é", "alt-x"])
def test_what_is_no_key_is_refused_by_name(text: str) -> None:
    with pytest.raises(errors.Invalid, match="Invalid detach keys"):
        detaching.parse(text)


def scan(keys: bytes, pieces: list[bytes]) -> tuple[bytes, bool]:
    scanner = detaching.Scanner(keys)
    passed = b""
    for piece in pieces:
        some, found = scanner.feed(piece)
        passed += some
        if found:
            return passed, True
    return passed, False


def test_the_keys_are_found_across_pieces_and_not_passed_on() -> None:
    assert scan(b"\x10\x11", [b"ls\n\x10", b"\x11", b"more"]) == (b"ls\n", True)


def test_a_beginning_that_leads_nowhere_is_passed_on() -> None:
    assert scan(b"\x10\x11", [b"\x10", b"x\x10\x10", b"y"]) == (b"\x10x\x10\x10y", False)
    assert scan(b"\x10\x11", [b"\x10\x10\x11"]) == (b"\x10", True)


def test_nothing_is_lost_or_added_however_input_is_cut() -> None:
    rng = random.Random(1)
    for _ in range(200):
        data = bytes(rng.choice(b"ab\x10\x11") for _ in range(30))
        cuts = sorted(rng.randrange(31) for _ in range(4))
        pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, 30], strict=True)]
        passed, found = scan(b"\x10\x11", pieces)
        if found:
            assert data.startswith(passed + b"\x10\x11") and b"\x10\x11" not in passed
        else:
            assert passed + (b"\x10" if data.endswith(b"\x10") else b"") == data
