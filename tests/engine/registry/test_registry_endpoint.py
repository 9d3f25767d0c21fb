"""How a registry is reached, by its name and by the certificates that are installed for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops import errors
from gitops.engine.registry import endpoint


def ways(domain: str, directory: Path, insecure: frozenset[str] = frozenset()) -> list[tuple[str, bool]]:
    found = endpoint.candidates(domain, insecure=insecure, directories=[directory])
    return [(str(way.url.origin()), way.trust.is_insecure) for way in found]


def test_a_registry_elsewhere_is_reached_by_verified_tls_only(tmp_path: Path) -> None:
    assert ways("registry.example:5000", tmp_path) == [("https://registry.example:5000", False)]
    assert ways("docker.io", tmp_path) == [("https://registry-1.docker.io", False)]


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "127.8.8.8:5000", "localhost:5000", "[::1]:5000"])
def test_on_loopback_tls_is_tried_first_and_then_given_up(host: str, tmp_path: Path) -> None:
    secure, plain = f"https://{host}", f"http://{host}"
    assert ways(host, tmp_path) == [(secure, False), (secure, True), (plain, False)]


@pytest.mark.parametrize("host", ["127.0.0.1.example:5000", "localhost.example:80", "10.0.0.1:5000", "[::2]:5000"])
def test_what_only_looks_like_loopback_is_not(host: str, tmp_path: Path) -> None:
    assert ways(host, tmp_path) == [(f"https://{host}", False)]


def test_a_registry_marked_insecure_is_treated_like_loopback(tmp_path: Path) -> None:
    assert len(ways("registry.example:5000", tmp_path, frozenset({"registry.example:5000"}))) == 3


def test_an_installed_ca_ends_the_exception_of_loopback(tmp_path: Path) -> None:
    (tmp_path / "127.0.0.1:5000").mkdir()
    (tmp_path / "127.0.0.1:5000" / "ca.crt").write_text("")
    found = endpoint.candidates("127.0.0.1:5000", insecure=frozenset(), directories=[tmp_path])
    assert [(way.url.scheme, way.trust) for way in found] == [
        ("https", endpoint.Trust(tmp_path / "127.0.0.1:5000" / "ca.crt"))
    ]


def test_two_cas_are_refused_since_workers_take_one_file(tmp_path: Path) -> None:
    (tmp_path / "r.example").mkdir()
    for name in ("a.crt", "b.crt"):
        (tmp_path / "r.example" / name).write_text("")
    with pytest.raises(errors.Unsupported, match="one file"):
        endpoint.find_trust("r.example", [tmp_path])


def test_a_broken_ca_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    with pytest.raises(errors.Invalid, match=str(tmp_path)):
        endpoint.Trust(tmp_path / "ca.crt").context()


@pytest.mark.parametrize(
    ("domain", "insecure", "is_insecure"),
    [
        ("registry.example:5000", {"registry.example:5000"}, True),
        ("registry.example:5000", {"registry.example"}, True),
        ("registry.example", {"other.example"}, False),
        ("10.1.2.3:5000", {"10.0.0.0/8"}, True),
        ("11.1.2.3:5000", {"10.0.0.0/8"}, False),
    ],
)
def test_registries_that_the_operator_calls_insecure_may_be(domain: str, insecure: set[str], is_insecure: bool) -> None:
    ways = endpoint.candidates(domain, insecure=frozenset(insecure), directories=())
    assert any(way.url.scheme == "http" for way in ways) == is_insecure
