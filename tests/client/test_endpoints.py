from __future__ import annotations

from pathlib import Path

import pytest

from gitops import errors
from gitops.client import endpoint


def test_what_is_given_comes_before_the_environment_and_that_before_the_default() -> None:
    environment = {"GITOPS_HOST": "unix:///b.sock"}
    assert endpoint.resolve("unix:///a.sock", environment).socket == Path("/a.sock")
    assert endpoint.resolve(None, environment).socket == Path("/b.sock")
    assert endpoint.resolve(None, {}).socket == Path("/run/gitops/engine.sock")


def test_the_docker_cli_s_host_is_not_ours() -> None:
    assert endpoint.resolve(None, {"DOCKER_HOST": "unix:///var/run/docker.sock"}).host == endpoint.DEFAULT_HOST


@pytest.mark.parametrize(
    ("host", "environment", "url"),
    [
        ("tcp://box", {}, "http://box:2375"),
        ("tcp://box:99", {}, "http://box:99"),
        ("tcp://[::1]:99", {}, "http://[::1]:99"),
        ("tcp://box", {"DOCKER_TLS_VERIFY": "1", "HOME": "/home/u"}, "https://box:2376"),
        ("tcp://box", {"DOCKER_CERT_PATH": "/certs"}, "https://box:2376"),
        ("tcp://box", {"GITOPS_CERT_PATH": "/certs"}, "https://box:2376"),
        ("tcp://box", {"GITOPS_TLS_VERIFY": "1"}, "https://box:2376"),
        ("tcp://box", {"GITOPS_TLS_VERIFY": "0", "DOCKER_TLS_VERIFY": "1"}, "http://box:2375"),
    ],
)
def test_tcp_has_tls_where_the_environment_says_so(host: str, environment: dict[str, str], url: str) -> None:
    assert endpoint.resolve(host, environment).base_url == url


def test_tls_files_are_where_docker_keeps_them() -> None:
    found = endpoint.resolve("tcp://box", {"DOCKER_TLS_VERIFY": "1", "HOME": "/home/u"}).tls
    assert found is not None
    assert (found.ca, found.is_verified) == (Path("/home/u/.docker/ca.pem"), True)


@pytest.mark.parametrize(
    ("environment", "directory", "is_verified"),
    [
        ({"GITOPS_CERT_PATH": "/ours", "DOCKER_CERT_PATH": "/docker's"}, "/ours", True),
        ({"GITOPS_CERT_PATH": "/ours", "GITOPS_TLS_VERIFY": "0"}, "/ours", False),
        ({"GITOPS_TLS_VERIFY": "1", "HOME": "/home/u"}, "/home/u/.docker", True),
        ({"DOCKER_CERT_PATH": "/docker's"}, "/docker's", False),
        ({"DOCKER_CERT_PATH": "/docker's", "DOCKER_TLS_VERIFY": "1"}, "/docker's", True),
    ],
)
def test_our_variables_come_before_docker_s(environment: dict[str, str], directory: str, is_verified: bool) -> None:
    found = endpoint.resolve("tcp://box", environment).tls
    assert found is not None
    assert (str(found.directory), found.is_verified) == (directory, is_verified)


@pytest.mark.parametrize("host", ["npipe:////./pipe/docker", "https://box"])
def test_other_ways_to_connect_are_refused_by_name(host: str) -> None:
    with pytest.raises(errors.Unsupported, match=host.split(":")[0]):
        endpoint.resolve(host, {})


@pytest.mark.parametrize("host", ["/run/x.sock", "unix://", "tcp://", "tcp://box:port", "tcp://box/path", "tcp://u@b"])
def test_what_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(errors.Invalid):
        endpoint.resolve(host, {})
