"""Guards: what is protected, what would be too much at once, volumes, and parts of a stack's source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from gitops import errors, manifests
from gitops.manifests import Desired, DesiredSet, Position, StackSettings, canonical
from gitops.objects.container import Volume, VolumeCreate
from gitops.objects.mount import Mount
from gitops.objects.network import NetworkCreate, NetworkResource
from gitops.objects.node import Node, NodeDescription, NodeSpec, NodeStatus
from gitops.objects.secret import Config, Secret, SecretSpec
from gitops.objects.service import ContainerSpec, Resources, Service, ServiceSpec, TaskSpec
from gitops.reconciler import planner, revisions, stored
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Plan, Reason
from gitops.reconciler.record import Outcome
from gitops.reconciler.revisions import Head, Revision
from gitops.reconciler.source import part_of

NODE = Node(
    id="n1",
    spec=NodeSpec(role="manager"),
    status=NodeStatus(state="ready"),
    description=NodeDescription(resources=Resources(nano_cpus=8 * 10**9, memory_bytes=2**33)),
)
PROTECT = {"gitops.protect": "true"}


def labels(kind: str, name: str, more: dict[str, str] | None = None) -> dict[str, str]:
    return {"gitops.stack": "app", "gitops.kind": kind, "gitops.name": name, **(more or {})}


def spec(name: str, more: dict[str, str] | None = None, volume: str = "") -> ServiceSpec:
    mounts = [Mount(type="volume", source=volume, target="/data")] if volume else []
    template = TaskSpec(container_spec=ContainerSpec(image="app:v1", mounts=mounts))
    return ServiceSpec(name=f"app_{name}", labels=labels("Service", name, more), task_template=template)


def services(*names: str) -> dict[str, Service]:
    return {f"app_{name}": Service(id=name, spec=spec(name)) for name in names}


def item(kind: str, name: str, value: Any, form: dict[str, Any], engine_name: str = "") -> Desired:
    return Desired(kind, "app", name, engine_name or f"app_{name}", Position("a.yaml", 1, 1), value, form, "")


def wanted(*names: str) -> tuple[Desired, ...]:
    return tuple(item("Service", name, spec(name), canonical.service(spec(name))) for name in names)


def plan(objects: tuple[Desired, ...], seen: Live, **more: Any) -> Plan:
    stacks = {"app": StackSettings("app")} if objects else {}
    request = planner.Request(DesiredSet(objects, stacks, {}), {}, frozenset({"app"}), **more)
    return planner.make(request, replace(seen, nodes=(NODE,)))


def revision(*objects: Desired, number: int = 1) -> Revision:
    body = stored.body(DesiredSet(objects, {"app": StackSettings("app")}, {}), {}, Plan(()), "app")
    return Revision(Head("app", number, outcome=Outcome.APPLIED), Config(), revisions.encode(body))


# Shares


@pytest.mark.parametrize(
    ("stays", "goes", "is_refused"),
    [(0, 2, False), (0, 3, True), (2, 3, True), (3, 3, False), (4, 3, False), (4, 5, True)],
)
def test_more_than_half_of_a_stack_and_at_least_three_objects_go_on_an_explicit_word_only(
    stays: int, goes: int, is_refused: bool
) -> None:
    names = [f"s{number}" for number in range(stays + goes)]
    kept = wanted(*names[goes:]) or wanted("new")
    found = plan(kept, Live(services=services(*names)))
    assert bool(found.refused) == is_refused and len(found.of("Service", Action.DELETE)) == goes
    if is_refused:
        assert (
            f"{goes} of the {stays + goes} objects of stack 'app' would be deleted (service s0, service s1"
            in (found.refused[0])
        )
        assert found.refused[0].endswith("say --allow-deletes")
    assert not plan(kept, Live(services=services(*names)), allows_deletes=True).refused


# Protected objects


def test_a_protected_service_is_neither_pruned_nor_deleted_with_its_stack() -> None:
    seen = Live(services={"app_db": Service(id="1", spec=spec("db", PROTECT))} | services("web"))
    for objects in (wanted("web"), ()):
        (text,) = plan(objects, seen, allows_deletes=True).refused
        assert text.startswith("service app_db is protected and would be deleted: put it back into the manifests")
        assert "gitops.protect" in text
    no = changed(seen.services["app_db"], spec=spec("db", {"gitops.protect": "false"}))
    assert not plan(wanted("web"), replace(seen, services={"app_db": no})).refused


def test_a_protected_network_is_not_replaced() -> None:
    old = NetworkResource("app_net", "n", "", "swarm", "overlay", labels=labels("Network", "net"))
    new = NetworkCreate(
        name="app_net", driver="overlay", internal=True, attachable=True, labels=labels("Network", "net", PROTECT)
    )
    objects = (item("Network", "net", new, canonical.network(new)),)
    (text,) = plan(objects, Live(networks={"app_net": old})).refused
    assert text.startswith("network app_net is protected and would be replaced: give it another name")


def test_protection_comes_and_goes_with_the_manifest_where_labels_can_not_change() -> None:
    live = Volume("app_data", labels=labels("Volume", "data"))
    new = VolumeCreate(name="app_data", labels=labels("Volume", "data", PROTECT))
    protecting = item("Volume", "data", new, canonical.volume(new))
    seen = Live(volumes={"app_data": live}, services=services("web"))
    assert not plan((protecting, *wanted("web")), seen).changed, "no difference in what can't be changed"
    applied = replace(seen, revisions={"app": [revision(protecting)]})
    (text,) = plan(wanted("web"), applied, prunes_volumes=True).refused
    assert text.startswith("volume app_data is protected and would be deleted")
    plain = VolumeCreate(name="app_data", labels=labels("Volume", "data"))
    lifted = item("Volume", "data", plain, canonical.volume(plain))
    marked = replace(
        seen,
        volumes={"app_data": changed(live, labels=labels("Volume", "data", PROTECT))},
        revisions={"app": [revision(lifted, number=2), revision(protecting)]},
    )
    assert not plan(wanted("web"), marked, prunes_volumes=True).refused, "it was applied without the label"


def test_a_protected_secret_that_left_is_told_though_its_version_stays_for_rollbacks() -> None:
    name = "app_key-0123456789ab"
    secret = Secret(id="1", spec=SecretSpec(name, labels("Secret", "key", PROTECT)))
    seen = Live(secrets={name: secret}, services=services("web"))
    found = plan(wanted("web"), seen, kept=frozenset({("Secret", name)}))
    assert not found.changed and found.refused[0].startswith(f"secret {name} is protected")


@pytest.mark.parametrize(
    "text",
    [
        "kind: Service\nmetadata: {name: a}\nspec: {image: 'a:1', labels: {gitops.protect: 'true'}}",
        "kind: Stack\nmetadata: {name: a, labels: {gitops.protect: true}}",
        "kind: Network\nmetadata: {name: a, labels: {gitops.protect: true}}\nspec: {external: true}",
        "kind: Image\nmetadata: {name: a, labels: {gitops.protect: true}}\n"
        "spec: {reference: 'a:1', pull: {repository: a, tag: '1'}}",
    ],
)
def test_the_label_is_refused_where_it_protects_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(f"apiVersion: gitops/v1\n{text}\n")
    with pytest.raises(errors.InvalidManifest, match="protects nothing here"):
        manifests.load(tmp_path)


# Volumes


def test_volumes_go_only_when_asked_for_and_when_nothing_uses_them() -> None:
    volumes = {
        "app_data": Volume("app_data", labels=labels("Volume", "data")),
        "app_old": Volume("app_old", labels=labels("Volume", "old")),
        "other": Volume("other", labels={}),
    }
    user = {"x_job": Service(id="j", spec=changed(spec("job", volume="app_data"), name="x_job", labels={}))}
    seen = Live(volumes=volumes, services=services("web") | user)
    assert not [step for step in plan(wanted("web"), seen).steps if step.kind == "Volume"]
    found = {step.engine_name: step for step in plan(wanted("web"), seen, prunes_volumes=True).steps}
    assert (found["app_old"].action, found["app_old"].note) == (Action.DELETE, "with its data")
    assert (found["app_data"].action, found["app_data"].note) == (Action.NONE, "kept, since service x_job uses it")
    assert "other" not in found
    gone = [step for step in plan((), seen, allows_deletes=True).steps if step.kind == "Volume"]
    assert {(step.name, step.action, step.reason) for step in gone} == {
        ("data", Action.NONE, Reason.STACK),
        ("old", Action.NONE, Reason.STACK),
    }


# Parts


@pytest.mark.parametrize(
    ("identity", "whole", "part"),
    [
        ("git.example/a#site/web.yaml", "git.example/a#site", "web.yaml"),
        ("git.example/a#site/web.yaml", "git.example/a#.", "site/web.yaml"),
        ("path:/srv/site/sub", "path:/srv/site", "sub"),
        ("git.example/a#site", "git.example/a#site", ""),
        ("git.example/a#.", "git.example/a#site", ""),
        ("git.example/a#site2", "git.example/a#site", ""),
        ("git.example/b#site/web.yaml", "git.example/a#site", ""),
        ("path:/srv/site2", "path:/srv/site", ""),
    ],
)
def test_a_file_or_directory_of_a_source_is_a_part_of_it(identity: str, whole: str, part: str) -> None:
    assert part_of(identity, whole) == part


def test_of_a_part_nothing_is_pruned_without_the_word_and_the_rest_stays_in_the_revision() -> None:
    seen = Live(services=services("web", "db"), revisions={"app": [revision(*wanted("web", "db"))]})
    assert not plan(wanted("web"), seen, parts={"app": "web.yaml"}).changed
    pruning = plan(wanted("web"), seen, parts={"app": "web.yaml"}, prunes_parts=True)
    assert [step.name for step in pruning.changed] == ["db"]
    found = DesiredSet(wanted("web"), {"app": StackSettings("app")}, {})
    request = planner.Request(found, {}, frozenset({"app"}), parts={"app": "web.yaml"})
    body = stored.planned(request, Plan(()), "app", seen.revisions["app"])
    assert [stored.name for stored in body.objects] == ["db", "web"]
    alone = stored.planned(replace(request, prunes_parts=True), Plan(()), "app", seen.revisions["app"])
    assert [stored.name for stored in alone.objects] == ["web"]
