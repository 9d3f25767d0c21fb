"""The key of the secrets, and what is sealed with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops import errors
from gitops.swarm.store.seal import Seal

SEAL = Seal(bytes(range(32)))


@given(st.binary(max_size=2000), st.text(max_size=20))
def test_what_was_sealed_opens_with_its_context(data: bytes, context: str) -> None:
    sealed = SEAL.seal(data, context)
    assert SEAL.open(sealed, context) == data
    assert sealed != SEAL.seal(data, context)


@given(st.binary(min_size=1, max_size=100), st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_is_noticed(data: bytes, place: int, change: int) -> None:
    sealed = bytearray(SEAL.seal(data, "secret a"))
    sealed[place % len(sealed)] ^= change
    with pytest.raises(errors.RuntimeFailure):
        SEAL.open(bytes(sealed), "secret a")


def test_another_context_or_key_does_not_open_it() -> None:
    sealed = SEAL.seal(b"data", "secret a")
    with pytest.raises(errors.RuntimeFailure, match="secret b"):
        SEAL.open(sealed, "secret b")
    with pytest.raises(errors.RuntimeFailure):
        Seal(bytes(32)).open(sealed, "secret a")
    with pytest.raises(errors.RuntimeFailure):
        SEAL.open(b"", "secret a")


def test_a_key_file_is_for_its_owner_alone_and_loads_again(tmp_path: Path) -> None:
    made = Seal.create(tmp_path / "keys" / "store.key")
    path = tmp_path / "keys" / "store.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert Seal.load(path).open(made.seal(b"x", "c"), "c") == b"x"
    assert Seal.load(path).fingerprint == made.fingerprint
    assert path.read_text().strip() not in repr(made) + str(vars(made))


def test_a_missing_damaged_or_readable_key_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "store.key"
    with pytest.raises(errors.NotFound, match="is missing"):
        Seal.load(path)
    Seal.create(path)
    path.chmod(0o644)
    with pytest.raises(errors.RuntimeFailure, match="chmod 600"):
        Seal.load(path)
    path.chmod(0o600)
    for content in (b"xyz", b"00ff", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(errors.RuntimeFailure, match="key file"):
            Seal.load(path)
