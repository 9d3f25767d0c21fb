"""What is ours comes and goes, in as many versions as can be gone back to; what is others' is never touched. On the
built-in engine and on a real Docker Swarm."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gitops import client as clients
from gitops import manifests
from gitops.reconciler import source
from gitops.reconciler.reconcile import Options, Reconciler
from gitops.reconciler.revisions import KEPT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]

HEAD = "apiVersion: gitops/v1\nkind: {kind}\nmetadata: {{name: {name}, stack: app}}\n"
KINDS = {"Network": "", "Volume": "", "Config": "spec: {content: NAME}\n", "Secret": "spec: {content: NAME}\n"}
SERVICE = """\
spec:
  image: IMAGE
  init: true
  command: [/bin/sh, -c, "/bin/busybox sleep 1000"]
  networks: [NAME]
  volumes: ["NAME:/data"]
  configs: [NAME]
  secrets: [NAME]
  MORE
  deploy: {DEPLOYrestart_policy: {delay: 1s}, update_config: {monitor: 500ms}}
"""


def objects(name: str, image: str = "app:v1", more: str = "stop_signal: SIGTERM", deploy: str = "") -> str:
    """A service, and of each kind an object of its own that it uses; all of one name."""
    service = SERVICE.replace("IMAGE", image).replace("MORE", more).replace("DEPLOY", deploy)
    texts = [HEAD.format(kind=kind, name=name) + text for kind, text in {**KINDS, "Service": service}.items()]
    return "---\n".join(texts).replace("NAME", name)


def names(host: Any) -> dict[str, set[str]]:
    """All names of a kind, without those of ours that record what was applied."""
    specs = {
        kind: {item["Spec"]["Name"] for item in host.api(f"/{kind}")} for kind in ("services", "configs", "secrets")
    }
    return {
        **specs,
        "configs": {name for name in specs["configs"] if not name.startswith("gitops-")},
        "networks": {item["Name"] for item in host.api("/networks")},
        "volumes": {item["Name"] for item in host.api("/volumes")["Volumes"] or ()},
        "images": {tag for item in host.api("/images/json") for tag in item["RepoTags"] or ()},
    }


def of(host: Any, word: str) -> dict[str, list[str]]:
    """Names by kind in which a word stands, without the versions that follow them."""
    return {
        kind: sorted(name.removeprefix("app_").partition("-")[0] for name in found if word in name)
        for kind, found in names(host).items()
    }


def make_others(host: Any) -> None:
    """One of each kind, with names and labels that are as near to ours as another tool's can be."""
    label = ("--label", "com.docker.stack.namespace=app")
    host.docker("network", "create", "--driver", "overlay", *label, "app_others")
    host.docker("volume", "create", *label, "app_others")
    host.docker("tag", "app:v1", "app:others")
    host.docker("tag", "app:v2", "app:others2")
    for kind in ("config", "secret"):
        host.run("docker", kind, "create", *label, "app_others", "-", stdin="theirs")
    host.docker(
        *("service", "create", "--quiet", "--name", "app_others", "--no-resolve-image", *label),
        *("--network", "app_others", "--config", "app_others", "--secret", "app_others"),
        *("--mount", "source=app_others,target=/data", "app:others", "/bin/sh", "-c", "/bin/busybox sleep 1000"),
        timeout=150,
    )


def others(host: Any) -> list[Any]:
    """What is not ours, down to versions and tasks."""
    swarm = [
        (item["ID"], item["Version"])
        for kind in ("services", "configs", "secrets")
        for item in host.api(f"/{kind}")
        if item["Spec"]["Name"] == "app_others"
    ]
    (service, *_) = swarm
    tasks = [(task["ID"], task["Status"]["State"]) for task in host.api("/tasks") if task["ServiceID"] == service[0]]
    rest = [host.api("/networks/app_others")["Id"], host.api("/volumes/app_others")["CreatedAt"]]
    return [swarm, tasks, *rest, *(host.api(f"/images/app:{tag}/json")["Id"] for tag in ("others", "others2"))]


def test_what_left_the_manifests_goes_and_what_is_others_stays_as_it_is(
    engine_host: Any, project: Any, image: Any
) -> None:
    host = engine_host
    path = project(
        {
            "images.yaml": image("app:v1", "v1") + "---\n" + image("app:v2", "v2"),
            "stays.yaml": objects("stays"),
            "goes.yaml": objects("goes", "app:v2"),
        }
    )
    host.gitops("apply", path, "--yes")
    make_others(host)
    before = others(host)
    one = {"services": 1, "configs": 1, "secrets": 1, "networks": 1, "volumes": 1}
    assert {kind: len(found) for kind, found in of(host, "goes").items() if found} == one
    (path / "goes.yaml").unlink()
    (path / "images.yaml").write_text(image("app:v1", "v1"))
    plan = json.loads(host.gitops("diff", path, "--format", "json", check=False).stdout)
    gone = {(item["kind"], item["name"]) for item in plan["changes"] if item["action"] == "delete"}
    assert {("Service", "goes"), ("Network", "goes")} <= gone and ("Volume", "goes") not in gone
    host.gitops("apply", path, "--yes")
    # Versions stay as long as a revision that can be gone back to has them; a volume stays until somebody says so.
    assert {kind: found for kind, found in of(host, "goes").items() if found} == {
        kind: ["goes"] for kind in ("configs", "secrets", "volumes")
    }
    assert {kind: len(found) for kind, found in of(host, "stays").items() if found} == one
    assert others(host) == before
    host.gitops("rollback", "app", "1", "--yes")
    assert {kind: len(found) for kind, found in of(host, "goes").items() if found} == one
    host.gitops("delete", "app", "--yes", "--volumes")
    left = {kind: {name for name in found if "app" in name} for kind, found in names(host).items()}
    assert left.pop("images") == {"app:others", "app:others2"}
    assert left == {kind: {"app_others"} for kind in left}
    assert others(host) == before


async def applied(host: Any, path: Path) -> None:
    """Apply without a start of the program: for the many that retention takes."""
    load = manifests.LoadOptions(allow_host=True, secret_key=b"k" * 32)
    async with clients.connect(host.socket) as client:
        reconciler = Reconciler(client, Options(load, timeout_s=60))
        await reconciler.apply(await reconciler.prepare(source.of_path(path)), lambda _: None)


async def test_former_versions_go_once_no_revision_is_kept_that_has_them(
    engine_host: Any, project: Any, image: Any
) -> None:
    host = engine_host
    text = objects("web", deploy="replicas: 0, ")
    path = project({"image.yaml": image("app:v1", "v1")})

    def versions() -> dict[str, int]:
        return {kind: len(found) for kind, found in of(host, "app_web").items() if kind in ("configs", "secrets")}

    for number in range(KEPT + 2):
        (path / "web.yaml").write_text(text.replace("content: web", f"content: web {number}"))
        await applied(host, path)
        expected = min(number + 1, KEPT)
        assert versions() == {"configs": expected, "secrets": expected}, f"after {number + 1} applies"
    history = json.loads(host.gitops("history", "app", "--format", "json").stdout)
    assert [item["number"] for item in history] == list(range(KEPT + 2, 2, -1))
    host.gitops("rollback", "app", "3", "--yes")
    (service,) = host.api("/services")
    (used,) = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Configs"]
    data = {item["Spec"]["Name"]: item["Spec"]["Data"] for item in host.api("/configs")}[used["ConfigName"]]
    assert base64.b64decode(data) == b"web 2", "what the third apply said"


def test_a_count_that_the_manifests_leave_open_is_whoever_scales(engine_host: Any, project: Any, image: Any) -> None:
    host = engine_host
    path = project({"image.yaml": image("app:v1", "v1"), "web.yaml": objects("web")})

    def running() -> list[str]:
        """The value of A in the environment of each running task."""
        tasks = [task for task in host.api("/tasks") if task["Status"]["State"] == task["DesiredState"] == "running"]
        return [task["Spec"]["ContainerSpec"].get("Env", ["none"])[0] for task in tasks]

    host.gitops("apply", path, "--yes")
    host.docker("service", "scale", "app_web=2", timeout=150)
    assert host.gitops("diff", path, check=False).returncode == 0
    (path / "web.yaml").write_text(objects("web", more="environment: {A: two}"))
    host.gitops("apply", path, "--yes")
    assert running() == ["A=two"] * 2
    host.gitops("rollback", "app", "1", "--yes")
    assert running() == ["none"] * 2
    (path / "web.yaml").write_text(objects("web", deploy="replicas: 1, "))
    host.gitops("apply", path, "--yes")
    assert running() == ["none"]
    host.docker("service", "scale", "app_web=2", timeout=150)
    shown = host.gitops("diff", path, check=False)
    assert shown.returncode == 2 and "replicas" in shown.stdout, "a count that they give is drift"
