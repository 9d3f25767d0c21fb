"""Snapshots hold what plans need and no secret; plans against them are those against the engine, or say what isn't."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from gitops import errors, manifests
from gitops.manifests import canonical
from gitops.objects.base import Version
from gitops.objects.image import ImageSummary
from gitops.objects.network import NetworkCreate, NetworkResource
from gitops.objects.node import Node, NodeDescription, NodeSpec, NodeStatus
from gitops.objects.secret import Config, ConfigSpec, Secret, SecretSpec
from gitops.objects.service import EndpointSpec, PortConfig, Resources, Service, ServiceSpec, TaskSpec
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.reconciler import against, record, redacted, revisions, snapshot, stored
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Plan, Reason
from gitops.reconciler.reconcile import Options
from gitops.reconciler.record import Outcome, Record
from gitops.reconciler.revisions import Head, Revision
from gitops.reconciler.source import Source

KEY = b"k" * 32
MANIFESTS = """\
apiVersion: gitops/v1
kind: Service
metadata: {{name: web, stack: app}}
spec:
  image: {image}
  environment: {{DB_PASSWORD: "{password}", LEVEL: "{level}"}}
  secrets: [key]
  configs: [{{source: page, target: /page}}]
  deploy: {{replicas: {replicas}}}
---
apiVersion: gitops/v1
kind: Secret
metadata: {{name: key, stack: app}}
spec: {{environment: KEY_OF_THE_APP}}
---
apiVersion: gitops/v1
kind: Config
metadata: {{name: page, stack: app}}
spec: {{content: "{page}"}}
"""
DEFAULTS = {"image": "app:v1", "password": "hunter2", "level": "info", "replicas": 2, "page": "hello"}
DIGEST = "sha256:" + "a" * 64
NODE = Node(
    id="n1",
    spec=NodeSpec(role="manager"),
    status=NodeStatus(state="ready", addr="10.1.2.3"),
    description=NodeDescription(hostname="mgr1", resources=Resources(nano_cpus=2 * 10**9, memory_bytes=2**30)),
)
STRANGER = ServiceSpec(
    name="other",
    labels={"team": "secret-team"},
    task_template=TaskSpec(),
    endpoint_spec=EndpointSpec(ports=[PortConfig(target_port=80, published_port=8080)]),
)

NOTED = Config(spec=ConfigSpec("gitops-record-app", record.to_labels(Record("app", key="fp"))))


def write(directory: Path, **values: Any) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "app.yaml").write_text(MANIFESTS.format(**(DEFAULTS | values)))
    return directory


def options(**more: Any) -> manifests.LoadOptions:
    return manifests.LoadOptions(environ={"KEY_OF_THE_APP": "geheim"}, secret_key=KEY, **more)


def applied(path: Path) -> Live:
    """What an engine holds after an apply."""
    desired = manifests.load(path, options())
    services, secrets, configs, networks = {}, {}, {}, {}
    for item in desired.objects:
        if isinstance(item.spec, SecretSpec):
            secrets[item.engine_name] = Secret(id="s1", version=Version(3), spec=changed(item.spec, data=b""))
        elif isinstance(item.spec, ConfigSpec):
            configs[item.engine_name] = Config(id="c1", version=Version(4), spec=item.spec)
        elif isinstance(item.spec, NetworkCreate):
            labels = item.spec.labels or {}
            networks[item.engine_name] = NetworkResource(
                item.engine_name, "n1", "", scope="swarm", driver="overlay", labels=labels
            )
        elif isinstance(item.spec, ServiceSpec):
            services[item.engine_name] = Service(id="w1", created_at="2026-01-01T00:00:00Z", spec=item.spec)
    web = services["app_web"].spec
    container = web.task_template.container_spec
    assert container is not None
    container = changed(
        container,
        image=f"app:v1@{DIGEST}",
        secrets=[changed(use, secret_id="s1") for use in container.secrets],
        configs=[changed(use, config_id="c1") for use in container.configs],
    )
    joined = [changed(use, target="n1") for use in web.task_template.networks]
    template = changed(web.task_template, container_spec=container, networks=joined)
    services["app_web"] = changed(services["app_web"], spec=changed(web, task_template=template))
    objects = [
        replace(item, spec=services["app_web"].spec, canonical=canonical.service(services["app_web"].spec))
        if item.kind == "Service"
        else item
        for item in desired.objects
    ]
    body = stored.body(replace(desired, objects=tuple(objects)), {}, Plan(()), "app")
    head = Head("app", 1, outcome=Outcome.APPLIED, digest=revisions.digest(body), revision="files-0123456789abcdef")
    task = Task(
        id="t1",
        service_id="w1",
        slot=1,
        node_id="n1",
        created_at="2026-01-01T00:00:00Z",
        spec=template,
        status=TaskStatus(state=TaskState.RUNNING, timestamp="2026-01-01T00:00:00Z"),
    )
    return Live(
        services=services | {"other": Service(id="o1", spec=STRANGER)},
        secrets=secrets,
        configs=configs | {NOTED.spec.name: NOTED},
        networks=networks,
        nodes=(NODE,),
        tasks=(task, changed(task, id="t2", slot=2)),
        records={
            "app": Record("app", source="https://git.example/app#.", key="fp1234", revision="files-0123456789abcdef")
        },
        revisions={"app": [Revision(head, Config(), revisions.encode(body))]},
    )


def taken(seen: Live, directory: Path, **more: Any) -> snapshot.Snapshot:
    images = [ImageSummary("sha256:" + "1" * 64, ["app:v1"], [f"app@{DIGEST}"], 0, 5)]
    found = redacted.made(seen, images, "unix:///engine.sock", 1_800_000_000 * 10**9, **more)
    file = directory / "snapshot.json"
    file.write_text(json.dumps(found))
    return snapshot.read(file)


async def plan(found: snapshot.Snapshot, path: Path) -> Plan:
    load = manifests.LoadOptions(environ={}, opens_sops=False, reads_secrets=False)
    prepared = await against.prepare(found, Source("https://git.example/fork#.", path), Options(load))
    assert prepared.source.identity == "https://git.example/app#.", "a fork's manifests are those of its stack"
    return prepared.plan


def test_no_secret_no_hmac_and_no_hash_over_them_is_in_a_snapshot(tmp_path: Path) -> None:
    seen = applied(write(tmp_path / "m"))
    found = taken(seen, tmp_path)
    text = found.file.read_text()
    (name,) = seen.secrets
    hashes = [spec.labels["gitops.hash"] for spec in (seen.services["app_web"].spec, seen.secrets[name].spec)]
    hashes += [seen.revisions["app"][0].head.digest, "files-0123456789abcdef", "fp1234"]
    for private in ("hunter2", "geheim", name.rpartition("-")[2], "secret-team", "10.1.2.3", "hello", *hashes):
        assert private not in text
    assert list(found.live({}).secrets) == ["app_key-1"] and "app_page-" in text


async def test_a_plan_against_the_state_that_was_applied_has_no_changes_and_says_what_it_can_not_know(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "m")
    found = await plan(taken(applied(path), tmp_path), write(path, password="another"))
    assert not found.changed and not found.drifted and not found.refused
    secret = next(step for step in found.steps if step.kind == "Secret")
    assert (secret.action, secret.reason) == (Action.NONE, Reason.UNKNOWN)
    told = "\n".join(found.warnings)
    assert "environment.DB_PASSWORD of service web" in told and "secret key" in told and "/app#." in told


async def test_changes_and_what_they_do_to_the_schedule_are_told_as_against_the_engine(tmp_path: Path) -> None:
    path = write(tmp_path / "m")
    seen = taken(applied(path), tmp_path)
    scaled = await plan(seen, write(path, replicas=5))
    (step,) = scaled.changed
    assert [change.path for change in step.changes] == ["deploy.replicas"] and scaled.forecast
    forecast = scaled.forecast.services["app_web"]
    assert (forecast.restarted, len(forecast.created)) == ((), 3), "what is hidden makes no task look changed"
    rolled = await plan(seen, write(path, level="debug", image="app:v2", page="new"))
    assert {(item.kind, item.name, item.action) for item in rolled.changed} == {
        ("Config", "page", Action.UPDATE),
        ("Service", "web", Action.UPDATE),
    }
    service = next(item for item in rolled.changed if item.kind == "Service")
    paths = ["configs[/page].source", "environment.LEVEL", "image"]
    assert sorted(change.path for change in service.changes) == paths
    assert any("app:v2" in text for text in rolled.warnings)


async def test_what_left_is_deleted_and_ports_of_strangers_count(tmp_path: Path) -> None:
    path = write(tmp_path / "m")
    seen = taken(applied(path), tmp_path)
    text = (path / "app.yaml").read_text()
    (path / "app.yaml").write_text(text.split("---")[0].replace("image:", 'ports: ["8080:80"]\n  image:'))
    with pytest.raises(errors.InvalidManifest):
        await plan(seen, path)
    service = text.split("---")[0].replace("  secrets: [key]\n", "").replace("image:", 'ports: ["8080:80"]\n  image:')
    (path / "app.yaml").write_text(service.replace("  configs: [{source: page, target: /page}]\n", ""))
    found = await plan(seen, path)
    # A kept revision names them, so they stay for rollbacks.
    left = [step for step in found.steps if step.reason is Reason.LEFT]
    assert {step.kind for step in left} == {"Secret", "Config"}
    assert any("8080" in text for text in found.refused)


async def test_a_snapshot_of_one_stack_has_only_that_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "m")
    seen = applied(path)
    both = replace(seen, records=seen.records | {"db": Record("db", source="elsewhere")})
    found = taken(both, tmp_path, stacks=("db",))
    assert "DB_PASSWORD" not in found.file.read_text() and not found.document.revisions
    with pytest.raises(errors.Refused, match="snapshot of stack db only, without app"):
        await plan(found, path)
    with pytest.raises(errors.NotFound, match="no stack 'dbb'"):
        redacted.made(both, [], "x", 1, ("dbb",))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: Service", "is no snapshot: make one with gitops snapshot"),
        ('{"format": "gitops-plan"}', "is no snapshot"),
        ("[1]", "is no snapshot"),
        ('{"format": "gitops-snapshot", "format_version": 9}', "format version 9, and this gitops reads 1: update"),
        ('{"format": "gitops-snapshot", "format_version": 1}', "damaged"),
    ],
)
def test_files_that_are_no_snapshot_or_too_new_are_told_apart(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(errors.Invalid, match=told):
        snapshot.read(tmp_path / "file")
    with pytest.raises(errors.Invalid, match="can't be read"):
        snapshot.read(tmp_path / "none")
