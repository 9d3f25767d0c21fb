from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops import errors
from gitops.oci import reference
from gitops.oci.reference import Reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("nginx", "docker.io/library/nginx", "nginx"),
        ("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"),
        ("library/nginx", "docker.io/library/nginx", "nginx"),
        ("docker.io/nginx", "docker.io/library/nginx", "nginx"),
        ("index.docker.io/me/app:1", "docker.io/me/app:1", "me/app:1"),
        ("me/app", "docker.io/me/app", "me/app"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app:x", "localhost:5000/app:x", "localhost:5000/app:x"),
        ("registry.example/a/b-c__d.e", "registry.example/a/b-c__d.e", "registry.example/a/b-c__d.e"),
        ("Upper/app", "Upper/app", "Upper/app"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}", f"nginx@{DIGEST}"),
        (f"nginx:1@{DIGEST}", f"docker.io/library/nginx:1@{DIGEST}", f"nginx:1@{DIGEST}"),
        ("a:" + "t" * 128, "docker.io/library/a:" + "t" * 128, "a:" + "t" * 128),
    ],
)
def test_references_are_normalised_as_docker_does(text: str, canonical: str, familiar: str) -> None:
    parsed = reference.parse(text)
    assert parsed.canonical() == canonical
    assert parsed.familiar() == familiar
    assert str(parsed) == familiar


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "invalid reference format"),
        ("nginx:", "valid tag"),
        ("nginx:-x", "valid tag"),
        ("nginx:" + "t" * 129, "valid tag"),
        ("NGINX", "must be lowercase"),
        ("a/NGINX", "must be lowercase"),
        ("a" * 64, "64-byte hexadecimal"),
        ("nginx@sha256:12", "invalid reference format"),
        ("nginx@md5:" + "a" * 32, "unsupported digest"),
        ("a//b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a_-b", "invalid reference format"),
        ("https://docker.io/nginx", "invalid reference format|valid tag"),
        ("a b", "invalid reference format"),
        ("a/" + "b" * 255, "more than 255"),
        ("nginx\n", "invalid reference format"),
    ],
)
def test_what_is_no_reference_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(errors.Invalid, match=reason):
        reference.parse(text)


def test_the_default_tag_is_added_only_on_demand_and_never_to_a_digest() -> None:
    assert reference.parse("nginx").tag is None
    assert reference.parse("nginx").with_default_tag().tag == "latest"
    assert reference.parse(f"nginx@{DIGEST}").with_default_tag().tag is None


def test_parts_are_replaced() -> None:
    parsed = reference.parse(f"nginx:1@{DIGEST}")
    assert parsed.without_tag().familiar() == f"nginx@{DIGEST}"
    assert parsed.name_only().familiar() == "nginx"
    assert parsed.name_only().with_digest(DIGEST).digest == DIGEST


@given(st.text(alphabet="aB1.:/@-_[]", max_size=40) | st.text(max_size=20))
def test_any_text_is_parsed_or_refused_and_what_is_parsed_reads_back_the_same(text: str) -> None:
    try:
        parsed = reference.parse(text)
    except errors.Invalid:
        return
    assert reference.parse(parsed.canonical()) == parsed
    assert reference.parse(parsed.familiar()) == parsed
    assert isinstance(parsed, Reference)
