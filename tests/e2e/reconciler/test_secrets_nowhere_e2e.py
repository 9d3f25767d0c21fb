"""The values of secrets are nowhere but in memory and where their owner put them: on the built-in engine and on a real
Docker Swarm, of which only what we write there and say is searched.

The scenario has every source of a secret, a registry that wants a password, kept plans, failures, a rollback, a watch
and a snapshot. `render` is left out: to print what stands in the manifests is its purpose.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyrage
import pytest

from gitops.manifests.sops import document

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(700)]

REGISTRY = "127.0.0.1:5000"
PASSWORD = "Zq-hush/horse+staple"
USERS = "alice:$2b$04$YRHaZpA3SYJeEhIFpV3fIO2OJbU9HSZZJg.CDcCbFZUayRD/j0yFG\n"
"""The same password by bcrypt, the only way that the registry knows."""

SOURCES = ("literal", "file", "variable", "sealed", "templated", "rendered")
SECRET = "apiVersion: gitops/v1\nkind: Secret\nmetadata: {{name: {name}, stack: app}}\nspec: {spec}\n---\n"
SERVICE = f"""\
apiVersion: gitops/v1
kind: Service
metadata: {{{{name: web, stack: app}}}}
spec:
  image: app:v1
  init: true
  command: {{command}}
  healthcheck: {{{{test: [CMD, /bin/busybox, "true"], interval: 1s}}}}
  secrets: [{", ".join(SOURCES)}]
  deploy: {{{{restart_policy: {{{{condition: none}}}}, update_config: {{{{monitor: 500ms}}}}}}}}
"""
RUNS = "[/bin/busybox, httpd, -f, -p, '8080', -h, /www]"
FAILS = "[/bin/sh, -c, exit 1]"
VARIABLE = "DATABASE_PASSWORD"
LISTS = (
    *("services?status=true", "tasks", "secrets", "configs", "networks", "volumes", "nodes", "info"),
    *("containers/json?all=true", "images/json", "system/df"),
)


class Scenario:
    """Values, the manifests that hold them, and everything that was said while they were applied."""

    def __init__(self, host: Any, path: Path, image: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host, self.path, self.said = host, path, ""
        self._coming = [{name: f"Zq{os.urandom(9).hex()}/+ &%" for name in SOURCES} for _ in range(2)]
        self._monkeypatch = monkeypatch
        self._identity = pyrage.x25519.Identity.generate()
        self.recipient = str(self._identity.to_public())
        (path / "image.yaml").write_text(
            image("app:v1", "v1").replace("reference: app:v1", f"reference: app:v1\n  push: {REGISTRY}/team/app")
        )
        (path / "key.txt").write_text(str(self._identity))
        (path / "strangers.txt").write_text(str(pyrage.x25519.Identity.generate()))
        self.opens_with("key.txt")
        self.all = {"registry": PASSWORD, "identity": str(self._identity)}
        self.all |= {f"{name} {number}": found[name] for number, found in enumerate(self._coming) for name in found}
        self.renew()

    def opens_with(self, file: str) -> None:
        self._monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(self.path / file))

    def renew(self) -> None:
        """Another value for each source."""
        self.values = self._coming.pop(0)
        sealed = f"db: {{password: '{self.values['sealed']}'}}\n".encode()
        (self.path / "sealed.yaml.enc").write_bytes(document.encrypt(sealed, "yaml", [self.recipient]))
        (self.path / "value.txt").write_text(self.values["file"])
        self._monkeypatch.setenv(VARIABLE, self.values["variable"])
        (self.path / "values.yaml").write_text(f"password: '{self.values['rendered']}'\n")
        specs = {
            "literal": f'{{content: "{self.values["literal"]}"}}',
            "file": "{file: value.txt}",
            "variable": f"{{environment: {VARIABLE}}}",
            "sealed": "{sops: {file: sealed.yaml.enc, format: yaml, key: db.password}}",
            "templated": f'{{content: "{self.values["templated"]}{{{{.Service.Name}}}}", template_driver: golang}}',
        }
        (self.path / "secrets.yaml").write_text("".join(SECRET.format(name=key, spec=specs[key]) for key in specs))
        rendered = SECRET.format(name="rendered", spec='{content: "{{ password }}"}')
        (self.path / "rendered.yaml.j2").write_text(rendered)

    def lay_out(self, command: str) -> None:
        (self.path / "web.yaml").write_text(SERVICE.format(command=command))

    def say(self, *arguments: str | Path, code: int = 0) -> str:
        """Run a command of ours, and keep what it says; its errors."""
        done = self.host.gitops(*arguments, check=False)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        self.said += done.stdout + done.stderr
        return str(done.stderr)

    def planned(self) -> None:
        for form in ("text", "json", "markdown"):
            self.say("diff", self.path, "--format", form, code=2)

    def containers_have_them(self) -> None:
        """The values are where they belong: else nothing would be shown by their being nowhere else."""

        def found() -> bool:
            ids = self.host.docker("ps", "-q", "--filter", "label=com.docker.swarm.service.name=app_web").split()
            with contextlib.suppress(OSError, AssertionError):
                pids = [self.host.docker("inspect", "--format", "{{.State.Pid}}", item).strip() for item in ids]
                return pids != [] and all(self._has_them(Path("/proc", pid, "root/run/secrets")) for pid in pids)
            return False

        self.host.wait(found, 60, "the values are not in the container")

    def _has_them(self, directory: Path) -> bool:
        wanted = {**self.values, "templated": self.values["templated"] + "app_web"}
        return {name: (directory / name).read_text() for name in SOURCES} == wanted

    def objects(self) -> str:
        """All that the engine says of its objects; what is compressed in them is unpacked."""
        found = "".join(json.dumps(self.host.api(f"/{path}"), ensure_ascii=False) for path in LISTS)
        unpacked = 0
        for config in self.host.api("/configs"):
            data = base64.b64decode(config["Spec"].get("Data", ""))
            with contextlib.suppress(zlib.error):
                data = zlib.decompress(data)
                unpacked += 1
            found += data.decode()
        assert unpacked >= 3, "no revision was looked into"
        until = f"until={int(time.time())}"
        socket = self.host.socket.removeprefix("unix://")
        events = self.host.run("curl", "-sS", "--unix-socket", socket, f"http://d/events?since=0&{until}").stdout
        assert '"service"' in events
        return found + events


@pytest.fixture
def registry(engine_host: Any) -> None:
    """A registry for alice alone, and her credentials where Docker's clients look for them."""
    directory = engine_host.directory / "registry"
    directory.mkdir()
    (directory / "users").write_text(USERS)
    (directory / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {directory / 'data'}}}}}\n"
        f"http: {{addr: '{REGISTRY}'}}\nauth: {{htpasswd: {{realm: here, path: {directory / 'users'}}}}}\n"
    )
    engine_host.spawn("docker-registry", "serve", directory / "config.yml")
    engine_host.wait(lambda: "UNAUTHORIZED" in engine_host.get(f"http://{REGISTRY}/v2/"), 30, "no registry")
    auth = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
    config = Path(engine_host.environment["DOCKER_CONFIG"])
    config.mkdir(exist_ok=True)
    (config / "config.json").write_text(json.dumps({"auths": {REGISTRY: {"auth": auth}}}))


@contextlib.contextmanager
def watched(search: Any) -> Iterator[list[str]]:
    """The processes that show a value to others while the block runs; the variable that is a source may hold it."""
    found: list[str] = []
    known: set[tuple[str, bytes]] = set()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.1):
            found.extend(search.in_processes([VARIABLE], known))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()


def walk(scenario: Scenario) -> None:
    """Plan, keep the plan, apply it; change everything; fail and be rolled back; watch; roll back; err."""
    path, kept = scenario.path, scenario.host.directory / "plan"
    scenario.lay_out(RUNS)
    scenario.say("validate", path)
    scenario.say("secret", "check", path)
    scenario.opens_with("strangers.txt")
    assert scenario.recipient in scenario.say("apply", path, "--yes", code=1), "who can open the file is not told"
    assert scenario.host.api("/services") == []
    scenario.opens_with("key.txt")
    scenario.say("diff", path, "--out", kept, code=2)
    scenario.say("apply", kept)
    scenario.containers_have_them()
    scenario.renew()
    scenario.planned()
    scenario.say("diff", path, "--out", kept, code=2)
    scenario.lay_out(FAILS)
    scenario.say("apply", path, "--yes", "--on-failure", "rollback", code=4)
    scenario.lay_out(RUNS)
    scenario.say("watch", path, "--once")
    scenario.containers_have_them()
    scenario.say("rollback", "app", "1", "--yes")
    picture = scenario.host.directory / "picture"
    picture.write_text(scenario.host.gitops("snapshot").stdout)
    scenario.say("diff", path, "--against", picture, "--format", "json")
    for arguments in (["status"], ["status", "--format", "json"], ["history", "app"], ["why", "app_web"]):
        scenario.say(*arguments)
    for number in ("1", "2"):
        scenario.say("history", "app", number, "--format", "json")
    (path / "secrets.yaml").write_text((path / "secrets.yaml").read_text().replace("{content", "{contents", 1))
    scenario.say("validate", path, code=1)
    (path / "secrets.yaml").write_text((path / "secrets.yaml").read_text().replace('"}', '": x}', 1))
    scenario.say("apply", path, "--yes", code=1)


def test_values_of_secrets_are_nowhere_else(
    engine_host: Any, registry: None, project: Any, image: Any, needles: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = engine_host
    scratch = host.directory / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    scenario = Scenario(host, project({"README": ""}), image, monkeypatch)
    search = needles({name: value.encode() for name, value in scenario.all.items()})
    with watched(search) as shown:
        walk(scenario)
    assert shown == []
    assert search.within(scenario.said) == []
    assert search.within(scenario.objects()) == []
    without = [Path(host.environment["DOCKER_CONFIG"]), host.directory / "registry"]
    if "dockerd" in host.log.name:
        # How it keeps what it was told is its own affair.
        without += [host.data_root, host.run_root, host.log]
    assert search.in_files(host.directory, without) == []
    host.gitops("delete", "app", "--yes")
    assert search.in_files(host.directory, without) == []
