"""Hand-over between stacks: names stay, labels or claims change, and whoever had an object lets go of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from gitops import errors, manifests
from gitops.manifests import DesiredSet
from gitops.objects.container import Volume, VolumeCreate
from gitops.objects.network import NetworkCreate, NetworkResource
from gitops.objects.node import Node, NodeDescription, NodeSpec, NodeStatus
from gitops.objects.secret import Secret, SecretSpec
from gitops.objects.service import Resources, Service, ServiceSpec
from gitops.reconciler import claiming, commits, moves, planner
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Plan, Reason
from gitops.reconciler.record import Record

NODE = Node(
    id="n1",
    spec=NodeSpec(role="manager"),
    status=NodeStatus(state="ready"),
    description=NodeDescription(resources=Resources(nano_cpus=8 * 10**9, memory_bytes=2**33)),
)
OBJECTS = """\
apiVersion: gitops/v1
kind: Service
metadata: {{name: web, stack: {stack}{moved}}}
spec:
  image: app:v1
  secrets: [key]
  networks: [net]
  volumes: ["data:/data"]
  deploy: {{replicas: {replicas}}}
---
apiVersion: gitops/v1
kind: Network
metadata: {{name: net, stack: {stack}{moved}}}
---
apiVersion: gitops/v1
kind: Volume
metadata: {{name: data, stack: {stack}{moved}}}
---
apiVersion: gitops/v1
kind: Secret
metadata: {{name: key, stack: {stack}{moved}}}
spec: {{content: "{value}"}}
"""
MOVED = ", moved_from: old"


def load(directory: Path, text: str) -> DesiredSet:
    directory.mkdir(exist_ok=True)
    (directory / "app.yaml").write_text(text)
    return manifests.load(directory, manifests.LoadOptions(secret_key=b"k" * 32))


def objects(stack: str, moved: str = "", replicas: int = 2, value: str = "s") -> str:
    return OBJECTS.format(stack=stack, moved=moved, replicas=replicas, value=value)


def applied(desired: DesiredSet) -> Live:
    parts: dict[str, dict[str, Any]] = {"services": {}, "networks": {}, "volumes": {}, "secrets": {}}
    for item in desired.objects:
        spec, name = item.spec, item.engine_name
        if isinstance(spec, ServiceSpec):
            parts["services"][name] = Service(id="w1", spec=spec)
        elif isinstance(spec, NetworkCreate):
            parts["networks"][name] = NetworkResource(name, "net1", "", "swarm", "overlay", labels=spec.labels or {})
        elif isinstance(spec, VolumeCreate):
            parts["volumes"][name] = Volume(name, labels=spec.labels)
        elif isinstance(spec, SecretSpec):
            parts["secrets"][name] = Secret(id="sec1", spec=changed(spec, data=b""))
    records = {stack: Record(stack, source="path:/site") for stack in desired.stacks}
    return Live(nodes=(NODE,), records=records, **parts)


def plan(desired: DesiredSet, seen: Live, stacks: frozenset[str] = frozenset({"old", "new"})) -> Plan:
    return planner.make(planner.Request(desired, {}, stacks), seen)


def test_everything_of_a_stack_moves_to_another_without_a_change_of_its_name(tmp_path: Path) -> None:
    seen = applied(load(tmp_path / "m", objects("old")))
    desired = load(tmp_path / "m", objects("new", MOVED))
    found = plan(desired, seen)
    assert {(step.kind, step.action, step.reason, step.stack) for step in found.steps} == {
        (kind, Action.UPDATE, Reason.MOVED, "new") for kind in ("Service", "Network", "Volume", "Secret")
    }
    assert all(step.engine_name.startswith("old_") for step in found.steps) and not found.refused
    assert [(change.path, change.old, change.new) for change in found.steps[0].changes] == [("stack", "old", "new")]
    assert found.forecast and not found.forecast.services["old_web"].restarted
    (service,) = desired.of("Service")
    assert isinstance(service.spec, ServiceSpec) and service.spec.labels["gitops.stack"] == "new"
    container = service.spec.task_template.container_spec
    assert container and container.labels["com.docker.stack.namespace"] == "old", "or every task would restart"


def test_once_moved_the_new_stack_owns_it_and_the_old_one_does_not(tmp_path: Path) -> None:
    seen = applied(load(tmp_path / "m", objects("old")))
    desired = load(tmp_path / "m", objects("new", MOVED))
    claims = moves.claims(desired, seen, "new")
    assert {text.split(" ")[0] for text in claims} == {"Network", "Volume", "Secret"}
    (service,) = desired.of("Service")
    assert isinstance(service.spec, ServiceSpec)
    after = replace(
        seen,
        services={"old_web": Service(id="w1", spec=service.spec)},
        records={"old": Record("old", source="path:/site"), "new": Record("new", claims=claims)},
    )
    after = claiming.claimed(after)
    assert not plan(desired, after).changed and moves.claims(desired, after, "new") == claims
    nothing = DesiredSet((), {}, {})
    of_old = planner.Request(nothing, {}, frozenset({"old"}), allows_deletes=True, prunes_volumes=True)
    assert not planner.make(of_old, after).steps
    of_new = replace(of_old, stacks=frozenset({"new"}))
    gone = planner.make(of_new, after).of("Network", Action.DELETE)
    assert [step.engine_name for step in gone] == ["old_net"]
    assert not moves.claims(nothing, after, "new", ("old_net", "old_data", next(iter(seen.secrets))))


def test_a_claim_does_not_outlive_its_object(tmp_path: Path) -> None:
    seen = applied(load(tmp_path / "m", objects("old")))
    claims = moves.claims(load(tmp_path / "m", objects("new", MOVED)), seen, "new")
    made_anew = replace(
        seen,
        networks={"old_net": changed(seen.networks["old_net"], id="another")},
        records={"new": Record("new", claims=(*claims, "Nonsense"))},
    )
    found = claiming.claimed(made_anew)
    assert found.owner(found.networks["old_net"].labels) == ("old", "Network", "net")
    assert found.owner(found.volumes["old_data"].labels) == ("new", "Volume", "data")


def test_what_moves_may_change_at_the_same_time(tmp_path: Path) -> None:
    seen = applied(load(tmp_path / "m", objects("old")))
    found = plan(load(tmp_path / "m", objects("new", MOVED, replicas=3, value="t")), seen)
    steps = {step.kind: step for step in found.steps if step.action is not Action.NONE}
    paths = {change.path for change in steps["Service"].changes}
    assert paths == {"stack", "deploy.replicas", "secrets.key.source"}
    assert (steps["Service"].reason, steps["Secret"].reason) == (Reason.CHANGED, Reason.CHANGED)
    assert steps["Secret"].engine_name.startswith("old_key-") and steps["Secret"].obsolete == tuple(seen.secrets)


def test_from_a_stack_of_another_source_it_is_taken_on_an_explicit_word_only(tmp_path: Path) -> None:
    seen = applied(load(tmp_path / "m", objects("old")))
    desired = load(tmp_path / "m", objects("new", MOVED))
    with pytest.raises(errors.Refused, match=r"would move from stack 'old', which is applied from path:/site: say"):
        moves.check(desired, seen, ("path:/other",))
    moves.check(desired, seen, ("path:/site",))
    moves.check(desired, replace(seen, services={}, networks={}, volumes={}, secrets={}), ("path:/other",))


def test_without_the_word_the_old_one_goes_and_an_empty_volume_is_warned_of(tmp_path: Path) -> None:
    desired = load(tmp_path / "m", objects("new", MOVED))
    seen = applied(desired)
    found = plan(load(tmp_path / "m", objects("new")), seen)
    actions = {(step.kind, step.engine_name): step.action for step in found.steps}
    assert actions["Service", "old_web"] is Action.DELETE and actions["Service", "new_web"] is Action.CREATE
    assert actions["Network", "old_net"] is Action.DELETE and ("Volume", "old_data") not in actions
    assert any("is old_data on the engine; new_data will be a new, empty one" in text for text in found.warnings)


def test_a_rollback_of_both_stacks_hands_it_back(tmp_path: Path) -> None:
    former = load(tmp_path / "m", objects("old"))
    seen = applied(load(tmp_path / "m", objects("new", MOVED)))
    with pytest.raises(errors.Refused, match="belongs to stack 'new'"):
        plan(former, seen)
    found = plan(moves.handed_back(former, seen, ("old", "new")), seen)
    assert {step.reason for step in found.steps} == {Reason.MOVED}


def test_two_commits_are_compared_over_a_move(tmp_path: Path) -> None:
    steps = commits.steps(load(tmp_path / "a", objects("old")), load(tmp_path / "b", objects("new", MOVED)))
    assert {(step.action, step.reason) for step in steps} == {(Action.UPDATE, Reason.MOVED)}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (objects("old") + "---\n" + objects("new", MOVED), "a second Service that is 'old_web' on the engine"),
        (objects("new", ", moved_from: new"), "is the stack that it is in"),
        (
            "apiVersion: gitops/v1\nkind: Image\nmetadata: {name: i, stack: new, moved_from: old}\n"
            "spec: {reference: 'a:1', pull: {repository: a, tag: '1'}}",
            "has no meaning here",
        ),
        (
            "apiVersion: gitops/v1\nkind: Network\nmetadata: {name: default, stack: new, moved_from: old}\n---\n"
            "apiVersion: gitops/v1\nkind: Service\nmetadata: {name: web, stack: old}\nspec: {image: 'a:1'}",
            "would join 'old_default', which is a network of stack 'new'",
        ),
    ],
)
def test_moves_that_mean_nothing_are_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(errors.InvalidManifest) as caught:
        load(tmp_path / "m", text)
    assert told in str(caught.value)
