"""`docker-compose` drives containers, networks and volumes of the engine: a project's life."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

PROJECT = """\
version: "3.8"
services:
  web:
    image: app:1
    command: ["httpd", "-f", "-p", "8080", "-h", "/site"]
    init: true
    ports: ["8080:8080"]
    volumes: ["./site:/site:ro", "data:/data"]
    environment: {GREETING: hi}
    healthcheck: {test: ["CMD", "wget", "-q", "-O-", "http://127.0.0.1:8080/"], interval: 1s}
    networks: [front]
  worker:
    image: app:1
    command: ["sh", "-c", "while :; do wget -q -O- http://web:8080/; sleep 1; done"]
    depends_on: [web]
    networks: [front]
networks: {front: {}}
volumes: {data: {}}
"""


def test_a_project_comes_up_scales_and_goes(loaded: Any, tmp_path: Path) -> None:
    host, folder = loaded, tmp_path / "shop"
    (folder / "site").mkdir(parents=True)
    (folder / "site" / "index.html").write_text("welcome\n")
    (folder / "docker-compose.yml").write_text(PROJECT)

    def compose(*arguments: str) -> str:
        words = ("docker-compose", "-f", folder / "docker-compose.yml", "-p", "shop", *arguments)
        return str(host.run(*words, timeout=120).stdout)

    compose("up", "-d")
    assert host.wait(lambda: host.get("http://127.0.0.1:8080/")) == "welcome\n"
    host.wait(lambda: "healthy" in host.docker("ps", "--filter", "label=com.docker.compose.service=web"), 30)
    host.wait(lambda: "welcome" in compose("logs", "worker"), 30, "the worker doesn't reach web by its name")
    assert compose("exec", "-T", "web", "sh", "-c", "echo $GREETING") == "hi\n"
    assert "one-off\n" in compose("run", "--rm", "worker", "echo", "one-off")
    web = compose("ps", "-q", "web").strip()
    compose("up", "-d", "--scale", "worker=3")
    assert len(compose("ps", "-q", "worker").split()) == 3
    # What didn't change wasn't touched; what changed is made anew.
    assert compose("ps", "-q", "web").strip() == web
    (folder / "docker-compose.yml").write_text(PROJECT.replace("GREETING: hi", "GREETING: hello"))
    compose("up", "-d", "-t", "1")
    assert compose("exec", "-T", "web", "sh", "-c", "echo $GREETING") == "hello\n"
    compose("restart", "-t", "1", "worker")
    compose("stop", "-t", "1")
    assert host.docker("ps", "-q") == "" and len(host.docker("ps", "-aq").split()) >= 2
    compose("down", "-v", "-t", "1")
    assert host.docker("ps", "-aq") == "" and host.docker("volume", "ls", "-q") == ""
    assert "shop" not in host.docker("network", "ls")
