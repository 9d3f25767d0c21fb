"""Networks under the docker CLI: joined and left by containers that run, addresses, isolation, published ports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

Archive = Callable[[str], Path]
SLEEP = ("app:1", "sleep", "1000")
SERVE = ("app:1", "httpd", "-f", "-p", "8080", "-h", "/www")


@pytest.fixture
def loaded(host: Any, archive: Archive) -> Any:
    """A host that has the image app:1."""
    host.docker("load", "-i", str(archive("app:1")))
    return host


def _places(host: Any, container: str) -> dict[str, str]:
    (found,) = json.loads(host.docker("inspect", container))
    return {name: place["IPAddress"] for name, place in found["NetworkSettings"]["Networks"].items()}


def _inside(host: Any, container: str, *command: str) -> str:
    return str(host.run("docker", "exec", container, *command, check=False).stdout)


def test_a_running_container_joins_and_leaves_networks(loaded: Any) -> None:
    loaded.docker("network", "create", "--subnet", "10.78.1.0/24", "one")
    loaded.docker("network", "create", "--subnet", "10.78.2.0/24", "two")
    loaded.docker("run", "-d", "--name", "web", "--network", "one", "-p", "8080:8080", *SERVE)
    loaded.docker("run", "-d", "--name", "ask", "--network", "two", *SLEEP)
    assert _inside(loaded, "ask", "wget", "-q", "-O-", "-T", "2", "http://web:8080/") == ""
    loaded.docker("network", "connect", "--alias", "nick", "--ip", "10.78.2.99", "two", "web")
    assert _places(loaded, "web") == {"one": "10.78.1.2", "two": "10.78.2.99"}
    for name in ("web", "nick", "10.78.2.99"):
        assert loaded.wait(lambda name=name: _inside(loaded, "ask", "wget", "-q", "-O-", f"http://{name}:8080/"))
    linked = ["run", "--rm", "--network", "two", "--link", "web:pet", "app:1", "wget", "-q", "-O-", "http://pet:8080/"]
    assert loaded.docker(*linked) == "app:1\n"
    assert _inside(loaded, "ask", "wget", "-q", "-O-", "-T", "2", "http://pet:8080/") == ""
    hosts = _inside(loaded, "web", "cat", "/etc/hosts")
    assert "10.78.1.2\t" in hosts and "10.78.2.99\t" in hosts
    (network,) = json.loads(loaded.docker("network", "inspect", "two"))
    assert sorted(item["Name"] for item in network["Containers"].values()) == ["ask", "web"]
    assert "already exists in network two" in loaded.docker_fails("network", "connect", "two", "web")
    assert "active endpoints" in loaded.docker_fails("network", "rm", "two")
    # The way out moves to the network that is left, and with it the published port.
    loaded.docker("network", "disconnect", "one", "web")
    assert _places(loaded, "web") == {"two": "10.78.2.99"}
    assert "default via 10.78.2.1" in _inside(loaded, "web", "busybox", "ip", "route")
    assert loaded.wait(lambda: loaded.get("http://127.0.0.1:8080/")) == "app:1\n"
    assert "10.78.1.2" not in _inside(loaded, "web", "cat", "/etc/hosts")
    assert "is not connected to network one" in loaded.docker_fails("network", "disconnect", "one", "web")
    # A new daemon takes it up as it is, and a restart of the container keeps it.
    loaded.stop()
    loaded.start()
    assert loaded.wait(lambda: _inside(loaded, "ask", "wget", "-q", "-O-", "http://nick:8080/")) == "app:1\n"
    loaded.docker("restart", "-t", "0", "web")
    assert loaded.wait(lambda: _inside(loaded, "ask", "wget", "-q", "-O-", "http://nick:8080/")) == "app:1\n"
    loaded.docker("stop", "-t", "0", "web")
    loaded.docker("network", "connect", "one", "web")
    loaded.docker("network", "disconnect", "two", "web")
    loaded.docker("start", "web")
    assert list(_places(loaded, "web")) == ["one"]
    loaded.docker("network", "disconnect", "one", "web")
    assert loaded.get("http://127.0.0.1:8080/") == ""
    loaded.docker("network", "connect", "one", "web")
    assert loaded.wait(lambda: loaded.get("http://127.0.0.1:8080/")) == "app:1\n"
    loaded.docker("run", "-d", "--name", "bare", "--network", "host", *SLEEP)
    assert "cannot be disconnected from host network" in loaded.docker_fails("network", "connect", "one", "bare")
    assert "network-scoped alias" in loaded.docker_fails("network", "connect", "--alias", "x", "bridge", "web")
    loaded.docker("network", "disconnect", "-f", "one", "nobody")
    assert "No such container" in loaded.docker_fails("network", "disconnect", "one", "nobody")
    loaded.docker("rm", "-f", "web", "ask", "bare")
    assert sorted(loaded.docker("network", "prune", "-f").split()[2:]) == ["one", "two"]


def test_networks_are_kept_apart_and_ports_are_published_where_asked(loaded: Any) -> None:
    loaded.docker("network", "create", "--internal", "closed")
    options = ["--subnet", "10.79.0.0/16", "--ip-range", "10.79.5.0/24", "--gateway", "10.79.9.9"]
    loaded.docker("network", "create", *options, "--aux-address", "taken=10.79.5.1", "laid")
    loaded.docker("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "quiet")
    publish = ["-p", "127.0.0.1:7001:8080", "-p", "7002-7003:9002-9003", "-p", "5353:53/udp"]
    loaded.docker("run", "-d", "--name", "web", "--network", "laid", *publish, *SERVE)
    assert _places(loaded, "web") == {"laid": "10.79.5.0"}
    assert loaded.docker("port", "web", "8080").strip() == "127.0.0.1:7001"
    ports = loaded.docker("ps", "--filter", "name=web", "--format", "{{.Ports}}")
    assert "127.0.0.1:7001->8080/tcp" in ports and "0.0.0.0:5353->53/udp" in ports and "0.0.0.0:7003->9003/tcp" in ports
    assert loaded.wait(lambda: loaded.get("http://127.0.0.1:7001/")) == "app:1\n"
    assert "port is already allocated" in loaded.docker_fails("run", "-d", "-p", "127.0.0.1:7001:1", *SLEEP)
    loaded.docker("run", "-d", "--name", "later", "--network", "closed", "-p", "7200:8080", *SERVE)
    assert loaded.docker("port", "later") == ""
    loaded.docker("network", "connect", "laid", "later")
    assert loaded.docker("port", "later").strip() == "8080/tcp -> 0.0.0.0:7200"
    assert loaded.wait(lambda: loaded.get("http://127.0.0.1:7200/")) == "app:1\n"
    for port in ("7100", "7101"):
        made = loaded.docker("run", "-d", "-p", "7100-7101:80", *SLEEP).strip()
        assert loaded.docker("port", made).strip() == f"80/tcp -> 0.0.0.0:{port}"
    assert "port is already allocated" in loaded.docker_fails("run", "-d", "-p", "7100-7101:80", *SLEEP)
    for name in ("q1", "q2"):
        loaded.docker("run", "-d", "--name", name, "--network", "quiet", *SERVE)
    loaded.docker("run", "-d", "--name", "shut", "--network", "closed", *SERVE)
    loaded.docker("run", "-d", "--name", "peer", "--network", "closed", *SLEEP)
    assert loaded.wait(lambda: _inside(loaded, "peer", "wget", "-q", "-O-", "http://shut:8080/")) == "app:1\n"
    assert "default" not in _inside(loaded, "peer", "busybox", "ip", "route")
    for asker, address in (
        ("peer", _places(loaded, "web")["laid"]),
        ("web", _places(loaded, "shut")["closed"]),
        ("q1", _places(loaded, "q2")["quiet"]),
        ("q1", _places(loaded, "web")["laid"]),
    ):
        assert _inside(loaded, asker, "wget", "-q", "-O-", "-T", "1", f"http://{address}:8080/") == ""
    assert "overlaps" in loaded.docker_fails("network", "create", "--subnet", "10.79.1.0/24", "again")
    assert "already in use" in loaded.docker_fails("run", "-d", "--network", "laid", "--ip", "10.79.5.0", *SLEEP)
    (network,) = json.loads(loaded.docker("network", "inspect", "laid"))
    assert network["IPAM"]["Config"] == [
        {
            "Subnet": "10.79.0.0/16",
            "IPRange": "10.79.5.0/24",
            "Gateway": "10.79.9.9",
            "AuxiliaryAddresses": {"taken": "10.79.5.1"},
        }
    ]
