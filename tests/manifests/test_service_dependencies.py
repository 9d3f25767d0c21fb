"""`depends_on` and `deploy.deadline`: from a manifest to labels on the engine, and back in the canonical form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from gitops import manifests
from gitops.manifests import canonical, extensions
from gitops.manifests.desired import Dependency, Desired
from gitops.objects import wire
from gitops.objects.service import ServiceSpec

SET = """
apiVersion: gitops/v1
kind: Service
metadata: {name: web, stack: site}
spec:
  image: nginx
  depends_on: %s
  deploy: {deadline: 5m, min_available: 1}
---
apiVersion: gitops/v1
kind: Service
metadata: {name: db, stack: site}
spec: {image: postgres}
---
apiVersion: gitops/v1
kind: Service
metadata: {name: queue, stack: other}
spec: {image: nats}
"""
MAP = "{other_queue: {condition: service_completed_successfully, required: false}, db: {condition: healthy}}"
WAITS = (Dependency("other_queue", "completed_successfully", False), Dependency("site_db", "healthy", True))


def web(tmp_path: Path, depends_on: str) -> Desired:
    (tmp_path / "set.yaml").write_text(SET % depends_on)
    return next(item for item in manifests.load(tmp_path).objects if item.engine_name == "site_web")


def test_dependencies_and_deadline_are_values_of_the_service(tmp_path: Path) -> None:
    found = web(tmp_path, MAP)
    assert found.depends_on == WAITS
    assert found.deadline_ns == 300_000_000_000


def test_the_list_form_means_started_and_its_order_nothing(tmp_path: Path) -> None:
    found = web(tmp_path, "[db, other_queue]")
    assert found.depends_on == (Dependency("other_queue"), Dependency("site_db"))
    assert web(tmp_path, "[other_queue, db]").hash == found.hash
    assert web(tmp_path, "{db: {condition: started}, other_queue: {}}").hash == found.hash


def test_they_survive_the_wire_as_labels_and_come_back_as_fields(tmp_path: Path) -> None:
    found = web(tmp_path, MAP)
    live = wire.decode(msgspec.json.encode(found.spec), ServiceSpec)
    assert live.labels["gitops.x.deploy.deadline"] == "300000000000"
    form = canonical.service(live)
    assert form["depends_on"] == {
        "db": {"condition": "healthy"},
        "other_queue": {"condition": "completed_successfully", "required": False},
    }
    assert form["deploy"]["deadline"] == 300_000_000_000
    assert (live.labels["gitops.x.deploy.min_available"], form["deploy"]["min_available"]) == ("1", 1)
    assert not any(label.startswith("gitops.x.") for label in form["deploy"]["labels"])
    assert form == found.canonical
    assert extensions.depends_on(live.labels) == WAITS


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":{}}', '{"a":{"condition":"soon"}}', '{"a":1}'])
def test_a_label_that_somebody_broke_stays_a_label(tmp_path: Path, text: str) -> None:
    spec = web(tmp_path, MAP).spec
    assert isinstance(spec, ServiceSpec)
    broken = {**spec.labels, "gitops.x.depends_on": text, "gitops.x.deploy.deadline": "soon"}
    form = canonical.service(msgspec.structs.replace(spec, labels=broken))
    assert "depends_on" not in form and "deadline" not in form["deploy"]
    assert form["deploy"]["labels"]["gitops.x.depends_on"] == text
    assert form["deploy"]["labels"]["gitops.x.deploy.deadline"] == "soon"


def test_a_service_that_needs_nothing_has_no_labels_for_it(tmp_path: Path) -> None:
    web(tmp_path, MAP)
    plain = next(item for item in manifests.load(tmp_path).objects if item.engine_name == "site_db")
    assert isinstance(plain.spec, ServiceSpec)
    assert not any(label.startswith("gitops.x.") for label in plain.spec.labels)
    assert plain == replace(plain, depends_on=(), deadline_ns=None)


@pytest.mark.parametrize(
    ("deploy", "is_endless"),
    [
        ("{}", True),
        ("{mode: global}", True),
        ("{restart_policy: {condition: on-failure}}", False),
        ("{restart_policy: {condition: none}}", False),
        ("{mode: replicated-job}", False),
    ],
)
def test_to_wait_for_the_end_of_what_always_starts_again_is_warned_of(
    tmp_path: Path, deploy: str, is_endless: bool
) -> None:
    wait = "depends_on: {first: {condition: completed_successfully}}"
    (tmp_path / "a.yaml").write_text(
        f"apiVersion: gitops/v1\nkind: Service\nmetadata: {{name: first}}\nspec: {{image: a, deploy: {deploy}}}\n---\n"
        f"apiVersion: gitops/v1\nkind: Service\nmetadata: {{name: then}}\nspec: {{image: a, {wait}}}\n"
    )
    warnings = manifests.load(tmp_path).warnings
    assert bool(warnings) is is_endless
    if warnings:
        assert warnings[0].headline() == (
            "a.yaml:9:38: spec.depends_on.first: first never completes: it starts again whenever it ends (a.yaml:1),"
            " give it restart: on-failure, or deploy.mode: replicated-job"
        )
