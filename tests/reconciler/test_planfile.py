"""A kept plan is applied as it was shown, or refused with what differs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from gitops import errors
from gitops.manifests import Desired, DesiredSet, Position, StackSettings, canonical
from gitops.objects.node import Node, NodeDescription, NodeSpec, NodeStatus
from gitops.objects.service import (
    ContainerSpec,
    Replicated,
    Resources,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
)
from gitops.reconciler import planfile, planner
from gitops.reconciler.live import Live
from gitops.reconciler.planfile import Given
from gitops.reconciler.reconcile import Prepared
from gitops.reconciler.source import Source

NODE = Node(
    id="n1",
    spec=NodeSpec(role="manager", availability="active"),
    status=NodeStatus(state="ready"),
    description=NodeDescription(hostname="mgr1", resources=Resources(nano_cpus=2 * 10**9, memory_bytes=2**30)),
)
COMPOSE = {"profiles": ("a", "b"), "project_name": "shop"}
LABELS = {"gitops.stack": "app", "gitops.kind": "Service", "gitops.name": "web"}


def spec(image: str, replicas: int = 2) -> ServiceSpec:
    template = TaskSpec(container_spec=ContainerSpec(image=image, env=["A=1"]))
    mode = ServiceMode(replicated=Replicated(replicas=replicas))
    return ServiceSpec(name="app_web", labels=LABELS, task_template=template, mode=mode)


def prepared(image: str = "app:v2", live: ServiceSpec | None = None, revision: str = "abc-1", **more: Any) -> Prepared:
    wanted = spec(image)
    item = Desired("Service", "app", "web", "app_web", Position("a.yaml", 3, 1), wanted, canonical.service(wanted), "")
    request = planner.Request(DesiredSet((item,), {"app": StackSettings("app")}, {}), {}, frozenset({"app"}))
    services = {"app_web": Service(id="s1", spec=live or spec("app:v1"))}
    seen = replace(Live(services=services, nodes=(NODE,)), **more)
    return Prepared(Source("path:/site", Path("/site")), revision, request, seen, planner.make(request, seen))


def keep(directory: Path, found: Prepared) -> planfile.Kept:
    planfile.write(directory / "plan", found, Given(Path("site"), "prod", ("a.b",), compose=COMPOSE))
    kept = planfile.read(directory / "plan")
    assert kept is not None
    return kept


def test_a_kept_plan_is_true_as_long_as_nothing_changes(tmp_path: Path) -> None:
    kept = keep(tmp_path, prepared())
    assert kept.given == Given(Path("site"), "prod", ("a.b",), compose=COMPOSE)
    planfile.check(kept, prepared())
    planfile.check(kept, prepared(revision="def-1"))  # another commit of the same files
    assert (tmp_path / "plan").stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


@pytest.mark.parametrize(
    ("now", "text"),
    [
        ({"live": spec("app:v1", 5)}, "service app_web: changed since: deploy.replicas was 2, is 5"),
        ({"live": spec("app:v2")}, "service app_web: changed since: image was 'app:v1', is 'app:v2'"),
        ({"services": {}}, "service app_web: it was removed since"),
        ({"image": "app:v3", "revision": "abc-2"}, "the manifests changed: they were at abc-1, and are at abc-2"),
        ({"image": "app:v3"}, "service app_web: the plan was to update it (image), and would be to update it (image)"),
        (
            {"nodes": (changed(NODE, spec=NodeSpec(role="manager", availability="drain")),)},
            "node mgr1: availability was 'active', is 'drain'",
        ),
        ({"nodes": (NODE, changed(NODE, id="n2"))}, "node mgr1: it came since"),
    ],
)
def test_a_stale_plan_is_refused_with_what_differs(tmp_path: Path, now: dict[str, Any], text: str) -> None:
    kept = keep(tmp_path, prepared())
    with pytest.raises(errors.Refused) as caught:
        planfile.check(kept, prepared(**now))
    assert text in str(caught.value) and "gitops diff site --out" in str(caught.value)


def test_a_file_that_was_edited_or_cut_is_refused_and_a_manifest_is_none(tmp_path: Path) -> None:
    keep(tmp_path, prepared())
    file = tmp_path / "plan"
    whole = file.read_text()
    body = json.loads(whole)
    body["path"] = "elsewhere"
    file.write_text(json.dumps(body))
    with pytest.raises(errors.Invalid, match="was changed since it was made"):
        planfile.read(file)
    file.write_text(whole[:-50])
    with pytest.raises(errors.Invalid, match="damaged"):
        planfile.read(file)
    file.write_text("kind: Service")
    assert planfile.read(file) is None


def test_no_value_of_set_is_kept(tmp_path: Path) -> None:
    assert planfile.names(("b=hunter2", "a.b=hunter2=")) == ("a.b", "b")


def test_the_words_that_let_a_plan_take_more_away_are_kept_with_it(tmp_path: Path) -> None:
    given = Given(Path("site"), allow_deletes=True, prune=True, prune_volumes=True, take_over=True, allow_empty=True)
    planfile.write(tmp_path / "plan", prepared(), given)
    kept = planfile.read(tmp_path / "plan")
    assert kept is not None and kept.given == given
