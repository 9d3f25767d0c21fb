from __future__ import annotations

import hashlib

import pytest

from gitops import errors
from gitops.oci import digest


def test_the_digest_of_data_is_its_sha256() -> None:
    assert digest.sha256(b"abc") == "sha256:" + hashlib.sha256(b"abc").hexdigest()


def test_a_digest_is_taken_apart() -> None:
    text = digest.sha256(b"")
    assert digest.parse(text) == ("sha256", text[7:])
    assert str(digest.parse(text)) == text
    assert digest.validate(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "sha256", "sha256:", "sha256:abc", "sha256:" + "A" * 64, "md5:" + "a" * 32, "sha256:" + "a" * 65, "a" * 64],
)
def test_what_is_no_sha256_digest_is_refused(text: str) -> None:
    with pytest.raises(errors.Invalid, match="invalid digest"):
        digest.validate(text)
    assert not digest.is_digest(text)
